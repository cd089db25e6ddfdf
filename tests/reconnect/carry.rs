//! What is under way when a back-end goes is not lost, and not had twice.

use std::time::Duration;

use vuser::dev::events::Kind;
use vuser::device::Loopback;

use crate::peer::Peer;
use crate::rig::{Rig, honest, modern, options, place, until};

const LAYOUTS: [&str; 4] = ["packed_vq=0", "packed_vq=1", "packed_vq=1,in_order=0", "in_order=0,mrg_rxbuf=0"];

/// A back-end that takes everything that it is told, and never looks at a ring; the device that it has.
fn deaf(devargs: &str) -> (Peer, Rig) {
    let path = place();
    let mut offer = modern();
    offer.features |= 1 << 34;
    let peer = Peer::listen(&path, &offer, honest());
    (peer, Rig::make(path, devargs).unwrap().start())
}

/// The back-end goes: its thread ends when the device's side is closed, so that it is made to go by a message.
fn lose(rig: &mut Rig, peer: Peer) {
    peer.quit();
    rig.event(Kind::LinkDown);
}

#[test]
fn packets_that_were_not_marked_used_are_sent_to_the_next_one_in_order_and_once() {
    for layout in LAYOUTS {
        let (peer, mut rig) = deaf(layout);
        assert_eq!(rig.send(20), 20);
        lose(&mut rig, peer);
        let back_end = rig.listen("");
        rig.event(Kind::LinkUp);
        let mut got = Vec::new();
        until("all 20 come back", || {
            got.extend(rig.receive());
            got.len() >= 20
        });
        assert_eq!(got, (1..=20).collect::<Vec<_>>(), "{layout}");
        let stats = rig.device(|d| d.port(1).unwrap().stats());
        assert_eq!((stats.packets, stats.tx_resent, stats.tx_dropped_on_reconnect), (20, 20, 0), "{layout}");
        rig.echo(100);
        assert_eq!(back_end.stats().received, 120);
        rig.close();
    }
}

#[test]
fn packets_are_dropped_and_counted_where_that_is_wanted() {
    for layout in LAYOUTS {
        let (peer, mut rig) = deaf(&format!("{layout},resend=0"));
        assert_eq!(rig.send(20), 20);
        lose(&mut rig, peer);
        let back_end = rig.listen("");
        rig.event(Kind::LinkUp);
        rig.echo(50);
        let stats = rig.device(|d| d.port(1).unwrap().stats());
        assert_eq!((stats.tx_resent, stats.tx_dropped_on_reconnect), (0, 20), "{layout}");
        assert_eq!(back_end.stats().received, 50);
        rig.close();
    }
}

#[test]
fn frames_that_had_come_are_received_without_and_with_the_next_one() {
    for layout in LAYOUTS {
        let path = place();
        let mut back_end = Some(Loopback::listen(&path, options("")).unwrap());
        let mut rig = Rig::make(path, layout).unwrap().start();
        for early in [true, false] {
            let first = rig.sent + 1;
            assert_eq!(rig.send(20), 20);
            until("the back-end has returned them", || back_end.as_ref().unwrap().stats().sent == 20);
            drop(back_end.take());
            rig.event(Kind::LinkDown);
            let mut got = if early { rig.receive() } else { Vec::new() };
            assert_eq!(got.len(), if early { 20 } else { 0 });
            back_end = Some(rig.listen(""));
            rig.event(Kind::LinkUp);
            got.extend(rig.receive());
            assert_eq!(got, (first..first + 20).collect::<Vec<_>>(), "{layout}");
            rig.echo(100);
            drop(back_end.take());
            rig.event(Kind::LinkDown);
            back_end = Some(rig.listen(""));
            rig.event(Kind::LinkUp);
        }
        rig.close();
    }
}

#[test]
fn all_comes_back_when_the_device_is_stopped_without_a_back_end() {
    for layout in LAYOUTS {
        let (peer, mut rig) = deaf(layout);
        assert_eq!(rig.send(30), 30);
        lose(&mut rig, peer);
        rig.device(|d| d.stop()).unwrap();
        let lost = rig.device(|d| d.port(1).unwrap().stats().lost);
        assert_eq!(lost, 30);
        assert_eq!(rig.pool.available(), crate::rig::BUFFERS as usize, "{layout}");
        // Started again before there is one.
        rig.device(|d| d.start()).unwrap();
        assert!(!rig.link() && rig.send(1) == 0);
        let back_end = rig.listen("");
        rig.event(Kind::LinkUp);
        rig.echo(100);
        drop(back_end);
        rig.close();
    }
}

