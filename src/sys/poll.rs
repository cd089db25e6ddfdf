//! Waiting on several file descriptors.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// What a wait has found of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Nothing.
    No,
    /// It can be read, or its other side has closed.
    Readable,
    /// It is of no use any more: there is nothing to read and never will be.
    Dead,
}

/// Waits until one of the descriptors can be read; `None` waits for ever. A signal ends the wait with nothing found.
pub fn wait_any(fds: &[BorrowedFd<'_>], at_most: Option<Duration>) -> Vec<Ready> {
    let timeout = at_most.map_or(PollTimeout::NONE, |t| PollTimeout::try_from(t).unwrap_or(PollTimeout::MAX));
    let mut set: Vec<_> = fds.iter().map(|&fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    match poll(&mut set, timeout) {
        Ok(n) if n > 0 => set.iter().map(|fd| ready(fd.revents().unwrap_or(PollFlags::empty()))).collect(),
        _ => vec![Ready::No; fds.len()],
    }
}

fn ready(found: PollFlags) -> Ready {
    if found.contains(PollFlags::POLLIN) {
        Ready::Readable
    } else if found.is_empty() {
        Ready::No
    } else {
        Ready::Dead
    }
}

fn is(fd: BorrowedFd<'_>, what: PollFlags) -> bool {
    let mut set = [PollFd::new(fd, what)];
    matches!(poll(&mut set, PollTimeout::ZERO), Ok(n) if n > 0)
}

/// Whether there is something to read now, or the other side has closed.
pub fn is_readable(fd: BorrowedFd<'_>) -> bool {
    is(fd, PollFlags::POLLIN)
}

/// Whether a write would not block now.
pub fn is_writable(fd: BorrowedFd<'_>) -> bool {
    is(fd, PollFlags::POLLOUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::eventfd::Bell;
    use std::os::fd::AsFd;

    #[test]
    fn the_ready_one_is_found() {
        let (a, b) = (Bell::new().unwrap(), Bell::new().unwrap());
        assert!(!is_readable(b.as_fd()) && is_writable(b.as_fd()));
        assert!(b.ring() && is_readable(b.as_fd()));
        assert_eq!(wait_any(&[a.as_fd(), b.as_fd()], None), [Ready::No, Ready::Readable]);
        assert!(b.take());
        assert_eq!(wait_any(&[a.as_fd(), b.as_fd()], Some(Duration::ZERO)), [Ready::No, Ready::No]);
    }

    #[test]
    fn a_dead_descriptor_is_told_apart() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        drop(writer);
        assert_eq!(wait_any(&[reader.as_fd()], Some(Duration::ZERO)), [Ready::Dead]);
    }
}
