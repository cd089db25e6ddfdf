//! One exchange with the back-end: a message out, its answer in, all of it within one deadline and in the log.
//!
//! The back-end is not trusted. An answer that is not exactly what was asked for ends the connection: what
//! follows on the stream could belong to anything. Descriptors that come with an answer are closed.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use zerocopy::{FromBytes, IntoBytes};

use super::channel::Channel;
use crate::error::{Error, Result};
use crate::spec::vhost_user::{FLAG_NEED_REPLY, FLAG_REPLY, Header, Request, VERSION, VERSION_MASK};
use crate::sys::epoll::{Epoll, Until};
use crate::sys::poll::{Ready, wait_any};
use crate::sys::socket::{Deadline, Look, Stream};

/// The log target under which every exchange is told.
const TRACE: &str = "vuser::vhost_user";
/// No exchange takes longer, whatever the caller asks: a deadline must be a moment that exists.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A message to the back-end. It is displayed by its name: "SET_VRING_ADDR of ring 3".
pub(super) struct Message<'a> {
    request: Request,
    ring: Option<u16>,
    payload: &'a [u8],
    words: String,
    fds: &'a [RawFd],
}

impl<'a> Message<'a> {
    /// A message without payload.
    pub(super) fn new(request: Request) -> Self {
        Self { request, ring: None, payload: &[], words: String::new(), fds: &[] }
    }

    /// Names the ring that it is about.
    pub(super) fn ring(self, index: u16) -> Self {
        Self { ring: Some(index), ..self }
    }

    /// Gives it a payload, and the words for the same.
    pub(super) fn payload(self, payload: &'a [u8], words: impl fmt::Display) -> Self {
        Self { payload, words: format!(" ({words})"), ..self }
    }

    /// Gives it descriptors to carry.
    pub(super) fn fds(self, fds: &'a [RawFd]) -> Self {
        Self { fds, ..self }
    }
}

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.request)?;
        self.ring.map_or(Ok(()), |ring| write!(f, " of ring {ring}"))
    }
}

/// How long an answer may be.
#[derive(Clone, Copy)]
enum Length {
    Exactly(usize),
    AtMost(usize),
}

/// The connection to a back-end.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    /// Readable when the back-end has something to say by itself.
    ears: Epoll,
    name: String,
    timeout: Duration,
    acknowledged: bool,
    /// Where the back-end asks us, if it may.
    channel: Option<Channel>,
    /// Why the connection was given up: the first cause, which later calls repeat.
    dead: Option<String>,
}

impl Wire {
    /// A new connection; `name` says in the log which one it is.
    pub(super) fn new(stream: Stream, name: String, timeout: Duration) -> Result<Self> {
        let (ears, timeout) = (Epoll::new()?, timeout.min(LONGEST));
        ears.add(stream.as_fd(), Until::Readable)?;
        Ok(Self { stream, ears, name, timeout, acknowledged: false, channel: None, dead: None })
    }

    /// From now on the back-end acknowledges each message that we [`tell`](Self::tell).
    pub(super) fn acknowledge(&mut self) {
        self.acknowledged = true;
    }

    /// What is readable when the back-end has something to say by itself.
    pub(super) fn ears(&self) -> &Epoll {
        &self.ears
    }

    /// From now on the back-end may have requests of its own.
    pub(super) fn open_channel(&mut self, channel: Channel) -> Result<()> {
        channel.watched().iter().try_for_each(|fd| self.ears.add(*fd, Until::Readable))?;
        self.channel = Some(channel);
        Ok(())
    }

    /// The back-end has no requests any more.
    pub(super) fn close_channel(&mut self) {
        if let Some(channel) = self.channel.take() {
            channel.watched().iter().for_each(|fd| self.ears.remove(*fd));
        }
    }

    /// Where the back-end asks us.
    pub(super) fn channel(&mut self) -> Option<&mut Channel> {
        self.channel.as_mut()
    }

    /// Takes and answers what the back-end has asked.
    pub(super) fn serve_channel(&mut self) {
        let Some(channel) = &mut self.channel else { return };
        if let Err(e) = channel.serve() {
            log::warn!("{}: the back-end's requests are heard no more: {e}", self.name);
            self.close_channel();
        }
    }

    /// The name given to the connection.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The socket.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Says that nothing more will be sent.
    pub(super) fn hang_up(&self) {
        self.stream.hang_up();
    }

    /// Waits until the other side has closed the connection.
    pub(super) fn wait_closed(&self, at_most: Duration) -> bool {
        self.stream.wait_closed(at_most)
    }

    /// Whether the connection stands, without waiting.
    pub(super) fn is_alive(&self) -> bool {
        self.dead.is_none() && !self.stream.is_closed()
    }

