//! Frames that are received, into buffers that are scarce or had a life before.

use super::{WIDEST, rings};
use crate::paths::{TEN, Way};
use crate::port::{PLAIN, Port};

/// All fields of received packets are of these packets, on every way, with lanes of every width, with and without tags.
#[test]
fn received_packets_have_no_former_life() {
    for width in [64, 256, 512] {
        let force = format!("--force-max-simd-bitwidth={width}");
        let eal = [PLAIN, &[force.as_str()]].concat();
        let Some(mut port) = Port::start("received_packets_have_no_former_life", &eal) else { return };
        port.pools();
        let vhost = port.vhost(0, 1, "");
        for way in TEN {
            let device = port.device(0, &way.args());
            for (rxo, flags, bytes) in [(0, 0, 100), (1, 1 | 1 << 6, 96)] {
                port.tell("dirty");
                port.run(device, vhost, &format!("rxo={rxo} {}", rings(way)));
                for _ in 0..20 {
                    port.tell(&format!("send port={vhost} frames=50 kind=tagged vlan=5 sizes=100"));
                    let taken = port.tell(&format!("take port={device} most=50 flags={flags:#x}"));
                    let whole = taken.number("faulty") + taken.number("corrupt") == 0;
                    let is = (taken.number("taken"), taken.number("bytes"), taken.number("and"), whole);
                    let good = is == (50, 50 * bytes, flags, true);
                    port.check(good, &format!("{}, {width} bits: {is:?} {}", way.name, taken.text("fault")));
                }
                port.tell(&format!("stop port={device}"));
            }
            port.tell(&format!("close port={device}"));
            port.tell(&format!("detach name={}", Port::name(0)));
        }
    }
}

/// Calls for fewer packets than the lanes are wide get what there is.
#[test]
fn short_bursts_are_served() {
    let Some(mut port) = Port::start("short_bursts_are_served", &[PLAIN, &[WIDEST]].concat()) else {
        return;
    };
    port.pools();
    let vhost = port.vhost(0, 1, "");
    for way in TEN {
        let device = port.device(0, &way.args());
        port.run(device, vhost, &rings(way));
        for burst in 1..=9 {
            port.tell(&format!("exchange port={device} peer={vhost} frames=300 burst={burst} window={burst}"));
        }
        port.remove(0, device);
    }
}

/// A pool with hardly more buffers than the ring, some of which the application keeps, and what is sent comes from it, too:
/// frames go on and on.
#[test]
fn small_pools_do_not_stall() {
    let Some(mut port) = Port::start("small_pools_do_not_stall", PLAIN) else { return };
    port.tell("pool name=vhost count=2000");
    for (count, keep) in [(300, 40), (300, 60), (257, 0), (288, 30)] {
        port.tell(&format!("pool name=tight count={count} cache=0"));
        let vhost = port.vhost(0, 1, "");
        for way in TEN {
            let device = port.device(0, &way.args());
            port.run(device, vhost, &format!("pool=tight {}", rings(way)));
            if keep > 0 {
                port.tell(&format!("send port={vhost} frames={keep} pool=vhost"));
                let kept = port.tell(&format!("take port={device} most={keep} keep=1")).number("taken");
                port.check(kept == keep, &format!("{}: {kept} of {keep}", way.name));
            }
            for round in 0..60 {
                port.tell(&format!("send port={vhost} frames=20 pool=vhost wait=200"));
                let moved = port.tell(&format!("forward port={device} to={device} most=20 idle=500"));
                let moved = (moved.number("forwarded"), moved.number("dropped"));
                let back = port.tell(&format!("take port={vhost} most=20 idle=500"));
                let is = (moved, back.number("taken"), back.number("corrupt"));
                let good = is == ((20, 0), 20, 0);
                port.check(good, &format!("{}, pool of {count}, {keep} kept, round {round}: {is:?}", way.name));
            }
            let nombuf = port.tell(&format!("stats port={device}")).number("rx_nombuf");
            port.check(nombuf < 1_000_000, &format!("{}: {nombuf} times no buffer", way.name));
            port.tell("drop");
            port.remove(0, device);
        }
        for command in [format!("stop port={vhost}"), format!("close port={vhost}"), "detach name=net_vhost0".into()] {
            port.tell(&command);
        }
        port.tell("unpool name=tight");
    }
}

/// A stopped port is not written to, has no buffer left, and may go on with another pool.
#[test]
fn a_stopped_port_holds_nothing() {
    let Some(mut port) = Port::start("a_stopped_port_holds_nothing", PLAIN) else { return };
    port.pools();
    port.tell("pool name=second count=1500");
    let vhost = port.vhost(0, 1, "");
    for way in TEN {
        let device = port.device(0, &way.args());
        for pool in ["port", "second", "port"] {
            port.run(device, vhost, &format!("pool={pool} {}", rings(way)));
            port.tell(&format!("exchange port={device} peer={vhost} frames=500 pool={pool} sizes={}", way.sizes()));
            // Frames under way in both directions, which nobody takes.
            port.tell(&format!("send port={device} frames=20"));
            port.tell(&format!("send port={vhost} frames=20"));
            port.tell(&format!("stop port={device}"));
            let sent = port.tell(&format!("send port={vhost} frames=20")).number("sent");
            port.check(sent == 0, &format!("{}: the back-end still fills the rings of a stopped port", way.name));
            let census = port.tell("census");
            let home = (census.number("port"), census.number("second"));
            port.check(home == (6000, 1500), &format!("{}: a stopped port keeps buffers: {home:?}", way.name));
        }
        port.tell(&format!("close port={device}"));
        port.tell(&format!("detach name={}", Port::name(0)));
    }
}

/// Rings whose size is no power of two, large and small ones: hundreds of laps.
#[test]
fn rings_of_other_sizes_go_round() {
    let Some(mut port) = Port::start("rings_of_other_sizes_go_round", &[PLAIN, &[WIDEST]].concat()) else {
        return;
    };
    port.tell("pool name=vhost count=8000");
    port.tell("pool name=port count=16000");
    let vhost = port.vhost(0, 1, "");
    for way in TEN {
        let sizes: &[u16] = if way.packed { &[33, 255, 1025, 4096] } else { &[32, 64, 1024, 4096] };
        for &queue_size in sizes {
            let way = Way { queue_size, ..way };
            let device = port.device(0, &way.args());
            port.run(device, vhost, &rings(way));
            let window = queue_size / 2;
            port.tell(&format!("exchange port={device} peer={vhost} frames=6000 jitter=1 burst=64 window={window}"));
            port.remove(0, device);
        }
    }
}
