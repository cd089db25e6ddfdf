//! Queues and links of a running port, and the calls beside its traffic.

use crate::paths::{BOTH, TEN};
use crate::port::{PLAIN, Port};

/// A queue that is stopped moves nothing, the others go on; started again it goes on where it was.
#[test]
fn one_queue_stops_and_starts() {
    let Some(mut port) = Port::start("one_queue_stops_and_starts", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 2, "");
    for way in BOTH {
        let device = port.device(0, &format!("{},queues=2", way.args()));
        port.run(device, vhost, "rxq=2");
        for round in 0..5 {
            port.tell(&format!("exchange port={device} peer={vhost} queues=2 frames=300"));
            for side in ["rx", "tx"] {
                port.tell(&format!("queue port={device} side={side} queue=1 up=0"));
            }
            port.tell(&format!("exchange port={device} peer={vhost} queues=1 frames=300"));
            let sent = port.tell(&format!("send port={device} queue=1")).number("sent");
            let taken = port.tell(&format!("take port={device} queue=1")).number("taken");
            port.check((sent, taken) == (0, 0), &format!("{}, {round}: a stopped queue moves frames", way.name));
            for side in ["rx", "tx"] {
                port.tell(&format!("queue port={device} side={side} queue=1 up=1"));
            }
        }
        port.remove(0, device);
        all_buffers_are_home(&mut port, way.name);
    }
}

fn all_buffers_are_home(port: &mut Port, way: &str) {
    let home = port.tell("census").number("port");
    port.check(home == 6000, &format!("{way}: {} buffers are missing", 6000 - home));
}

#[test]
fn queues_can_wait_for_their_start() {
    let Some(mut port) = Port::start("queues_can_wait_for_their_start", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 2, "");
    for way in BOTH {
        let device = port.device(0, &format!("{},queues=2", way.args()));
        port.tell(&format!("configure port={device} rxq=2 deferred=1"));
        port.tell(&format!("start port={device}"));
        let sent = port.tell(&format!("send port={device}")).number("sent");
        port.check(sent == 0, &format!("{}: a queue that waits for its start sends", way.name));
        for queue in [0, 1] {
            for side in ["rx", "tx"] {
                port.tell(&format!("queue port={device} side={side} queue={queue} up=1"));
            }
        }
        port.tell(&format!("link port={vhost} until=1 wait=3000"));
        port.tell(&format!("exchange port={device} peer={vhost} queues=2 frames=500"));
        port.remove(0, device);
    }
}

/// Link down: nothing moves in either direction; up: all does, and what waited is not lost.
#[test]
fn the_link_is_set_down_and_up() {
    let Some(mut port) = Port::start("the_link_is_set_down_and_up", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 1, "");
    for way in BOTH {
        let device = port.device(0, &way.args());
        port.run(device, vhost, "");
        port.tell(&format!("exchange port={device} peer={vhost} frames=300"));
        let down = port.tell(&format!("link port={device} up=0")).number("up");
        let sent = port.tell(&format!("send port={device}")).number("sent");
        let there = port.tell(&format!("take port={vhost}")).number("taken");
        port.tell(&format!("send port={vhost}"));
        let back = port.tell(&format!("take port={device}")).number("taken");
        port.check((down, there, back) == (0, 0, 0), &format!("{}: link {down}, {there}, {back} pass", way.name));
        let up = port.tell(&format!("link port={device} up=1")).number("up");
        port.check(up == 1, &format!("{}: the link does not come up again", way.name));
        port.tell(&format!("link port={vhost} until=1 wait=3000"));
        // DPDK's vhost says that a ring is enabled before its port takes from it.
        let there = port.tell(&format!("take port={vhost} most={sent} idle=1000")).number("taken");
        port.check(there == sent, &format!("{}: {sent} sent, {there} arrive", way.name));
        port.tell(&format!("exchange port={device} peer={vhost} frames=300"));
        port.remove(0, device);
    }
}

