//! Back-ends that die, say nothing, or offer little.

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use crate::loopback::vhost_testpmd;
use crate::paths::BOTH;
use crate::port::{PLAIN, Port};

const MQ: u64 = 1 << 22;
const CTRL_VQ: u64 = 1 << 17;
const CTRL_RX: u64 = 1 << 18;
const MRG_RXBUF: u64 = 1 << 15;
const INDIRECT: u64 = 1 << 28;
const EVENT_IDX: u64 = 1 << 29;
const PROTOCOL_FEATURES: u64 = 1 << 30;
const VERSION_1: u64 = 1 << 32;
const RING_PACKED: u64 = 1 << 34;
const IN_ORDER: u64 = 1 << 35;

/// The back-end is killed. To write to its socket must not kill us as well; its death is seen, said once, and closing the
/// port right after the event about it is no use of what is gone.
#[test]
fn the_death_of_the_back_end_kills_nobody() {
    let Some(mut port) = Port::beside("the_death_of_the_back_end_kills_nobody", PLAIN) else { return };
    port.pools();
    for (n, way) in BOTH.into_iter().enumerate() {
        for lsc in [0, 1] {
            // Who was killed could not take its socket with it.
            let _ = std::fs::remove_file(port.file("s0"));
            let mut testpmd = vhost_testpmd(&port, 2);
            let device = port.device(0, &format!("{},queues=2", way.args()));
            port.tell(&format!("configure port={device} rxq=2 lsc={lsc}"));
            port.tell(&format!("start port={device}"));
            port.tell(&format!("exchange port={device} queues=2 frames=500"));
            testpmd.kill();
            if lsc == 0 {
                let up = port.tell(&format!("link port={device} until=0 wait=3000")).number("up");
                port.check(up == 0, &format!("{}: the back-end is dead, and the link up", way.name));
                let mark = port.log().len();
                for _ in 0..200 {
                    port.tell(&format!("link port={device}"));
                }
                let said = port.log()[mark..].lines().count();
                port.check(said < 10, &format!("{}: {said} lines about one death", way.name));
                // Nobody takes these, and nobody minds.
                port.tell(&format!("send port={device} frames=300"));
                port.tell(&format!("take port={device}"));
            }
            let _ = port.ask(&format!("stop port={device}"));
            port.tell(&format!("close port={device}"));
            port.tell(&format!("detach name={}", Port::name(0)));
            let home = port.tell("census").number("port");
            port.check(home == 6000, &format!("{}, {n}: {} buffers are missing", way.name, 6000 - home));
        }
    }
    port.quit();
}

/// The back-end accepts and says nothing: the call ends at a deadline with a sentence.
#[test]
fn silence_has_a_deadline() {
    let Some(mut port) = Port::start("silence_has_a_deadline", PLAIN) else { return };
    let socket = port.file("silent");
    let _listener = UnixListener::bind(&socket).unwrap();
    let begin = Instant::now();
    port.refuse(&format!("attach name={} args=path={},timeout_ms=300", Port::name(0), socket.display()));
    // The deadline that is there otherwise is ten seconds.
    port.check(begin.elapsed() < Duration::from_secs(9), "that took long");
    port.check(port.says(0, "GET_FEATURES"), "the log does not say what was waited for");
}

/// A signal that interrupts a wait is no error.
#[test]
fn signals_are_no_errors() {
    let Some(mut port) = Port::start("signals_are_no_errors", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 2, "");
    port.tell("pester us=200");
    for way in BOTH {
        for _ in 0..5 {
            let device = port.device(0, &format!("{},queues=2", way.args()));
            port.run(device, vhost, "rxq=2");
            port.tell(&format!("exchange port={device} peer={vhost} queues=2 frames=500"));
            port.remove(0, device);
        }
    }
    port.tell("pester us=0");
}

