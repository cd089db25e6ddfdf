//! What a tap sees of the frames of a queue: all that the application gets or gives, and no more.

use std::sync::Arc;

use vuser::mem::lanes::Simd;
use vuser::net::relay::Relay;
use vuser::spec::net::NetHdr;
use vuser::spec::virtio::Features;

use super::lent::{Lent, merging};
use super::rig::{Plan, Rig, frame, free, kinds, plain};
use super::{copies, send_copies};

/// A rig with taps on both queues.
fn tapped(simd: Simd, features: Features, frames: u32, snaplen: u32) -> (Rig, Arc<Relay>, Arc<Relay>) {
    let relay = || Arc::new(Relay::new(frames, snaplen).unwrap());
    let (rx, tx) = (relay(), relay());
    (Plan::new(simd, features).build().tapped(Some(&rx), Some(&tx)), rx, tx)
}

/// What was copied: bytes that the frame had, and those that were kept.
fn copied(relay: &Relay) -> Vec<(u32, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(record) = relay.front(relay.head()) {
        let mut bytes = Vec::new();
        relay.take(record, Some(&mut bytes));
        assert_eq!(bytes.len(), record.kept as usize);
        all.push((record.len, bytes));
    }
    all
}

fn whole(frames: &[Vec<u8>]) -> Vec<(u32, Vec<u8>)> {
    frames.iter().map(|frame| (frame.len() as u32, frame.clone())).collect()
}

#[test]
fn what_is_received_is_copied_however_it_is_received() {
    for (simd, features) in kinds() {
        let (mut rig, relay, _) = tapped(simd, features, 64, 9000);
        rig.rx.refill();
        let mut frames: Vec<_> = (0..24).map(|n| frame(n, 60 + n)).collect();
        if features.contains(Features::MRG_RXBUF) {
            [3, 12, 20].into_iter().for_each(|k| frames[k] = frame(k, 7000 + k));
        }
        frames.iter().for_each(|frame| assert!(rig.arrive(NetHdr::default(), frame)));
        rig.publish();
        rig.receive(8).into_iter().for_each(free);
        let lent = Lent::all(&mut rig, 12);
        rig.rx.release(lent.iter().map(|l| l.buffers).sum());
        while !copies(&mut rig).is_empty() {}
        assert!(rig.receive(8).is_empty());
        assert_eq!(copied(&relay), whole(&frames), "{features:?}");
        assert_eq!((relay.counts()[0], relay.counts()[2]), (24, 0));
        // Without its tap the queue is the queue.
        let mut rig = rig.tapped(None, None);
        assert!(rig.arrive(NetHdr::default(), &frames[0]));
        assert_eq!((rig.received().len(), copied(&relay).len()), (1, 0));
        rig.finish();
    }
}

#[test]
fn a_frame_that_is_given_back_in_pieces_counts_as_dropped() {
    for (simd, features) in merging() {
        let (mut rig, relay, _) = tapped(simd, features, 64, 9000);
        rig.rx.refill();
        let frames = [frame(1, 7000), frame(2, 6000), frame(3, 90)];
        frames.iter().for_each(|frame| assert!(rig.arrive(NetHdr::default(), frame)));
        rig.publish();
        // Two buffers of the first, then what is left of it, which is not in the ring any more.
        assert!(!Lent::all(&mut rig, 2)[0].whole, "{features:?}");
        rig.rx.release(2);
        let mut rest = 0;
        loop {
            let lent = Lent::all(&mut rig, 9);
            let Some(first) = lent.first() else { break };
            rest += usize::from(!frames.contains(&first.bytes));
            rig.rx.release(first.buffers);
        }
        assert_eq!((rest, copied(&relay)), (1, whole(&frames[1..])), "{features:?}");
        assert_eq!((relay.counts()[0], relay.counts()[2]), (2, 1), "{features:?}");
        rig.finish();
    }
}

#[test]
fn what_is_sent_is_copied_as_far_as_it_was_taken() {
    for (simd, features) in kinds() {
        let (mut rig, _, relay) = tapped(simd, features, 400, 9000);
        let frames: Vec<_> = (0..180).map(|n| frame(n, 60 + n)).collect();
        let packets: Vec<_> = frames.iter().map(|frame| plain(&rig.pool, frame)).collect();
        // One batch of copies exactly, then more than the ring has room for: the device does nothing meanwhile.
        assert_eq!(rig.tx.burst(&packets[..64]), 64);
        let taken = 64 + rig.tx.burst(&packets[64..]);
        assert!((64..=128).contains(&taken), "{features:?}: {taken}");
        assert_eq!(copied(&relay), whole(&frames[..taken]), "{features:?}");
        packets[taken..].iter().for_each(|m| free(*m));
        assert_eq!((rig.tx.burst(&[]), relay.counts()[0], relay.counts()[2]), (0, taken as u64, 0));
        assert_eq!(rig.sent().len(), taken);
        // And of those that are sent by copying them.
        let data = frames.concat();
        let places = [(0, 60), (data.len() as u32, 60), (60, 61), (121, 62)];
        assert_eq!(send_copies(&mut rig, &data, &places), 4, "{features:?}");
        assert_eq!(copied(&relay), whole(&frames[..3]), "{features:?}");
        rig.finish();
    }
}

