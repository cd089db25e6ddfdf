#!/bin/sh
# Builds the Debian packages into DIR: a source package first, with all that is needed to build it without a network
# (debian/README.source), then the packages from it.
#
# Of the tree as it is, committed or not. DPDK's driver headers are taken from SDK (scripts/dpdk-sdk.sh).
set -eu
usage='usage: deb.sh DIR SDK (CARGO, PKG_CONFIG, CC)'
dir=${1:?$usage} sdk=${2:?$usage}

fail() {
    echo "make deb: $*" >&2
    exit 1
}

for tool in dpkg-buildpackage dh dh_python3 fakeroot xz; do
    command -v "$tool" >/dev/null || fail "$tool is missing (apt-get install debhelper dh-python dpkg-dev fakeroot xz-utils)"
done
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
packaged=$(dpkg-parsechangelog -l packaging/debian/changelog -S Version)
[ "${packaged%-*}" = "$version" ] ||
    fail "Cargo.toml says $version, packaging/debian/changelog $packaged: write an entry for $version (docs/releasing.md)"

# What is written for the sake of the tools: the same files give the same packages.
SOURCE_DATE_EPOCH=$(dpkg-parsechangelog -l packaging/debian/changelog -S Timestamp)
export SOURCE_DATE_EPOCH
archive() { # name of the tarball, its directory
    tar -C "$dir" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
        --mode=u+rw,go+r-w,a+X -cf - "$2" | xz -T0 -1 > "$dir/$1"
}

# What was said to make, or to cargo, for the checkout is not for the packages.
unset MAKEFLAGS MAKELEVEL MFLAGS CARGO_TARGET_DIR

# What git knows and what it would add; in a tree without git, all but what is made.
sources() {
    # A copy below another checkout, as of make reproducible, is not that one's.
    if [ "$(git rev-parse --show-toplevel 2>/dev/null)" = "$(pwd -P)" ]; then
        git ls-files --cached --others --exclude-standard | while read -r file; do [ ! -f "$file" ] || echo "$file"; done
    else
        find . \( -path ./.git -o -path ./build -o -path ./target -o -path ./dist -o -name __pycache__ -o -name '*.o' \) -prune \
            -o -type f -print | sed 's|^\./||'
    fi
}

# rustup's cargo is found by its home, and debhelper gives builds another one.
: "${RUSTUP_HOME:=$HOME/.rustup}"
export RUSTUP_HOME

rm -rf "$dir"
mkdir -p "$dir/vuser-$version" "$dir/dpdk-sdk"
sources | grep -v '^packaging/debian/' | tar -cf - -T - | tar -C "$dir/vuser-$version" -xf -
archive "vuser_$version.orig.tar.xz" "vuser-$version"

packaging/vendor.py "$dir/vendor"
archive "vuser_$version.orig-vendor.tar.xz" vendor
cp -r "$sdk/include" "$sdk/release" "$dir/dpdk-sdk/"
archive "vuser_$version.orig-dpdk-sdk.tar.xz" dpdk-sdk

mv "$dir/vendor" "$dir/dpdk-sdk" "$dir/vuser-$version/"
cp -r packaging/debian "$dir/vuser-$version/debian"
packaging/copyright.py packaging/debian/copyright "$dir/vuser-$version/vendor" > "$dir/vuser-$version/debian/copyright"
cd "$dir/vuser-$version"

# The compiler may be rustup's. All other build dependencies must be there.
trust=
if ! dpkg-checkbuilddeps 2>/dev/null; then
    sed -E '/^ +(cargo|rustc)-web /d' debian/control > ../control
    dpkg-checkbuilddeps ../control || fail 'build dependencies are missing: make prepare, as root'
    command -v "${CARGO:-cargo}" >/dev/null || fail 'there is no cargo'
    trust=-d
fi
# shellcheck disable=SC2086
dpkg-buildpackage -us -uc -F $trust "-j$(nproc)"
