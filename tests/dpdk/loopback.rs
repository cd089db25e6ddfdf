//! Frames go out, are sent back, and are the same: every way, every length, one queue and many.

use crate::paths::{TEN, Way};
use crate::port::{PLAIN, Port, driver};

/// SIMD widths that EAL can be told, and that select scalar, AVX2 and AVX-512 lanes.
const WIDTHS: [u32; 3] = [64, 256, 512];

/// What the driver says it does is what was selected, and frames pass that way.
fn every_way(test: &str, width: u32) {
    let force = format!("--force-max-simd-bitwidth={width}");
    let Some(mut port) = Port::start(test, &[PLAIN, &[force.as_str()]].concat()) else { return };
    port.pools();
    let vhost = port.vhost(0, 1, "");
    for way in TEN {
        let device = port.device(0, &way.args());
        port.tell("dirty");
        let rxd = way.queue_size;
        port.run(device, vhost, &format!("rxd={rxd} txd={rxd}"));
        the_way(&mut port, device, way, width);
        for size in way.sizes().split(',') {
            port.tell(&format!("exchange port={device} peer={vhost} frames=1500 sizes={size}"));
        }
        let mixed = format!("sizes={} jitter=1 burst=64", way.sizes());
        port.tell(&format!("exchange port={device} peer={vhost} frames=3000 {mixed}"));
        port.tell(&format!("exchange port={device} peer={vhost} frames=1000 {mixed} segment=100"));
        port.remove(0, device);
        let left = port.tell("census");
        port.check(left.number("port") == 6000, &format!("{}: buffers are missing", way.name));
    }
}

/// The selected path, by name.
fn the_way(port: &mut Port, device: u64, way: Way, width: u32) {
    if driver() != "net_vuser" {
        return;
    }
    let expected = way.mode(width);
    let mode = port.tell(&format!("mode port={device}"));
    for side in ["rx", "tx"] {
        let is = mode.text(side).to_owned();
        port.check(is == expected, &format!("{}: {side} goes by \"{is}\" and not by \"{expected}\"", way.name));
    }
    let dumped = port.tell(&format!("dump port={device}")).text("text").to_owned();
    port.check(dumped.contains(&format!("{} ", expected.split(' ').next().unwrap())), &format!("it dumps {dumped}"));
}

#[test]
fn every_way_scalar() {
    every_way("every_way_scalar", WIDTHS[0]);
}

#[test]
fn every_way_avx2() {
    every_way("every_way_avx2", WIDTHS[1]);
}

#[test]
fn every_way_avx512() {
    every_way("every_way_avx512", WIDTHS[2]);
}
