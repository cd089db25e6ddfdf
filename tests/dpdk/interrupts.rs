//! Who sleeps is woken, once, by what he sleeps on; who polls is left alone.

use crate::loopback::vhost_testpmd;
use crate::paths::{BOTH, TEN, Way};
use crate::port::{PLAIN, Port, driver};

fn event_idx(on: bool) -> String {
    if driver() == "net_vuser" { format!(",event_idx={}", u8::from(on)) } else { String::new() }
}

/// Each of eight queues wakes its sleeper alone; a queue that is not armed wakes nobody.
#[test]
fn each_queue_wakes_its_sleeper() {
    let Some(mut port) = Port::start("each_queue_wakes_its_sleeper", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 8, "");
    for (way, event) in BOTH.into_iter().flat_map(|way| [(way, false), (way, true)]) {
        let device = port.device(0, &format!("{},queues=8{}", way.args(), event_idx(event)));
        port.run(device, vhost, "rxq=8 rxi=1");
        // The first frame of a queue is announced by DPDK's vhost whatever the queue asked for.
        port.tell(&format!("exchange port={device} peer={vhost} queues=8 frames=1"));
        for queue in 0..8 {
            port.tell(&format!("watch port={device} queue={queue}"));
        }
        for round in 0..25 {
            for queue in 0..8 {
                one_sleep(&mut port, way, (device, vhost, queue), round);
            }
        }
        for queue in 0..8 {
            port.tell(&format!("watch port={device} queue={queue} on=0"));
        }
        port.remove(0, device);
    }
}

fn one_sleep(port: &mut Port, way: Way, (device, vhost, queue): (u64, u64, u64), round: u32) {
    let name = way.name;
    if round.is_multiple_of(8) {
        port.tell(&format!("arm port={device} queue={queue} on=0"));
        // One may have been on its way when the queue was told to be quiet.
        port.tell("sleep ms=0");
        port.tell(&format!("send port={vhost} queue={queue}"));
        let woken = port.tell("sleep ms=2");
        port.check(woken.number("woken") == 0, &format!("{name}: a queue that is not armed wakes: {woken:?}"));
        port.tell(&format!("take port={device} queue={queue} most=1"));
    }
    port.tell(&format!("arm port={device} queue={queue}"));
    port.tell("sleep ms=0");
    port.tell(&format!("send port={vhost} queue={queue}"));
    let woken = port.tell("sleep ms=1000");
    let by = (woken.number("woken"), woken.has("queue").then(|| woken.number("queue")));
    port.check(by == (1, Some(queue)), &format!("{name}: queue {queue}, round {round}: {woken:?}"));
    let taken = port.tell(&format!("take port={device} queue={queue} most=1")).number("taken");
    port.check(taken == 1, &format!("{name}: woken, and there is no frame"));
    port.tell(&format!("arm port={device} queue={queue} on=0"));
}

/// The back-end sleeps, and our kick wakes it, for each queue.
#[test]
fn a_sleeping_back_end_is_woken() {
    let Some(mut port) = Port::start("a_sleeping_back_end_is_woken", PLAIN) else { return };
    port.pools();
    for (way, event) in BOTH.into_iter().flat_map(|way| [(way, false), (way, true)]) {
        let vhost = port.vhost(0, 4, "");
        let device = port.device(0, &format!("{},queues=4{}", way.args(), event_idx(event)));
        port.tell(&format!("stop port={vhost}"));
        port.tell(&format!("configure port={vhost} rxq=4 rxi=1 pool=vhost"));
        port.tell(&format!("start port={vhost}"));
        port.run(device, vhost, "rxq=4");
        for queue in 0..4 {
            port.tell(&format!("watch port={vhost} queue={queue}"));
        }
        for queue in (0..4).cycle().take(40) {
            port.tell(&format!("arm port={vhost} queue={queue}"));
            port.tell("sleep ms=0");
            port.tell(&format!("send port={device} queue={queue}"));
            let woken = port.tell("sleep ms=1000");
            let good = woken.number("woken") == 1 && woken.number("queue") == queue;
            port.check(good, &format!("{}: our frame on queue {queue} wakes nobody: {woken:?}", way.name));
            let taken = port.tell(&format!("take port={vhost} queue={queue} most=1")).number("taken");
            port.check(taken == 1, &format!("{}: woken, and there is no frame", way.name));
            port.tell(&format!("arm port={vhost} queue={queue} on=0"));
        }
        port.remove(0, device);
        port.tell(&format!("stop port={vhost}"));
        port.tell(&format!("close port={vhost}"));
        port.tell("detach name=net_vhost0");
    }
}

