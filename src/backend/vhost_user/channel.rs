//! What the back-end asks of us, over the socket of SET_BACKEND_REQ_FD.
//!
//! It is not trusted: a request costs little, is looked at in full before anything is done, and never makes us wait. Words
//! that cannot be followed end the channel, and only that: the device goes on without it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::backend::Notice;
use crate::error::{Error, Result};
use crate::mem::doorbell::Doorbell;
use crate::spec::vhost_user::backend_request::{CONFIG_CHANGE_MSG, VRING_ERR, VRING_HOST_NOTIFIER_MSG};
use crate::spec::vhost_user::{
    FLAG_NEED_REPLY, FLAG_REPLY, Header, MAX_VRINGS, VERSION, VERSION_MASK, VRING_IDX_MASK, VRING_NOFD, VringArea,
    VringState,
};
use crate::sys::eventfd::Bell;
use crate::sys::socket::{Deadline, Stream};

const HEADER: usize = size_of::<Header>();
/// Longest payload that is taken. The longest that we can follow has 24 bytes.
const LONGEST: usize = 256;
/// Requests that are answered at a time; more wait, so that a back-end that talks all the time does not hold us up.
const AT_ONCE: usize = 64;
/// Descriptors that come with a request at most; we know none with more than one.
const MOST_FDS: usize = 8;

/// Our end of the channel.
#[derive(Debug)]
pub(super) struct Channel {
    stream: Stream,
    name: String,
    /// HOST_NOTIFIER was negotiated.
    notifiers: bool,
    /// What has come of the request that is on its way.
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
    doorbells: BTreeMap<u16, Arc<Doorbell>>,
    notices: Vec<Notice>,
    /// Readable while there are notices: what an exchange has found on the channel must be looked at by somebody.
    unheard: Bell,
}

impl Channel {
    /// A channel on our end of a pair of sockets.
    pub(super) fn new(stream: Stream, name: String, notifiers: bool) -> Result<Self> {
        let (bytes, fds, doorbells, notices) = (Vec::new(), Vec::new(), BTreeMap::new(), Vec::new());
        Ok(Self { stream, name, notifiers, bytes, fds, doorbells, notices, unheard: Bell::new()? })
    }

    /// The socket, readable when there is something to take.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// What is readable when there is something to take, or to tell.
    pub(super) fn watched(&self) -> [BorrowedFd<'_>; 2] {
        [self.stream.as_fd(), self.unheard.as_fd()]
    }

    /// Takes and answers what has come. Never waits. An error is the end of the channel.
    pub(super) fn serve(&mut self) -> Result<()> {
        for _ in 0..AT_ONCE {
            let Some(message) = self.receive()? else { break };
            // Whatever comes of it, the descriptors are closed that nobody took.
            let fds = std::mem::take(&mut self.fds);
            self.answer(&message, fds)?;
        }
        Ok(())
    }

    /// What there is to tell since this was last asked.
    pub(super) fn take_notices(&mut self) -> Vec<Notice> {
        self.unheard.take();
        std::mem::take(&mut self.notices)
    }

    /// The doorbell that a ring was given.
    pub(super) fn doorbell(&self, index: u16) -> Option<Arc<Doorbell>> {
        self.doorbells.get(&index).cloned()
    }