    /// Why the connection is no more, if it is: it was given up, the other side has closed it, or it has sent what nobody
    /// asked for. To be asked between exchanges only. Never waits.
    pub(super) fn fate(&mut self) -> Option<Error> {
        if let Some(cause) = &self.dead {
            return Some(Error::new(Errno::ENOTCONN, format!("the connection to {} was given up: {cause}", self.name)));
        }
        match self.stream.look() {
            Look::Nothing => None,
            Look::Closed => {
                let sentence = format!("the back-end at {} closed the connection", self.name);
                Some(self.give_up(Errno::ECONNRESET, sentence))
            }
            // An answer belongs to a question; after these bytes none could be told from them.
            Look::Bytes => {
                let sentence = format!("the back-end at {} sent a message that nobody asked for", self.name);
                Some(self.give_up(Errno::EPROTO, sentence))
            }
        }
    }

    /// Sends a message that has no answer of its own, and waits for the acknowledgement where there is one.
    pub(super) fn tell(&mut self, message: &Message<'_>) -> Result<()> {
        let result = self.told(message);
        match &result {
            Ok(()) if self.acknowledged => self.trace(message, "acknowledged"),
            Ok(()) => self.trace(message, "sent"),
            Err(e) => self.trace(message, e),
        }
        result
    }

