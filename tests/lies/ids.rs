//! Lies about which buffer was used, and truths in an unusual order.

use vuser::mem::lanes::Simd;
use vuser::ring::Lie;
use vuser::spec::virtio::Features;

use crate::rig::{Chance, Fate, HDR, Rig, Shape, about, both, each, header};

const UNKNOWN: Fate = Fate::Contain(Lie::UsedId);

#[test]
fn an_id_that_no_buffer_can_have_breaks_the_queue() {
    for far in [32, 33, 1000, 0x7fff, 0x8000, 0xffff, 0x1_0000, 0x8000_0000, 0xffff_0000, 0xffff_ffff] {
        both(|mut rig| {
            if far > 0xffff && rig.hand.shape().packed() {
                return; // Ids of a packed ring have 16 bits.
            }
            about(format_args!("id {far:#x}"), || {
                rig.hand.push(far, HDR + 60, 1);
                rig.hand.publish();
                assert_eq!(rig.turn(), 0);
                rig.verdict(UNKNOWN);
            });
        });
    }
}

#[test]
fn bits_above_the_sixteenth_are_part_of_the_id() {
    both(|mut rig| {
        if rig.hand.shape().packed() {
            return;
        }
        // Four of them, so that a whole step would be taken if these bits were cut off.
        for k in 0..4 {
            rig.hand.push(k | 0x1_0000 << k, HDR + 60, 1);
        }
        rig.hand.publish();
        assert_eq!(rig.turn(), 0);
        rig.verdict(UNKNOWN);
    });
}

#[test]
fn the_id_of_a_free_descriptor_breaks_the_queue() {
    for free in [20, 25, 31] {
        both(|mut rig| {
            rig.hand.push(free, HDR + 60, 1);
            rig.hand.publish();
            assert_eq!(rig.turn(), 0);
            rig.verdict(UNKNOWN);
        });
    }
}

#[test]
fn a_buffer_used_twice_at_once_is_given_back_once() {
    for others in 0..6 {
        both(|mut rig| {
            rig.hand.serve(others);
            let lent = rig.hand.lent.pop_front().unwrap();
            for _ in 0..2 {
                rig.hand.push(lent.id.into(), HDR + 60, 1);
            }
            if rig.is_rx() {
                rig.hand.fill(&lent, header(1), 0, 60);
            }
            rig.hand.publish();
            rig.turn();
            rig.verdict(UNKNOWN);
        });
    }
}

#[test]
fn a_buffer_used_again_later_is_given_back_once() {
    both(|mut rig| {
        let first = rig.hand.lent[0].id;
        rig.hand.serve(1);
        rig.turn();
        rig.hand.look();
        // It was lent anew under another id: as long as there are free ones, the oldest of these come first.
        assert!(rig.hand.lent.iter().all(|l| l.id != first));
        rig.hand.push(first.into(), HDR + 60, 1);
        rig.hand.publish();
        assert_eq!(rig.turn(), 0);
        rig.verdict(UNKNOWN);
    });
}

#[test]
fn another_buffer_in_flight_is_that_one_or_ends_a_batch() {
    both(|mut rig| {
        let (rx, shape) = (rig.is_rx(), rig.hand.shape());
        for k in 0..4 {
            if rx {
                rig.hand.fill(&rig.hand.lent[k], header(1), k as u32, 60);
            }
        }
        if shape.in_order() {
            // One buffer is used by the index, four by the id. A packed ring has no index: there it is a batch.
            rig.hand.push_batch(4, HDR + 60);
            if !shape.packed() {
                rig.hand.next_used -= 3;
            }
            rig.hand.publish();
            assert_eq!(rig.turn(), if rx || shape.packed() { if shape.packed() { 4 } else { 1 } } else { 0 });
            return rig.verdict(if shape.packed() { Fate::Survive } else { Fate::Contain(Lie::Order) });
        }
        let lent = rig.hand.lent.remove(3).unwrap();
        rig.hand.push(lent.id.into(), HDR + 60, 1);
        rig.hand.publish();
        if rx {
            let frames = rig.receive(8);
            let places: Vec<u64> = frames.iter().map(|m| m.data() as u64 - u64::from(HDR)).collect();
            assert_eq!(places, [lent.parts[0].0]);
            frames.iter().for_each(|m| rig.free(*m));
        } else {
            assert_eq!(rig.cleanup(), 1);
        }
        rig.verdict(Fate::Survive);
    });
}

