#!/bin/sh
# Puts DPDK's driver headers, which come with this source package, where `make pmd` looks for them. They hold for one
# release line: 22.11 and its stable updates, which keep the interface to drivers.
set -eu
from=${1:?usage: dpdk-headers.sh FROM TO} to=${2:?usage: dpdk-headers.sh FROM TO}
installed=$(pkg-config --modversion libdpdk)
have=$(cat "$from/release")
line() { echo "$1" | cut -d. -f1,2; }
if [ "$(line "$installed")" != "$(line "$have")" ]; then
    echo "dpdk-headers: $from has the headers of DPDK $have, installed is $installed: they must be of one release line" >&2
    exit 1
fi
rm -rf "$to"
mkdir -p "$to/examples"
cp -r "$from/include" "$to/"
echo "$installed" > "$to/release"