/// One, eight, four, one queue of eight, of a port that goes on between, and more receive than transmit queues.
#[test]
fn the_number_of_queues_changes() {
    let Some(mut port) = Port::start("the_number_of_queues_changes", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 8, "");
    for way in TEN {
        let device = port.device(0, &format!("{},queues=8", way.args()));
        for queues in [1, 8, 4, 1] {
            port.run(device, vhost, &format!("rxq={queues} rxd={0} txd={0}", way.queue_size));
            port.tell(&format!("exchange port={device} peer={vhost} queues={queues} frames=400 jitter=1"));
            port.tell(&format!("stop port={device}"));
        }
        port.run(device, vhost, "rxq=4 txq=2");
        port.tell(&format!("exchange port={device} peer={vhost} queues=2 frames=400"));
        port.tell(&format!("send port={vhost} queue=3 frames=10"));
        let taken = port.tell(&format!("take port={device} queue=3")).number("taken");
        port.check(taken == 10, &format!("{}: a receive queue without its transmit queue gets {taken}", way.name));
        port.remove(0, device);
        all_buffers_are_home(&mut port, way.name);
    }
}

/// A ring says of each descriptor who has it, and how many frames wait; sent buffers come back when asked for.
#[test]
fn descriptors_say_where_they_are() {
    let Some(mut port) = Port::start("descriptors_say_where_they_are", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 1, "");
    for way in TEN {
        let device = port.device(0, &way.args());
        port.run(device, vhost, &format!("rxd={0} txd={0}", way.queue_size));
        port.tell(&format!("send port={vhost} frames=10"));
        // DPDK: receive 0 with the device, 1 done; transmit 0 with the device, 1 done.
        let at = |port: &mut Port, at: u32| {
            let answer = port.tell(&format!("status port={device} at={at}"));
            ["rx", "tx", "count"].map(|k| answer.text(k).parse::<i32>().unwrap())
        };
        let [done, free, count] = at(&mut port, 9);
        port.check((done, free, count) == (1, 1, 10), &format!("{}: {done}, {free}, {count}", way.name));
        let [with_device, ..] = at(&mut port, 10);
        port.check(with_device == 0, &format!("{}: descriptor 10 is {with_device}", way.name));
        let [beyond, ..] = at(&mut port, 5000);
        port.check(beyond < 0, &format!("{}: there is no descriptor 5000, but it is {beyond}", way.name));
        port.tell(&format!("take port={device} most=10"));
        let [done, _, count] = at(&mut port, 0);
        port.check((done, count) == (0, 0), &format!("{}: after all were taken: {done}, {count}", way.name));

        let before = port.tell("census").number("port");
        port.tell(&format!("send port={device} frames=100"));
        let nothing = port.tell(&format!("cleanup port={device}")).number("freed");
        port.tell(&format!("take port={vhost} most=100"));
        let freed = port.tell(&format!("cleanup port={device}")).number("freed");
        let after = port.tell("census").number("port");
        let same = before == after;
        port.check((nothing, freed, same) == (0, 100, true), &format!("{}: freed {nothing}, then {freed}", way.name));
        port.remove(0, device);
    }
}

/// The calls that DPDK's virtio has and that change little here, and a reset.
#[test]
fn small_calls_and_a_reset() {
    let Some(mut port) = Port::start("small_calls_and_a_reset", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 1, "");
    for way in BOTH {
        let device = port.device(0, &format!("{},mac=02:00:00:00:00:05,speed=25000", way.args()));
        let mac = port.tell(&format!("info port={device}")).text("mac").to_owned();
        port.check(mac == "02:00:00:00:00:05", &format!("{}: its address is {mac}", way.name));
        port.run(device, vhost, "");
        let speed = port.tell(&format!("link port={device}")).number("speed");
        port.check(speed == 25000, &format!("{}: its speed is {speed}", way.name));
        port.tell(&format!("small_calls port={device} mtu=1400"));
        let info = port.tell(&format!("info port={device}"));
        let is = (info.number("mtu"), info.text("mac").to_owned());
        port.check(is == (1400, "02:00:00:00:00:77".into()), &format!("{}: {is:?}", way.name));
        port.refuse(&format!("small_calls port={device} mtu=20000"));
        port.tell(&format!("exchange port={device} peer={vhost} frames=300"));
        port.tell(&format!("stop port={device}"));
        port.tell(&format!("reset port={device}"));
        port.run(device, vhost, "");
        port.tell(&format!("exchange port={device} peer={vhost} frames=300"));
        port.remove(0, device);
    }
}
