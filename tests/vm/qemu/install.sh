#!/bin/bash
# install.sh: installs qemu-system-x86, as root. Where the release's own would remove what is installed (QEMU's tools of a newer
# version, for example), it comes from the release's backports, whose list of packages is kept beside apt's own and not in it.
set -euo pipefail
command -v qemu-system-x86_64 > /dev/null && exit 0
wait=(-o DPkg::Lock::Timeout=300)
export DEBIAN_FRONTEND=noninteractive
removes() { ! apt-get "$@" -s install --no-install-recommends qemu-system-x86 > "$list/plan" 2>&1 || grep -q '^Remv' "$list/plan"; }
list=$(mktemp -d)
trap 'rm -rf "$list"' EXIT
if ! removes; then
    apt-get "${wait[@]}" install -y --no-install-recommends qemu-system-x86 > /dev/null
    exit
fi
. /etc/os-release
mkdir -p "$list/lists/partial"
key='signed-by=/usr/share/keyrings/debian-archive-keyring.gpg'
for suite in "$VERSION_CODENAME" "$VERSION_CODENAME-updates" "$VERSION_CODENAME-backports"; do
    echo "deb [$key] http://deb.debian.org/debian $suite main"
done > "$list/sources"
echo "deb [$key] http://deb.debian.org/debian-security $VERSION_CODENAME-security main" >> "$list/sources"
backports=(-o Dir::Etc::sourcelist="$list/sources" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$list/lists" -t
    "$VERSION_CODENAME-backports")
# Root may drop its privileges to download, and must be able to read what it is told to.
chmod -R a+rX "$list"
apt-get "${backports[@]}" update -qq
if removes "${backports[@]}"; then
    cat "$list/plan" >&2
    echo "install.sh: qemu-system-x86 can't be installed beside what is there; install it by hand" >&2
    exit 1
fi
apt-get "${wait[@]}" "${backports[@]}" install -y --no-install-recommends qemu-system-x86 > /dev/null
