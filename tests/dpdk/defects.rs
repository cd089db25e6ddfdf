//! What DPDK's own driver is known to get wrong, as tests: ours must not. docs/acceptance.md has the list.

use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::loopback::vhost_testpmd;
use crate::paths::{BOTH, TEN, Way};
use crate::port::{PLAIN, Port};
use crate::proxy::{Change, Message, Proxy};

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

fn rings(way: Way) -> String {
    format!("rxd={0} txd={0}", way.queue_size)
}

/// A proxy at `s<n>9` in front of the vhost port at `s<n>`.
fn proxy(port: &Port, n: u32, change: Arc<Change>) -> Proxy {
    Proxy::start(&port.file(&format!("s{n}9")), &port.file(&format!("s{n}")), change)
}

fn unchanged() -> Arc<Change> {
    Arc::new(|_| true)
}

// ---------------------------------------------------------------------------------------------------------
// Back-ends that die, say nothing, or offer little

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
    port.check(begin.elapsed() < Duration::from_secs(3), "that took long");
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

// ---------------------------------------------------------------------------------------------------------
// What is asked for

/// More queues than the back-end says it has: refused, and the log says which number would do. (DPDK's vhost says 128
/// whatever its port has: the proxy makes it say 1.)
#[test]
fn more_queues_than_there_are() {
    let Some(mut port) = Port::start("more_queues_than_there_are", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 4, "");
    let one = |m: &mut Message| {
        if m.request == 17 && !m.from_front {
            m.payload = 1u64.to_ne_bytes().to_vec();
        }
        true
    };
    let _proxy = proxy(&port, 0, Arc::new(one));
    let socket = port.file("s09");
    port.refuse(&format!("attach name={} args=path={},queues=4", Port::name(0), socket.display()));
    port.check(port.says(0, "VHOST_USER_GET_QUEUE_NUM"), "the back-end was not asked");
    port.check(port.says(0, "queues=1"), "the log does not say how many there are");
    let device = port.device_at(0, &socket, "queues=1");
    port.run(device, vhost, "");
    port.tell(&format!("exchange port={device} peer={vhost} frames=100"));
}

/// A ring's index has one byte on the wire: 128 queues are the most, and more are never taken for fewer.
#[test]
fn more_queues_than_can_be_named() {
    let Some(mut port) = Port::start("more_queues_than_can_be_named", PLAIN) else { return };
    port.tell("pool name=vhost count=2000");
    port.tell("pool name=port count=20000");
    let vhost = port.vhost(0, 128, "");
    let socket = port.file("s0");
    for queues in ["129", "130", "256", "257", "65537", "4294967297"] {
        port.refuse(&format!("attach name={} args=path={},queues={queues}", Port::name(0), socket.display()));
    }
    let device = port.device(0, "queues=128,queue_size=32");
    port.run(device, vhost, "rxq=128 rxd=32 txd=32");
    for queue in [127, 0, 64] {
        let sent = port.tell(&format!("send port={device} queue={queue} frames=20")).number("sent");
        let there = port.tell(&format!("take port={vhost} queue={queue}")).number("taken");
        port.tell(&format!("send port={vhost} queue={queue} frames=20"));
        let back = port.tell(&format!("take port={device} queue={queue}")).number("taken");
        port.check((sent, there, back) == (20, 20, 20), &format!("queue {queue}: {sent}, {there}, {back}"));
    }
    port.remove(0, device);
}

