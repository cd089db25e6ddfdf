//! Checksums, segmentation and VLAN tags, in both directions, and changed between starts.

use crate::paths::{BOTH, TEN};
use crate::port::{Answer, PLAIN, Port, driver};

// Offloads of ports and flags of packets, as DPDK numbers them.
const RX_STRIP: u64 = 1;
const RX_SUMS: u64 = 1 << 2 | 1 << 3;
const RX_LRO: u64 = 1 << 4;
const RX_FILTER: u64 = 1 << 9;
const RX_SCATTER: u64 = 1 << 13;
const TX_INSERT: u64 = 1;
const TX_SUMS: u64 = 1 << 1 | 1 << 2 | 1 << 3;
const TX_TSO: u64 = 1 << 5;
const TX_SEGMENTS: u64 = 1 << 15;

const F_RX_VLAN: u64 = 1 | 1 << 6;
const F_RX_SUM_NONE: u64 = 1 << 3 | 1 << 8;
const F_RX_LRO: u64 = 1 << 16;
const F_TX_TCP_SEG: u64 = 1 << 50;
const F_TX_TCP_SUM: u64 = 1 << 52;
const F_TX_UDP_SUM: u64 = 3 << 52;
const F_TX_IP_SUM: u64 = 1 << 54;
const F_TX_IPV4: u64 = 1 << 55;
const F_TX_IPV6: u64 = 1 << 56;
const F_TX_VLAN: u64 = 1 << 57;

/// Kinds of frames, and what an application says of one that shall be summed.
const SUMMED: [(&str, u64); 3] = [
    ("udp4", F_TX_UDP_SUM | F_TX_IPV4 | F_TX_IP_SUM),
    ("tcp4", F_TX_TCP_SUM | F_TX_IPV4 | F_TX_IP_SUM),
    ("tcp6", F_TX_TCP_SUM | F_TX_IPV6),
];

/// `port` sends as told, `to` takes: all of it, whole, with these flags on each and no other.
fn pass(port: &mut Port, from: u64, to: u64, send: &str, flags: u64) -> Answer {
    let sent = port.tell(&format!("send port={from} frames=20 {send}")).number("sent");
    let taken = port.tell(&format!("take port={to} flags={flags:#x}"));
    let whole = taken.number("corrupt") + taken.number("faulty") == 0;
    port.check((sent, taken.number("taken"), whole) == (20, 20, true), &format!("{send}: {taken:?}"));
    let all = [taken.number("or"), taken.number("and")];
    port.check(all == [flags; 2], &format!("{send}: flags {all:x?} and not {flags:#x}"));
    taken
}

#[test]
fn checksums_and_segmentation_both_ways() {
    checksums_and_segmentation("checksums_and_segmentation_both_ways", "");
}

/// What packets say of themselves is copied with them.
#[test]
fn checksums_and_segmentation_by_copies() {
    if driver() == "net_vuser" {
        checksums_and_segmentation("checksums_and_segmentation_by_copies", ",bounce=1");
    }
}

fn checksums_and_segmentation(test: &str, more: &str) {
    let Some(mut port) = Port::start(test, PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 1, ",tso=1");
    port.tell(&format!("stop port={vhost}"));
    let all = TX_SUMS & !2;
    port.tell(&format!("configure port={vhost} pool=vhost rxo={RX_SUMS:#x} txo={:#x}", all | TX_SEGMENTS));
    port.tell(&format!("start port={vhost}"));
    for way in TEN {
        let device = port.device(0, &format!("{}{more}", way.args()));
        let lro = if way.mergeable { RX_LRO } else { 0 };
        let rings = format!("rxd={0} txd={0}", way.queue_size);
        port.run(device, vhost, &format!("rxo={:#x} txo={:#x} {rings}", RX_SUMS | lro, all | TX_TSO | TX_SEGMENTS));
        for (kind, flags) in SUMMED {
            let ask = format!("kind={kind} sizes=200,1500 flags={flags:#x} prepare=1");
            let there = pass(&mut port, device, vhost, &ask, F_RX_SUM_NONE);
            port.check(there.number("sums_partial") == 20, &format!("{kind}: the device gets other sums: {there:?}"));
            let ip = if kind == "tcp6" { 0 } else { 20 };
            port.check(there.number("ip_sums") == ip, &format!("{kind}: the sum of the IP header is wrong"));
            let back = pass(&mut port, vhost, device, &ask, F_RX_SUM_NONE);
            port.check(back.number("sums_partial") == 20, &format!("{kind}: we get other sums: {back:?}"));
        }
        for (kind, flags) in &SUMMED[1..] {
            let flags = flags | F_TX_TCP_SEG;
            let ask = format!("kind={kind} sizes=8000,1500 segment=1800 flags={flags:#x} segsz=1400 prepare=1 burst=4");
            let there = pass(&mut port, device, vhost, &ask, F_RX_SUM_NONE | F_RX_LRO);
            port.check(there.number("segsz") == 1400, &format!("{kind}: the device is told another size"));
            port.check(there.number("sums_partial") == 20, &format!("{kind}: sums of large frames: {there:?}"));
            if way.mergeable {
                let back = pass(&mut port, vhost, device, &ask, F_RX_SUM_NONE | F_RX_LRO);
                port.check(back.number("segsz") == 1400, &format!("{kind}: we are told another size"));
            }
        }
        // A frame that asks for nothing gets nothing.
        pass(&mut port, device, vhost, "kind=tcp4 sizes=300", 0);
        port.remove(0, device);
    }
}

