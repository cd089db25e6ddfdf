//! vhost-user messages as the back-end receives and answers them.

use std::os::fd::{OwnedFd, RawFd};
use std::time::Duration;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::{Error, Result};
use crate::spec::vhost_user::{
    FLAG_NEED_REPLY, FLAG_REPLY, Header, MAX_FDS, MAX_PAYLOAD, Request, VERSION, VERSION_MASK,
};
use crate::sys::socket::{Deadline, Stream};

/// A front-end that has begun a message, or waits for an answer, is not slower than this.
const PATIENCE: Duration = Duration::from_millis(200);

/// A request of the front-end.
#[derive(Debug)]
pub(super) struct Message {
    header: Header,
    payload: [u8; MAX_PAYLOAD],
    fds: Vec<OwnedFd>,
}

impl Message {
    /// Receives the message that has begun to arrive.
    pub(super) fn receive(stream: &Stream) -> Result<Self> {
        let deadline = Deadline::after(PATIENCE);
        let (mut header, mut fds) = (Header::default(), Vec::new());
        stream.recv(header.as_mut_bytes(), &mut fds, deadline)?;
        let Header { request, flags, size } = header;
        if flags & VERSION_MASK != VERSION || flags & FLAG_REPLY != 0 {
            return Err(Error::protocol(format!("request {request} has flags {flags:#x}")));
        }
        let mut message = Self { header, payload: [0; MAX_PAYLOAD], fds };
        let payload = message.payload.get_mut(..size as usize);
        let payload = payload.ok_or_else(|| Error::protocol(format!("request {request} has {size} bytes")))?;
        stream.recv(payload, &mut message.fds, deadline)?;
        if message.fds.len() > MAX_FDS {
            return Err(Error::protocol(format!("request {request} has {} descriptors", message.fds.len())));
        }
        Ok(message)
    }

    /// Its number.
    pub(super) fn number(&self) -> u32 {
        self.header.request
    }

    /// What it is, if we know it.
    pub(super) fn request(&self) -> Option<Request> {
        Request::from_number(self.header.request)
    }

    /// Whether the front-end waits for an acknowledgement (which REPLY_ACK must allow).
    pub(super) fn needs_reply(&self) -> bool {
        self.header.flags & FLAG_NEED_REPLY != 0
    }

    /// The payload's bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        // `receive` has found the size to be within the payload.
        self.payload.get(..self.header.size as usize).unwrap_or_default()
    }

    /// The payload, which must have exactly the size of a `T`.
    pub(super) fn body<T: FromBytes + KnownLayout + Immutable>(&self) -> Result<T> {
        T::read_from_bytes(self.bytes()).map_err(|_| {
            let (request, size) = (self.header.request, self.header.size);
            Error::protocol(format!("request {request} has {size} bytes, not {}", size_of::<T>()))
        })
    }

    /// The file descriptors, of which there must be so many.
    pub(super) fn take_fds(&mut self, count: usize) -> Result<Vec<OwnedFd>> {
        if self.fds.len() == count {
            return Ok(std::mem::take(&mut self.fds));
        }
        let message = format!("request {} comes with {} descriptors, not {count}", self.header.request, self.fds.len());
        Err(Error::protocol(message))
    }

    /// Answers it: a reply has the same number, and the reply flag alone.
    pub(super) fn reply(&self, stream: &Stream, payload: &[u8]) -> Result<()> {
        self.reply_with(stream, payload, &[])
    }

    /// The same, with descriptors.
    pub(super) fn reply_with(&self, stream: &Stream, payload: &[u8], fds: &[RawFd]) -> Result<()> {
        let flags = VERSION | FLAG_REPLY;
        let header = Header { request: self.header.request, flags, size: payload.len() as u32 };
        let mut bytes = Vec::with_capacity(size_of::<Header>() + payload.len());
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(payload);
        stream.send(&bytes, fds, Deadline::after(PATIENCE))
    }
}