#[test]
fn a_full_circle_drops_and_a_closed_one_takes_nothing() {
    // Room for three records of 64 bytes and their heads.
    let (mut rig, relay, _) = tapped(Simd::Auto, Features::VERSION_1, 1, 64);
    rig.rx.refill();
    let frames: Vec<_> = (0..8).map(|n| frame(n, 300)).collect();
    for round in 0..9 {
        frames.iter().for_each(|frame| assert!(rig.arrive(NetHdr::default(), frame)));
        assert_eq!(rig.received().len(), 8);
        assert!(relay.is_filling());
        // One is thrown away unread, the others are the first of each round, wherever the circle ends.
        let record = relay.front(relay.head()).unwrap();
        assert_eq!((record.len, record.kept), (300, 64));
        relay.take(record, None);
        let kept = frames[1..3].iter().map(|frame| (300, frame[..64].to_vec()));
        assert_eq!(copied(&relay), kept.collect::<Vec<_>>(), "round {round}");
        assert_eq!(relay.counts(), [3, 3 * 64, 5].map(|n| n * (round + 1)));
    }
    relay.close();
    assert!(relay.is_closed() && rig.arrive(NetHdr::default(), &frames[0]));
    assert_eq!((rig.received().len(), copied(&relay).len(), relay.counts()[2]), (1, 0, 46));
    rig.finish();
}

/// All that queues say of themselves after the same life, and what becomes of it.
fn life(mut rig: Rig) -> Vec<String> {
    let mut said = Vec::new();
    rig.rx.refill();
    for n in 0..3 {
        assert!(rig.arrive(NetHdr::default(), &frame(n, 90)));
    }
    rig.publish();
    rig.rx.set_hasher(None);
    said.push(format!("{:?}", Lent::all(&mut rig, 2)));
    let mut lent = Vec::new();
    rig.rx.each_lent(2, &mut |part| lent.push((part.len, part.flags)));
    said.push(format!("{lent:?}, {}, {}", rig.rx.is_whole(), rig.rx.set_calls(true)));
    let states =
        |rig: &Rig| (0..130).map(|k| (rig.rx.descriptor_status(k), rig.tx.descriptor_status(k))).collect::<Vec<_>>();
    let data = frame(1, 100);
    let packets: Vec<_> = (0..5).map(|_| plain(&rig.pool, &data)).collect();
    said.push(format!("{} {:?}", rig.tx.prepare(&packets), rig.send(&packets)));
    said.push(format!("{} {} {:?}", rig.rx.used_count(), rig.tx.used_count(), states(&rig)));
    said.push(format!("{} {} {}", rig.tx.set_calls(true), rig.tx.set_calls(false), rig.tx.done_cleanup(2)));
    for (monitor, base, untouched, resume) in [
        (rig.rx.monitor(), rig.rx.base(), rig.rx.untouched(rig.rx.base()), rig.rx.resume_base()),
        (rig.tx.monitor(), rig.tx.base(), rig.tx.untouched(rig.tx.base()), rig.tx.resume_base()),
    ] {
        said.push(format!("{:x} {:x} {base:x} {untouched:?} {resume:x?}", monitor.mask, monitor.value));
    }
    rig.rx.resume();
    rig.tx.resume();
    // Another device comes, and gets what the former had.
    assert_eq!(rig.tx.burst(&[plain(&rig.pool, &data)]), 1);
    let next = Plan { pool: Some(rig.pool), ..Plan::new(Simd::Auto, rig.features) }.build();
    let relay = Arc::new(Relay::new(8, 64).unwrap());
    let mut next = next.tapped(Some(&relay), Some(&relay));
    let (rx, tx) = (rig.rx.salvage(), rig.tx.salvage());
    said.push(format!("{} {} {}", rx.frames(), rx.buffers(), tx.packets()));
    next.rx.restore(rx);
    next.tx.restore(tx, true);
    said.push(format!("{:?} {:?}", next.sent(), next.received()));
    next.finish();
    said
}

#[test]
fn a_tap_changes_nothing_else() {
    for layout in [Features::empty(), Features::RING_PACKED] {
        let (tapped, ..) = tapped(Simd::Auto, Features::VERSION_1 | layout, 64, 64);
        assert_eq!(life(tapped), life(Rig::new(Simd::Auto, Features::VERSION_1 | layout)));
    }
}
