//! How we wake a device: by its bell, a call of the system, or by its doorbell, a write, while it has one.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::doorbell::Doorbell;
use crate::error::Result;
use crate::sys::eventfd::Bell;

/// A doorbell, and what is written to it.
#[derive(Debug)]
struct Place {
    doorbell: Arc<Doorbell>,
    index: u16,
}

/// What a queue kicks.
#[derive(Debug)]
pub struct Kick {
    bell: Bell,
    /// Null, or ours.
    place: AtomicPtr<Place>,
}

impl Kick {
    /// A bell, and no doorbell yet.
    pub fn new() -> Result<Self> {
        Ok(Self { bell: Bell::new()?, place: AtomicPtr::default() })
    }

    /// Wakes the device; false when that cannot be.
    pub fn ring(&self) -> bool {
        // SAFETY: `set_doorbell` frees a place only while nobody rings. The acquire pairs with its release.
        match unsafe { self.place.load(Ordering::Acquire).as_ref() } {
            Some(place) => {
                place.doorbell.ring(place.index);
                true
            }
            None => self.bell.ring(),
        }
    }

    /// The bell that is rung while there is no doorbell.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// From now on the device of the ring of this index is woken by a doorbell, or by its bell again.
    ///
    /// # Safety
    /// Nobody rings meanwhile: the queue is paused.
    pub unsafe fn set_doorbell(&self, index: u16, doorbell: Option<Arc<Doorbell>>) {
        let next = doorbell.map_or(std::ptr::null_mut(), |doorbell| Box::into_raw(Box::new(Place { doorbell, index })));
        let before = self.place.swap(next, Ordering::AcqRel);
        if !before.is_null() {
            // SAFETY: made by the line above at another time, and nobody has it any more.
            drop(unsafe { Box::from_raw(before) });
        }
    }
}

impl Drop for Kick {
    fn drop(&mut self) {
        // SAFETY: nobody has it any more who could ring.
        unsafe { self.set_doorbell(0, None) };
    }
}

impl AsFd for Kick {
    /// The bell.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll::is_readable;
    use crate::sys::shm::SharedMemory;

    #[test]
    fn a_doorbell_goes_before_the_bell_as_long_as_it_is_there() {
        let (kick, page) = (Kick::new().unwrap(), SharedMemory::new("test", 4096, false).unwrap());
        // SAFETY: the mapping lives on, aligned.
        let read = || unsafe { page.addr().cast::<u16>().read_volatile() };
        let doorbell = Arc::new(Doorbell::map(page.as_fd(), 0, 4096).unwrap());
        // SAFETY: nobody else has it.
        unsafe { kick.set_doorbell(7, Some(doorbell.clone())) };
        assert!(kick.ring() && read() == 7 && !is_readable(kick.as_fd()));
        // SAFETY: as above.
        unsafe { kick.set_doorbell(9, Some(doorbell.clone())) };
        assert!(kick.ring() && read() == 9 && Arc::strong_count(&doorbell) == 2);
        // SAFETY: as above.
        unsafe { kick.set_doorbell(0, None) };
        assert!(kick.ring() && is_readable(kick.as_fd()) && Arc::strong_count(&doorbell) == 1);
    }
}