#[test]
fn a_member_of_a_chain_is_not_a_buffer() {
    each(32, |shape| {
        if shape.has(Features::INDIRECT_DESC) {
            return; // Every chain is one descriptor.
        }
        for (chain, member) in [(0, 1), (0, 2), (2, 1), (4, 2)] {
            let mut rig = Rig::tx(shape, 64);
            assert_eq!(rig.send_new(5, 3), 5);
            rig.hand.look();
            // Nothing was out of order yet, so a chain's ids are in a row.
            let id = rig.hand.lent[chain].id + member;
            assert!(member != 1 || rig.hand.lent[chain].second.is_none_or(|second| second == id));
            rig.hand.push(id.into(), 0, 3);
            rig.hand.publish();
            assert_eq!(rig.turn(), 0);
            rig.verdict(UNKNOWN);
        }
    });
}

#[test]
fn a_member_of_a_legacy_receive_chain_is_not_a_buffer() {
    for features in [Features::empty(), Features::IN_ORDER] {
        let mut rig = Rig::rx(Shape { size: 32, features, simd: Simd::Auto }, 64);
        assert_eq!((rig.hand.lent.len(), rig.hand.lent[1].slots), (16, 2));
        rig.hand.push(3, HDR + 60, 2);
        rig.hand.publish();
        assert_eq!(rig.turn(), 0);
        assert_eq!(rig.board.lie(), Some(Lie::UsedId));
        rig.end();
    }
}

#[test]
fn frames_come_in_the_order_in_which_the_device_used_the_buffers() {
    each(32, |shape| {
        if shape.in_order() {
            return;
        }
        let (mut rig, mut chance) = (Rig::rx(shape, 40), Chance::new(1));
        for round in 0..50 {
            rig.hand.look();
            let n = 1 + chance.below(rig.hand.lent.len());
            for seq in 0..n {
                let at = if round == 0 { rig.hand.lent.len() - 1 } else { chance.below(rig.hand.lent.len()) };
                let lent = rig.hand.lent.remove(at).unwrap();
                let len = rig.hand.fill(&lent, header(1), seq as u32, 60);
                rig.hand.push(lent.id.into(), len, 1);
            }
            rig.hand.publish();
            let frames = rig.receive(64);
            // SAFETY: four bytes of a frame of sixty.
            let seqs: Vec<u32> = frames.iter().map(|m| unsafe { m.data().cast::<u32>().read_unaligned() }).collect();
            assert_eq!(seqs, (0..n as u32).collect::<Vec<_>>());
            frames.iter().for_each(|m| rig.free(*m));
            assert_eq!(rig.turn(), 0);
        }
        rig.verdict(Fate::Survive);
    });
}

#[test]
fn chains_of_all_lengths_are_collected_in_any_order() {
    each(32, |shape| {
        if shape.in_order() {
            return;
        }
        let (mut rig, mut chance) = (Rig::tx(shape, 200), Chance::new(2));
        let (mut sent, mut collected) = (0, 0);
        for _ in 0..200 {
            for _ in 0..chance.below(6) {
                sent += rig.send_new(1 + chance.below(5), 1 + chance.below(4));
            }
            rig.hand.look();
            for _ in 0..chance.below(1 + rig.hand.lent.len()) {
                let lent = rig.hand.lent.remove(chance.below(rig.hand.lent.len())).unwrap();
                rig.hand.push(lent.id.into(), 0, lent.slots);
            }
            rig.hand.publish();
            collected += rig.cleanup();
            assert_eq!(rig.board.lie(), None);
        }
        rig.hand.serve(rig.hand.lent.len());
        collected += rig.cleanup();
        // What a burst collected by itself is not counted by the cleanup.
        assert!(sent > 500 && collected <= sent);
        assert_eq!(rig.pool.available(), 200);
        rig.verdict(Fate::Survive);
    });
}

