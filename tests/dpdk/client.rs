//! What the plans for devices that reconnect do with either end: it goes, comes again, and all queues carry frames.

use crate::paths::{TEN, Way};
use crate::port::{PLAIN, Port, driver};

/// Chains as the plans have them: four buffers of 2000 bytes; 64, 128, 256 and 512 bytes where a frame is one buffer.
pub fn chains(way: Way) -> &'static str {
    if way.mergeable { "sizes=8000 segment=2000" } else { "sizes=960 segment=240" }
}

fn all_queues(port: &mut Port, way: Way, device: u64, vhost: u64) {
    for side in [device, vhost] {
        port.tell(&format!("clear port={side}"));
    }
    port.tell(&format!("exchange port={device} peer={vhost} queues=8 frames=300 {}", chains(way)));
    let counted = port.tell(&format!("xstats port={device}"));
    for queue in 0..8 {
        for side in ["rx", "tx"] {
            let name = format!("{side}_q{queue}_good_packets");
            let is = counted.number(&name);
            port.check(is == 300, &format!("{}: {name} is {is}", way.name));
        }
    }
}

/// The device goes and comes again; the back-end's port stops and starts; eight queues, on every way.
#[test]
fn either_end_goes_and_comes_again() {
    let Some(mut port) = Port::start("either_end_goes_and_comes_again", PLAIN) else { return };
    port.tell("pool name=vhost count=16000");
    port.tell("pool name=port count=24000");
    let vhost = port.vhost(0, 8, "");
    let long = Way { queue_size: 1025, name: "packed vectorized, ring of 1025", ..TEN[9] };
    for way in TEN.into_iter().chain([long]) {
        let stats = if driver() == "net_vuser" { ",stats=1" } else { "" };
        let args = format!("{},queues=8{stats}", way.args());
        for _ in 0..2 {
            let device = port.device(0, &args);
            port.run(device, vhost, &format!("rxq=8 rxd={0} txd={0}", way.queue_size));
            all_queues(&mut port, way, device, vhost);
            port.tell(&format!("stop port={vhost}"));
            let taken = port.tell(&format!("take port={device}")).number("taken");
            port.check(taken == 0, &format!("{}: {taken} frames from a stopped port", way.name));
            port.tell(&format!("start port={vhost}"));
            all_queues(&mut port, way, device, vhost);
            port.remove(0, device);
            let up = port.tell(&format!("link port={vhost} until=0 wait=3000")).number("up");
            port.check(up == 0, &format!("{}: the device is gone, and the back-end's link up", way.name));
        }
    }
}

/// The back-end begins with two of its eight queues, and goes on with all.
#[test]
fn the_back_end_takes_more_queues_later() {
    let Some(mut port) = Port::start("the_back_end_takes_more_queues_later", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 8, "");
    for way in [TEN[4], TEN[2]] {
        port.tell(&format!("stop port={vhost}"));
        port.tell(&format!("configure port={vhost} rxq=2 pool=vhost"));
        port.tell(&format!("start port={vhost}"));
        let device = port.device(0, &format!("{},queues=8", way.args()));
        port.run(device, vhost, "rxq=8");
        port.tell(&format!("exchange port={device} peer={vhost} queues=2 frames=500"));
        port.tell(&format!("stop port={vhost}"));
        port.tell(&format!("configure port={vhost} rxq=8 pool=vhost"));
        port.tell(&format!("start port={vhost}"));
        port.tell(&format!("link port={vhost} until=1 wait=3000"));
        port.tell(&format!("exchange port={device} peer={vhost} queues=8 frames=500"));
        port.remove(0, device);
    }
}
