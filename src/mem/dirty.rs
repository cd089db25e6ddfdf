//! The log of the pages that a device has written: one bit for each [`LOG_PAGE`] bytes of device addresses.

use std::os::fd::{AsFd, BorrowedFd};

use super::shared::Shared;
use crate::error::{Error, Result};
use crate::spec::vhost_user::LOG_PAGE;
use crate::sys::eventfd::Bell;
use crate::sys::shm::SharedMemory;

/// A log. The device sets bits, whoever reads it clears them. Of its memory only what is written takes room.
#[derive(Debug)]
pub struct DirtyLog {
    memory: SharedMemory,
    bell: Bell,
}

impl DirtyLog {
    /// A log for device addresses below `end`.
    pub fn new(end: u64) -> Result<Self> {
        let bytes = end.div_ceil(LOG_PAGE).div_ceil(8);
        let bytes = usize::try_from(bytes).map_err(|_| Error::invalid("a log of so much memory cannot be"))?;
        Ok(Self { memory: SharedMemory::new("vuser-log", bytes.max(1), false)?, bell: Bell::new()? })
    }

    /// Bytes of it, a multiple of 8.
    pub fn size(&self) -> u64 {
        self.memory.len() as u64
    }

    /// The device rings it when it has set bits, if it likes.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Copies the bits of the pages from `addr` (rounded down) on that `len` bytes touch, the first page in bit 0 of the
    /// first byte, and clears them; how many were set. Pages that the log does not reach were not written.
    pub fn take(&self, addr: u64, len: u64, bits: &mut [u8]) -> Result<u64> {
        let end = addr.checked_add(len).ok_or_else(|| Error::invalid("there is no such range of memory"))?;
        let (first, behind) = (addr / LOG_PAGE, end.div_ceil(LOG_PAGE));
        let room = (bits.len() as u64).saturating_mul(8);
        if behind.saturating_sub(first) > room {
            let pages = behind - first;
            return Err(Error::invalid(format!("{pages} pages have that many bits; {} bytes hold {room}", bits.len())));
        }
        bits.fill(0);
        let mut count = 0;
        let mut page = first;
        while page < behind.min(self.size() * 8) {
            // The pages of one word, or those of them that are in the range.
            let (at, left) = (page % 64, (behind - page).min(64 - page % 64));
            let mask = (u64::MAX >> (64 - left)) << at;
            let mut found = self.word(page / 64, mask) >> at;
            count += u64::from(found.count_ones());
            while found != 0 {
                let bit = page - first + u64::from(found.trailing_zeros());
                if let Some(byte) = bits.get_mut((bit / 8) as usize) {
                    *byte |= 1 << (bit % 8);
                }
                found &= found - 1;
            }
            page += left;
        }
        Ok(count)
    }

    /// The pages that `len` bytes from `addr` on touch have got addresses that are larger by `by`, whole pages.
    pub fn move_up(&self, addr: u64, len: u64, by: u64) -> Result<()> {
        let (first, behind) = (addr / LOG_PAGE, addr.saturating_add(len).div_ceil(LOG_PAGE));
        let mut bits = vec![0; (behind - first).div_ceil(8) as usize];
        self.take(addr, len, &mut bits)?;
        let pages = (first..).zip(bits.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 != 0)));
        for page in pages.filter(|(_, written)| *written).map(|(page, _)| page + by / LOG_PAGE) {
            if page < self.size() * 8 {
                self.shared(page / 64).set_bits((1_u64 << (page % 64)).to_le());
            }
        }
        Ok(())
    }

    /// The word of this index, which is within the log.
    fn shared(&self, index: u64) -> Shared<u64> {
        // SAFETY: the mapping is aligned to pages, and the caller keeps the index below its size.
        unsafe { Shared::<u64>::new(self.memory.addr().cast()).at(index as usize) }
    }

    /// Takes bits of the word of this index, which is within the log. A word is 8 bytes as the machine has them: x86 counts
    /// the bits of a word as those of its bytes.
    fn word(&self, index: u64, mask: u64) -> u64 {
        let word = self.shared(index);
        // A look first: most words are zero, and a write would take memory for them.
        if word.load(std::sync::atomic::Ordering::Relaxed) & mask.to_le() == 0 {
            return 0;
        }
        u64::from_le(word.take_bits(mask.to_le()))
    }
}

impl AsFd for DirtyLog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(log: &DirtyLog, page: usize) {
        // SAFETY: within the log, of which nobody has a reference.
        unsafe {
            let byte = log.memory.addr().add(page / 8);
            byte.write_volatile(byte.read_volatile() | 1 << (page % 8));
        }
    }

    #[test]
    fn bits_are_taken_once() {
        let log = DirtyLog::new(1000 * LOG_PAGE).unwrap();
        [3, 63, 64, 128, 200].into_iter().for_each(|page| set(&log, page));
        let mut bits = [0xff; 32];
        assert_eq!(log.take(3 * LOG_PAGE + 5, 126 * LOG_PAGE - 5, &mut bits).unwrap(), 4);
        let found: Vec<_> = (0..256).filter(|bit| bits[bit / 8] & 1 << (bit % 8) != 0).collect();
        assert_eq!(found, [0, 60, 61, 125]);
        assert_eq!(log.take(0, 256 * LOG_PAGE, &mut bits).unwrap(), 1);
        assert_eq!((bits[25], bits.iter().filter(|b| **b != 0).count()), (1, 1));
    }

    #[test]
    fn pages_that_move_keep_their_bits() {
        let log = DirtyLog::new(1000 * LOG_PAGE).unwrap();
        [0, 1, 9, 20, 29].into_iter().for_each(|page| set(&log, page));
        // What the higher range leaves, the lower one takes.
        log.move_up(20 * LOG_PAGE, 10 * LOG_PAGE, 15 * LOG_PAGE).unwrap();
        log.move_up(0, 10 * LOG_PAGE, 15 * LOG_PAGE).unwrap();
        let mut bits = [0; 16];
        assert_eq!(log.take(0, 128 * LOG_PAGE, &mut bits).unwrap(), 5);
        let found: Vec<_> = (0..128).filter(|bit| bits[bit / 8] & 1 << (bit % 8) != 0).collect();
        assert_eq!(found, [15, 16, 24, 35, 44]);
        // Nothing is written behind the end.
        set(&log, 999);
        log.move_up(999 * LOG_PAGE, LOG_PAGE, u64::MAX / 2 / LOG_PAGE * LOG_PAGE).unwrap();
        assert_eq!(log.take(0, 128 * LOG_PAGE, &mut bits).unwrap(), 0);
    }

    #[test]
    fn nothing_outside_the_log_is_reached() {
        let log = DirtyLog::new(1).unwrap();
        let end = log.size() * 8 * LOG_PAGE;
        let mut bits = [0; 8];
        set(&log, log.size() as usize * 8 - 1);
        assert_eq!(log.take(end - LOG_PAGE, 2 * LOG_PAGE, &mut bits).unwrap(), 1);
        assert_eq!(log.take(u64::MAX - 5, 5, &mut bits).unwrap(), 0);
        assert_eq!(log.take(0, 0, &mut []).unwrap(), 0);
        assert!(log.take(u64::MAX, 2, &mut bits).is_err() && log.take(0, 65 * LOG_PAGE, &mut bits).is_err());
        // Device addresses are addresses of ours, which are large: the log is too, but takes no room.
        assert_eq!(DirtyLog::new(0x7fff_ffff_f000).unwrap().size(), 1 << 32);
    }
}
