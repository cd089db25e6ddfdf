//! A timer that a descriptor tells of.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::limits;
use crate::error::{Error, Result};

/// Rings once, when it was set; its descriptor is readable from then on, until it is set again or cleared.
#[derive(Debug)]
pub struct Timer(TimerFd);

impl Timer {
    /// One that is not set.
    pub fn new() -> Result<Self> {
        TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)
            .map(Self)
            .map_err(|e| limits::not_opened(e, "cannot create a timer"))
    }

    /// Sets it to ring so long from now.
    pub fn set(&self, after: Duration) -> Result<()> {
        // No time at all would clear it.
        let after = TimeSpec::from(after.max(Duration::from_nanos(1)));
        let set = self.0.set(Expiration::OneShot(after), TimerSetTimeFlags::empty());
        set.map_err(|e| Error::sys(e, "cannot set a timer"))
    }

    /// It will not ring, and is not readable.
    pub fn clear(&self) {
        let _ = self.0.unset();
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll::{Ready, is_readable, wait_any};

    #[test]
    fn it_rings_when_it_was_set_and_not_when_it_was_cleared() {
        let timer = Timer::new().unwrap();
        assert!(!is_readable(timer.as_fd()));
        timer.set(Duration::ZERO).unwrap();
        assert_eq!(wait_any(&[timer.as_fd()], Some(Duration::from_secs(10))), [Ready::Readable]);
        timer.clear();
        assert!(!is_readable(timer.as_fd()));
        timer.set(Duration::from_secs(1000)).unwrap();
        assert!(!is_readable(timer.as_fd()));
    }
}
