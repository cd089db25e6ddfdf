//! Back-ends that go, or fall silent, at any message; devices that ask to be reset.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vuser::dev::events::Kind;
use vuser::device::{Change, Loopback};

use crate::peer::{Deed, Peer, Script, Seen};
use crate::rig::{PATIENT, Rig, honest, modern, options, place, until};

/// At the n-th message a deed, before and after it what is right.
fn at(n: usize, deed: fn() -> Deed) -> Script {
    Box::new(move |now, _, _| if now == n { deed() } else { Deed::Right })
}

fn rig(devargs: &str) -> (Option<Loopback>, Rig) {
    let path = place();
    let back_end = Some(Loopback::listen(&path, options("")).unwrap());
    (back_end, Rig::make(path, devargs).unwrap().start())
}

/// The messages to a back-end that a started device goes on with.
fn messages() -> Vec<Seen> {
    let (back_end, mut rig) = rig("");
    drop(back_end);
    rig.event(Kind::LinkDown);
    let peer = Peer::listen(&rig.path, &modern(), honest());
    rig.event(Kind::LinkUp);
    let seen = peer.seen();
    peer.quit();
    drop(rig);
    seen
}

#[test]
fn one_that_goes_at_any_message_is_survived() {
    let (mut back_end, mut rig) = rig("");
    let all = messages();
    assert!(all.len() > 20, "{}", all.len());
    for n in 0..all.len() {
        rig.echo(20);
        drop(back_end.take());
        rig.event(Kind::LinkDown);
        let mut peer = Peer::listen(&rig.path, &modern(), at(n, || Deed::Close));
        peer.join();
        assert_eq!(peer.seen().len(), n + 1);
        back_end = Some(rig.listen(""));
        rig.event(Kind::LinkUp);
    }
    rig.echo(20);
    rig.close();
}

#[test]
fn after_one_that_goes_while_it_is_taken_the_queues_wait() {
    let (mut back_end, mut rig) = rig("");
    rig.echo(20);
    let late = messages().iter().position(|m| m.name() == "SET_VRING_ADDR").unwrap();
    drop(back_end.take());
    rig.event(Kind::LinkDown);
    let mut peer = Peer::listen(&rig.path, &modern(), at(late, || Deed::Close));
    peer.join();
    rig.event(Kind::Refused);
    let waits = "there is no back-end; the queue goes on when one comes";
    assert_eq!([rig.says(0), rig.says(1)], [waits; 2]);
    rig.close();
}

#[test]
fn one_that_falls_silent_at_any_message_is_named_and_left() {
    let (mut back_end, mut rig) = rig("timeout_ms=300");
    for (n, message) in messages().iter().enumerate() {
        rig.echo(20);
        drop(back_end.take());
        rig.event(Kind::LinkDown);
        let start = Instant::now();
        let mut peer = Peer::listen(&rig.path, &modern(), at(n, || Deed::Silence));
        // Before acknowledgements are agreed some messages have no answer that could be missing.
        if message.needs_reply() || message.name().starts_with("GET_") {
            let expected = format!("no answer to {} within 300 ms", message.title());
            // On a busy machine the good one may have been left before, too, and taken at the next attempt.
            while !rig.event(Kind::Refused).text.contains(&expected) {
                assert!(start.elapsed() < PATIENT, "{n}: nobody says: {expected}");
            }
            assert!(start.elapsed() < PATIENT);
        } else {
            rig.event(Kind::LinkUp);
            peer.quit();
            rig.event(Kind::LinkDown);
        }
        peer.join();
        back_end = Some(rig.listen(""));
        rig.event(Kind::LinkUp);
    }
    rig.close();
}

#[test]
fn nobody_waits_for_the_end_of_a_device_that_waits_for_an_answer() {
    for n in 0..messages().len() {
        let (back_end, mut rig) = rig("timeout_ms=600000");
        drop(back_end);
        rig.event(Kind::LinkDown);
        let peer = Peer::listen(&rig.path, &modern(), at(n, || Deed::Silence));
        until("the message has come", || peer.seen().len() > n);
        let (start, Rig { handle, pool, .. }) = (Instant::now(), rig);
        drop(handle);
        assert!(start.elapsed() < PATIENT, "message {n}: {:?}", start.elapsed());
        assert_eq!(pool.available(), crate::rig::BUFFERS as usize);
        drop(peer);
    }
}

