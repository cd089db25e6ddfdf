#!/bin/bash
# spread.sh: a port with four queues at QEMU's network device, inside QEMU (tests/vm/run-in-qemu with VM_NICS=1): frames come by
# the queues that the port's table says. Drives build/tests/port; ends with 0 if all was as it should be.
#   $1  the port program    $2  the driver
set -eu
# vDPA pins all memory that it is told of.
ulimit -l unlimited
at=0000:00:13.0 pci=/sys/bus/pci/devices/0000:00:13.0
[ -e $pci ] || { echo "NO TAPS"; exit 0; }
# As in tests/vm/inside/nics/lab.rs: the device shows all its queues only to whoever has asked for them.
echo vp-vdpa > $pci/driver_override
echo $at > $pci/driver/unbind
base=$(sed -n 5p $pci/resource | cut -d' ' -f1)
echo 1 > $pci/enable
common() { busybox devmem $((base + $1)) $2 $3; }
common 20 8 0; common 20 8 1; common 20 8 3
common 8 32 0; common 12 32 $((1 << 22 | 1 << 17)); common 8 32 1; common 12 32 3
echo $at > /sys/bus/pci/drivers/vp-vdpa/bind
vdpa dev add name several mgmtdev pci/$at
# Who sends: the kernel, by the interface beside it, a datagram from a new port each time.
near=$(ls /sys/bus/pci/devices/0000:00:14.0/virtio*/net)
ip addr add 10.9.0.2/24 dev $near
ip link set $near up
ip neigh add 10.9.0.1 lladdr 02:00:00:00:01:03 nud permanent dev $near
. "$(dirname "$0")/talk.sh"
# Sends so many datagrams; how many come by each queue, in COUNTS. Each has DPDK's hash of addresses and ports.
spread() {
    local n queue all=0 try
    for n in $(seq $1); do echo "$n" > /dev/udp/10.9.0.1/7000; done
    COUNTS=(0 0 0 0)
    for try in $(seq 600); do
        for queue in 0 1 2 3; do
            tell hashes port=0 queue=$queue
            has wrong=0 none=0 addresses=0
            n=$(field_of ports)
            COUNTS[queue]=$((COUNTS[queue] + n))
            all=$((all + n))
        done
        [ $all -lt $1 ] || break
        sleep 0.05
    done
    [ $all = $1 ] || fail "$all of $1 datagrams come: ${COUNTS[*]}"
    echo "${COUNTS[*]}"
}
tell pool name=port count=6000
tell attach name=net_vuser0 args=path=/dev/vhost-vdpa-0,queues=4
# Addresses and ports of UDP and TCP over IPv4, and the hash with the frame.
tell configure port=0 rxq=4 rss=$((1 << 2 | 1 << 4 | 1 << 5)) rxo=$((1 << 19))
tell start port=0
tell link port=0 until=1 wait=30000
has up=1
echo "--- all queues, as configured"
spread 200
for queue in 0 1 2 3; do [ ${COUNTS[queue]} -gt 10 ] || fail "queue $queue gets ${COUNTS[queue]} of 200"; done
for queue in 2 0 3 1; do
    echo "--- queue $queue alone"
    tell reta port=0 queues=1 from=$queue
    has size=128 wrong=0
    spread 50
    [ ${COUNTS[queue]} = 50 ] || fail "queue $queue gets ${COUNTS[queue]} of 50"
done
echo "--- two of them"
tell reta port=0 queues=2 from=1
has wrong=0
spread 100
[ ${COUNTS[0]} = 0 ] && [ ${COUNTS[3]} = 0 ] || fail "other queues get ${COUNTS[*]}"
echo "--- another key, and another start"
tell rss port=0 hf=$((1 << 2 | 1 << 5)) seed=7
spread 100
[ ${COUNTS[0]} = 0 ] && [ ${COUNTS[3]} = 0 ] || fail "other queues get ${COUNTS[*]}"
tell stop port=0
tell start port=0
tell link port=0 until=1 wait=30000
spread 100
[ ${COUNTS[0]} = 0 ] && [ ${COUNTS[3]} = 0 ] || fail "other queues get ${COUNTS[*]}"
tell stop port=0
tell close port=0
tell detach name=net_vuser0
tell census
has port=6000
leave