/// Arguments that can't be meant are refused by name, and never replaced by something else.
#[test]
fn senseless_arguments_are_refused() {
    let Some(mut port) = Port::start("senseless_arguments_are_refused", PLAIN) else { return };
    port.pools();
    port.vhost(0, 1, "");
    let socket = port.file("s0");
    let fds = port.tell("census").number("fds");
    for (wrong, name) in [
        ("mac=zz:bad", "mac"),
        ("mac=03:00:00:00:00:01", "mac"),
        ("queue_size=300", "queue_size"),
        ("queue_size=0", "queue_size"),
        ("queue_size=65536,packed_vq=1", "queue_size"),
        ("queues=abc", "queues"),
        ("queues=1x", "queues"),
        ("queues=0", "queues"),
        ("queues=1,queues=2", "queues"),
        ("mrg_rxbuf=2", "mrg_rxbuf"),
        ("speed=12345", "speed"),
        ("nonsense=1", "nonsense"),
    ] {
        let mark = port.log().len();
        port.refuse(&format!("attach name={} args=path={},{wrong}", Port::name(0), socket.display()));
        port.check(port.says(mark, name), &format!("{wrong}: the log does not name it"));
    }
    let long = format!("/tmp/{}", "x".repeat(120));
    port.refuse(&format!("attach name={} args=path={long}", Port::name(0)));
    port.refuse(&format!("attach name={} args=path={}", Port::name(0), port.file("nobody").display()));
    port.refuse(&format!("attach name={} args=queues=1", Port::name(0)));
    let left = port.tell("census").number("fds");
    port.check(left == fds, "descriptors are left over");
}

// ---------------------------------------------------------------------------------------------------------
// What is said to the back-end

/// The order that back-ends depend on; no bytes of ours that were not meant; an end that the back-end hears of.
#[test]
fn the_back_end_is_told_in_order() {
    const NAMES: [u32; 6] = [8, 9, 10, 12, 13, 18]; // NUM, ADDR, BASE, KICK, CALL, ENABLE of a ring
    let Some(mut port) = Port::start("the_back_end_is_told_in_order", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 2, "");
    let proxy = proxy(&port, 0, unchanged());
    let socket = port.file("s09");
    for way in BOTH {
        let mark = proxy.seen().len();
        let device = port.device_at(0, &socket, &format!("{},queues=2", way.args()));
        port.run(device, vhost, "rxq=2");
        port.tell(&format!("exchange port={device} peer={vhost} queues=2 frames=300"));
        port.remove(0, device);
        let said: Vec<Message> = proxy.seen().into_iter().skip(mark).filter(|m| m.from_front).collect();
        let first = |request: u32| said.iter().position(|m| m.request == request).unwrap_or(usize::MAX);
        let (owner, features, table) = (first(3), first(2), first(5));
        port.check(owner < features && features < table, &format!("{}: owner, features, memory", way.name));
        for ring in 0..4 {
            let at = |request| said.iter().position(|m| m.request == request && m.ring().0 & 0xff == ring);
            let places = NAMES.map(|request| at(request).unwrap_or(usize::MAX));
            let [num, addr, base, kick, _, enable] = places;
            let good = [num, addr, base].iter().all(|&p| table < p && p < kick) && kick < enable;
            port.check(good, &format!("{}: messages of ring {ring} come as {places:?}", way.name));
        }
        let stops: Vec<(u32, u32)> = said.iter().filter(|m| m.request == 11).map(Message::ring).collect();
        port.check(stops == [0, 1, 2, 3].map(|r| (r, 0)), &format!("{}: stopped with {stops:?}", way.name));
        let status: Vec<u64> = said.iter().filter(|m| m.request == 39).map(Message::u64).collect();
        let end = status.iter().rposition(|&s| s == 0);
        let ok = status.iter().position(|&s| s & 4 != 0);
        port.check(ok.is_some() && end > ok, &format!("{}: status goes {status:x?}, and not to 0 at the end", way.name));
    }
}