/// The messages to a back-end from the beginning to the end of a device, and how many of them were before its stop.
fn whole_life() -> (Vec<Seen>, usize) {
    let path = place();
    let peer = Peer::listen(&path, &modern(), honest());
    let rig = Rig::make(path, "").unwrap().start();
    let before = peer.seen().len();
    rig.close();
    (peer.seen(), before)
}

#[test]
fn a_device_is_stopped_and_ended_whatever_its_back_end_does_not_answer() {
    let (all, before) = whole_life();
    assert!(all.len() >= before + 7, "{before} {}", all.len());
    for (n, message) in all.iter().enumerate().skip(before) {
        let path = place();
        let peer = Peer::listen(&path, &modern(), at(n, || Deed::Silence));
        let Rig { handle, pool, .. } = Rig::make(path, "timeout_ms=700").unwrap().start();
        let start = Instant::now();
        let error = handle.with(|d| d.stop()).unwrap_err();
        let expected = format!("no answer to {} within 700 ms", message.title());
        assert!(error.to_string().contains(&expected), "{n}: {error}, not: {expected}");
        assert!(handle.with(|d| d.port(1).unwrap().status().is_err()));
        drop(handle);
        assert!(start.elapsed() < PATIENT, "{n}: {:?}", start.elapsed());
        assert_eq!(pool.available(), crate::rig::BUFFERS as usize, "{n}");
        drop(peer);
    }
}

#[test]
fn what_a_back_end_has_that_does_not_let_go_comes_back_when_it_does() {
    let (_, before) = whole_life();
    let path = place();
    let peer = Peer::listen(&path, &modern(), at(before, || Deed::Freeze));
    let mut rig = Rig::make(path, "timeout_ms=100").unwrap().start();
    assert_eq!(rig.send(20), 20);
    let _ = rig.info();
    assert!(rig.event(Kind::LinkDown).text.contains("no answer to GET_STATUS within 100 ms"));
    // Its socket is still there, and nobody accepts.
    std::fs::remove_file(&rig.path).unwrap();
    let back_end = rig.listen("");
    rig.event(Kind::LinkUp);
    rig.echo(100);
    let stats = |rig: &Rig| rig.device(|d| d.port(1).unwrap().stats());
    assert!(stats(&rig).lost == 0 && rig.pool.available() <= crate::rig::BUFFERS as usize - 64 - 64 - 20);
    peer.quit();
    until("all comes back", || stats(&rig).lost == 20);
    assert_eq!(stats(&rig).tx_resent, 0);
    rig.echo(100);
    assert_eq!(back_end.stats().received, 200);
    rig.close();
}

/// Where the back-end was told that the used side of a ring is, which is in our memory.
fn used_side(peer: &Peer, ring: u32) -> *mut u16 {
    const SET_VRING_ADDR: u32 = 9;
    let is_it = |seen: &&Seen| seen.request == SET_VRING_ADDR && seen.payload[..4] == ring.to_ne_bytes();
    let told = peer.seen().iter().find(is_it).unwrap().payload.clone();
    u64::from_ne_bytes(told[16..24].try_into().unwrap()) as *mut u16
}

