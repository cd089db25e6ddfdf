#!/bin/bash
# build.sh: makes what QEMU boots, from packages of Debian's: the kernel of linux-image-6.12-amd64 and an initramfs with its
# modules for vhost_net, tun, vhost_vdpa and VDUSE, and with vdpa_sim_net and vp_vdpa, which Debian leaves out, built from
# linux-source-6.12.
# Prints the directory that has both: it is made once (a minute) and kept in $VUSER_VM_CACHE, ~/.cache/vuser by default, under
# the kernel's version and this recipe. Nothing is installed. Needs gcc make busybox-static cpio kmod xz-utils zstd binutils.
set -euo pipefail
# Debian gives users no PATH to some of what this needs.
PATH=$PATH:/usr/sbin:/sbin; export PATH
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
cache=${VUSER_VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vuser}

fail() { echo "build.sh: $*" >&2; exit 1; }
[ "$(uname -m)" = x86_64 ] || fail "this is made for x86-64, and the machine is $(uname -m)"

mkdir -p "$cache"
recipe=$(sha256sum < "$here/build.sh" | cut -c1-12)
# One that was made from an older kernel of Debian's will do: a new one is no reason to wait.
have() {
    local places=("$cache"/qemu-*-"$recipe")
    [ -s "${places[-1]}/initramfs" ] && echo "${places[-1]}"
}
have && exit 0
exec 9> "$cache/lock-qemu"
flock 9 # another build under way will have made it
have && exit 0
rm -rf "$cache"/build-qemu.?????? # of builds that were killed

for tool in gcc make busybox cpio depmod xz zstd objcopy dpkg-deb python3; do
    command -v $tool >/dev/null || fail "$tool is missing: run scripts/prepare.sh"
done
work=$(mktemp -d "$cache/build-qemu.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
package() { # NAME [DIRECTORY]: downloads a package, and unpacks it
    mkdir -p "deb/$1"
    (cd "deb/$1" && { apt-get -q download "$1" || { apt-get -q update && apt-get -q download "$1"; }; }) > "deb/$1.log" 2>&1 ||
        { cat "deb/$1.log" >&2; fail "the package $1 can't be downloaded"; }
    [ -z "${2-}" ] || dpkg-deb -x deb/"$1"/*.deb "$2"
}
release=$(apt-cache depends linux-image-6.12-amd64 | sed -n 's/^ *Depends: linux-image-\(6[^ ]*\)$/\1/p' | head -1)
[ -n "$release" ] || fail "apt knows no linux-image-6.12-amd64 (apt-get update)"
common=${release%-amd64}
package "linux-image-$release" image
modules=$work/image
[ -d "$modules/usr/lib/modules" ] && modules=$work/image/usr
depmod -b "$modules" "$release" 2>/dev/null || true

# vmlinux is the payload of bzImage (Documentation/arch/x86/boot.rst, payload_offset): it has an entry for PVH, so that nothing
# must be decompressed by an emulated processor.
python3 - "image/boot/vmlinuz-$release" <<'P' > payload
import struct, sys
image = open(sys.argv[1], 'rb').read()
start = (image[0x1f1] + 1) * 512
offset, length = struct.unpack_from('<II', image, 0x248)
sys.stdout.buffer.write(image[start + offset:start + offset + length])
P
case $(od -An -tx1 -N4 payload | tr -d ' ') in
    28b52ffd) unpack='zstd -dcq' ;;
    fd377a58) unpack='xz -dc' ;;
    1f8b*) unpack='gzip -dc' ;;
    *) fail "the kernel of linux-image-$release is compressed in a way that is not known here" ;;
esac
# Behind the payload's end is its size, which is not part of the stream: a complaint about it is no failure.
$unpack payload > vmlinux 2>/dev/null || true
[ "$(head -c 4 vmlinux | tail -c 3)" = ELF ] || fail "there is no kernel in linux-image-$release"

package "linux-headers-$release" headers
package "linux-headers-$common-common" headers
package "linux-kbuild-$common" headers
package linux-source-6.12
mkdir sim
dpkg-deb --fsys-tarfile deb/linux-source-6.12/*.deb | tar xO ./usr/src/linux-source-6.12.tar.xz | xz -dc |
    tar x -C sim --strip-components=3 --wildcards '*/drivers/vhost/vringh.c' '*/drivers/vdpa/vdpa_sim/vdpa_sim*' \
    '*/drivers/vdpa/virtio_pci/vp_vdpa.c'
mv sim/vdpa_sim/* sim/virtio_pci/* sim/
echo 'obj-m := vringh.o vdpa_sim.o vdpa_sim_net.o vp_vdpa.o' > sim/Makefile
sed -i "s#^include /usr/src/#include $work/headers/usr/src/#" "headers/usr/src/linux-headers-$release/Makefile"
make -s -C "headers/usr/src/linux-headers-$release" M="$work/sim" CONFIG_DEBUG_INFO_BTF_MODULES= modules > sim.log 2>&1 ||
    { tail -n 30 sim.log >&2; fail "vdpa_sim_net and vp_vdpa can't be built for $release"; }

# What the root needs, and what the tests need once it is there.
mkdir -p ird/bin ird/modules ird/proc ird/sys ird/dev
cp "$(command -v busybox)" ird/bin/busybox
add() { # LIST MODULE...: modules with what they depend on, in the order in which they are to be loaded
    local list=$1 module file name
    shift
    for module; do modprobe -d "$modules" -S "$release" --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*/\1/p'; done |
        while read -r file; do
            name=$(basename "$file" .xz)
            [ ! -e "ird/modules/$name" ] || continue
            case $file in *.xz) xz -dc "$file" > "ird/modules/$name" ;; *) cp "$file" "ird/modules/$name" ;; esac
            echo "$name" >> "ird/$list"
        done
}
add early 9pnet_virtio 9p overlay
add late tun vhost_net vhost_vdpa vduse dummy veth virtio_net
for module in vringh vdpa_sim vdpa_sim_net vp_vdpa; do
    objcopy --strip-debug sim/$module.ko ird/modules/$module.ko
    echo $module.ko >> ird/late
done
place=$cache/qemu-$release-$recipe
mkdir -p "$place"
mv vmlinux "$place/vmlinux"
(cd ird && find . | cpio -o -H newc --quiet | gzip -1) > "$place/initramfs.new"
mv "$place/initramfs.new" "$place/initramfs"
echo "$place"