#[test]
fn an_in_order_device_may_name_the_last_of_a_batch_only() {
    each(32, |shape| {
        if !shape.in_order() {
            return;
        }
        let (mut rig, mut chance) = (Rig::rx(shape, 60), Chance::new(3));
        for _ in 0..100 {
            rig.hand.look();
            let mut expected = Vec::new();
            while !rig.hand.lent.is_empty() && !chance.one_in(6) {
                let n = 1 + chance.below(rig.hand.lent.len());
                for k in 0..n {
                    let bytes = if k + 1 < n { 500 } else { 60 + chance.below(440) as u32 };
                    rig.hand.fill(&rig.hand.lent[k], header(1), expected.len() as u32, bytes);
                    expected.push((expected.len() as u32, bytes));
                }
                rig.hand.push_batch(n, HDR + expected[expected.len() - 1].1);
            }
            rig.hand.publish();
            let mut got = Vec::new();
            while got.len() < expected.len() {
                let frames = rig.receive(1 + chance.below(9));
                assert!(!frames.is_empty(), "{} of {} came", got.len(), expected.len());
                for m in frames {
                    // SAFETY: four bytes of a frame of sixty at least.
                    got.push((unsafe { m.data().cast::<u32>().read_unaligned() }, m.pkt_len()));
                    rig.free(m);
                }
            }
            assert_eq!(got, expected);
        }
        rig.verdict(Fate::Survive);
    });
}

#[test]
fn an_in_order_device_may_end_a_transmit_batch_with_any_chain() {
    each(32, |shape| {
        if !shape.in_order() {
            return;
        }
        let (mut rig, mut chance) = (Rig::tx(shape, 200), Chance::new(4));
        for _ in 0..300 {
            for _ in 0..chance.below(6) {
                rig.send_new(1 + chance.below(9), 1 + chance.below(4) * chance.below(2));
            }
            rig.hand.look();
            while !rig.hand.lent.is_empty() && !chance.one_in(4) {
                let n = 1 + chance.below(rig.hand.lent.len());
                rig.hand.push_batch(n, 0);
            }
            rig.hand.publish();
            rig.cleanup();
            assert_eq!(rig.board.lie(), None);
        }
        rig.hand.look();
        rig.hand.serve(rig.hand.lent.len());
        rig.cleanup();
        assert_eq!(rig.pool.available(), 200);
        rig.verdict(Fate::Survive);
    });
}

#[test]
fn a_queue_in_the_middle_of_a_batch_does_not_go_to_sleep() {
    both(|mut rig| {
        if !rig.hand.shape().in_order() || !rig.is_rx() {
            return;
        }
        (0..6).for_each(|k| {
            rig.hand.fill(&rig.hand.lent[k], header(1), 0, 500);
        });
        rig.hand.push_batch(6, HDR + 60);
        rig.hand.publish();
        // The application has room for four; then it wants to sleep.
        for left in [6, 2, 0] {
            assert_eq!(rig.set_calls(true), left > 0, "{left} frames are left");
            let frames = rig.receive(4);
            assert_eq!(frames.len(), left.min(4));
            frames.iter().for_each(|m| rig.free(*m));
        }
        rig.verdict(Fate::Survive);
    });
}

#[test]
fn an_in_order_device_cannot_go_back() {
    both(|mut rig| {
        if !rig.hand.shape().in_order() {
            return;
        }
        rig.hand.look();
        if rig.is_rx() {
            (0..4).for_each(|k| {
                rig.hand.fill(&rig.hand.lent[k], header(1), 0, 500);
            });
        }
        // The last of four, then the first of them, where a packed device writes next: behind the four.
        rig.hand.push_batch(4, HDR + 60);
        rig.hand.push(0, HDR + 60, 1);
        rig.hand.publish();
        rig.turn();
        rig.verdict(UNKNOWN);
    });
}

