#!/bin/sh
# Whether the same sources give the same bytes: builds them twice, in directories, with a umask, a time zone, a locale, a
# home of cargo's, a number of jobs and a date that are all others, and compares what is installed.
#
#   scripts/reproducible.sh DIR [deb]      in DIR, which is removed and made anew; with the Debian packages, too
#
# Needs what make pmd needs, and with deb what make deb needs. Takes two builds from nothing.
set -eu
dir=${1:?usage: reproducible.sh DIR [deb]} deb=${2:-}
rm -rf "$dir"
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
home=${CARGO_HOME:-$HOME/.cargo}
: "${RUSTUP_HOME:=$HOME/.rustup}"
export RUSTUP_HOME
# What was said for the checkout is not for the copies.
unset MAKEFLAGS MAKELEVEL MFLAGS CARGO_TARGET_DIR RUSTFLAGS SOURCE_DATE_EPOCH

copy() { # directory
    mkdir -p "$1"
    git ls-files --cached --others --exclude-standard | while read -r file; do [ ! -f "$file" ] || echo "$file"; done |
        tar -cf - -T - | tar -C "$1" -xf -
    [ ! -d build/dpdk-sdk ] || { mkdir "$1/build" && cp -r build/dpdk-sdk "$1/build/"; }
}

build() { # directory, umask, time zone, locale, jobs, days
    cargo=$1.cargo
    copy "$1"
    # Another home, in which the crates' sources lie at another path; what was downloaded is not downloaded again.
    mkdir -p "$cargo/registry"
    for part in cache index; do [ ! -d "$home/registry/$part" ] || cp -r "$home/registry/$part" "$cargo/registry/"; done
    # Files are as old as if they had come from somewhere else.
    find "$1" -type f -exec touch -d "-$6 days" {} +
    (cd "$1" && umask "$2" && export TZ="$3" LC_ALL="$4" CARGO_BUILD_JOBS="$5" CARGO_HOME="$cargo" &&
        make -j"$5" pmd lib && make DESTDIR="$1.out" PREFIX=/usr install && make DESTDIR="$1.out" PREFIX=/usr install-pmd &&
        { [ -z "$deb" ] || { make deb && mkdir "$1.out/deb" && cp build/deb/*.deb "$1.out/deb/"; }; }) >"$1.log" 2>&1 || {
        tail -20 "$1.log" >&2
        echo "reproducible: the build in $1 failed, see $1.log" >&2
        exit 1
    }
    rm -rf "$1" "$cargo"
}

build "$dir/one" 022 UTC C 1 0
build "$dir/another/and/deeper" 002 Asia/Kathmandu C.UTF-8 2 400

one=$dir/one.out two=$dir/another/and/deeper.out bad=
for file in $(cd "$one" && find . -type f | sort); do
    if cmp -s "$one/$file" "$two/$file"; then
        echo "same    $(sha256sum <"$one/$file" | cut -c1-16) ${file#./}"
    else
        echo "differs                  ${file#./}"
        bad=1
    fi
done | { grep -v /man/ || :; }
diff -rq "$one" "$two" >/dev/null || bad=1
[ -z "$bad" ] || { echo "reproducible: two builds differ; they are in $one and $two" >&2; exit 1; }
echo "reproducible: two builds are the same, $(find "$one" -type f | wc -l) files"
rm -rf "$dir"
