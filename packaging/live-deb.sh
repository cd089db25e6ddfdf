#!/bin/sh
# The life of the packages, in a root of its own (test-deb.sh), where they are in /tmp/packages.
set -eu
say() { echo "test-deb: $*"; }

[ "$(stat -f -c %T /)" = overlayfs ] && [ "${THROW_AWAY:-}" = 1 ] || { echo 'live-deb: this is no throw-away root' >&2; exit 1; }
# Nothing but the packages' own files is looked at: what make install has put on the machine is not in this root.
rm -rf /usr/local/lib/libvuser* /usr/local/lib/librte_net_vuser* /usr/local/lib/pkgconfig/vuser.pc \
    /usr/local/include/vuser.h /usr/local/include/virtio_user_compat.h
ldconfig
before=$(ls /usr/lib/*/libvuser* 2>/dev/null || :)
[ -z "$before" ] || { echo "live-deb: there already is $before" >&2; exit 1; }

packages=$(ls /tmp/packages/*.deb | grep -v dbgsym)
# shellcheck disable=SC2086
apt-get install -y --no-install-recommends $packages >/tmp/apt.log 2>&1 || { cat /tmp/apt.log >&2; exit 1; }
# shellcheck disable=SC2046
say "installed: $(dpkg-query -W -f '${Package} ' $(dpkg-query -W -f '${Package}\n' '*vuser*'))"

for name in link python testpmd; do
    say "debian/tests/$name"
    "/tmp/tests/$name"
done

# The driver holds DPDK to the release line that it was built for.
dpkg-query -W -f '${Depends}\n' librte-net-vuser23 | grep -q 'librte-ethdev23 (>= 22.11), librte-ethdev23 (<< 23.03)'

apt-get remove -y libvuser0 >/tmp/apt.log 2>&1 || { cat /tmp/apt.log >&2; exit 1; }
! dpkg-query -W -f '${db:Status-Status}\n' libvuser-dev python3-vuser 2>/dev/null | grep -qx installed ||
    { echo 'live-deb: what needs the library stayed without it' >&2; exit 1; }
say 'removed: libvuser0, and with it what needs it; the driver, which has the library in it, still works'
/tmp/tests/testpmd
apt-get purge -y librte-net-vuser23 >/tmp/apt.log 2>&1 || { cat /tmp/apt.log >&2; exit 1; }
# shellcheck disable=SC2046
dpkg --purge $(dpkg-query -W -f '${Package}\n' '*vuser*' 2>/dev/null) >/dev/null 2>&1 || :
