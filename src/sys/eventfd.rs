//! The bell between two sides: a kick is ours to the device, a call is the device's to us.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::knock::{knock, prepare};
use super::limits;
use crate::error::Result;

/// An eventfd, non-blocking and closed on exec.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// A new eventfd with counter zero.
    pub fn new() -> Result<Self> {
        prepare();
        EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map(|e| Self(e.into()))
            .map_err(|e| limits::not_opened(e, "cannot create an eventfd"))
    }

    /// A bell that came from another process.
    pub fn from_fd(fd: OwnedFd) -> Self {
        prepare();
        Self(fd)
    }

    /// Rings, and never waits, whatever the other side has done to the counter and the flags, which are its as well as ours.
    /// A full counter needs no second ring; false when the fd is unusable.
    pub fn ring(&self) -> bool {
        knock(self.as_fd()).is_ok() || self.write()
    }

    /// Where the kernel does not knock for us. O_NONBLOCK belongs to the description, which the peer shares and can clear;
    /// with the counter at its limit, a write would then block. A look first: only a peer that fills it in between can still
    /// delay us.
    fn write(&self) -> bool {
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
        match self.read_now() {
            Ok(()) => true,
            Err(Errno::EAGAIN | Errno::EINTR) => false,
            // A kernel before 5.8 knows no such read of an eventfd, and a filter may not know the call.
            Err(_) => nix::unistd::read(&self.0, &mut [0; 8]).is_ok(),
        }
    }

    /// Reads the counter without waiting, whatever the peer has made of the description since anybody looked.
    fn read_now(&self) -> nix::Result<()> {
        let mut count = [0u8; 8];
        let room = libc::iovec { iov_base: count.as_mut_ptr().cast(), iov_len: count.len() };
        let (fd, here, rest) = (self.0.as_raw_fd(), -1 as libc::c_long, 0 as libc::c_long);
        // By its number: glibc has a function for it since 2.26 only.
        // SAFETY: one place of eight bytes of ours, which is all that is written to.
        let got = unsafe { libc::syscall(libc::SYS_preadv2, fd, &raw const room, 1, here, rest, libc::RWF_NOWAIT) };
        Errno::result(got).map(drop)
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
    use std::time::Instant;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::*;

    #[test]
    fn a_peer_that_makes_a_bell_blocking_and_is_faster_to_empty_it_hangs_nobody() {
        let bell = Bell::new().unwrap();
        let peer = bell.as_fd().try_clone_to_owned().unwrap();
        fcntl(&peer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        // As if it had been rung when we looked, and the peer had read it since.
        assert!(matches!(bell.read_now(), Err(Errno::EAGAIN | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EPERM)));
        assert!(!bell.take() && bell.ring() && bell.take() && !bell.take());
    }

    /// A bell of which the other side has cleared O_NONBLOCK.
    fn blocking() -> Bell {
        let bell = Bell::new().unwrap();
        fcntl(&bell, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        bell
    }

    #[test]
    fn a_bell_is_heard_as_often_as_it_is_taken() {
        for bell in [Bell::new().unwrap(), blocking()] {
            assert!(!bell.take() && bell.ring() && bell.ring() && bell.take() && !bell.take());
            nix::unistd::write(&bell, &(u64::MAX - 1).to_ne_bytes()).unwrap();
            assert!(bell.ring() && bell.ring() && bell.take() && !bell.take());
        }
    }

    #[test]
    fn what_rings_is_an_eventfd() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(!Bell::from_fd(file.into()).ring());
    }

    /// The other side empties the counter and fills it, again and again, and then waits for us to go on.
    #[test]
    fn nobody_can_make_a_ring_wait() {
        const ROUNDS: u64 = 100_000;
        let (bell, rings, stuck) = (blocking(), AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while rings.load(SeqCst) < ROUNDS && !stuck.load(SeqCst) {
                    bell.take();
                    let seen = rings.load(SeqCst);
                    nix::unistd::write(&bell, &(u64::MAX - 1).to_ne_bytes()).unwrap();
                    let begin = Instant::now();
                    while rings.load(SeqCst) < (seen + 2).min(ROUNDS) && !stuck.load(SeqCst) {
                        stuck.store(begin.elapsed() > Duration::from_secs(20), SeqCst);
                    }
                }
                // Whoever still waits is let go.
                while rings.load(SeqCst) < ROUNDS {
                    bell.take();
                }
            });
            for _ in 0..ROUNDS {
                bell.ring();
                // The other side's own write waits for room, too.
                bell.take();
                rings.fetch_add(1, SeqCst);
            }
        });
        assert!(!stuck.load(SeqCst), "it waited");
    }
}
