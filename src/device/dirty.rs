//! The log of pages that we write, for whoever copies the driver's memory elsewhere.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::{Error, Result};
use crate::spec::vhost_user::{LOG_PAGE, LogMessage};
use crate::sys::shm::{Mapping, stays_as_long};

/// A log that the front-end has given us.
#[derive(Debug)]
pub struct Log {
    map: Mapping,
    offset: usize,
    bytes: u64,
}

impl Log {
    pub(super) fn new(place: &LogMessage, fd: &OwnedFd) -> Result<Self> {
        let wrong = || Error::protocol(format!("a log of {} bytes at {:#x} cannot be", place.size, place.offset));
        let end = place.offset.checked_add(place.size).filter(|_| place.size > 0).ok_or_else(wrong)?;
        if !stays_as_long(fd.as_fd(), end) {
            return Err(Error::protocol("the file of the log is too short, or could become so"));
        }
        let map = Mapping::new(fd.as_fd(), 0, usize::try_from(end).map_err(|_| wrong())?)?;
        Ok(Self { map, offset: place.offset as usize, bytes: place.size })
    }

    /// Notes that bytes at a device address were written.
    pub(super) fn note(&self, addr: u64, len: u64) {
        let Some(last) = len.checked_sub(1).and_then(|more| addr.checked_add(more)) else { return };
        for page in addr / LOG_PAGE..=last / LOG_PAGE {
            if page / 8 < self.bytes {
                // SAFETY: within the mapping, which lives as long as we do; atomics allow any other writer.
                let byte = unsafe { AtomicU8::from_ptr(self.map.addr().add(self.offset + (page / 8) as usize)) };
                byte.fetch_or(1 << (page % 8), Ordering::AcqRel);
            }
        }
    }
}
