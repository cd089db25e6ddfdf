#!/bin/sh
# Tries the Debian packages in DIR: lintian, then a life in a root of their own, from installation to purge. That root is an
# overlay over this machine's: what is written goes to memory and is gone at the end, and nothing of the machine changes.
set -eu
dir=$(realpath "${1:?usage: test-deb.sh DIR}")
here=$(dirname "$(realpath "$0")")

if [ "${2:-}" = inside ]; then
    # In a mount namespace: make the root, then go there.
    root=$dir/root
    mkdir -p "$root"
    mount -t tmpfs -o size=50%,mode=755 tmpfs "$root"
    mkdir "$root/upper" "$root/work" "$root/merged"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$root/upper,workdir=$root/work" "$root/merged"
    for mount in dev proc sys; do mount --rbind "/$mount" "$root/merged/$mount"; done
    mount -t tmpfs -o mode=1777 tmpfs "$root/merged/tmp"
    mkdir "$root/merged/tmp/packages"
    cp "$dir"/*.deb "$root/merged/tmp/packages/"
    cp -r "$here/debian/tests" "$root/merged/tmp/tests"
    cp "$here/live-deb.sh" "$root/merged/tmp/"
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive THROW_AWAY=1 \
        chroot "$root/merged" /bin/sh /tmp/live-deb.sh
    # What the life has left: all that was written and is not on this machine.
    cd "$root/upper"
    left=$(find . -mindepth 1 ! -type c ! -path './var/lib/dpkg/*' ! -path './var/lib/apt/*' ! -path './var/log/*' \
        ! -path './var/cache/*' | while read -r file; do [ -e "/$file" ] || [ -L "/$file" ] || echo "$file"; done)
    [ -z "$left" ] || { echo "test-deb: after the purge there is still:" "$left" >&2; exit 1; }
    ! grep -l vuser ./var/lib/dpkg/status || { echo 'test-deb: dpkg still knows the packages' >&2; exit 1; }
    echo 'test-deb: purged, and nothing is left'
    exit 0
fi

skip() {
    echo "test-deb: skipped: $*" >&2
    [ "${VUSER_REQUIRE_ALL:-}" = 1 ] && exit 1
    exit 0
}

[ "$(id -u)" = 0 ] || skip 'a root of its own takes the rights to mount'
command -v lintian >/dev/null || skip 'lintian is missing (apt-get install lintian)'
# With what is overridden shown (O:), which --fail-on would take for a failure.
said=$(lintian --allow-root --show-overrides --display-info --pedantic "$dir"/*.changes) || {
    echo "$said"
    exit 1
}
echo "$said" | sed -n 's/^\([A-Z]: .*\)/test-deb: lintian: \1/p' | grep -v ': N:' || :
if echo "$said" | grep -q '^[EWIP]:'; then
    echo 'test-deb: lintian has something to say that is not overridden' >&2
    exit 1
fi
# Without a network: nothing is fetched, what the packages depend on is there (scripts/prepare.sh).
unshare --mount --net --propagation private "$0" "$dir" inside
