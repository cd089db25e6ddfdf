//! A stream socket that carries file descriptors, every exchange with a deadline.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, getsockopt, sendmsg, socket,
    socketpair, sockopt,
};

use crate::error::{Error, Result};

/// Room for file descriptors in one received message: the kernel's own limit (SCM_MAX_FD), since those for which there
/// were no room would have been installed all the same, and nobody could close them.
const FD_ROOM: usize = 253;
/// Longest path of a Unix socket (`sun_path` less its final zero).
pub const MAX_PATH: usize = 107;

/// When an exchange must be over.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// So long from now.
    pub fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// What is left until then.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

pub(super) fn wait(fd: BorrowedFd<'_>, events: PollFlags, deadline: Deadline) -> std::result::Result<(), Errno> {
    loop {
        let left = deadline.left();
        // Rounded up, so that the last poll is not a busy loop; a deadline that is over is worth one look.
        let rounded = if left.is_zero() { left } else { left + Duration::from_millis(1) };
        match poll(&mut [PollFd::new(fd, events)], PollTimeout::try_from(rounded).unwrap_or(PollTimeout::MAX)) {
            Ok(0) if left.is_zero() => return Err(Errno::ETIMEDOUT),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}

/// What a look at a stream has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing yet.
    Nothing,
    /// Bytes wait to be received.
    Bytes,
    /// The other side has closed the connection.
    Closed,
}

/// One end of a connected stream socket.
#[derive(Debug)]
pub struct Stream {
    pub(super) fd: OwnedFd,
}

impl Stream {
    /// Connects to a listening socket.
    pub fn connect(path: &Path, deadline: Deadline) -> Result<Self> {
        let address = address(path)?;
        let failed = |e: Errno| {
            let hint = match e {
                Errno::ENOENT => " (is the back-end running? it creates the socket)",
                Errno::ECONNREFUSED => " (nobody listens there: a stale socket file, or the back-end has gone)",
                Errno::EACCES => " (connecting needs write permission on the socket)",
                Errno::ETIMEDOUT => " (the back-end does not accept)",
                _ => "",
            };
            Error::new(e, format!("cannot connect to {}: {}{hint}", path.display(), e.desc()))
        };
        // Non-blocking only to bound the connect; all later I/O passes MSG_DONTWAIT itself.
        let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
            .map_err(failed)?;
        loop {
            match connect(fd.as_raw_fd(), &address) {
                Ok(()) => return Ok(Self { fd }),
                Err(Errno::EINTR) => {}
                // A full backlog: Unix sockets do not queue the attempt, so it is made again.
                Err(Errno::EAGAIN) if !deadline.left().is_zero() => std::thread::sleep(Duration::from_millis(2)),
                Err(Errno::EAGAIN) => return Err(failed(Errno::ETIMEDOUT)),
                Err(e) => return Err(failed(e)),
            }
        }
    }

    /// Two connected ends.
    pub fn pair() -> Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
            .map_err(|e| Error::sys(e, "cannot create a pair of sockets"))?;
        Ok((Self { fd: a }, Self { fd: b }))
    }

    /// Another handle of a connected stream.
    pub fn share(stream: BorrowedFd<'_>) -> Result<Self> {
        let fd = stream.try_clone_to_owned();
        let fd = fd.map_err(|e| Error::sys(Errno::try_from(e).unwrap_or(Errno::EMFILE), "cannot watch a socket"))?;
        Ok(Self { fd })
    }

    /// Sends all bytes, with the descriptors riding on the first of them.
    pub fn send(&self, bytes: &[u8], fds: &[RawFd], deadline: Deadline) -> Result<()> {
        let mut sent = 0;
        while sent < bytes.len() {
            let rights = [ControlMessage::ScmRights(fds)];
            let control: &[_] = if sent == 0 && !fds.is_empty() { &rights } else { &[] };
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            match sendmsg::<()>(self.fd.as_raw_fd(), &[IoSlice::new(&bytes[sent..])], control, flags, None) {
                Ok(n) => sent += n,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => wait(self.fd.as_fd(), PollFlags::POLLOUT, deadline)
                    .map_err(|e| Error::sys(e, "the other side does not read"))?,
                Err(e) => return Err(Error::sys(e, "the connection is lost")),
            }
        }
        Ok(())
    }

    /// Fills `bytes`; descriptors that come with them are added to `fds` (which owns and so closes them).
    pub fn recv(&self, bytes: &mut [u8], fds: &mut Vec<OwnedFd>, deadline: Deadline) -> Result<()> {
        let mut got = 0;
        while got < bytes.len() {
            match self.recv_some(&mut bytes[got..], fds) {
                Ok(0) => return Err(Error::new(Errno::ECONNRESET, "the other side closed the connection")),
                Ok(n) => got += n,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => wait(self.fd.as_fd(), PollFlags::POLLIN, deadline)
                    .map_err(|e| Error::sys(e, "no answer from the other side"))?,
                Err(e) => return Err(lost(e)),
            }
        }
        Ok(())
    }

    /// Receives what is there now, `bytes.len()` at most (which is not zero); `None` when nothing is.
    pub fn recv_now(&self, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<Option<usize>> {
        match self.recv_some(bytes, fds) {
            Ok(0) => Err(Error::new(Errno::ECONNRESET, "the other side closed the connection")),
            Ok(n) => Ok(Some(n)),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(e) => Err(lost(e)),
        }
    }

    /// All descriptors that were installed are taken, also those of a message of which the rest did not fit.
    fn recv_some(&self, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> nix::Result<usize> {
        let mut space = nix::cmsg_space!([RawFd; FD_ROOM]);
        let mut io = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: integers and pointers, of which zeros are a value.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        (message.msg_iov, message.msg_iovlen) = (&raw mut io, 1);
        (message.msg_control, message.msg_controllen) = (space.as_mut_ptr().cast(), space.capacity());
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: the header points to room that is ours, as long as it says.
        let got = Errno::result(unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut message, flags) })?;
        // SAFETY: the kernel has filled the header, and the room as far as that says; it has installed the descriptors for
        // us, and nobody else knows them.
        unsafe {
            let mut at = libc::CMSG_FIRSTHDR(&raw const message);
            while let Some(control) = at.as_ref() {
                if (control.cmsg_level, control.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                    let data = libc::CMSG_DATA(control).cast::<RawFd>();
                    let count = control.cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize) / size_of::<RawFd>();
                    fds.extend((0..count).map(|k| OwnedFd::from_raw_fd(data.add(k).read_unaligned())));
                }
                at = libc::CMSG_NXTHDR(&raw const message, control);
            }
        }
        // There is room for all that a message can have, but this process may not open so many.
        if message.msg_flags & libc::MSG_CTRUNC != 0 { Err(Errno::EMFILE) } else { Ok(got as usize) }
    }

    /// Whether something can be read (or the other side has closed) within the time.
    pub fn readable(&self, at_most: Duration) -> bool {
        wait(self.fd.as_fd(), PollFlags::POLLIN, Deadline::after(at_most)).is_ok()
    }

    /// Says that nothing more will be sent. The other side reads the end of the stream.
    pub fn hang_up(&self) {
        let _ = nix::sys::socket::shutdown(self.fd.as_raw_fd(), nix::sys::socket::Shutdown::Write);
    }

    /// Ends the connection in both directions, for all who have a handle of it: whoever waits for the other side has an
    /// answer at once.
    pub fn cut(&self) {
        let _ = nix::sys::socket::shutdown(self.fd.as_raw_fd(), nix::sys::socket::Shutdown::Both);
    }

    /// Waits until the other side has closed its end; false when the time is over.
    pub fn wait_closed(&self, at_most: Duration) -> bool {
        let end = Instant::now() + at_most;
        loop {
            // POLLHUP is reported unasked; nothing else is of interest.
            let left = end.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.fd.as_fd(), PollFlags::empty())], timeout) {
                Ok(0) => return false,
                Err(Errno::EINTR) => {}
                _ => return true,
            }
        }
    }

    /// Whether the other side has closed the connection, without waiting.
    pub fn is_closed(&self) -> bool {
        self.look() == Look::Closed
    }

    /// What is there to be received, without taking it and without waiting.
    pub fn look(&self) -> Look {
        let mut byte = [0];
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        match nix::sys::socket::recv(self.fd.as_raw_fd(), &mut byte, flags) {
            Ok(0) => Look::Closed,
            Ok(_) => Look::Bytes,
            // What is no socket is a back-end's business, and so is one that has lost messages.
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOTSOCK | Errno::ENOBUFS) => Look::Nothing,
            Err(_) => Look::Closed,
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn lost(e: Errno) -> Error {
    let what = match e {
        Errno::EMFILE => {
            "a message came with more descriptors than this process may open (ulimit -n): the connection is lost"
        }
        _ => "the connection is lost",
    };
    Error::sys(e, what)
}

pub(super) fn address(path: &Path) -> Result<UnixAddr> {
    let len = path.as_os_str().as_bytes().len();
    if len > MAX_PATH {
        let message = format!("path of the socket has {len} bytes; a Unix socket takes {MAX_PATH} at most");
        return Err(Error::new(Errno::ENAMETOOLONG, message));
    }
    UnixAddr::new(path).map_err(|e| Error::sys(e, format!("bad socket path {}", path.display())))
}

/// The type of the file behind a descriptor that was received: whether it is a socket at all.
pub fn is_stream_socket(fd: BorrowedFd<'_>) -> bool {
    getsockopt(&fd, sockopt::SockType).is_ok_and(|t| t == SockType::Stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_millis(50))
    }

    #[test]
    fn bytes_and_descriptors_travel_together() {
        let (a, b) = Stream::pair().unwrap();
        a.send(b"hello", &[0, 1], soon()).unwrap();
        let (mut bytes, mut fds) = ([0; 5], Vec::new());
        b.recv(&mut bytes, &mut fds, soon()).unwrap();
        assert_eq!((&bytes, fds.len()), (b"hello", 2));
    }

    #[test]
    fn silence_ends_at_the_deadline_for_the_whole_exchange() {
        let (a, b) = Stream::pair().unwrap();
        a.send(b"he", &[], soon()).unwrap();
        let error = b.recv(&mut [0; 5], &mut Vec::new(), soon()).unwrap_err();
        assert_eq!(error.errno(), Errno::ETIMEDOUT);
    }

    #[test]
    fn a_peer_that_has_gone_is_an_error_not_a_signal() {
        let (a, b) = Stream::pair().unwrap();
        assert_eq!(a.look(), Look::Nothing);
        b.send(b"x", &[], soon()).unwrap();
        assert!(a.look() == Look::Bytes && !a.is_closed());
        a.recv(&mut [0], &mut Vec::new(), soon()).unwrap();
        drop(b);
        assert!(a.look() == Look::Closed && a.is_closed());
        assert_eq!(a.send(b"x", &[], soon()).unwrap_err().errno(), Errno::EPIPE);
        assert_eq!(a.recv(&mut [0], &mut Vec::new(), soon()).unwrap_err().errno(), Errno::ECONNRESET);
    }

    #[test]
    fn a_peer_that_does_not_read_ends_at_the_deadline() {
        let (a, _b) = Stream::pair().unwrap();
        let error = a.send(&vec![0; 16 << 20], &[], soon()).unwrap_err();
        assert_eq!(error.errno(), Errno::ETIMEDOUT);
    }

    #[test]
    fn a_long_path_is_refused_not_truncated() {
        let path = "/tmp/".to_owned() + &"x".repeat(200);
        let error = Stream::connect(Path::new(&path), soon()).unwrap_err();
        assert_eq!(error.errno(), Errno::ENAMETOOLONG);
        assert_eq!(Stream::connect(Path::new("/nonexistent/s"), soon()).unwrap_err().errno(), Errno::ENOENT);
    }
}
