//! The bell between two sides: a kick is ours to the device, a call is the device's to us.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::limits;
use crate::error::Result;

/// An eventfd, non-blocking and closed on exec.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// A new eventfd with counter zero.
    pub fn new() -> Result<Self> {
        EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map(|e| Self(e.into()))
            .map_err(|e| limits::not_opened(e, "cannot create an eventfd"))
    }

    /// A bell that came from another process.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Rings. A full counter needs no second ring, so EAGAIN is success; false when the fd is unusable.
    pub fn ring(&self) -> bool {
        // O_NONBLOCK belongs to the description, which the peer shares and can clear; with the counter at its limit, a
        // write would then block. A look first: only a peer that fills it in between can still delay us.
        if !matches!(poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLOUT)], PollTimeout::ZERO), Ok(1)) {
            return true;
        }
        match nix::unistd::write(&self.0, &1u64.to_ne_bytes()) {
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => true,
            Err(_) => false,
        }
    }

    /// Takes what has been rung since the last time; false when nothing was.
    pub fn take(&self) -> bool {
        // A peer may have made the description blocking, which both sides share: look before reading.
        if !self.wait(Duration::ZERO) {
            return false;
        }
        let mut count = [0; 8];
        nix::unistd::read(&self.0, &mut count).is_ok()
    }

    /// Waits until it is rung, or the time is over (false).
    pub fn wait(&self, at_most: Duration) -> bool {
        let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, timeout), Ok(n) if n > 0)
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Bell {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
