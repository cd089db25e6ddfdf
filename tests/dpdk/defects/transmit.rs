//! Frames that are sent, whoever owns their bytes.

use super::{WIDEST, rings};
use crate::paths::TEN;
use crate::port::{PLAIN, Port, driver};

/// The device reads a header of zeros in front of each frame, with any headroom, and nothing outside the buffer changes.
#[test]
fn headers_are_where_the_device_looks() {
    let Some(mut port) = Port::start("headers_are_where_the_device_looks", &[PLAIN, &[WIDEST]].concat()) else {
        return;
    };
    port.tell("pool name=vhost count=4000");
    port.tell("pool name=port count=4000 priv=64");
    let vhost = port.vhost(0, 1, "");
    for way in TEN {
        let device = port.device(0, &way.args());
        port.tell("dirty");
        port.run(device, vhost, &rings(way));
        for headroom in [0, 1, 2, 9, 10, 11, 12, 13, 20, 22, 23, 24, 64, 127, 128] {
            let sent = port.tell(&format!("odd port={device} headroom={headroom} size=100 frames=40")).number("sent");
            let ring = port.tell(&format!("ring port={vhost} ring=1"));
            let is = (sent, ring.number("chains"), ring.number("corrupt"), ring.text("header"));
            let good = is == (40, 40, 0, "000000000000000000000000");
            port.check(good, &format!("{}, headroom {headroom}: {is:?}", way.name));
            port.tell(&format!("take port={vhost} most=40"));
        }
        port.remove(0, device);
        let changed = port.tell("private").number("changed");
        port.check(changed == 0, &format!("{}: {changed} buffers are written over at the front", way.name));
    }
}

/// Clones, buffers with two owners, and memory of no pool are sent, and not one byte of them changes.
#[test]
fn what_belongs_to_others_stays_as_it_is() {
    let Some(mut port) = Port::start("what_belongs_to_others_stays_as_it_is", &[PLAIN, &[WIDEST]].concat()) else {
        return;
    };
    port.pools();
    port.tell("pool name=other count=1000 size=1000");
    let vhost = port.vhost(0, 1, "");
    let copies = if driver() == "net_vuser" { &["", ",bounce=1"][..] } else { &[""] };
    for (way, copy) in TEN.into_iter().flat_map(|way| copies.iter().map(move |copy| (way, copy))) {
        let device = port.device(0, &format!("{}{copy}", way.args()));
        port.run(device, vhost, &rings(way));
        for shape in ["clone", "shared", "external", "plain"] {
            for burst in [1, 4, 32] {
                let sent = port.tell(&format!("odd port={device} shape={shape} frames=32 burst={burst} other=other"));
                let taken = port.tell(&format!("take port={vhost} most=32"));
                let is = (sent.number("sent"), taken.number("taken"), taken.number("corrupt"));
                port.check(is == (32, 32, 0), &format!("{}, {shape}: {is:?}", way.name));
                // Only now is nobody left who could write.
                port.tell(&format!("cleanup port={device}"));
                let changed = port.tell("intact").number("changed");
                port.check(changed == 0, &format!("{}, {shape}: {changed} buffers were written over", way.name));
            }
        }
        port.remove(0, device);
        let census = port.tell("census");
        let home = (census.number("port"), census.number("other"));
        port.check(home == (6000, 1000), &format!("{}: buffers are missing: {home:?}", way.name));
    }
}

/// Fewer transmit descriptors than the ring has: so many frames at most, and their buffers come back.
#[test]
fn fewer_descriptors_than_the_ring_has() {
    let Some(mut port) = Port::start("fewer_descriptors_than_the_ring_has", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 1, "");
    for way in TEN {
        let device = port.device(0, &way.args());
        let answer = port.tell(&format!("configure port={device} rxd=64 txd=64"));
        port.tell(&format!("start port={device}"));
        port.tell(&format!("link port={vhost} until=1 wait=3000"));
        let most = answer.number("txd");
        for _ in 0..5 {
            let sent = port.tell(&format!("send port={device} frames=200")).number("sent");
            port.check(sent <= most && sent > 0, &format!("{}: {sent} of {most} descriptors are used", way.name));
            let taken = port.tell(&format!("take port={vhost} most={sent}")).number("taken");
            port.check(taken == sent, &format!("{}: {taken} of {sent} arrive", way.name));
        }
        port.tell(&format!("exchange port={device} peer={vhost} frames=2000 window=32 jitter=1"));
        // The next one waits behind at most a ring of buffers that are sent and not collected.
        let away = 6000 - port.tell("census").number("port");
        port.check(away < 64 + 64 + 250, &format!("{}: {away} buffers are away", way.name));
        port.remove(0, device);
    }
}
