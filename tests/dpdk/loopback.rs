//! Frames go out, are sent back, and are the same: every way, every length, one queue and many.

use crate::paths::TEN;
use crate::port::{PLAIN, Port, driver};
use crate::support::testpmd::Testpmd;

/// SIMD widths that EAL can be told, and that select scalar, AVX2 and AVX-512 lanes.
const WIDTHS: [u32; 3] = [64, 256, 512];

/// What the driver says it does is what was selected, and frames pass that way.
fn every_way(test: &str, width: u32, more: &str) {
    let force = format!("--force-max-simd-bitwidth={width}");
    let Some(mut port) = Port::start(test, &[PLAIN, &[force.as_str()]].concat()) else { return };
    port.pools();
    let vhost = port.vhost(0, 1, "");
    for way in TEN {
        let device = port.device(0, &format!("{}{more}", way.args()));
        port.tell("dirty");
        let rxd = way.queue_size;
        port.run(device, vhost, &format!("rxd={rxd} txd={rxd}"));
        the_way(&mut port, device, &format!("{}{}", way.mode(width), if more.is_empty() { "" } else { " bounce" }));
        for size in way.sizes().split(',') {
            port.tell(&format!("exchange port={device} peer={vhost} frames=1500 sizes={size}"));
        }
        let mixed = format!("sizes={} jitter=1 burst=64", way.sizes());
        port.tell(&format!("exchange port={device} peer={vhost} frames=3000 {mixed}"));
        port.tell(&format!("exchange port={device} peer={vhost} frames=1000 {mixed} segment=200"));
        port.remove(0, device);
        let left = port.tell("census");
        port.check(left.number("port") == 6000, &format!("{}: buffers are missing", way.name));
    }
}

/// The selected path, by name.
fn the_way(port: &mut Port, device: u64, expected: &str) {
    if driver() != "net_vuser" {
        return;
    }
    let mode = port.tell(&format!("mode port={device}"));
    for side in ["rx", "tx"] {
        let is = mode.text(side).to_owned();
        port.check(is == expected, &format!("{side} goes by \"{is}\" and not by \"{expected}\""));
    }
    let dumped = port.tell(&format!("dump port={device}")).text("text").to_owned();
    port.check(dumped.contains(expected), &format!("it dumps {dumped}"));
}

#[test]
fn every_way_scalar() {
    every_way("every_way_scalar", WIDTHS[0], "");
}

#[test]
fn every_way_avx2() {
    every_way("every_way_avx2", WIDTHS[1], "");
}

#[test]
fn every_way_avx512() {
    every_way("every_way_avx512", WIDTHS[2], "");
}

/// The same where frames are copied because the device can't have the application's memory.
#[test]
fn every_way_by_copies() {
    if driver() == "net_vuser" {
        every_way("every_way_by_copies", WIDTHS[2], ",bounce=1");
    }
}

/// A testpmd that sends back what comes from the device at `s0`, on each of so many queues.
pub fn vhost_testpmd(port: &Port, queues: u32) -> Testpmd {
    testpmd_with(port, queues, "")
}

/// The same with more arguments of its port.
pub fn testpmd_with(port: &Port, queues: u32, more: &str) -> Testpmd {
    let socket = port.file("s0");
    let vdev = format!("--vdev=net_vhost0,iface={},queues={queues}{more}", socket.display());
    let counts = [format!("--rxq={queues}"), format!("--txq={queues}")];
    let app = [&counts[0], &counts[1], "--total-num-mbufs=8192", "--no-flush-rx", "--disable-link-check"];
    let eal = ["--no-huge", "--no-shconf", "-m", "160", &vdev];
    let mut testpmd = Testpmd::start(port.directory(), &eal, &app, &[]).unwrap_or_else(|e| port.blame(&e));
    testpmd.command("start").unwrap_or_else(|e| port.blame(&e));
    testpmd
}

/// The other end in a process of its own: 8 queues, of which one, all, and three are used in turn, on every way.
#[test]
fn every_way_to_another_process() {
    let Some(mut port) = Port::beside("every_way_to_another_process", PLAIN) else { return };
    let mut testpmd = vhost_testpmd(&port, 8);
    port.pools();
    for way in TEN {
        let device = port.device(0, &format!("{},queues=8", way.args()));
        testpmd.command("clear port stats 0").unwrap();
        let mut sent = 0;
        for queues in [1, 8, 3, 1] {
            port.tell(&format!("configure port={device} rxq={queues} rxd={0} txd={0}", way.queue_size));
            port.tell(&format!("start port={device}"));
            let answer = port.tell(&format!(
                "exchange port={device} queues={queues} frames={} sizes={} jitter=1 window=64",
                4000 / queues,
                way.sizes()
            ));
            sent += answer.number("received");
            port.tell(&format!("stop port={device}"));
        }
        let counted = testpmd.counters(0).unwrap_or_else(|e| port.blame(&e));
        port.check(counted == (sent, sent, 0), &format!("{}: {sent} sent, testpmd counts {counted:?}", way.name));
        port.tell(&format!("close port={device}"));
        port.tell(&format!("detach name={}", Port::name(0)));
    }
}

/// The back-end stops its port: nothing comes back. It starts it again: what waited comes, and single frames pass.
#[test]
fn the_back_end_restarts_its_port() {
    let Some(mut port) = Port::beside("the_back_end_restarts_its_port", PLAIN) else { return };
    let mut testpmd = vhost_testpmd(&port, 1);
    port.pools();
    for way in TEN {
        let device = port.device(0, &way.args());
        port.tell(&format!("configure port={device} rxd={0} txd={0}", way.queue_size));
        port.tell(&format!("start port={device}"));
        port.tell(&format!("exchange port={device} frames=500 sizes={} window=64", way.sizes()));
        for command in ["stop", "port stop 0"] {
            testpmd.command(command).unwrap_or_else(|e| port.blame(&e));
        }
        let sent = port.tell(&format!("send port={device} frames=20 burst=1")).number("sent");
        let taken = port.tell(&format!("take port={device} idle=30")).number("taken");
        port.check(
            (sent, taken) == (20, 0),
            &format!("{}: {sent} sent, and {taken} came from a stopped port", way.name),
        );
        for command in ["port start 0", "start"] {
            testpmd.command(command).unwrap_or_else(|e| port.blame(&e));
        }
        let taken = port.tell(&format!("take port={device} most=20 idle=2000"));
        port.check(taken.number("taken") == 20 && taken.number("corrupt") == 0, "what waited does not come");
        port.tell(&format!("exchange port={device} frames=200 burst=1 window=1"));
        port.remove(0, device);
    }
}