/// A legacy back-end (no VERSION_1) is told of features and calls like any other, and its frames have headers of ten bytes.
#[test]
fn a_legacy_back_end_works() {
    let Some(mut port) = Port::start("a_legacy_back_end_works", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 1, "");
    let socket = port.file("s0");
    port.tell(&format!("offer path={} without={:#x}", socket.display(), VERSION_1 | RING_PACKED | IN_ORDER));
    for mergeable in [0, 1] {
        let mark = port.log().len();
        let device = port.device(0, &format!("mrg_rxbuf={mergeable}"));
        port.run(device, vhost, "");
        port.tell(&format!("exchange port={device} peer={vhost} frames=1000 sizes=64,1518 jitter=1"));
        port.tell(&format!("exchange port={device} peer={vhost} frames=1000 sizes=64,1518 segment=300"));
        for message in ["SET_VRING_CALL", "SET_FEATURES"] {
            let heard = port.says(mark, &format!("VHOST_USER_{message}"));
            port.check(heard, &format!("a legacy back-end never hears {message}"));
        }
        port.remove(0, device);
    }
}

/// Without protocol features there is no message that enables rings, nor any other of theirs; all works as it did in
/// the first days of the protocol.
#[test]
fn a_back_end_without_protocol_features_works() {
    let Some(mut port) = Port::start("a_back_end_without_protocol_features_works", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 1, "");
    let socket = port.file("s0");
    port.tell(&format!("offer path={} without={PROTOCOL_FEATURES:#x}", socket.display()));
    for way in BOTH {
        let mark = port.log().len();
        let device = port.device(0, &way.args());
        port.run(device, vhost, "");
        port.tell(&format!("exchange port={device} peer={vhost} frames=1000 sizes={}", way.sizes()));
        port.remove(0, device);
        let log = port.log()[mark..].to_owned();
        for message in ["SET_VRING_ENABLE", "PROTOCOL_FEATURES", "STATUS", "GET_QUEUE_NUM"] {
            port.check(!log.contains(&format!("read message VHOST_USER_{message}")), &format!("it hears {message}"));
        }
    }
}

/// Whatever a back-end offers, what is agreed is legal, the ring is of the kind that was agreed, and frames pass.
#[test]
fn every_set_of_features_works() {
    let Some(mut port) = Port::start("every_set_of_features_works", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 1, "");
    let socket = port.file("s0");
    let bits = [VERSION_1, MRG_RXBUF, IN_ORDER, RING_PACKED, EVENT_IDX, INDIRECT, PROTOCOL_FEATURES];
    let all = bits.iter().fold(0, |a, b| a | b);
    for set in 0..1 << bits.len() {
        let taken = bits.iter().enumerate().filter(|(n, _)| set >> n & 1 == 1).fold(0, |a, (_, b)| a | b);
        let offer = format!("offer path={} without={all:#x} with={:#x}", socket.display(), all & !taken);
        port.tell(&offer);
        let device = port.device(0, "packed_vq=1");
        port.run(device, vhost, "");
        let agreed = port.tell(&format!("table port={vhost}")).number("features");
        port.check(agreed & taken == 0, &format!("{agreed:#x} was agreed, and {taken:#x} not offered"));
        let legacy = agreed & VERSION_1 == 0;
        port.check(!legacy || agreed & (RING_PACKED | IN_ORDER) == 0, &format!("{agreed:#x} is no legal set"));
        let sizes = if agreed & MRG_RXBUF == 0 { "64,1518" } else { "64,1518,9000" };
        port.tell(&format!("exchange port={device} peer={vhost} frames=600 sizes={sizes} jitter=1 segment=700"));
        port.remove(0, device);
    }
}

/// No feature is agreed without those that the standard wants with it.
#[test]
fn what_is_agreed_is_legal() {
    let Some(mut port) = Port::start("what_is_agreed_is_legal", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 2, "");
    for way in BOTH {
        let device = port.device(0, &format!("{},queues=2", way.args()));
        port.run(device, vhost, "rxq=2");
        let agreed = port.tell(&format!("table port={vhost}")).number("features");
        let legal = agreed & (MQ | CTRL_RX) == 0 || agreed & CTRL_VQ != 0;
        port.check(legal, &format!("{}: {agreed:#x} has MQ or CTRL_RX, and not CTRL_VQ", way.name));
        port.remove(0, device);
    }
}
