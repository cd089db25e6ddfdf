//! Lies about how far the device is: the used index of a split ring, the flags of a packed one. And devices that do
//! nothing.

use vuser::ring::Lie;
use vuser::spec::ring::{DESC_F_AVAIL, DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_USED, DESC_F_WRITE, EVENT_DESC};
use vuser::spec::virtio::Features;

use crate::rig::{Chance, Fate, HDR, Rig, about, both, each, header};

#[test]
fn a_used_index_ahead_of_what_was_offered_breaks_the_queue() {
    let size = 32;
    // 20 are lent: one more, more than the ring, half the range, one before the beginning.
    for ahead in [21, 20 + size, 1000, 0x7fff, 0x8000, 0x8001, 0xffff] {
        for before in [0, 3] {
            both(|mut rig| {
                if rig.hand.shape().packed() {
                    return;
                }
                about(format_args!("{ahead} ahead after {before}"), || {
                    rig.hand.serve(before);
                    rig.turn();
                    if rig.is_rx() && ahead < 64 {
                        rig.hand.look();
                    }
                    let lent = rig.hand.lent.len() as u16;
                    let ahead = if ahead == 21 { lent + 1 } else { ahead };
                    rig.hand.used_idx((rig.hand.next_used as u16).wrapping_add(ahead));
                    assert_eq!(rig.turn(), 0);
                    rig.verdict(Fate::Contain(Lie::UsedIndex));
                });
            });
        }
    }
}

#[test]
fn a_used_index_ahead_of_what_was_written_takes_old_elements_for_lies() {
    both(|mut rig| {
        if rig.hand.shape().packed() {
            return;
        }
        // The elements are all zero: the first one is true, the second one names the same buffer.
        if rig.is_rx() {
            rig.hand.fill(&rig.hand.lent[0], header(1), 0, 60);
        }
        rig.hand.used_idx(20);
        rig.turn();
        rig.verdict(Fate::Contain(Lie::UsedId));
    });
}

#[test]
fn a_slot_with_the_bits_of_another_lap_is_not_used() {
    both(|mut rig| {
        if !rig.hand.shape().packed() {
            return;
        }
        for flags in [0, DESC_F_AVAIL, DESC_F_USED] {
            for rest in [0, DESC_F_WRITE, !(DESC_F_AVAIL | DESC_F_USED)] {
                (0..6).for_each(|k| rig.hand.packed_element(k, k as u16, HDR + 60, flags | rest));
                assert_eq!(rig.turn(), 0);
            }
        }
        rig.verdict(Fate::Survive);
    });
}

#[test]
fn a_skipped_slot_holds_back_what_is_behind_it() {
    both(|mut rig| {
        let shape = rig.hand.shape();
        if !shape.packed() {
            return;
        }
        rig.hand.look();
        let four: Vec<_> = rig.hand.lent.drain(..4).collect();
        for (k, lent) in four.iter().enumerate().skip(1) {
            if rig.is_rx() {
                rig.hand.fill(lent, header(1), 0, 60);
            }
            rig.hand.element(k as u64, lent.id.into(), HDR + 60);
            assert_eq!(rig.turn(), 0);
        }
        if rig.is_rx() {
            rig.hand.fill(&four[0], header(1), 0, 60);
        }
        rig.hand.element(0, four[0].id.into(), HDR + 60);
        assert_eq!(rig.turn(), 4);
        rig.hand.next_used = 4;
        rig.verdict(Fate::Survive);
    });
}

#[test]
fn foreign_flags_in_a_used_slot_mean_nothing() {
    let used = DESC_F_AVAIL | DESC_F_USED;
    for foreign in [DESC_F_NEXT, DESC_F_INDIRECT, DESC_F_WRITE, 0x7f78, 0x7f7f] {
        both(|mut rig| {
            if !rig.hand.shape().packed() {
                return;
            }
            rig.hand.look();
            for k in 0..5 {
                let lent = rig.hand.lent.pop_front().unwrap();
                if rig.is_rx() {
                    rig.hand.fill(&lent, header(1), 0, 60);
                }
                rig.hand.packed_element(k, lent.id, HDR + 60, used | foreign);
            }
            assert_eq!(rig.turn(), 5);
            rig.hand.next_used = 5;
            rig.verdict(Fate::Survive);
        });
    }
}

#[test]
fn all_slots_used_at_once_are_what_was_lent_and_no_more() {
    both(|mut rig| {
        if !rig.hand.shape().packed() {
            return;
        }
        // Each slot names its own id: the 20 that are lent are true, and behind them nobody looks.
        rig.hand.look();
        if rig.is_rx() {
            rig.hand.lent.iter().for_each(|lent| {
                rig.hand.fill(lent, header(1), 0, 60);
            });
        }
        (0..32).for_each(|k| rig.hand.element(k, k as u32, HDR + 60));
        assert_eq!(rig.turn(), 20);
        assert_eq!(rig.board.lie(), None);
        rig.end();
    });
}