#[test]
fn a_queue_that_was_stopped_stays_so_and_the_link_stays_down_across() {
    let path = place();
    let back_end = Loopback::listen(&path, options("")).unwrap();
    let mut rig = Rig::make(path, "").unwrap().start();
    rig.device(|d| d.run_queue(vuser::dev::Side::Tx, 0, false)).unwrap();
    drop(back_end);
    rig.event(Kind::LinkDown);
    let back_end = rig.listen("");
    rig.event(Kind::LinkUp);
    assert_eq!(rig.send(1), 0);
    rig.device(|d| d.run_queue(vuser::dev::Side::Tx, 0, true)).unwrap();
    rig.echo(50);
    rig.device(|d| d.set_link(false)).unwrap();
    drop(back_end);
    until("it has been noticed", || !rig.info().attached);
    let _back_end = rig.listen("");
    until("the next one is there", || rig.info().attached);
    std::thread::sleep(Duration::from_millis(20));
    assert!(!rig.link() && rig.receive().is_empty());
    rig.device(|d| d.set_link(true)).unwrap();
    rig.echo(50);
    rig.close();
}

#[test]
fn rings_go_on_as_they_are_where_both_back_ends_keep_notes_of_what_is_in_flight() {
    for layout in ["packed_vq=0", "packed_vq=1"] {
        let path = place();
        let mut offer = modern();
        offer.features |= 1 << 34;
        offer.protocol |= 1 << 12;
        let first = Peer::listen(&path, &offer, honest());
        let mut rig = Rig::make(path, layout).unwrap().start();
        assert_eq!(rig.send(20), 20);
        let of = |peer: &Peer, request: u32| -> Vec<_> {
            let seen = peer.seen().into_iter().filter(|seen| seen.request == request);
            seen.map(|seen| (seen.payload, seen.inodes)).collect()
        };
        // The notes are asked for and given back, with the file that came.
        let (asked, notes) = (of(&first, 31), of(&first, 32));
        assert_eq!((asked.len(), notes.len()), (1, 1), "{layout}");
        let (addresses, bases) = (of(&first, 9), of(&first, 10));
        lose(&mut rig, first);
        let second = Peer::listen(&rig.path, &offer, honest());
        rig.event(Kind::LinkUp);
        // The next one is not asked, but given the same.
        assert_eq!((of(&second, 31), of(&second, 32)), (Vec::new(), notes), "{layout}");
        assert_eq!((of(&second, 9), of(&second, 10)), (addresses.clone(), bases), "{layout}");
        let resent = |rig: &Rig| rig.device(|d| d.port(1).unwrap().stats().tx_resent);
        assert_eq!((resent(&rig), rig.send(5)), (0, 5), "{layout}");
        lose(&mut rig, second);
        // One that keeps none: it is told of other rings, with all that is under way.
        let _back_end = rig.listen("protocol=0x10209");
        rig.event(Kind::LinkUp);
        let mut got = Vec::new();
        until("all 25 come back", || {
            got.extend(rig.receive());
            got.len() >= 25
        });
        assert_eq!(got, (1..=25).collect::<Vec<_>>(), "{layout}");
        assert_eq!(resent(&rig), 25);
        rig.echo(100);
        rig.close();
    }
}

/// Receives all that there is; frames come once.
fn collect(rig: &mut Rig, got: &mut Vec<u32>, count: usize) {
    until(&format!("{count} frames come"), || {
        got.extend(rig.receive());
        got.len() >= count
    });
    std::thread::sleep(Duration::from_millis(20));
    got.extend(rig.receive());
    assert_eq!(got.len(), count, "{got:?}");
}

#[test]
fn what_a_back_end_had_in_hand_when_it_died_the_next_one_does_and_does_once() {
    // Also while the next one dies at once, over what it took up; and with a ring that is full of what is in flight.
    for (layout, hold) in LAYOUTS.into_iter().flat_map(|layout| [(layout, 8), (layout, 63), (layout, 64)]) {
        let path = place();
        let text = format!("inflight=1,hold={hold}");
        let mut back_end = Some(Loopback::listen(&path, options(&text)).unwrap());
        let mut rig = Rig::make(path, layout).unwrap().start();
        let mut got = Vec::new();
        let mut sent = 0;
        for lap in 0..6 {
            // Some that come back, in places that go on, and those that stay in hand: in a ring as large nothing moves.
            let wanted = 100 + 37 * lap;
            until("all are taken", || {
                sent += rig.send(wanted - sent.min(wanted));
                got.extend(rig.receive());
                sent >= wanted || hold == 64 && sent == hold
            });
            collect(&mut rig, &mut got, (sent - hold.min(sent)) as usize);
            drop(back_end.take());
            rig.event(Kind::LinkDown);
            back_end = Some(rig.listen(&text));
            rig.event(Kind::LinkUp);
            if lap % 2 == 1 {
                drop(back_end.take());
                rig.event(Kind::LinkDown);
                back_end = Some(rig.listen(&text));
                rig.event(Kind::LinkUp);
            }
        }
        drop(back_end.take());
        rig.event(Kind::LinkDown);
        let last = rig.listen("inflight=1");
        rig.event(Kind::LinkUp);
        collect(&mut rig, &mut got, sent as usize);
        got.sort_unstable();
        assert_eq!(got, (1..=sent).collect::<Vec<_>>(), "{layout}, {hold} in hand");
        let stats = rig.device(|d| d.port(1).unwrap().stats());
        assert_eq!((stats.tx_resent, stats.tx_dropped_on_reconnect), (0, 0), "{layout}, {hold} in hand");
        rig.echo(100);
        drop(last);
        rig.close();
    }
}