    /// Sends a message and returns its answer, a value of fixed size; `words` tells it to the log.
    pub(super) fn ask<T>(&mut self, message: &Message<'_>, words: impl Fn(&T) -> String) -> Result<T>
    where
        T: Default + FromBytes + IntoBytes,
    {
        let mut answer = T::default();
        let result = self.exchange(message, 0, answer.as_mut_bytes(), Length::Exactly(size_of::<T>()));
        match &result {
            Ok(_) => self.trace(message, words(&answer)),
            Err(e) => self.trace(message, e),
        }
        result.map(|_| answer)
    }

    /// Sends a message whose answer may be shorter than `answer`, and returns its length.
    pub(super) fn ask_bytes(&mut self, message: &Message<'_>, answer: &mut [u8]) -> Result<usize> {
        let room = answer.len();
        let result = self.exchange(message, 0, answer, Length::AtMost(room));
        match &result {
            Ok(n) => self.trace(message, format_args!("{n} bytes")),
            Err(e) => self.trace(message, e),
        }
        result
    }

    /// Sends a message whose answer is a value of fixed size, with a descriptor or without.
    pub(super) fn ask_file<T>(&mut self, message: &Message<'_>) -> Result<(T, Option<OwnedFd>)>
    where
        T: Default + FromBytes + IntoBytes,
    {
        let (mut answer, mut fds) = (T::default(), Vec::new());
        let result = self.exchange_files(message, 0, answer.as_mut_bytes(), Length::Exactly(size_of::<T>()), &mut fds);
        let result = match result {
            Ok(_) if fds.len() > 1 => {
                Err(self.nonsense(message, format_args!("{} file descriptors came with it", fds.len())))
            }
            result => result,
        };
        match &result {
            Ok(_) => self.trace(message, format_args!("{} descriptor(s)", fds.len())),
            Err(e) => self.trace(message, e),
        }
        result.map(|_| (answer, fds.pop()))
    }

    /// The answer to `message` was well formed and says what cannot be: gives the connection up.
    pub(super) fn nonsense(&mut self, message: &Message<'_>, what: impl fmt::Display) -> Error {
        self.give_up(Errno::EPROTO, format!("bad answer to {message}: {what}"))
    }

    fn told(&mut self, message: &Message<'_>) -> Result<()> {
        if !self.acknowledged {
            self.begin(message)?;
            return self.send(message, 0, Deadline::after(self.timeout));
        }
        let mut refusal = 0u64;
        let length = Length::Exactly(size_of::<u64>());
        self.exchange(message, FLAG_NEED_REPLY, refusal.as_mut_bytes(), length)?;
        if refusal == 0 {
            return Ok(());
        }
        // The connection is in step, so it stays; a back-end that does not want to go on closes it.
        Err(Error::new(Errno::EREMOTEIO, format!("the back-end refused {message}")))
    }

    fn exchange(&mut self, message: &Message<'_>, flags: u32, answer: &mut [u8], length: Length) -> Result<usize> {
        // Whatever descriptors come are owned here, and so closed on every way out.
        let mut fds = Vec::new();
        let size = self.exchange_files(message, flags, answer, length, &mut fds)?;
        if !fds.is_empty() {
            return Err(self.nonsense(message, format_args!("{} file descriptors came with it, unasked", fds.len())));
        }
        Ok(size)
    }

    fn exchange_files(
        &mut self,
        message: &Message<'_>,
        flags: u32,
        answer: &mut [u8],
        length: Length,
        fds: &mut Vec<OwnedFd>,
    ) -> Result<usize> {
        self.begin(message)?;
        let deadline = Deadline::after(self.timeout);
        self.send(message, flags, deadline)?;
        self.await_answer(deadline);
        let mut header = Header::default();
        self.fill(message, header.as_mut_bytes(), fds, deadline)?;
        let size = check(message, &header, length).map_err(|what| self.nonsense(message, what))?;
        match answer.get_mut(..size) {
            Some(bytes) => self.fill(message, bytes, fds, deadline)?,
            None => return Err(self.nonsense(message, format_args!("{size} bytes are too many"))),
        }
        Ok(size)
    }

    /// Waits until an answer begins to come, and meanwhile answers ourselves: the back-end may need that before it can.
    fn await_answer(&mut self, deadline: Deadline) {
        while let Some(channel) = self.channel.as_ref().filter(|_| !deadline.left().is_zero()) {
            match wait_any(&[self.stream.as_fd(), channel.as_fd()], Some(deadline.left()))[..] {
                [Ready::No, Ready::No] => {}
                [Ready::No, _] => self.serve_channel(),
                _ => return,
            }
        }
    }

    fn begin(&self, message: &Message<'_>) -> Result<()> {
        let Some(cause) = &self.dead else { return Ok(()) };
        let sentence = format!("{message} cannot be sent: the connection to {} was given up: {cause}", self.name);
        Err(Error::new(Errno::ENOTCONN, sentence))
    }

    fn send(&mut self, message: &Message<'_>, flags: u32, deadline: Deadline) -> Result<()> {
        // Payloads are a few hundred bytes at most.
        let size = message.payload.len() as u32;
        let header = Header { request: message.request as u32, flags: VERSION | flags, size };
        let bytes = [header.as_bytes(), message.payload].concat();
        self.stream.send(&bytes, message.fds, deadline).map_err(|e| match e.errno() {
            Errno::ETIMEDOUT => {
                let time = in_words(self.timeout);
                let sentence = format!("{message} could not be sent within {time}: the back-end does not read");
                self.give_up(Errno::ETIMEDOUT, sentence)
            }
            _ => self.lost(&e, format_args!("{message} could not be sent")),
        })
    }

    fn fill(
        &mut self,
        message: &Message<'_>,
        bytes: &mut [u8],
        fds: &mut Vec<OwnedFd>,
        deadline: Deadline,
    ) -> Result<()> {
        self.stream.recv(bytes, fds, deadline).map_err(|e| match e.errno() {
            Errno::ETIMEDOUT => {
                let time = in_words(self.timeout);
                self.give_up(Errno::ETIMEDOUT, format!("no answer to {message} within {time}"))
            }
            _ => self.lost(&e, format_args!("no answer to {message}")),
        })
    }

    fn lost(&mut self, error: &Error, what: fmt::Arguments<'_>) -> Error {
        match error.errno() {
            // Sending and receiving have different numbers for the same event.
            Errno::EPIPE | Errno::ECONNRESET if self.acknowledged => {
                self.give_up(Errno::ECONNRESET, format!("{what}: the back-end closed the connection"))
            }
            Errno::EPIPE | Errno::ECONNRESET => {
                let hint = "it cannot acknowledge messages, so it may have disliked this one or one before";
                self.give_up(Errno::ECONNRESET, format!("{what}: the back-end closed the connection ({hint})"))
            }
            errno => self.give_up(errno, format!("{what}: {error}")),
        }
    }

    fn give_up(&mut self, errno: Errno, sentence: String) -> Error {
        self.dead = Some(sentence.clone());
        // A back-end that is merely slow shall know that nobody listens any more, and let go of our memory.
        self.stream.hang_up();
        Error::new(errno, sentence)
    }

    fn trace(&self, message: &Message<'_>, result: impl fmt::Display) {
        log::debug!(target: TRACE, "{}: {message}{} -> {result}", self.name, message.words);
    }
}

/// The size of an answer that follows this header, or what is wrong with the header.
///
/// NEED_REPLY means nothing in an answer and is tolerated: there are back-ends that return the flags of the
/// request. All other flags must be as the document has them.
fn check(message: &Message<'_>, header: &Header, length: Length) -> std::result::Result<usize, String> {
    let Header { request, flags, size } = *header;
    if flags & VERSION_MASK != VERSION {
        return Err(format!("protocol version {} (flags {flags:#x}); only version 1 exists", flags & VERSION_MASK));
    }
    if flags & !FLAG_NEED_REPLY != VERSION | FLAG_REPLY {
        return Err(format!("flags {flags:#x} are not those of a reply"));
    }
    if request != message.request as u32 {
        let name = Request::from_number(request).map_or_else(|| request.to_string(), |r| format!("{r:?}"));
        return Err(format!("it belongs to request {name}"));
    }
    let size = size as usize;
    match length {
        Length::Exactly(n) if size != n => Err(format!("{size} bytes, where {n} are due")),
        Length::AtMost(n) if size > n => Err(format!("{size} bytes, where {n} at most are due")),
        _ => Ok(size),
    }
}

fn in_words(time: Duration) -> String {
    match time.as_millis() {
        ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
        ms => format!("{ms} ms"),
    }
}
