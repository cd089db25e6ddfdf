//! Waiting for any of many descriptors, from one thread, while others add and remove them.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::limits;
use crate::error::{Error, Result};

/// What makes a descriptor ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// It can be read, or its other side has closed or says no more.
    Readable,
    /// Its other side has closed. Whatever can be read is of no interest.
    HungUp,
}

/// A set of descriptors. It is closed on exec, and readable itself when one of its descriptors is ready.
#[derive(Debug)]
pub struct Epoll(nix::sys::epoll::Epoll);

impl Epoll {
    /// An empty set.
    pub fn new() -> Result<Self> {
        nix::sys::epoll::Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map(Self)
            .map_err(|e| limits::not_opened(e, "cannot create an epoll descriptor"))
    }

    /// Adds a descriptor. It leaves by [`remove`](Self::remove), or when its file is closed.
    pub fn add(&self, fd: BorrowedFd<'_>, until: Until) -> Result<()> {
        let flags = match until {
            Until::Readable => EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP,
            // EPOLLHUP and EPOLLERR are told unasked.
            Until::HungUp => EpollFlags::empty(),
        };
        self.0.add(fd, EpollEvent::new(flags, 0)).map_err(|e| Error::sys(e, "cannot watch a descriptor"))
    }

    /// Takes a descriptor out. One that is not there is no error.
    pub fn remove(&self, fd: BorrowedFd<'_>) {
        let _ = self.0.delete(fd);
    }

    /// Waits until one is ready, or the time is over (false); `None` waits for ever. A signal ends the wait, as if one were
    /// ready.
    pub fn wait(&self, at_most: Option<Duration>) -> bool {
        let timeout = at_most.map_or(EpollTimeout::NONE, |t| EpollTimeout::try_from(t).unwrap_or(EpollTimeout::MAX));
        match self.0.wait(&mut [EpollEvent::empty()], timeout) {
            Ok(n) => n > 0,
            Err(e) => e == Errno::EINTR,
        }
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::eventfd::Bell;
    use crate::sys::socket::Stream;

    #[test]
    fn what_is_ready_is_told_as_long_as_it_is() {
        let (epoll, bell) = (Epoll::new().unwrap(), Bell::new().unwrap());
        epoll.add(bell.as_fd(), Until::Readable).unwrap();
        assert!(!epoll.wait(Some(Duration::ZERO)));
        bell.ring();
        assert!(epoll.wait(None) && epoll.wait(None) && crate::sys::poll::is_readable(epoll.as_fd()));
        epoll.remove(bell.as_fd());
        epoll.remove(bell.as_fd());
        assert!(!epoll.wait(Some(Duration::ZERO)));
    }

    #[test]
    fn a_side_that_hangs_up_is_heard_with_and_without_an_ear_for_words() {
        for until in [Until::Readable, Until::HungUp] {
            let (ours, theirs) = Stream::pair().unwrap();
            let epoll = Epoll::new().unwrap();
            epoll.add(ours.as_fd(), until).unwrap();
            theirs.send(b"late", &[], crate::sys::socket::Deadline::after(Duration::from_secs(1))).unwrap();
            assert_eq!(epoll.wait(Some(Duration::ZERO)), until == Until::Readable);
            drop(theirs);
            ours.hang_up();
            assert!(epoll.wait(None));
        }
    }
}
