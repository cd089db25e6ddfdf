//! A receive queue of a device that is honest.

use std::collections::VecDeque;

use vuser::buf::MbufRef;

use super::{BUFFERS, Frame, next_shape};
use crate::rig::{Chance, HDR, ROOM, Rig, Shape, header};

/// The number of what is left of a frame that was given back in part.
const REST: u32 = u32::MAX;

/// The honest device of a receive queue.
pub struct Receiver {
    pub rig: Rig,
    expected: VecDeque<Frame>,
    /// Frames that the application keeps for a while.
    pub kept: Vec<MbufRef>,
}

impl Receiver {
    pub fn new(shape: Shape) -> Self {
        Self { rig: Rig::rx(shape, BUFFERS), expected: VecDeque::new(), kept: Vec::new() }
    }

    /// The device or the application does something, or another device comes.
    pub fn step(&mut self, chance: &mut Chance) {
        if chance.one_in(40) {
            self.reconnect(chance);
        } else if chance.one_in(2) {
            self.device(chance);
            assert_eq!(self.rig.resume_base(), Some(self.rig.hand.base()));
        } else {
            self.application(chance);
        }
        assert_eq!(self.rig.board.lie(), None, "an honest device was called a liar");
    }

    /// Writes a frame over some of the buffers that are lent, and uses them.
    fn frame(&mut self, chance: &mut Chance) {
        let hand = &mut self.rig.hand;
        let parts =
            if hand.shape().mergeable() && chance.one_in(3) { 1 + chance.below(hand.lent.len().min(9)) } else { 1 };
        let seq = hand.seq;
        hand.seq += 1;
        let mut bytes = 0;
        for k in 0..parts {
            let at = if hand.shape().in_order() { 0 } else { chance.below(hand.lent.len().min(8)) };
            let lent = hand.lent.remove(at).unwrap();
            let len = if k + 1 < parts { ROOM } else { HDR + 20 + chance.below((ROOM - HDR - 19) as usize) as u32 };
            if k == 0 {
                hand.fill(&lent, header(parts as u16), seq, 0);
            }
            hand.push(lent.id.into(), len, lent.slots);
            bytes += len;
        }
        self.expected.push_back((seq, bytes - HDR));
    }

    /// Uses some buffers by naming the last only: all others are full.
    fn batch(&mut self, chance: &mut Chance) {
        let hand = &mut self.rig.hand;
        let n = 1 + chance.below(hand.lent.len());
        for k in 0..n {
            let bytes = if k + 1 < n { ROOM - HDR } else { 100 };
            hand.fill(&hand.lent[k], header(1), hand.seq, bytes);
            self.expected.push_back((hand.seq, bytes));
            hand.seq += 1;
        }
        hand.push_batch(n, HDR + 100);
    }

    fn device(&mut self, chance: &mut Chance) {
        self.rig.hand.look();
        for _ in 0..chance.below(12) {
            if self.rig.hand.lent.is_empty() {
                break;
            }
            if self.rig.hand.shape().in_order() && chance.one_in(3) {
                self.batch(chance);
            } else {
                self.frame(chance);
            }
        }
        self.rig.hand.publish();
    }

    /// The next frame has come.
    fn comes(&mut self, seq: u32, bytes: u32) {
        let frame = self.expected.pop_front();
        assert!(frame == Some((seq, bytes)) || frame == Some((REST, bytes)), "{seq}, {bytes} came, not {frame:?}");
    }

    /// Looks at what is lent, and gives some of it back.
    fn borrow(&mut self, chance: &mut Chance) {
        let loans = self.rig.peek([1, 2, 3, 4, 5, 7, 8, 33, 128][chance.below(9)]);
        for (loan, expected) in loans.iter().zip(&self.expected) {
            assert!([loan.seq(), REST].contains(&expected.0), "{} is lent, not {expected:?}", loan.seq());
            assert!(loan.bytes() == expected.1 || (!loan.whole && loan.bytes() < expected.1));
        }
        assert!(loans.len() <= self.expected.len());
        let mut left = chance.below(1 + loans.iter().map(|loan| loan.parts.len()).sum::<usize>());
        let n = left;
        for loan in &loans {
            let parts = left.min(loan.parts.len());
            let bytes: u32 = loan.parts[..parts].iter().map(|part| part.len).sum();
            if parts == loan.parts.len() && loan.whole {
                self.expected.pop_front();
            } else if parts > 0 {
                let rest = self.expected[0].1 - bytes;
                self.expected[0] = (REST, rest);
            }
            left -= parts;
        }
        // In one piece or in two.
        let first = if chance.one_in(2) { chance.below(n + 1) } else { n };
        self.rig.release(first);
        self.rig.release(n - first);
    }

    fn application(&mut self, chance: &mut Chance) {
        match chance.below(5) {
            0 | 1 => self.borrow(chance),
            2 => {
                let (most, size) = (1 + chance.below(99), chance.below(20_000));
                for frame in self.rig.copy(most, size) {
                    self.comes(u32::from_le_bytes(frame[..4].try_into().unwrap()), frame.len() as u32);
                }
            }
            _ => {
                for m in self.rig.receive([0, 1, 2, 3, 4, 5, 7, 8, 33][chance.below(9)]) {
                    // SAFETY: the first four bytes of a frame of twenty or more.
                    self.comes(unsafe { m.data().cast::<u32>().read_unaligned() }, m.pkt_len());
                    self.kept.push(m);
                }
            }
        }
        while self.kept.len() > 60 || (!self.kept.is_empty() && chance.one_in(2)) {
            self.rig.free(self.kept.swap_remove(chance.below(self.kept.len())));
        }
    }

    /// The device goes away, perhaps in the middle of a frame, and another one comes.
    fn reconnect(&mut self, chance: &mut Chance) {
        self.rig.hand.look();
        let (hand, lost) = (&mut self.rig.hand, self.rig.board.counters.lost.get());
        let torn = hand.shape().mergeable() && hand.lent.len() > 1 && chance.one_in(2);
        if torn {
            let lent = hand.lent.pop_front().unwrap();
            hand.fill(&lent, header(2), 0, 0);
            hand.push(lent.id.into(), ROOM, lent.slots);
            hand.publish();
            if chance.one_in(2) {
                self.application(chance);
            }
        }
        let shape = next_shape(chance, self.rig.hand.shape());
        self.rig.reconnect(shape, true);
        assert_eq!(self.rig.board.counters.lost.get(), lost + u64::from(torn));
        if !self.expected.is_empty() {
            assert!(self.rig.set_calls(true), "frames of the former device are there, and the queue would sleep");
            self.rig.set_calls(false);
        }
        self.rig.hand.look();
        assert!(!self.rig.hand.lent.is_empty() || self.rig.pool.is_empty(), "the new device has no buffers");
    }

    /// Nothing more is used: what was, must come, and a queue that asks for calls must know of it.
    pub fn drain(&mut self, chance: &mut Chance) {
        while !self.expected.is_empty() {
            assert!(self.rig.set_calls(true), "{} frames are there, and the queue would sleep", self.expected.len());
            let before = self.expected.len();
            // Frames of many buffers may need buffers again for their end; those were used above.
            (0..3).for_each(|_| self.application(chance));
            self.rig.set_calls(false);
            assert!(self.expected.len() <= before);
        }
        assert_eq!(self.rig.receive(8).len(), 0);
    }
}