/// Where both sides poll, nobody writes to an event descriptor.
#[test]
fn who_polls_is_not_woken() {
    let Some(mut port) = Port::start("who_polls_is_not_woken", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 1, "");
    for (way, event) in BOTH.into_iter().flat_map(|way| [(way, false), (way, true)]) {
        let stats = if driver() == "net_vuser" { ",stats=1" } else { "" };
        let device = port.device(0, &format!("{}{}{stats}", way.args(), event_idx(event)));
        port.run(device, vhost, "");
        port.tell(&format!("exchange port={device} peer={vhost} frames=100"));
        for side in [device, vhost] {
            port.tell(&format!("clear port={side}"));
        }
        port.tell(&format!("exchange port={device} peer={vhost} frames=5000 jitter=1"));
        let calls = port.tell(&format!("xstats port={vhost}"));
        let called: u64 = calls
            .0
            .iter()
            .filter(|(k, _)| k.ends_with("guest_notifications"))
            .map(|(_, v)| v.parse::<u64>().unwrap())
            .sum();
        port.check(called == 0, &format!("{}: a polling driver was called {called} times", way.name));
        if driver() == "net_vuser" {
            let counted = port.tell(&format!("xstats port={device}"));
            let kicks = counted.number("rx_q0_kicks") + counted.number("tx_q0_kicks");
            port.check(kicks == 0, &format!("{}: a polling back-end was kicked {kicks} times", way.name));
        }
        port.remove(0, device);
    }
}

/// The back-end goes: the application is told, once, and its link is down.
#[test]
fn the_link_goes_down_with_the_back_end() {
    let Some(mut port) = Port::start("the_link_goes_down_with_the_back_end", PLAIN) else { return };
    port.pools();
    for way in BOTH {
        let vhost = port.vhost(0, 1, "");
        let device = port.device(0, &way.args());
        port.tell(&format!("links port={device} watch=1"));
        port.run(device, vhost, "lsc=1");
        let up = port.tell(&format!("link port={device} until=1 wait=1000")).number("up");
        port.check(up == 1, &format!("{}: the link does not come up", way.name));
        port.tell(&format!("links port={device}"));
        for command in [format!("stop port={vhost}"), format!("close port={vhost}"), "detach name=net_vhost0".into()] {
            port.tell(&command);
        }
        let events = port.tell(&format!("links port={device} until=1 wait=3000")).number("events");
        let up = port.tell(&format!("link port={device}")).number("up");
        port.check((events, up) == (1, 0), &format!("{}: {events} events, up {up}", way.name));
        let more = port.tell(&format!("links port={device} until=1 wait=50")).number("events");
        port.check(more == 0, &format!("{}: {more} more events about the same", way.name));
        port.remove(0, device);
    }
}

/// One frame at a time, to and fro between sleepers in two processes: not one wake-up is lost. `VUSER_WAKEUPS` is the number
/// of frames of all cases together.
#[test]
fn no_wake_up_is_lost() {
    let all: u64 = std::env::var("VUSER_WAKEUPS").map_or(1_000_000, |n| n.parse().expect("a number"));
    let Some(mut port) = Port::beside("no_wake_up_is_lost", PLAIN) else { return };
    let _testpmd = vhost_testpmd(&port, 2);
    port.pools();
    for (way, event) in BOTH.into_iter().flat_map(|way| [(way, false), (way, true)]) {
        let device = port.device(0, &format!("{},queues=2{}", way.args(), event_idx(event)));
        port.tell(&format!("configure port={device} rxq=2 rxi=1"));
        port.tell(&format!("start port={device}"));
        for queue in 0..2 {
            port.tell(&format!("watch port={device} queue={queue}"));
        }
        let frames = all / 8;
        let frames = format!("exchange port={device} queues=2 frames={frames} burst=1 window=1 sizes=64,512 sleep=1");
        let answer = port.tell(&frames);
        let (slept, over) = (answer.number("sleeps"), answer.number("overslept"));
        port.check(slept > 0 && over == 0, &format!("{}: {over} of {slept} sleeps were too long", way.name));
        for queue in 0..2 {
            port.tell(&format!("watch port={device} queue={queue} on=0"));
        }
        port.remove(0, device);
    }
}

/// What a core that waits for an address to change (UMWAIT) needs: there is a condition, and it says so when frames come.
#[test]
fn the_monitor_address_changes_when_frames_come() {
    let Some(mut port) = Port::start("the_monitor_address_changes_when_frames_come", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 2, "");
    for way in TEN {
        let device = port.device(0, &format!("{},queues=2", way.args()));
        port.run(device, vhost, &format!("rxq=2 rxd={0} txd={0}", way.queue_size));
        // So far that the ring has gone round in between.
        for round in 0..40 {
            for queue in 0..2 {
                let may =
                    |port: &mut Port| port.tell(&format!("monitor port={device} queue={queue}")).number("may_sleep");
                let before = may(&mut port);
                port.tell(&format!("send port={vhost} queue={queue} frames=9"));
                let with = may(&mut port);
                port.tell(&format!("take port={device} queue={queue} most=9"));
                let after = may(&mut port);
                let is = (before, with, after);
                port.check(is == (1, 0, 1), &format!("{}, {round}: may sleep before, with, after: {is:?}", way.name));
            }
        }
        port.remove(0, device);
    }
}