/// Offloads are what the last configuration says: also fewer of them than before.
#[test]
fn offloads_change_between_starts() {
    let Some(mut port) = Port::start("offloads_change_between_starts", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 1, ",tso=1");
    port.tell(&format!("stop port={vhost}"));
    port.tell(&format!("configure port={vhost} pool=vhost txo={:#x}", TX_SUMS & !2 | TX_SEGMENTS));
    port.tell(&format!("start port={vhost}"));
    let negotiated = |port: &mut Port| port.tell(&format!("table port={vhost}")).number("features");
    let (guest_csum, csum, tso4) = (1 << 1, 1, 1 << 11);
    for way in TEN {
        let device = port.device(0, &way.args());
        for (rxo, txo, wanted) in [
            (0, 0, 0),
            (RX_SUMS, TX_SUMS & !2 | TX_TSO | TX_SEGMENTS, guest_csum | csum | tso4),
            (RX_SUMS, 0, guest_csum),
            (RX_STRIP, 0, 0),
            (0, TX_SUMS & !2, csum),
            (0, 0, 0),
        ] {
            let rings = format!("rxd={0} txd={0}", way.queue_size);
            port.run(device, vhost, &format!("rxo={rxo:#x} txo={txo:#x} {rings}"));
            let has = negotiated(&mut port) & (guest_csum | csum | tso4);
            port.check(has == wanted, &format!("{}: {rxo:#x}, {txo:#x}: features {has:#x} of {wanted:#x}", way.name));
            port.tell(&format!("exchange port={device} peer={vhost} frames=300 sizes={}", way.sizes()));
            let tagged = "kind=tagged vlan=77 sizes=68,1000";
            let stripped = if rxo & RX_STRIP != 0 { F_RX_VLAN } else { 0 };
            pass(&mut port, vhost, device, tagged, stripped);
            let summed = format!("kind=tcp4 sizes=200 flags={:#x}", SUMMED[1].1);
            pass(&mut port, vhost, device, &summed, if rxo & RX_SUMS != 0 { F_RX_SUM_NONE } else { 0 });
            port.tell(&format!("stop port={device}"));
        }
        port.tell(&format!("close port={device}"));
        port.tell(&format!("detach name={}", Port::name(0)));
    }
}

#[test]
fn tags_are_inserted_taken_out_and_filtered() {
    let Some(mut port) = Port::start("tags_are_inserted_taken_out_and_filtered", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 1, "");
    for way in TEN {
        let device = port.device(0, &way.args());
        let rings = format!("rxd={0} txd={0}", way.queue_size);
        port.run(device, vhost, &format!("rxo={RX_STRIP:#x} txo={TX_INSERT:#x} {rings}"));
        let there =
            pass(&mut port, device, vhost, &format!("sizes=60,1400 flags={F_TX_VLAN:#x} vlan=0x6007 prepare=1"), 0);
        port.check(there.number("tag") == 0x6007, &format!("{}: the tag is {there:?}", way.name));
        port.check(there.number("bytes") == 10 * (60 + 1400 + 8), "a tag is four bytes");
        let back = pass(&mut port, vhost, device, "kind=tagged vlan=0x6007 sizes=64,1404", F_RX_VLAN);
        port.check(back.number("vlan") == 0x6007, &format!("{}: the tag taken out is {back:?}", way.name));
        port.check(back.number("bytes") == 10 * (60 + 1400), "the tag is still there");
        pass(&mut port, vhost, device, "sizes=64,1404", 0);
        port.remove(0, device);
    }
    for way in BOTH {
        let device = port.device(0, &way.args());
        port.run(device, vhost, &format!("rxo={RX_FILTER:#x}"));
        port.tell(&format!("vlan port={device} id=77"));
        pass(&mut port, vhost, device, "kind=tagged vlan=77 sizes=64", 0);
        pass(&mut port, vhost, device, "sizes=64", 0);
        port.tell(&format!("send port={vhost} frames=20 kind=tagged vlan=78"));
        let taken = port.tell(&format!("take port={device}")).number("taken");
        port.check(taken == 0, &format!("{}: {taken} frames of another VLAN pass the filter", way.name));
        port.tell(&format!("vlan port={device} id=77 on=0"));
        port.tell(&format!("send port={vhost} frames=20 kind=tagged vlan=77"));
        let taken = port.tell(&format!("take port={device}")).number("taken");
        port.check(taken == 0, &format!("{}: {taken} frames pass a filter that was taken back", way.name));
        port.remove(0, device);
        let left = port.tell("census");
        port.check(left.number("port") == 6000, "filtered frames are not given back");
    }
}

/// Frames of four buffers of 2000 bytes, and of as many buffers as may be.
#[test]
fn chains_of_every_length() {
    let Some(mut port) = Port::start("chains_of_every_length", PLAIN) else { return };
    port.tell("pool name=vhost count=6000");
    port.tell("pool name=port count=20000 size=640");
    let vhost = port.vhost(0, 1, "");
    for way in TEN.into_iter().filter(|way| way.mergeable) {
        for indirect in [0, 1] {
            let device = port.device(0, &format!("{},indirect={indirect}", way.args()));
            port.run(device, vhost, &format!("rxo={RX_SCATTER:#x}"));
            let most = port.tell(&format!("info port={device}")).number("segments");
            port.check(most >= 40, &format!("{}: {most} segments are the most", way.name));
            let longest = format!("sizes={},64 segment=100 burst=2", 100 * most.min(90));
            port.tell(&format!("exchange port={device} peer={vhost} frames=300 {longest}"));
            for segment in [200, 512] {
                for size in [512, 1024, 2000, 4000, 8000] {
                    let chain = format!("sizes={size},64 segment={segment} burst=7");
                    port.tell(&format!("exchange port={device} peer={vhost} frames=300 {chain}"));
                }
            }
            port.remove(0, device);
            let left = port.tell("census");
            port.check(left.number("port") == 20000, &format!("{}: buffers are missing", way.name));
        }
    }
}
