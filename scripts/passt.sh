#!/bin/sh
# Prints the path of a passt that speaks vhost-user (2025-02-17 and newer): the installed one, else one that is built in DIR,
# for the tests only, from the source package of a newer Debian, by apt with lists of its own: the machine's stay untouched.
set -eu

dir=${1:?usage: passt.sh DIR (PASST=/path/to/passt, PASST_SUITE=trixie, CC)}
: "${CC:=cc}" "${PASST_SUITE:=trixie}"

speaks() { command -v "$1" >/dev/null 2>&1 && "$1" --help 2>&1 | grep -q -- --vhost-user; }

for program in "${PASST:-passt}" "$dir/passt"; do
    if speaks "$program"; then
        command -v "$program"
        exit 0
    fi
done
command -v apt-get >/dev/null || {
    echo "passt.sh: no passt with --vhost-user, and this is no Debian to get one from: give PASST=/path/to/passt" >&2
    exit 1
}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
work=$(mktemp -d "$dir/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/passt"
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $PASST_SUITE main" \
    > "$work/sources"
set -- -qq -o Dir::Etc::sourcelist="$work/sources" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$work/lists" \
    -o Dir::Cache="$work/cache" -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none
{
    apt-get "$@" update
    cd "$work"
    apt-get "$@" source --download-only --tar-only passt
    tar -C passt --strip-components=1 -xf passt_*.orig.tar.*
    make -C passt CC="$CC" passt
} > "$dir/log" 2>&1 || {
    tail -5 "$dir/log" >&2
    echo "passt.sh: passt can't be built from Debian's source; $dir/log has all of it" >&2
    exit 1
}
cp "$work/passt/passt" "$dir/passt"
speaks "$dir/passt" || { echo "passt.sh: the passt of $PASST_SUITE does not speak vhost-user" >&2; exit 1; }
echo "$dir/passt"