#[test]
fn many_packets_used_from_the_last_to_the_first_are_collected() {
    each(256, |shape| {
        if shape.in_order() {
            return;
        }
        let mut rig = Rig::tx(shape, 300);
        assert_eq!(rig.send_new(200, 1), 200);
        rig.hand.look();
        while let Some(lent) = rig.hand.lent.pop_back() {
            rig.hand.push(lent.id.into(), 0, lent.slots);
        }
        rig.hand.publish();
        assert_eq!((rig.cleanup(), rig.pool.available()), (200, 300));
        rig.verdict(Fate::Survive);
    });
}

#[test]
fn what_becomes_a_lie_while_it_is_lent_breaks_the_queue_when_it_is_given_back() {
    each(32, |shape| {
        let mut rig = Rig::rx(shape, 20);
        rig.hand.serve(3);
        assert_eq!(rig.peek(8).len(), 3);
        rig.hand.element(rig.hand.next_used - 2, 0xffff, HDR + 60);
        rig.release(3);
        rig.verdict(UNKNOWN);
    });
}

#[test]
fn what_is_unused_again_while_it_is_lent_stays_in_the_ring() {
    each(32, |shape| {
        if !shape.packed() {
            return;
        }
        let mut rig = Rig::rx(shape, 20);
        let (second, id) = (rig.hand.next_used + 1, rig.hand.lent[1].id);
        rig.hand.serve(3);
        assert_eq!(rig.peek(8).len(), 3);
        rig.hand.packed_element(second, id, 0, !rig.hand.used_flags(second));
        rig.release(3);
        assert_eq!(rig.peek(8).len(), 0);
        rig.hand.element(second, id.into(), HDR + 60);
        assert_eq!(rig.receive(8).len(), 2);
        rig.verdict(Fate::Survive);
    });
}

#[test]
fn a_frame_whose_rest_becomes_a_lie_while_it_is_lent_in_part_breaks_the_queue() {
    each(32, |shape| {
        if !shape.mergeable() {
            return;
        }
        let mut rig = Rig::rx(shape, 20);
        for _ in 0..3 {
            let lent = rig.hand.lent.pop_front().unwrap();
            let len = rig.hand.fill(&lent, header(3), 0, 500);
            rig.hand.push(lent.id.into(), len, 1);
        }
        rig.hand.publish();
        let loans = rig.peek(2);
        assert!(loans.len() == 1 && !loans[0].whole);
        rig.hand.element(rig.hand.next_used - 1, 0xffff, HDR + 60);
        rig.release(2);
        rig.verdict(UNKNOWN);
    });
}

#[test]
fn a_frame_whose_rest_is_unused_again_while_it_is_lent_in_part_is_over() {
    each(32, |shape| {
        if !shape.mergeable() || !shape.packed() {
            return;
        }
        let mut rig = Rig::rx(shape, 20);
        let lent: Vec<_> = rig.hand.lent.drain(..3).collect();
        for lent in &lent {
            let len = rig.hand.fill(lent, header(3), 0, 500);
            rig.hand.push(lent.id.into(), len, 1);
        }
        assert!(!rig.peek(2)[0].whole);
        let (last, id) = (rig.hand.next_used - 1, lent[2].id);
        rig.hand.packed_element(last, id, 0, !rig.hand.used_flags(last));
        rig.release(2);
        assert!(rig.peek(8).is_empty());
        // Used once more, it is a frame of its own.
        let len = rig.hand.fill(&lent[2], header(1), 0, 60);
        rig.hand.element(last, id.into(), len);
        assert_eq!(rig.turn(), 1);
        rig.verdict(Fate::Survive);
    });
}
