//! Checksums that a device left to be done, finished in a copy of the frame.

use crate::mem::shared::{peek, poke};
use crate::spec::net::{HDR_F_NEEDS_CSUM, NetHdr};

/// Where a header says that they are done: from `start` on, into the two bytes `offset` behind it, in which there is the
/// pseudo-header's sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// The first byte that is summed up.
    pub start: u16,
    /// Where the sum goes, from there.
    pub offset: u16,
}

impl Unfinished {
    /// What the header of a frame leaves to be done; else a place that is in no frame.
    pub fn of(header: &NetHdr) -> Self {
        match header.flags & HDR_F_NEEDS_CSUM {
            0 => Self { start: u16::MAX, offset: u16::MAX },
            _ => Self { start: header.csum_start, offset: header.csum_offset },
        }
    }

    /// As one word, as an mbuf keeps it.
    pub fn word(self) -> u32 {
        u32::from(self.start) | u32::from(self.offset) << 16
    }

    /// What an mbuf has kept.
    pub fn of_word(word: u32) -> Self {
        Self { start: word as u16, offset: (word >> 16) as u16 }
    }

    /// Finishes the checksum of a frame of `len` bytes, if there is a place for it. One that comes to 0 is written as all ones,
    /// since 0 is no checksum to UDP, and the same number to all others.
    ///
    /// # Safety
    /// The bytes are valid for reads and writes.
    pub unsafe fn finish(self, frame: *mut u8, len: usize) {
        let (start, field) = (usize::from(self.start), usize::from(self.start) + usize::from(self.offset));
        if field + 2 > len {
            return;
        }
        // SAFETY: passed on; the field lies inside, and so does all from `start` on.
        unsafe {
            let checksum = match fold(sum(frame.wrapping_add(start), len - start)) {
                u16::MAX => u16::MAX,
                sum => !sum,
            };
            poke(frame.wrapping_add(field), checksum.to_ne_bytes());
        }
    }
}

/// The sum of words in the machine's order, whose bytes can be swapped as well after as before (RFC 1071).
///
/// # Safety
/// So many bytes are valid for reads.
unsafe fn sum(bytes: *const u8, len: usize) -> u64 {
    let whole = len & !3;
    // SAFETY: passed on.
    let words = (0..whole).step_by(4).map(|at| unsafe { peek::<[u8; 4]>(bytes.wrapping_add(at)) });
    let all: u64 = words.map(|word| u64::from(u32::from_ne_bytes(word))).sum();
    let mut last = [0; 4];
    // SAFETY: passed on.
    last.iter_mut().zip(whole..len).for_each(|(byte, at)| *byte = unsafe { peek(bytes.wrapping_add(at)) });
    all + u64::from(u32::from_ne_bytes(last))
}

/// A sum of words as one word.
pub fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish(start: u16, offset: u16, frame: &mut [u8]) {
        // SAFETY: so long is the frame.
        unsafe { Unfinished { start, offset }.finish(frame.as_mut_ptr(), frame.len()) };
    }

    #[test]
    fn a_finished_checksum_is_the_one_of_the_book() {
        // RFC 1071's example: 0001 f203 f4f5 f6f7 sum to ddf2; the field is the second word here.
        for tail in [&[][..], &[0], &[0, 0, 0], &[0, 0, 0, 0, 0]] {
            let mut frame = [&[0xaa, 0xbb, 0, 1, 0, 0, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7][..], tail].concat();
            finish(2, 2, &mut frame);
            assert_eq!(frame[4..6], (!0xddf2u16).to_be_bytes());
        }
    }

    #[test]
    fn what_lies_outside_of_the_frame_changes_nothing() {
        for (start, offset) in [(0, 9), (1, 8), (9, 0), (10, 0), (11, 0), (0xffff, 0xffff), (3, 0xffff)] {
            let mut frame = [7; 10];
            finish(start, offset, &mut frame);
            assert_eq!(frame, [7; 10], "{start} {offset}");
        }
    }

    #[test]
    fn no_checksum_is_zero_and_words_keep_what_was_put_into_them() {
        let mut frame = [0xff, 0xff, 0, 0];
        finish(0, 2, &mut frame);
        assert_eq!(frame, [0xff; 4]);
        let one = Unfinished { start: 34, offset: 16 };
        assert_eq!(Unfinished::of_word(one.word()), one);
    }
}
