//! A place of a device's where a write is a kick: a page of its registers, or of memory that another process looks at.

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use super::shared::Shared;
use crate::error::{Error, Result};
use crate::sys::shm::{Mapping, stays_as_long};

/// Bytes mapped at least: a page, which is what the kernel maps.
const PAGE: u64 = 4096;

/// A doorbell. Any thread may ring it.
#[derive(Debug)]
pub struct Doorbell {
    at: Shared<u16>,
    _map: Mapping,
}

impl Doorbell {
    /// The doorbell at `offset` of a file, that is `len` bytes long there.
    pub fn map(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<Self> {
        // Whole pages, and of all the registers there may be, only the first is of interest.
        if len < 2 || !offset.is_multiple_of(PAGE) {
            return Err(Error::invalid(format!("a doorbell of {len} bytes at offset {offset:#x} cannot be")));
        }
        if !offset.checked_add(PAGE).is_some_and(|end| stays_as_long(fd, end)) {
            let sentence =
                "the file of a doorbell could be cut off under it: it must be a device, or long enough and sealed";
            return Err(Error::invalid(sentence));
        }
        let map = Mapping::write_only(fd, offset, PAGE as usize)?;
        // SAFETY: the mapping lives as long as the door, begins at a page, and is not accessed otherwise.
        let at = unsafe { Shared::new(map.addr().cast()) };
        Ok(Self { at, _map: map })
    }

    /// Rings, for the ring of this index (VIRTIO 4.1.5.2: 16 bits, without NOTIFICATION_DATA).
    pub fn ring(&self, index: u16) {
        self.at.store(index, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::shm::SharedMemory;
    use std::os::fd::AsFd;

    #[test]
    fn a_ring_is_seen_by_the_other_side() {
        let page = SharedMemory::new("test", 2 * PAGE as usize, false).unwrap();
        let bell = Doorbell::map(page.as_fd(), PAGE, PAGE).unwrap();
        bell.ring(0x1234);
        // SAFETY: aligned, within the mapping, which lives on.
        let seen = unsafe { Shared::<u16>::new(page.addr().add(PAGE as usize).cast()) };
        assert_eq!(seen.load(Ordering::Acquire), 0x1234);
        for (offset, len) in [(2, PAGE), (0, 1), (2 * PAGE, PAGE), (!(PAGE - 1), PAGE)] {
            assert!(Doorbell::map(page.as_fd(), offset, len).is_err(), "{offset:#x} {len}");
        }
    }
}