/// The connection breaks at each message in turn: an error, no crash, and nothing left over.
#[test]
fn the_connection_breaks_at_every_message() {
    let Some(mut port) = Port::start("the_connection_breaks_at_every_message", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 1, "");
    let socket = port.file("s09");
    let left = Arc::new(std::sync::atomic::AtomicUsize::new(usize::MAX));
    let count = Arc::clone(&left);
    // One message is swallowed: who waits for its answer comes to the deadline, and all others are as they were.
    let change = move |m: &mut Message| {
        use std::sync::atomic::Ordering::SeqCst;
        !m.from_front || count.fetch_sub(1, SeqCst) != 0
    };
    let _proxy = proxy(&port, 0, Arc::new(change));
    let mut fds = None;
    for n in 0..60 {
        left.store(n, std::sync::atomic::Ordering::SeqCst);
        let name = Port::name(0);
        let attached = port.ask(&format!("attach name={name} args=path={},timeout_ms=50,packed_vq=1", socket.display()));
        if let Ok(answer) = attached {
            let device = answer.number("port");
            port.tell(&format!("configure port={device}"));
            let started = port.ask(&format!("start port={device}"));
            if started.is_ok() {
                port.tell(&format!("link port={vhost} until=1 wait=30"));
                let _ = port.ask(&format!("exchange port={device} peer={vhost} frames=100 patience=30"));
                let _ = port.ask(&format!("stop port={device}"));
            }
            port.tell(&format!("close port={device}"));
            let _ = port.ask(&format!("detach name={name}"));
        }
        let _ = port.tell(&format!("link port={vhost} until=0 wait=1000"));
        let census = port.tell("census");
        port.check(census.number("port") == 6000, &format!("message {n}: buffers are missing"));
        if n > 2 {
            let was = *fds.get_or_insert(census.number("fds"));
            let settled = settles(&mut port, |port| port.tell("census").number("fds") <= was);
            port.check(settled, &format!("message {n}: descriptors are left over"));
        }
    }
}

fn census(port: &mut Port) -> [u64; 4] {
    let census = port.tell("census");
    ["fds", "maps", "heap", "port"].map(|k| census.number(k))
}

/// Whether something comes true soon: the vhost port's thread gives up in its own time what it had of a device.
fn settles(port: &mut Port, good: impl Fn(&mut Port) -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(1);
    loop {
        if good(port) {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
    }
}

/// Devices come and go two hundred times: descriptors, maps and heap stay.
#[test]
fn devices_come_and_go() {
    let Some(mut port) = Port::start("devices_come_and_go", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 1, "");
    let mut first = None;
    for n in 0..200 {
        let device = port.device(0, &BOTH[n % 2].args());
        port.run(device, vhost, "");
        port.tell(&format!("exchange port={device} peer={vhost} frames=50"));
        port.remove(0, device);
        port.tell(&format!("link port={vhost} until=0 wait=1000"));
        if n < 3 {
            continue;
        }
        let was = *first.get_or_insert_with(|| {
            std::thread::sleep(Duration::from_millis(200));
            census(&mut port)
        });
        let settled = settles(&mut port, |port| census(port) == was);
        let now = census(&mut port);
        port.check(settled, &format!("device {n}: descriptors, maps, heap, buffers were {was:?}, are {now:?}"));
    }
}

// ---------------------------------------------------------------------------------------------------------
// Transmit

/// The device reads a header of zeros in front of each frame, with any headroom, and nothing outside the buffer changes.
#[test]
fn headers_are_where_the_device_looks() {
    let Some(mut port) = Port::start("headers_are_where_the_device_looks", &[PLAIN, &["--force-max-simd-bitwidth=512"]].concat())
    else {
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
    let Some(mut port) =
        Port::start("what_belongs_to_others_stays_as_it_is", &[PLAIN, &["--force-max-simd-bitwidth=512"]].concat())
    else {
        return;
    };
    port.pools();
    port.tell("pool name=other count=1000 size=1000");
    let vhost = port.vhost(0, 1, "");
    for way in TEN {
        let device = port.device(0, &way.args());
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

// ---------------------------------------------------------------------------------------------------------
// Receive

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
    let Some(mut port) = Port::start("short_bursts_are_served", &[PLAIN, &["--force-max-simd-bitwidth=512"]].concat()) else {
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
    let Some(mut port) = Port::start("rings_of_other_sizes_go_round", &[PLAIN, &["--force-max-simd-bitwidth=512"]].concat())
    else {
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