    /// Receives on; a whole request once it is there.
    fn receive(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let whole = match Header::read_from_prefix(&self.bytes) {
                Err(_) => HEADER,
                Ok((header, _)) => HEADER + size(&header)?,
            };
            if whole == self.bytes.len() {
                return Ok(Some(std::mem::take(&mut self.bytes)));
            }
            let mut part = [0; HEADER + LONGEST];
            let room = part.get_mut(..whole - self.bytes.len()).unwrap_or_default();
            let Some(n) = self.stream.recv_now(room, &mut self.fds)? else { return Ok(None) };
            self.bytes.extend(room.iter().take(n));
            if self.fds.len() > MOST_FDS {
                return Err(Error::protocol(format!("{} descriptors came with a request", self.fds.len())));
            }
        }
    }

    /// Does what a request says, and says whether it was done, if the back-end wants to know.
    fn answer(&mut self, message: &[u8], fds: Vec<OwnedFd>) -> Result<()> {
        let (header, payload) = Header::read_from_prefix(message).unwrap_or_default();
        let Header { request, flags, .. } = header;
        let done = match request {
            CONFIG_CHANGE_MSG => body::<[u8; 0]>(payload).map(|_| self.note(Notice::ConfigChanged)),
            VRING_HOST_NOTIFIER_MSG => body(payload).and_then(|area| self.set_doorbell(area, fds)),
            VRING_ERR => body(payload).and_then(|VringState { index, .. }| {
                ring(index.into()).map(|index| self.note(Notice::RingError(index)))
            }),
            _ => Err(Error::protocol("it is unknown here")),
        };
        match &done {
            Ok(()) => log::debug!("{}: request {request} of the back-end is done", self.name),
            Err(e) => log::warn!("{}: request {request} of the back-end is refused: {e}", self.name),
        }
        if flags & FLAG_NEED_REPLY == 0 {
            return Ok(());
        }
        let header = Header { request, flags: VERSION | FLAG_REPLY, size: size_of::<u64>() as u32 };
        let bytes = [header.as_bytes(), u64::from(done.is_err()).as_bytes()].concat();
        // An answer fits into the socket, unless the back-end reads none.
        self.stream.send(&bytes, &[], Deadline::after(Duration::ZERO))
    }

    /// Of the same things said again one is enough: notices are about how things are now.
    fn note(&mut self, notice: Notice) {
        if !self.notices.contains(&notice) {
            self.notices.push(notice);
            self.unheard.ring();
        }
    }

    fn set_doorbell(&mut self, area: VringArea, mut fds: Vec<OwnedFd>) -> Result<()> {
        if !self.notifiers {
            return Err(Error::protocol("HOST_NOTIFIER was not negotiated"));
        }
        if area.ring & !(VRING_IDX_MASK | VRING_NOFD) != 0 {
            return Err(Error::protocol(format!("there is no ring {:#x}", area.ring)));
        }
        let index = ring(area.ring & VRING_IDX_MASK)?;
        match (area.ring & VRING_NOFD != 0, fds.pop(), fds.is_empty()) {
            (true, None, _) => drop(self.doorbells.remove(&index)),
            (false, Some(fd), true) => {
                let doorbell = Doorbell::map(fd.as_fd(), area.offset, area.size)?;
                self.doorbells.insert(index, Arc::new(doorbell));
            }
            _ => return Err(Error::protocol("it has not the descriptors that it speaks of")),
        }
        self.note(Notice::Doorbell(index));
        Ok(())
    }
}

/// Bytes of payload behind a header.
fn size(header: &Header) -> Result<usize> {
    let Header { request, flags, size } = *header;
    if flags & VERSION_MASK != VERSION || flags & FLAG_REPLY != 0 {
        return Err(Error::protocol(format!("request {request} has flags {flags:#x}")));
    }
    match size as usize {
        n if n <= LONGEST => Ok(n),
        n => Err(Error::protocol(format!("request {request} has {n} bytes, where {LONGEST} at most are due"))),
    }
}

fn body<T: FromBytes + KnownLayout + Immutable>(payload: &[u8]) -> Result<T> {
    let wrong = || Error::protocol(format!("it has {} bytes, not {}", payload.len(), size_of::<T>()));
    T::read_from_bytes(payload).map_err(|_| wrong())
}

fn ring(index: u64) -> Result<u16> {
    let known = u16::try_from(index).ok().filter(|&index| index < MAX_VRINGS);
    known.ok_or_else(|| Error::protocol(format!("there is no ring {index}")))
}
