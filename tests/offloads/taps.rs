//! What a tap sees of the frames of a queue: all that the application gets or gives, and no more.

use std::sync::Arc;

use vuser::mem::lanes::Simd;
use vuser::net::relay::Relay;
use vuser::spec::net::NetHdr;
use vuser::spec::virtio::Features;

use super::copies;
use super::lent::{Lent, merging};
use super::rig::{Plan, Rig, frame, free, kinds, plain};

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
