//! What the back-end is told, in which order, and what is left of it all afterwards.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::{proxy, settles};
use crate::paths::BOTH;
use crate::port::{PLAIN, Port};
use crate::proxy::Message;

/// The order that back-ends depend on; no bytes of ours that were not meant; an end that the back-end hears of.
#[test]
fn the_back_end_is_told_in_order() {
    const NAMES: [u32; 6] = [8, 9, 10, 12, 13, 18]; // NUM, ADDR, BASE, KICK, CALL, ENABLE of a ring
    let Some(mut port) = Port::start("the_back_end_is_told_in_order", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 2, "");
    let proxy = proxy(&port, 0, Arc::new(|_: &mut Message| true));
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
        port.check(
            ok.is_some() && end > ok,
            &format!("{}: status goes {status:x?}, and not to 0 at the end", way.name),
        );
    }
}

/// The connection breaks at each message in turn: an error, no crash, and nothing left over.
#[test]
fn the_connection_breaks_at_every_message() {
    let Some(mut port) = Port::start("the_connection_breaks_at_every_message", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 1, "");
    let socket = port.file("s09");
    let left = Arc::new(AtomicUsize::new(usize::MAX));
    let count = Arc::clone(&left);
    // One message is swallowed: who waits for its answer comes to the deadline, and all others are as they were.
    let change = move |m: &mut Message| !m.from_front || count.fetch_sub(1, SeqCst) != 0;
    let _proxy = proxy(&port, 0, Arc::new(change));
    let mut fds = None;
    for n in 0..60 {
        left.store(n, SeqCst);
        let name = Port::name(0);
        let attached =
            port.ask(&format!("attach name={name} args=path={},timeout_ms=50,packed_vq=1", socket.display()));
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
        // What it is like once nothing has changed for a while: threads end in their own time.
        let was = *first.get_or_insert_with(|| {
            let mut seen = census(&mut port);
            for _ in 0..100 {
                std::thread::sleep(Duration::from_millis(200));
                let now = census(&mut port);
                if std::mem::replace(&mut seen, now) == now {
                    break;
                }
            }
            seen
        });
        let settled = settles(&mut port, |port| census(port) == was);
        let now = census(&mut port);
        port.check(settled, &format!("device {n}: descriptors, maps, heap, buffers were {was:?}, are {now:?}"));
    }
}
