#!/bin/sh
# Installs what the tests and the demo need beyond cargo, a C compiler and make: as root on Debian by apt, otherwise it
# says what is missing and how to get it.
set -eu
# Debian gives users no PATH to some of what this needs.
PATH=$PATH:/usr/sbin:/sbin; export PATH

missing= qemu=
need() { # command-or-check package
    if ! sh -c "$1" >/dev/null 2>&1; then missing="$missing $2"; fi
}

need 'command -v cc' gcc
need 'command -v c++' g++
need 'command -v clang' clang
need 'command -v pkg-config' pkg-config
need 'command -v objdump' binutils
# The Python package, the site, and the test of its pages
need 'command -v python3' python3
need 'python3 -c "import venv, ensurepip"' python3-venv
need 'command -v dpdk-testpmd' dpdk-dev
need 'pkg-config --exists libdpdk' libdpdk-dev
need 'command -v tshark' tshark
need 'command -v capinfos' wireshark-common
need 'command -v valgrind' valgrind
# Packages, their manual, and the promise about the interface
need 'command -v abidiff' abigail-tools
need 'command -v man' man-db
need 'command -v groff' groff
need 'command -v dh' debhelper
need 'command -v dh_python3' dh-python
need 'command -v fakeroot' fakeroot
need 'command -v lintian' lintian
need 'command -v rpmspec' rpm
need 'command -v yamllint' yamllint
# The kernel of tests/vm, and what is run in it
need 'command -v flex' flex
need 'command -v bison' bison
need 'command -v bc' bc
need 'command -v xz' xz-utils
need 'command -v ip && command -v vdpa' iproute2
need 'command -v ping' iputils-ping
need 'test -x /usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk' openvswitch-switch-dpdk
# Virtual machines with Debian's kernel: what starts them, and what their kernel is made ready with.
if [ "$(uname -m)" = x86_64 ]; then
    need 'command -v busybox' busybox-static
    need 'command -v cpio' cpio
    need 'command -v depmod' kmod
    need 'command -v zstd' zstd
    command -v qemu-system-x86_64 >/dev/null 2>&1 || qemu=' qemu-system-x86'
fi

[ -n "$missing$qemu" ] || exit 0
command="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "prepare: $command$qemu"
    apt-get update -qq
    [ -z "$missing" ] || DEBIAN_FRONTEND=noninteractive $command >/dev/null
    [ -z "$qemu" ] || "$(dirname "$0")/../tests/vm/qemu/install.sh"
else
    echo "prepare: missing for the tests:$missing$qemu" >&2
    echo "prepare: run as root: $command$qemu" >&2
    exit 1
fi
