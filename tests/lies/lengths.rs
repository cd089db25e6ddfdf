//! Lies about how many bytes were written.

use vuser::ring::Lie;
use vuser::spec::virtio::Features;

use crate::rig::{Fate, HDR, ROOM, Rig, Shape, about, each, header};

/// Lengths that no buffer has.
const TOO_LONG: [u32; 6] = [ROOM + 1, ROOM + 4096, 0x1_0000 + HDR + 60, 0x7fff_ffff, 0x8000_0000 + HDR + 60, u32::MAX];

/// Four buffers used at once, of which the one at `k` says `len`.
fn four(shape: Shape, k: usize, len: u32) -> Rig {
    let mut rig = Rig::rx(shape, 20);
    for n in 0..4 {
        let lent = rig.hand.lent.pop_front().unwrap();
        let good = rig.hand.fill(&lent, header(1), n as u32, 60);
        rig.hand.push(lent.id.into(), if n == k { len } else { good }, 1);
    }
    rig.hand.publish();
    rig
}

#[test]
fn a_frame_shorter_than_an_ethernet_header_is_dropped_and_counted() {
    for len in [0, 1, HDR - 1, HDR, HDR + 1, HDR + 13] {
        for k in 0..4 {
            each(32, |shape| {
                about(format_args!("{len} bytes in buffer {k}"), || {
                    let mut rig = four(shape, k, len);
                    assert_eq!(rig.turn(), 3);
                    assert_eq!(rig.board.counters.runt.get(), 1);
                    rig.verdict(Fate::Survive);
                });
            });
        }
    }
}

#[test]
fn frames_up_to_the_last_byte_of_the_buffer_are_frames() {
    for len in [HDR + 14, ROOM - 1, ROOM] {
        for k in 0..4 {
            each(32, |shape| {
                let mut rig = four(shape, k, len);
                let frames = rig.receive(8);
                assert_eq!(frames.iter().map(|m| m.pkt_len()).collect::<Vec<_>>()[k], len - HDR);
                frames.iter().for_each(|m| rig.free(*m));
                rig.verdict(Fate::Survive);
            });
        }
    }
}

#[test]
fn a_frame_that_is_longer_than_any_is_not_the_next_for_ever() {
    const BUFFERS: u16 = 140;
    each(256, |shape| {
        if !shape.mergeable() {
            return;
        }
        let mut rig = Rig::rx(shape, 400);
        for n in 0..BUFFERS {
            let lent = rig.hand.lent.pop_front().unwrap();
            let len = rig.hand.fill(&lent, header(BUFFERS), n.into(), ROOM - HDR);
            rig.hand.push(lent.id.into(), len, 1);
        }
        rig.hand.publish();
        let dropped = |rig: &Rig| rig.board.counters.bad_header.get();
        (0..5).for_each(|_| assert!(rig.copy(4, 9000).is_empty()));
        assert_eq!(dropped(&rig), 0);
        assert!(rig.copy(4, 65550).is_empty());
        assert_eq!(dropped(&rig), 1);
        rig.verdict(Fate::Survive);
    });
}

#[test]
fn more_bytes_than_the_buffer_has_break_the_queue() {
    for len in TOO_LONG {
        for k in 0..4 {
            each(32, |shape| {
                about(format_args!("{len:#x} bytes in buffer {k}"), || {
                    let mut rig = four(shape, k, len);
                    // Those before it were good.
                    assert_eq!(rig.turn(), k);
                    rig.verdict(Fate::Contain(Lie::Length));
                });
            });
        }
    }
}

#[test]
fn more_bytes_than_the_last_buffer_of_a_batch_has_break_the_queue() {
    for len in TOO_LONG {
        each(32, |shape| {
            if !shape.in_order() {
                return;
            }
            let mut rig = Rig::rx(shape, 20);
            (0..6).for_each(|k| {
                rig.hand.fill(&rig.hand.lent[k], header(1), 0, 500);
            });
            rig.hand.push_batch(6, len);
            rig.hand.publish();
            assert_eq!(rig.turn(), 5);
            rig.verdict(Fate::Contain(Lie::Length));
        });
    }
}

#[test]
fn more_bytes_than_fit_in_the_middle_of_a_merged_frame_break_the_queue_and_lose_no_part() {
    for len in TOO_LONG {
        for at in 1..4 {
            each(32, |shape| {
                if !shape.mergeable() {
                    return;
                }
                // A second burst must find the parts of the first as they were.
                for bursts in [false, true] {
                    let mut rig = Rig::rx(shape, 40);
                    for n in 0..4 {
                        let lent = rig.hand.lent.pop_front().unwrap();
                        rig.hand.fill(&lent, header(4), 0, 500);
                        rig.hand.push(lent.id.into(), if n == at { len } else { ROOM }, 1);
                        rig.hand.publish();
                        if bursts {
                            assert_eq!(rig.turn(), 0);
                        }
                    }
                    assert_eq!(rig.turn(), 0);
                    rig.verdict(Fate::Contain(Lie::Length));
                }
            });
        }
    }
}

#[test]
fn garbage_lengths_on_transmit_mean_nothing() {
    each(32, |shape| {
        for segments in [1, 3] {
            let mut rig = Rig::tx(shape, 64);
            for len in [1, 64, 0xffff, 0x1_0000, 0x8000_0000, u32::MAX] {
                assert_eq!(rig.send_new(6, segments), 6);
                rig.hand.look();
                for _ in 0..6 {
                    let lent = rig.hand.lent.pop_front().unwrap();
                    rig.hand.push(lent.id.into(), len, lent.slots);
                }
                rig.hand.publish();
                assert_eq!(rig.cleanup(), 6);
            }
            rig.verdict(Fate::Survive);
        }
    });
}

#[test]
fn a_burst_ends_however_many_runts_there_are() {
    const RUNTS: u16 = 2048;
    for layout in [Features::empty(), Features::RING_PACKED] {
        let mut rig = Rig::rx(Shape::new(RUNTS, layout), RUNTS.into());
        assert_eq!(rig.hand.lent.len(), RUNTS.into());
        for lent in std::mem::take(&mut rig.hand.lent) {
            rig.hand.push(lent.id.into(), HDR + 13, 1);
        }
        rig.hand.publish();
        for burst in 1..=2 {
            assert!(rig.receive(8).is_empty());
            assert_eq!(rig.board.counters.runt.get(), burst * u64::from(RUNTS) / 2);
        }
        rig.verdict(Fate::Survive);
    }
}
