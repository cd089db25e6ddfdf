#!/bin/bash
# kernel.sh: ports of DPDK's whose other side is the kernel, inside a kernel of their own (tests/vm/run-in-uml), where it is
# root and alone. Drives build/tests/port; ends with 0 if all was as it should be.
#   $1  the port program    $2  the driver
set -eu
. "$(dirname "$0")/talk.sh"
is() { # what it is, what it should be
    [ "$1" = "$2" ] || fail "$1 is not $2"
}
counted() { cat "/sys/class/net/tap0/statistics/$1"; }
tell pool name=port count=3000

echo "--- vhost-net: two queues, link, interrupts, MAC and MTU in step, restarts"
for layout in packed_vq=0,mrg_rxbuf=1 packed_vq=0,mrg_rxbuf=0; do
    tell attach name=net_vuser0 args=path=/dev/vhost-net,iface=tap0,mac=02:00:00:00:00:07,queues=2,$layout
    tell links port=0 watch=1
    tell configure port=0 rxq=2 lsc=1 rxi=1
    tell start port=0
    is "$(cat /sys/class/net/tap0/address)" 02:00:00:00:00:07
    # What happened before does not count.
    tell links port=0
    ip link set tap0 up
    tell links port=0 until=1 wait=30000
    tell link port=0 until=1 wait=30000
    has up=1
    ip addr add 1.1.1.1/24 dev tap0
    ip neigh replace 1.1.1.2 lladdr 02:00:00:00:00:08 dev tap0

    # The kernel sends: the port sleeps, is woken, and has its frames.
    tell take port=0 most=500
    tell take port=0 queue=1 most=500
    for queue in 0 1; do
        tell watch port=0 queue=$queue
        tell arm port=0 queue=$queue
    done
    tell sleep ms=0
    ping -c 1 -W 0.1 1.1.1.2 > /dev/null && fail "who has answered?"
    tell sleep ms=30000
    has woken=1
    for queue in 0 1; do
        tell arm port=0 queue=$queue on=0
        tell watch port=0 queue=$queue on=0
    done
    before=$(counted tx_packets)
    ping -c 20 -i 0.002 -W 0.1 1.1.1.2 > /dev/null && fail "who has answered?"
    tell take port=0 most=500
    one=$(field_of taken)
    tell take port=0 queue=1 most=500
    is $((one + $(field_of taken))) $(($(counted tx_packets) - before + 1))

    # The port sends, on both queues: the kernel counts every frame.
    for round in 1 2 3; do
        before=$(counted rx_packets)
        tell send port=0 frames=200 sizes=64,1514
        has sent=200
        tell send port=0 queue=1 frames=200
        has sent=200
        for try in $(seq 3000); do
            [ "$(counted rx_packets)" = $((before + 400)) ] && break
            sleep 0.01
        done
        is "$(counted rx_packets)" $((before + 400))
        tell stop port=0
        tell start port=0
        tell link port=0 until=1 wait=30000
        has up=1
    done

    tell small_calls port=0
    is "$(cat /sys/class/net/tap0/address)" 02:00:00:00:00:77
    is "$(cat /sys/class/net/tap0/mtu)" 1400
    tell links port=0
    ip link set tap0 down
    tell links port=0 until=1 wait=30000
    has events=1
    tell link port=0
    has up=0
    tell stop port=0
    tell close port=0
    tell detach name=net_vuser0
    [ ! -e /sys/class/net/tap0 ] || fail "the tap is there without its port"
done

echo "--- vDPA: the kernel's simulated device returns what it is sent"
# It compares addresses up to their first zero: this one is that of all our frames.
vdpa dev add mgmtdev vdpasim_net name sim0 mac 02:00:00:00:00:09
for layout in packed_vq=0 packed_vq=0,mrg_rxbuf=0,in_order=0; do
    tell attach name=net_vuser0 args=path=/dev/vhost-vdpa-0,$layout
    for round in 1 2 3; do
        tell configure port=0 lsc=1
        tell start port=0
        tell link port=0 until=1 wait=30000
        has up=1
        tell exchange port=0 frames=1000 sizes=64,1024 window=64
        has lost=0 corrupt=0
        tell stop port=0
    done
    tell small_calls port=0
    tell close port=0
    tell detach name=net_vuser0
done
tell census
has port=3000
leave
