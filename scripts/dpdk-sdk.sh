#!/bin/sh
# Puts the headers that a DPDK driver needs, and that distributions leave out of their packages, into DIR/include:
# none when the installed DPDK has them, else from DPDK_SRC, else from the distribution's source package of exactly the
# installed release. They are DPDK's (BSD-3-Clause) and never part of vuser. DIR/examples gets two of DPDK's programs, if
# its sources are at hand.
set -eu

usage='usage: dpdk-sdk.sh DIR (DPDK_SRC=/path/to/dpdk, PKG_CONFIG, CC)'
dir=${1:?$usage}
: "${PKG_CONFIG:=pkg-config}" "${CC:=cc}"
headers='ethdev_driver.h ethdev_vdev.h bus_vdev_driver.h bus_driver.h dev_driver.h'

# Programs that the driver is tested with, as they are.
examples='l2fwd skeleton'

fail() {
    echo "dpdk-sdk: $*" >&2
    exit 1
}

$PKG_CONFIG --exists libdpdk || fail 'libdpdk is not installed (on Debian: apt-get install libdpdk-dev)'
release=$($PKG_CONFIG --modversion libdpdk)

# Whether a driver can be compiled with what is installed and what DIR has.
complete() {
    for header in $headers; do echo "#include <$header>"; done |
        $CC -DALLOW_INTERNAL_API -I"$dir/include" $($PKG_CONFIG --cflags libdpdk) -xc -fsyntax-only - 2>/dev/null
}

# Copies the headers out of a tree of DPDK's sources.
copy_from() {
    [ "$(cat "$1/VERSION" 2>/dev/null)" = "$release" ] ||
        fail "$1 has DPDK $(cat "$1/VERSION" 2>/dev/null || echo '(no VERSION)'), installed is $release: the releases must be the same"
    for header in $headers; do
        file=$(find "$1/lib" "$1/drivers" -name "$header" | head -1)
        [ -z "$file" ] || cp "$file" "$dir/include/"
    done
    for example in $examples; do
        [ ! -d "$1/examples/$example" ] || cp -r "$1/examples/$example" "$dir/examples/"
    done
}

# The source package of the installed binary one, by apt with lists and cache of our own: the machine's stay untouched.
download() {
    command -v apt-get >/dev/null && command -v dpkg-query >/dev/null ||
        fail "there are no driver headers, and this is no Debian to get them from: give DPDK_SRC=/path/to/dpdk-$release"
    version=$(dpkg-query -W -f '${source:Version}' libdpdk-dev 2>/dev/null) ||
        fail "libdpdk $release is not of a Debian package: give DPDK_SRC=/path/to/dpdk-$release"
    apt=$dir/apt
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/sources"
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ ! -f "$file" ] || sed -n 's/^deb /deb-src /p' "$file" >> "$apt/sources/classic.list"
    done
    for file in /etc/apt/sources.list.d/*.sources; do
        [ ! -f "$file" ] || sed 's/^Types:.*/Types: deb-src/' "$file" > "$apt/sources/${file##*/}"
    done
    set -- -qq -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$apt/sources" -o "Dir::State::lists=$apt/lists" \
        -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none
    echo "dpdk-sdk: fetching the driver headers of dpdk $version from the distribution's source package" >&2
    # A source of something else may be out of order: whether ours was there shows in the next step.
    apt-get "$@" update >"$apt/log" 2>&1 || :
    (cd "$apt" && apt-get "$@" source --download-only "dpdk=$version") >>"$apt/log" 2>&1 || {
        tail -5 "$apt/log" >&2
        fail "apt-get has no source of dpdk $version: give DPDK_SRC=/path/to/dpdk-$release"
    }
    mkdir -p "$apt/dpdk"
    tar -C "$apt/dpdk" --strip-components=1 -xf "$(ls "$apt"/dpdk_*.orig.tar.* | grep -v '\.asc$' | head -1)"
}

[ "$(cat "$dir/release" 2>/dev/null)" = "$release" ] && [ -d "$dir/examples" ] && complete && exit 0
rm -rf "$dir"
mkdir -p "$dir/include" "$dir/examples"
dir=$(cd "$dir" && pwd)
if [ -n "${DPDK_SRC:-}" ]; then
    copy_from "$DPDK_SRC"
elif ! complete; then
    download
    copy_from "$dir/apt/dpdk"
    rm -rf "$dir/apt"
fi
complete || fail "the headers of DPDK $release do not compile: $(ls "$dir/include" | tr '\n' ' ')"
echo "$release" > "$dir/release"
