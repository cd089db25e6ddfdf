//! Frames that are lent in place, and frames that are copied out.

use std::collections::HashSet;
use std::mem::MaybeUninit;
use std::time::Instant;

use vuser::net::copy::Places;
use vuser::net::lend::{LentFrame, MORE};

use super::{DATA_SIZE, End, Rig};

/// A frame that is lent: its buffers, and whether its end is among them.
pub struct Loan {
    pub parts: Vec<LentFrame>,
    pub whole: bool,
}

impl Loan {
    pub fn bytes(&self) -> u32 {
        self.parts.iter().map(|part| part.len).sum()
    }

    /// What its first four bytes say.
    pub fn seq(&self) -> u32 {
        assert!(self.parts[0].len >= 4);
        // SAFETY: four bytes of a frame that is lent.
        unsafe { self.parts[0].begin().cast::<u32>().read_unaligned() }
    }
}

impl Rig {
    /// Lends what has come. Each part lies in a buffer of its own, which the application has not.
    pub fn peek(&mut self, most: usize) -> Vec<Loan> {
        let End::Rx(rx) = &mut self.end else { panic!("not a receive queue") };
        let mut out = vec![MaybeUninit::uninit(); most];
        let begin = Instant::now();
        let n = rx.peek(&mut out);
        self.spend(begin);
        assert!(n <= most);
        let (mut loans, mut begins, mut buffers) = (Vec::<Loan>::new(), true, HashSet::new());
        for frame in &out[..n] {
            // SAFETY: lent, so written.
            let frame = unsafe { frame.assume_init() };
            assert!(buffers.insert(self.lies_in_a_buffer(&frame)), "a buffer was lent twice");
            if begins {
                loans.push(Loan { parts: Vec::new(), whole: false });
            }
            begins = frame.flags & MORE == 0;
            let loan = loans.last_mut().unwrap();
            loan.parts.push(frame);
            loan.whole = begins;
        }
        let parted = loans.iter().position(|loan| !loan.whole);
        assert!(parted.is_none_or(|at| at == 0 && n == most), "a frame was lent in part beside others");
        for (k, loan) in loans.iter().enumerate().filter(|(_, loan)| loan.whole) {
            assert!(loan.bytes() >= 14 || (k == 0 && self.torn), "a runt was lent");
        }
        self.goes_on = loans.iter().flat_map(|loan| &loan.parts).map(|part| part.flags & MORE != 0).collect();
        loans
    }

    /// The index of the buffer.
    fn lies_in_a_buffer(&self, frame: &LentFrame) -> usize {
        let (memory, stride) = (self.pool.memory(), self.pool.linear().0 as usize * 128);
        let offset = (frame.data as usize).checked_sub(memory.addr() as usize).expect("before the pool");
        let (buffer, at) = (offset / stride, offset % stride);
        assert!(buffer < self.count as usize, "behind the pool");
        assert!(at + frame.len as usize <= usize::from(DATA_SIZE), "data outside of a buffer");
        for held in &self.held {
            let place = held.wrapping_mul(self.pool.linear().0 as usize).wrapping_add(self.pool.linear().1 as usize);
            assert_ne!(place, memory.addr() as usize + buffer * stride, "a buffer of the application's was lent");
        }
        buffer
    }

    /// Gives the first buffers back that are lent.
    pub fn release(&mut self, n: usize) {
        let End::Rx(rx) = &mut self.end else { panic!("not a receive queue") };
        let begin = Instant::now();
        rx.release(n);
        self.spend(begin);
        let given = n.min(self.goes_on.len());
        self.torn = self.goes_on.drain(..given).next_back().unwrap_or(self.torn);
    }

    /// Receives up to `most` frames into this many bytes; the frames.
    pub fn copy(&mut self, most: usize, size: usize) -> Vec<Vec<u8>> {
        let End::Rx(rx) = &mut self.end else { panic!("not a receive queue") };
        let mut data = vec![0u8; size];
        let row = || vec![MaybeUninit::new(u32::MAX); most];
        let (mut offsets, mut lengths) = (row(), row());
        let mut places = Places { data: data.as_mut_ptr(), size, offsets: &mut offsets, lengths: &mut lengths };
        let begin = Instant::now();
        // SAFETY: the memory is ours, of this size.
        let n = unsafe { rx.copy_out(&mut places) };
        self.spend(begin);
        assert!(n <= most);
        let (mut at, mut torn) = (0, self.torn);
        self.torn &= n == 0;
        let frames = offsets.iter().zip(&lengths).take(n).map(|(offset, length)| {
            // SAFETY: written above, if nowhere else.
            let (offset, length) = unsafe { (offset.assume_init() as usize, length.assume_init() as usize) };
            assert_eq!(offset, at, "frames are not back to back");
            assert!(length >= 14 || torn, "a runt was copied");
            torn = false;
            at += length;
            data[offset..at].to_vec()
        });
        frames.collect()
    }

    /// Borrows all that is there, and gives it back; how many frames.
    pub fn borrow_turn(&mut self) -> usize {
        let mut frames = 0;
        loop {
            // A frame that can't be lent is dropped once it is the first: then there may be others behind it.
            let loans = self.peek(64);
            if loans.is_empty() {
                return frames;
            }
            frames += loans.iter().filter(|loan| loan.whole).count();
            self.release(loans.iter().map(|loan| loan.parts.len()).sum());
        }
    }
}
