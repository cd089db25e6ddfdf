//! The device listens, or the back-end does; whoever goes comes again, and the port goes on without a restart.

use std::time::{Duration, Instant};

use crate::client::chains;
use crate::loopback::{testpmd_with, vhost_testpmd};
use crate::paths::{BOTH, TEN, Way};
use crate::port::{PLAIN, Port, driver};
use crate::support::testpmd::Testpmd;

fn expect_link(port: &mut Port, way: Way, who: u64, until: u64, when: &str) {
    let up = port.tell(&format!("link port={who} until={until} wait=8000")).number("up");
    port.check(up == until, &format!("{}, {when}: the link of port {who} is {up}", way.name));
}

/// Frames on each of eight queues, each of which counts them all.
fn all_queues(port: &mut Port, way: Way, device: u64) {
    port.tell(&format!("clear port={device}"));
    port.tell(&format!("exchange port={device} queues=8 frames=100 window=32 {}", chains(way)));
    let counted = port.tell(&format!("xstats port={device}"));
    for queue in 0..8 {
        for side in ["rx", "tx"] {
            let name = format!("{side}_q{queue}_good_packets");
            let is = counted.number(&name);
            port.check(is == 100, &format!("{}: {name} is {is}", way.name));
        }
    }
}

fn listening(port: &mut Port, way: Way) -> u64 {
    let device = port.device(0, &format!("{},queues=8,stats=1,server=1", way.args()));
    port.tell(&format!("configure port={device} rxq=8 rxd={0} txd={0}", way.queue_size));
    port.tell(&format!("start port={device}"));
    device
}

/// The device listens, and is started before there is anybody; the back-end, a process of its own, comes, stops and starts
/// its port, is killed, and another comes; the device goes and comes again. Eight queues, each counted, on every way.
#[test]
fn a_device_that_listens() {
    if driver() != "net_vuser" {
        return;
    }
    let Some(mut port) = Port::beside("a_device_that_listens", PLAIN) else { return };
    port.tell("pool name=port count=24000");
    let long = Way { queue_size: 1025, name: "packed vectorized, ring of 1025", ..TEN[9] };
    for way in TEN.into_iter().chain([long]) {
        let device = listening(&mut port, way);
        expect_link(&mut port, way, device, 0, "with nobody there");
        let nothing = port.tell(&format!("take port={device} queue=7")).number("taken");
        port.check(nothing == 0, "frames from nobody");

        let mut testpmd = client_testpmd(&port, 8);
        expect_link(&mut port, way, device, 1, "the back-end has come");
        all_queues(&mut port, way, device);
        for command in ["stop", "port stop 0", "port start 0", "start"] {
            testpmd.command(command).unwrap_or_else(|e| port.blame(&e));
        }
        all_queues(&mut port, way, device);

        testpmd.kill();
        expect_link(&mut port, way, device, 0, "the back-end has gone");
        let mut testpmd = client_testpmd(&port, 8);
        expect_link(&mut port, way, device, 1, "another has come");
        all_queues(&mut port, way, device);

        port.remove(0, device);
        its_link(&port, &mut testpmd, "down");
        let device = listening(&mut port, way);
        expect_link(&mut port, way, device, 1, "the device has come again");
        its_link(&port, &mut testpmd, "up");
        all_queues(&mut port, way, device);
        port.remove(0, device);
        let home = port.tell("census").number("port");
        port.check(home == 24000, &format!("{}: {} buffers are missing", way.name, 24000 - home));
    }
    port.quit();
}

/// What the back-end says of its link.
fn its_link(port: &Port, testpmd: &mut Testpmd, expected: &str) {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let said = testpmd.command("show port info 0").unwrap_or_else(|e| port.blame(&e));
        if said.contains(&format!("Link status: {expected}")) {
            return;
        }
        port.check(Instant::now() < end, &format!("the back-end's link is not {expected}: {said}"));
    }
}

/// Either side listens; the back-end, a process of its own, is killed and started again. Each loss and each return is told
/// once, nothing else is, and frames pass after each.
#[test]
fn losses_and_returns_are_told() {
    if driver() != "net_vuser" {
        return;
    }
    let Some(mut port) = Port::beside("losses_and_returns_are_told", PLAIN) else { return };
    port.pools();
    for (way, server) in BOTH.into_iter().flat_map(|way| [(way, false), (way, true)]) {
        let _ = std::fs::remove_file(port.file("s0"));
        let mut testpmd = (!server).then(|| vhost_testpmd(&port, 2));
        let device = port.device(0, &format!("{},queues=2,server={},reconnect_ms=50", way.args(), u8::from(server)));
        port.tell(&format!("links port={device} watch=1"));
        port.tell(&format!("configure port={device} rxq=2 lsc=1"));
        port.tell(&format!("start port={device}"));
        if server {
            testpmd = Some(client_testpmd(&port, 2));
        }
        expect_link(&mut port, way, device, 1, "at first");
        port.tell(&format!("exchange port={device} queues=2 frames=500"));
        for round in 0..3 {
            port.tell(&format!("links port={device}"));
            testpmd.take().expect("it runs").kill();
            let gone = port.tell(&format!("links port={device} until=1 wait=5000")).number("events");
            port.check(gone == 1, &format!("{}: {gone} events about a loss", way.name));
            expect_link(&mut port, way, device, 0, "after a death");
            // Nobody is there to take them, and they come to no harm.
            port.tell(&format!("take port={device}"));
            if !server {
                let _ = std::fs::remove_file(port.file("s0"));
            }
            testpmd = Some(if server { client_testpmd(&port, 2) } else { vhost_testpmd(&port, 2) });
            let back = port.tell(&format!("links port={device} until=1 wait=8000")).number("events");
            port.check(back == 1, &format!("{}, {round}: {back} events about a return", way.name));
            expect_link(&mut port, way, device, 1, "after a return");
            port.tell(&format!("exchange port={device} queues=2 frames=500"));
            let counted = port.tell(&format!("xstats port={device}"));
            let is = counted.number("reconnects");
            port.check(is == round + 1, &format!("{}: {is} reconnects, not {}", way.name, round + 1));
        }
        port.remove(0, device);
        drop(testpmd);
        let home = port.tell("census").number("port");
        port.check(home == 6000, &format!("{}: {} buffers are missing", way.name, 6000 - home));
    }
    port.quit();
}

/// A testpmd that connects to `s0` and sends back what comes.
fn client_testpmd(port: &Port, queues: u32) -> Testpmd {
    testpmd_with(port, queues, ",client=1")
}
