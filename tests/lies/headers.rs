//! Lies in the header in front of a frame.

use vuser::buf::mbuf::flags;
use vuser::ring::Lie;
use vuser::spec::net::{HDR_F_DATA_VALID, HDR_F_NEEDS_CSUM, NetHdr};
use vuser::spec::virtio::Features;

use crate::rig::{Chance, Fate, HDR, ROOM, Rig, Shape, about, each, header};

const IMPOSSIBLE: Fate = Fate::Contain(Lie::NumBuffers);

/// Uses the oldest `n` buffers, all full, with these headers.
fn full(rig: &mut Rig, headers: &[u16]) {
    rig.hand.look();
    for buffers in headers {
        let lent = rig.hand.lent.pop_front().unwrap();
        let len = rig.hand.fill(&lent, header(*buffers), 0, ROOM - HDR);
        rig.hand.push(lent.id.into(), len, 1);
    }
    rig.hand.publish();
}

#[test]
fn a_frame_of_no_buffers_or_of_more_than_the_ring_has_breaks_the_queue() {
    for buffers in [0, 33, 1000, 0x7fff, 0x8000, 0xffff] {
        for good in 0..5 {
            each(32, |shape| {
                about(format_args!("{buffers} buffers after {good} frames"), || {
                    let mut rig = Rig::rx(shape, 20);
                    let mut headers = vec![1; good];
                    headers.push(buffers);
                    full(&mut rig, &headers);
                    if shape.mergeable() {
                        assert_eq!(rig.turn(), good);
                        rig.verdict(IMPOSSIBLE);
                    } else {
                        // Nobody was promised that this field means anything.
                        assert_eq!(rig.turn(), good + 1);
                        rig.verdict(Fate::Survive);
                    }
                });
            });
        }
    }
}

#[test]
fn a_frame_of_more_buffers_than_were_used_waits_for_them() {
    each(32, |shape| {
        if !shape.mergeable() {
            return;
        }
        for announced in [2, 4, 31, 32] {
            let mut rig = Rig::rx(shape, 70);
            full(&mut rig, &vec![announced; usize::from(announced) - 1]);
            for _ in 0..3 {
                assert_eq!(rig.turn(), 0);
            }
            // What comes next is its last part, whatever the device meant.
            full(&mut rig, &[1]);
            let frames = rig.receive(8);
            assert_eq!(frames.len(), 1);
            assert_eq!((frames[0].nb_segs(), frames[0].pkt_len()), (announced, u32::from(announced) * ROOM - HDR));
            rig.free(frames[0]);
            rig.verdict(Fate::Survive);
        }
    });
}

#[test]
fn a_frame_that_never_ends_gives_its_parts_back_when_the_queue_is_stopped() {
    each(32, |shape| {
        if !shape.mergeable() {
            return;
        }
        for parts in [1, 4, 31] {
            let mut rig = Rig::rx(shape, 70);
            let board = rig.board.clone();
            full(&mut rig, &vec![32; parts]);
            assert_eq!(rig.turn(), 0);
            rig.end();
            assert_eq!(board.counters.lost.get(), 1);
        }
    });
}

#[test]
fn a_lie_behind_half_a_frame_loses_none_of_its_parts() {
    each(32, |shape| {
        if !shape.mergeable() {
            return;
        }
        let mut rig = Rig::rx(shape, 70);
        full(&mut rig, &[1, 9, 9, 9]);
        assert_eq!(rig.turn(), 1);
        rig.hand.push(77, HDR + 60, 1);
        rig.hand.publish();
        assert_eq!(rig.turn(), 0);
        rig.verdict(Fate::Contain(Lie::UsedId));
    });
}

#[test]
fn a_merged_frame_may_have_parts_without_a_byte() {
    each(32, |shape| {
        if !shape.mergeable() {
            return;
        }
        // Nothing but the header in the first buffer, nothing at all in some of the others.
        for lens in [[HDR, 60, 0, 0], [HDR, 0, 0, 14], [HDR + 20, 0, 0, 0], [HDR, 0, 13, 0], [0, 0, 0, 0]] {
            let mut rig = Rig::rx(shape, 40);
            for len in lens {
                let lent = rig.hand.lent.pop_front().unwrap();
                rig.hand.fill(&lent, header(4), 0, 60);
                rig.hand.push(lent.id.into(), len, 1);
            }
            rig.hand.publish();
            // A buffer without a header is a runt of its own, and those behind it are told by what stands in them.
            let bytes: u32 = lens.iter().sum::<u32>().saturating_sub(HDR);
            let frames = rig.receive(8);
            assert_eq!(frames.len(), usize::from(lens[0] >= HDR && bytes >= 14));
            frames.iter().for_each(|m| rig.free(*m));
            assert_eq!(rig.board.lie(), None);
            rig.end();
        }
    });
}

