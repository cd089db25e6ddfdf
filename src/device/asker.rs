//! What the device asks of the front-end, over the socket of SET_BACKEND_REQ_FD, and what its owner makes it say.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use zerocopy::IntoBytes;

use crate::error::{Error, Result};
use crate::spec::vhost_user::{Header, VERSION};
use crate::sys::socket::{Deadline, Stream, is_stream_socket};

/// A front-end that does not read is not waited for longer.
const PATIENCE: Duration = Duration::from_millis(200);

/// What a device's owner may change while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its link goes up or down.
    Link(bool),
    /// Its MTU is another.
    Mtu(u16),
    /// Its speed is another, in Mb/s.
    Speed(u32),
    /// The driver shall announce itself to the network.
    Announce,
    /// The device cannot go on without a reset.
    NeedsReset,
    /// The ring of this index cannot go on.
    RingError(u16),
}

/// The device's end of the channel.
#[derive(Debug)]
pub(super) struct Asker {
    stream: Stream,
}

impl Asker {
    /// On the socket that the front-end has sent.
    pub(super) fn new(fd: OwnedFd) -> Result<Self> {
        let fd: BorrowedFd<'_> = std::os::fd::AsFd::as_fd(&fd);
        if !is_stream_socket(fd) {
            return Err(Error::protocol("the channel for requests is not a socket"));
        }
        Ok(Self { stream: Stream::share(fd)? })
    }

    /// Sends a request, without asking for an answer.
    pub(super) fn ask(&self, request: u32, payload: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<()> {
        let header = Header { request, flags: VERSION, size: payload.len() as u32 };
        let fds: Vec<_> = fd.iter().map(AsRawFd::as_raw_fd).collect();
        self.stream.send(&[header.as_bytes(), payload].concat(), &fds, Deadline::after(PATIENCE))
    }
}
