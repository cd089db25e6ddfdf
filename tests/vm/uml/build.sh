#!/bin/bash
# build.sh: makes a User-Mode-Linux kernel with vhost_net, tun, vhost_vdpa, vdpa_sim_net and VDUSE from Debian's linux-source
# package, and prints the path of the executable. It is built once (seven minutes of one processor, 2 GB of disk while it
# builds) and kept in $VUSER_VM_CACHE, ~/.cache/vuser by default, under a name of the source's version, the configuration and
# this recipe. Needs gcc make flex bison bc xz-utils.
set -euo pipefail
# Debian gives users no PATH to some of what this needs.
PATH=$PATH:/usr/sbin:/sbin; export PATH
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
cache=${VUSER_VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vuser}
package=linux-source-6.12

fail() { echo "build.sh: $*" >&2; exit 1; }
[ "$(uname -m)" = x86_64 ] || fail "User-Mode-Linux needs an x86-64 machine, this is $(uname -m)"

mkdir -p "$cache"
recipe=$(cat "$here/kernel.config" "$here/build.sh" | sha256sum | cut -c1-12)
# One that was built from an older source of Debian's will do: a new one is no reason to wait.
have() {
    local kernels=("$cache"/uml-*-"$recipe"/linux)
    [ -x "${kernels[-1]}" ] && echo "${kernels[-1]}"
}
have && exit 0

exec 9> "$cache/lock"
flock 9 # another build under way will have made it
have && exit 0
rm -rf "$cache"/build.?????? # of builds that were killed

for tool in gcc make flex bison bc xz dpkg-deb; do
    command -v $tool >/dev/null || fail "$tool is missing: run scripts/prepare.sh"
done
work=$(mktemp -d "$cache/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
(apt-get -q download $package || { apt-get -q update && apt-get -q download $package; }) >download.log 2>&1 ||
    { cat download.log >&2; fail "$package can't be downloaded"; }
deb=$(ls ${package}_*.deb)
version=${deb#*_} version=${version%_*}
mkdir src
dpkg-deb --fsys-tarfile "$deb" | tar xO "./usr/src/$package.tar.xz" | xz -dc | tar x -C src --strip-components=1
rm "$deb"
# User-Mode-Linux says that it has no DMA. vdpa_sim sets a mask for it, VDUSE wants operations: neither does any.
sed -i 's/^\tselect NO_DMA if !UML_DMA_EMULATION/\tselect ARCH_HAS_DMA_OPS/' src/arch/um/Kconfig
grep -q 'select ARCH_HAS_DMA_OPS' src/arch/um/Kconfig || fail "$package $version has another arch/um/Kconfig than expected"
export KBUILD_BUILD_USER=vuser KBUILD_BUILD_HOST=vuser
{
    make -s -C src ARCH=um O="$work/o" KCONFIG_ALLCONFIG="$here/kernel.config" allnoconfig
    make -s -C src ARCH=um O="$work/o" -j"$(nproc)" linux
} >build.log 2>&1 || { tail -n 30 build.log >&2; fail "$package $version can't be built"; }
for option in VHOST_NET TUN VHOST_VDPA VDPA_SIM_NET VDPA_USER MEMBARRIER MEMFD_CREATE; do
    grep -q "^CONFIG_$option=y" o/.config || fail "$package $version has no CONFIG_$option"
done
place=$cache/uml-${version//[^A-Za-z0-9.+~-]/_}-$recipe
mkdir -p "$place"
strip -g -o "$place/linux.new" o/linux
mv "$place/linux.new" "$place/linux"
echo "$place/linux"