#[test]
fn what_is_left_of_a_frame_that_is_given_back_in_parts_comes_however_short_it_is() {
    each(32, |shape| {
        if !shape.mergeable() {
            return;
        }
        let mut rig = Rig::rx(shape, 40);
        for len in [HDR + 60, 5] {
            let lent = rig.hand.lent.pop_front().unwrap();
            rig.hand.fill(&lent, header(2), 0, 60);
            rig.hand.push(lent.id.into(), len, 1);
        }
        rig.hand.publish();
        assert_eq!(rig.peek(8)[0].bytes(), 65);
        rig.release(1);
        assert_eq!(rig.peek(8)[0].bytes(), 5);
        let frames = rig.receive(8);
        assert_eq!(frames.iter().map(|m| m.pkt_len()).collect::<Vec<_>>(), [5]);
        frames.iter().for_each(|m| rig.free(*m));
        assert_eq!(rig.board.counters.runt.get(), 0);
        rig.end();
    });
}

fn bytes(h: NetHdr) -> [u8; HDR as usize] {
    let mut all = header(1);
    all[0] = h.flags;
    all[1] = h.gso_type;
    for (k, field) in [h.hdr_len, h.gso_size, h.csum_start, h.csum_offset].iter().enumerate() {
        all[2 + 2 * k..4 + 2 * k].copy_from_slice(&field.to_le_bytes());
    }
    all
}

/// One frame of 60 bytes with this header: how many were received, and the flags of the first.
fn one(rig: &mut Rig, header: [u8; HDR as usize]) -> Option<u64> {
    rig.hand.look();
    let lent = rig.hand.lent.pop_front().unwrap();
    let len = rig.hand.fill(&lent, header, 0, 60);
    rig.hand.push(lent.id.into(), len, 1);
    rig.hand.publish();
    let frames = rig.receive(8);
    let first = frames.first().map(|m| m.ol_flags());
    frames.iter().for_each(|m| rig.free(*m));
    first
}

#[test]
fn a_header_that_points_outside_its_frame_drops_the_frame() {
    let needs =
        |csum_start, csum_offset| NetHdr { flags: HDR_F_NEEDS_CSUM, csum_start, csum_offset, ..NetHdr::default() };
    let gso = |gso_type, gso_size| NetHdr { gso_type, gso_size, ..NetHdr::default() };
    let bad = [
        needs(59, 0),
        needs(0, 59),
        needs(60, 60),
        needs(0xffff, 0),
        needs(0xffff, 1),
        needs(0xffff, 0xffff),
        needs(0, 0xffff),
        needs(0x8000, 0x8000),
        gso(1, 0),
        gso(2, 100),
        gso(3, 100),
        gso(4, 100),
        gso(5, 100),
        gso(0x7f, 100),
        gso(0xff, 0xffff),
        gso(0x81, 0),
    ];
    each(32, |shape| {
        // TCPv4 was negotiated, TCPv6 and UDP were not.
        let offloads = Features::GUEST_CSUM | Features::GUEST_TSO4;
        let mut rig = Rig::rx(Shape::new(32, shape.features | offloads), 20);
        for (k, h) in bad.iter().enumerate() {
            about(format_args!("{h:?}"), || assert_eq!(one(&mut rig, bytes(*h)), None));
            assert_eq!(rig.board.counters.bad_header.get(), k as u64 + 1);
        }
        let partial = one(&mut rig, bytes(needs(58, 0))).unwrap();
        assert_eq!(partial & flags::RX_L4_CKSUM_NONE, flags::RX_L4_CKSUM_NONE);
        assert_ne!(one(&mut rig, bytes(gso(1, 100))).unwrap() & flags::RX_LRO, 0);
        rig.verdict(Fate::Survive);
    });
}

#[test]
fn a_header_says_nothing_that_was_not_negotiated() {
    let mut chance = Chance::new(6);
    each(32, |shape| {
        let mut rig = Rig::rx(shape, 40);
        for _ in 0..100 {
            let n = 1 + chance.below(9);
            rig.hand.look();
            for _ in 0..n {
                let lent = rig.hand.lent.pop_front().unwrap();
                let mut garbage = header(1);
                garbage[..10].iter_mut().for_each(|b| *b = chance.next() as u8 & chance.next() as u8);
                garbage[0] |= HDR_F_DATA_VALID;
                let len = rig.hand.fill(&lent, garbage, 0, 60);
                rig.hand.push(lent.id.into(), len, 1);
            }
            rig.hand.publish();
            for m in rig.receive(32) {
                assert_eq!((m.ol_flags(), m.packet_type()), (0, 0));
                rig.free(m);
            }
        }
        rig.verdict(Fate::Survive);
    });
}