#[test]
fn all_slots_used_at_once_by_one_id_break_the_queue() {
    both(|mut rig| {
        if !rig.hand.shape().packed() {
            return;
        }
        rig.hand.look();
        if rig.is_rx() {
            rig.hand.lent.iter().for_each(|lent| {
                rig.hand.fill(lent, header(1), 0, 60);
            });
        }
        (0..32).for_each(|k| rig.hand.element(k, 7, HDR + 60));
        // In order it is a batch of eight. A cleanup that meets a lie counts nothing.
        let frames = if rig.hand.shape().in_order() { 8 } else { 1 };
        assert_eq!(rig.turn(), if rig.is_rx() { frames } else { 0 });
        rig.verdict(Fate::Contain(Lie::UsedId));
    });
}

#[test]
fn random_bits_in_the_flags_lose_no_buffer() {
    each(32, |shape| {
        if !shape.packed() {
            return;
        }
        for seed in 0..60 {
            let mut chance = Chance::new(seed);
            for receive in [true, false] {
                let mut rig = if receive { Rig::rx(shape, 50) } else { Rig::tx(shape, 50) };
                for _ in 0..30 {
                    if !receive {
                        rig.send_new(chance.below(8), 1 + chance.below(3));
                    }
                    for _ in 0..chance.below(5) {
                        let (at, id) = (chance.below(32) as u64, chance.below(33) as u16);
                        rig.hand.packed_element(at, id, chance.below(600) as u32, chance.next() as u16);
                    }
                    rig.turn();
                }
                rig.end();
            }
        }
    });
}

#[test]
fn a_device_that_never_uses_anything_gives_all_back_when_it_is_stopped() {
    both(|mut rig| {
        for _ in 0..10 {
            if rig.is_rx() {
                assert_eq!(rig.turn(), 0);
            } else {
                rig.send_new(5, 2);
            }
        }
        assert_eq!(rig.board.lie(), None);
        let (receive, board) = (rig.is_rx(), rig.board.clone());
        rig.hand.look();
        let lent = rig.hand.lent.len() as u64;
        rig.end();
        // Packets that the device was given and did not use are counted; buffers for receiving are not frames.
        assert_eq!(board.counters.lost.get(), if receive { 0 } else { lent });
    });
}

#[test]
fn a_full_ring_takes_nothing_until_the_device_is_late_at_last() {
    each(32, |shape| {
        for segments in [1, 2, 3] {
            let mut rig = Rig::tx(shape, 200);
            let mut sent = 0;
            loop {
                match rig.send_new(7, segments) {
                    0 => break,
                    n => sent += n,
                }
            }
            assert_eq!(sent, 32 / rig_slots(&mut rig));
            assert_eq!((rig.send_new(1, segments), rig.send_new(40, segments)), (0, 0));
            rig.hand.serve(sent);
            rig.verdict(Fate::Survive);
        }
    });
}

/// Slots of the oldest chain.
fn rig_slots(rig: &mut Rig) -> usize {
    rig.hand.look();
    rig.hand.lent[0].slots.into()
}

#[test]
fn garbage_in_the_words_of_notification_costs_a_kick_or_saves_one() {
    let mut chance = Chance::new(5);
    both(|mut rig| {
        for _ in 0..40 {
            rig.hand.kick_words(chance.next() as u16, chance.next() as u16);
            rig.set_calls(chance.one_in(2));
            if rig.is_rx() {
                rig.hand.serve(3);
                assert_eq!(rig.turn(), 3);
            } else {
                assert_eq!(rig.send_new(3, 1), 3);
                rig.hand.serve(3);
                rig.cleanup();
            }
        }
        rig.verdict(Fate::Survive);
    });
}

#[test]
fn a_packed_device_that_asks_by_places_without_leave_is_woken_each_time() {
    both(|mut rig| {
        let shape = rig.hand.shape();
        if !shape.packed() || shape.has(Features::EVENT_IDX) {
            return;
        }
        // Places are what EVENT_IDX is for; these words mean nothing, but not that it wants to sleep.
        for place in [0, 7, 31, 0x7fff, 0x8000, 0xffff] {
            rig.hand.kick_words(EVENT_DESC, place);
            rig.kicked();
            if rig.is_rx() {
                rig.hand.serve(3);
                assert_eq!(rig.turn(), 3);
                rig.turn();
            } else {
                assert_eq!(rig.send_new(1, 1), 1);
                rig.hand.serve(1);
                rig.cleanup();
            }
            assert!(rig.kicked(), "{place:#x}");
        }
        rig.verdict(Fate::Survive);
    });
}