#[test]
fn what_one_that_was_given_up_leaves_behind_is_not_held_against_the_next_one() {
    let (_, before) = whole_life();
    for (silent, lie) in [(false, 0x4000), (true, 0x4000), (false, 3)] {
        let path = place();
        let peer = Peer::listen(&path, &modern(), at(before, || Deed::Freeze));
        let mut rig = Rig::make(path, "timeout_ms=100").unwrap().start();
        assert_eq!(rig.send(20), 20);
        let _ = rig.info();
        rig.event(Kind::LinkDown);
        let left = [0, 1].map(|ring| used_side(&peer, ring));
        std::fs::remove_file(&rig.path).unwrap();
        let mut back_end = Some(rig.listen(""));
        rig.event(Kind::LinkUp);
        rig.echo(50);
        if silent {
            drop(back_end.take());
            rig.event(Kind::LinkDown);
        }
        // More than can be, or ids that were never lent: in the rings that nobody looks at before they are let go.
        for ring in left {
            // SAFETY: the index of a ring that is kept as long as the one that was given up is connected.
            unsafe { ring.add(1).write_volatile(lie) };
        }
        peer.quit();
        let stats = |rig: &Rig, ring| rig.device(|d| d.port(ring).unwrap().stats());
        until("all comes back", || stats(&rig, 1).lost > 0);
        let waits = if silent { "there is no back-end; the queue goes on when one comes" } else { "" };
        assert_eq!([rig.says(0).as_str(), rig.says(1).as_str()], ["", waits]);
        if silent {
            back_end = Some(rig.listen(""));
            rig.event(Kind::LinkUp);
        }
        rig.echo(50);
        let (rx, tx) = (stats(&rig, 0), stats(&rig, 1));
        assert_eq!((rx.packets, tx.packets, tx.tx_resent, tx.tx_dropped_on_reconnect), (100, 120, 0, 0));
        assert!(tx.lost <= 20 && rx.lost <= 3, "{rx:?} {tx:?}");
        drop(back_end);
        rig.close();
    }
}

#[test]
fn a_device_that_asks_for_it_is_reset_and_goes_on() {
    for layout in ["packed_vq=0", "packed_vq=1"] {
        let (back_end, mut rig) = rig(layout);
        for round in 1..=3 {
            rig.echo(100);
            // One that asks at once again is not to be trusted.
            std::thread::sleep(Duration::from_millis(120));
            back_end.as_ref().unwrap().change(Change::NeedsReset);
            rig.event(Kind::NeedsReset);
            rig.event(Kind::Reconnected);
            assert!(rig.link() && rig.info().reconnects == round);
        }
        rig.echo(100);
        back_end.as_ref().unwrap().change(Change::RingError(1));
        assert_eq!(rig.event(Kind::QueueError).number, 1);
        back_end.as_ref().unwrap().change(Change::Mtu(9000));
        rig.event(Kind::Config);
        assert_eq!(rig.info().mtu, 9000);
        back_end.as_ref().unwrap().change(Change::Link(false));
        rig.event(Kind::LinkDown);
        back_end.as_ref().unwrap().change(Change::Link(true));
        rig.event(Kind::LinkUp);
        rig.echo(100);
        rig.close();
    }
}

#[test]
fn a_thread_that_never_stops_sending_and_receiving_is_not_disturbed() {
    for devargs in ["packed_vq=0", "packed_vq=1", "server=1,packed_vq=1,in_order=0"] {
        let server = devargs.contains("server=1");
        let path = place();
        let listen = |at: &std::path::Path| Loopback::listen(at, options("")).unwrap();
        let mut back_end = (!server).then(|| listen(&path));
        let mut rig = Rig::make(path.clone(), devargs).unwrap().start();
        let stop = Arc::new(AtomicBool::new(false));
        let ports: Vec<_> = (0..2).map(|ring| rig.device(|d| d.port(ring).unwrap().clone())).collect();
        let (pool, until_then) = (rig.pool.clone(), stop.clone());
        let worker = std::thread::spawn(move || crate::rig::babble(&ports, &pool, &until_then));
        for _ in 0..20 {
            if server {
                back_end = Some(rig.come(""));
                rig.event(Kind::LinkUp);
            }
            let before = back_end.as_ref().unwrap().stats().received;
            until("frames move", || back_end.as_ref().unwrap().stats().received > before + 100);
            drop(back_end.take());
            rig.event(Kind::LinkDown);
            if !server {
                back_end = Some(listen(&path));
                rig.event(Kind::LinkUp);
            }
        }
        stop.store(true, Ordering::Relaxed);
        let (sent, received) = worker.join().unwrap();
        assert!(sent > 0 && received > 0);
        rig.close();
    }
}
