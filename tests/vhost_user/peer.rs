//! A back-end that follows a script. It knows the protocol from the document only: numbers and bytes, nothing of
//! the library but its socket.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use vuser::sys::listener::Listener;
use vuser::sys::shm::SharedMemory;
use vuser::sys::socket::{Deadline, Stream};

/// Counting descriptors needs the process for itself: whoever counts holds this for writing, all others for reading.
pub static PROCESS: RwLock<()> = RwLock::new(());

const NAMES: [(u32, &str); 30] = [
    (1, "GET_FEATURES"),
    (2, "SET_FEATURES"),
    (3, "SET_OWNER"),
    (5, "SET_MEM_TABLE"),
    (6, "SET_LOG_BASE"),
    (7, "SET_LOG_FD"),
    (8, "SET_VRING_NUM"),
    (9, "SET_VRING_ADDR"),
    (10, "SET_VRING_BASE"),
    (11, "GET_VRING_BASE"),
    (12, "SET_VRING_KICK"),
    (13, "SET_VRING_CALL"),
    (14, "SET_VRING_ERR"),
    (15, "GET_PROTOCOL_FEATURES"),
    (16, "SET_PROTOCOL_FEATURES"),
    (17, "GET_QUEUE_NUM"),
    (18, "SET_VRING_ENABLE"),
    (19, "SEND_RARP"),
    (20, "NET_SET_MTU"),
    (21, "SET_BACKEND_REQ_FD"),
    (24, "GET_CONFIG"),
    (25, "SET_CONFIG"),
    (31, "GET_INFLIGHT_FD"),
    (32, "SET_INFLIGHT_FD"),
    (34, "RESET_DEVICE"),
    (36, "GET_MAX_MEM_SLOTS"),
    (37, "ADD_MEM_REG"),
    (38, "REM_MEM_REG"),
    (39, "SET_STATUS"),
    (40, "GET_STATUS"),
];

/// What the back-end is.
#[derive(Clone)]
pub struct Offer {
    pub features: u64,
    pub protocol: u64,
    pub queues: u64,
    /// Configuration space; none is refused by an empty answer.
    pub config: Option<Vec<u8>>,
    /// Regions of memory that there can be, asked of a back-end with slots.
    pub slots: u64,
}

/// A message as it was received.
#[derive(Clone, Debug)]
pub struct Seen {
    pub request: u32,
    pub flags: u32,
    pub payload: Vec<u8>,
    pub fds: usize,
    /// The files that came with it.
    pub inodes: Vec<u64>,
}

impl Seen {
    pub fn name(&self) -> &'static str {
        NAMES.iter().find(|(n, _)| *n == self.request).map_or("?", |(_, name)| name)
    }

    fn u32s(&self) -> Vec<u32> {
        self.payload.chunks(4).map(|c| u32::from_ne_bytes(c.try_into().unwrap_or([0xee; 4]))).collect()
    }

    fn u64s(&self) -> Vec<u64> {
        self.payload.chunks(8).map(|c| u64::from_ne_bytes(c.try_into().unwrap_or([0xee; 8]))).collect()
    }

    fn ring(&self) -> Option<u32> {
        matches!(self.request, 8..=14 | 18).then(|| self.u32s()[0])
    }

    pub fn needs_reply(&self) -> bool {
        self.flags & 8 != 0
    }

    /// The name that errors must have.
    pub fn title(&self) -> String {
        self.ring().map_or(self.name().to_owned(), |r| format!("{} of ring {r}", self.name()))
    }

    /// A line of a golden trace: name, "!" if an acknowledgement is wanted, payload in hexadecimal, descriptors.
    pub fn line(&self) -> String {
        let words = match (self.request, self.payload.len()) {
            (_, 0) => String::new(),
            (8 | 10 | 11 | 18, 8) => format!(" {:x?}", self.u32s()),
            (2 | 12..=14 | 16 | 20 | 39, 8) => format!(" {:x?}", self.u64s()),
            (9, 40) => format!(" {:x?} {:x?}", &self.u32s()[..2], &self.u64s()[1..]),
            (5, 40..) => format!(" {:x?} {:x?}", &self.u32s()[..2], &self.u64s()[1..]),
            (6, 16) | (37 | 38, 40) => format!(" {:x?}", self.u64s()),
            (19, 8) => format!(" {:x?}", self.payload),
            (31 | 32, 24) => format!(" {:x?} {:x?}", &self.u64s()[..2], &self.u32s()[4..]),
            (24 | 25, 12..) => format!(" {:x?} {:x?}", &self.u32s()[..3], &self.payload[12..]),
            (_, n) => format!(" {n} bytes that do not belong here"),
        };
        let version = if self.flags & !8 == 1 { "" } else { " bad flags" };
        let ack = if self.needs_reply() { "!" } else { "" };
        let fds = if self.fds > 0 { format!(" +{}", self.fds) } else { String::new() };
        format!("{}{ack}{words}{fds}{version}", self.name())
    }
}

/// What the back-end does when a message has come.
pub enum Deed {
    /// What is right.
    Right,
    /// It says these bytes instead.
    Say(Vec<u8>),
    /// It sends the right answer with so many descriptors.
    WithFds(usize),
    /// It says these bytes with one descriptor.
    #[allow(dead_code, reason = "of two users one needs it")]
    SayWithFd(Vec<u8>),
    /// It says these bytes where it asks, and once nobody listens there any more, those as its answer.
    #[allow(dead_code, reason = "of two users one needs it")]
    SayOnChannel(Vec<u8>, Vec<u8>),
    /// It says these bytes, one by one, with pauses.
    Drip(Vec<u8>, Duration),
    /// It says nothing, and reads on.
    Silence,
    /// It closes the connection.
    Close,
    /// It says these bytes and closes the connection.
    SayAndClose(Vec<u8>),
    /// It reads no more.
    Freeze,
}

/// A whole message of the back-end.
pub fn message(request: u32, flags: u32, payload: &[u8]) -> Vec<u8> {
    let header = [request, flags, payload.len() as u32].map(u32::to_ne_bytes).concat();
    [&header[..], payload].concat()
}

/// Decides at the n-th message, given the right answer if there is one.
pub type Script = Box<dyn FnMut(usize, &Seen, Option<&[u8]>) -> Deed + Send>;

#[derive(Default)]
struct Notes {
    seen: Vec<Seen>,
    /// Read ends of pipes whose write ends were sent: at their end when the receiver has closed those.
    pipes: Vec<OwnedFd>,
    /// Bells for broken rings, by ring index.
    errors: Vec<(u32, OwnedFd)>,
    /// Our end of the channel for requests of our own.
    channel: Option<Stream>,
    /// The connection.
    serving: Option<Stream>,
}

/// A running back-end, and our end of the connection to it.
pub struct Peer {
    stream: Option<Stream>,
    notes: Arc<Mutex<Notes>>,
    thread: Option<JoinHandle<()>>,
    _together: Option<RwLockReadGuard<'static, ()>>,
}

impl Peer {
    pub fn start(offer: &Offer, script: Script) -> Self {
        Self::begin(offer, script, Some(PROCESS.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// For who holds `PROCESS` already.
    pub fn start_alone(offer: &Offer, script: Script) -> Self {
        Self::begin(offer, script, None)
    }

    /// One that listens at a path, for a whole device.
    pub fn listen(path: &Path, offer: &Offer, script: Script) -> Self {
        let together = PROCESS.read().unwrap_or_else(PoisonError::into_inner);
        let listener = Listener::bind(path).unwrap();
        let notes = Arc::new(Mutex::new(Notes::default()));
        let (offer, noted) = (offer.clone(), notes.clone());
        let thread = std::thread::spawn(move || {
            let stream = listener.accept(Duration::from_secs(60)).unwrap().unwrap();
            Device { offer, status: 0, notes: noted }.serve(stream, script);
        });
        Self { stream: None, notes, thread: Some(thread), _together: Some(together) }
    }

    fn begin(offer: &Offer, script: Script, together: Option<RwLockReadGuard<'static, ()>>) -> Self {
        let (ours, theirs) = Stream::pair().unwrap();
        let notes = Arc::new(Mutex::new(Notes::default()));
        let (offer, noted) = (offer.clone(), notes.clone());
        let thread = std::thread::spawn(move || Device { offer, status: 0, notes: noted }.serve(theirs, script));
        Self { stream: Some(ours), notes, thread: Some(thread), _together: together }
    }

    pub fn stream(&mut self) -> Stream {
        self.stream.take().unwrap()
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.notes.lock().unwrap().seen.clone()
    }

    /// Says that a ring is broken.
    pub fn break_ring(&self, index: u32) {
        let notes = self.notes.lock().unwrap();
        let (_, bell) = notes.errors.iter().find(|(ring, _)| *ring == index).unwrap();
        assert_eq!(nix::unistd::write(bell, &1u64.to_ne_bytes()), Ok(8));
    }

    /// The channel for requests of the back-end, once.
    pub fn channel(&self) -> Stream {
        self.notes.lock().unwrap().channel.take().unwrap()
    }

    pub fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }

    /// Whether all descriptors that were sent are closed by who got them, within a moment: the back-end closes its
    /// own copy after sending.
    pub fn sent_fds_are_closed(&self) -> bool {
        let notes = self.notes.lock().unwrap();
        assert!(!notes.pipes.is_empty(), "none was sent");
        notes.pipes.iter().all(|p| hung_up(p.as_fd(), 2000))
    }

    /// Makes the back-end go, whatever it is doing.
    #[allow(dead_code, reason = "the tests of reconnecting use it")]
    pub fn quit(&self) {
        if let Some(serving) = &self.notes.lock().unwrap().serving {
            serving.cut();
        }
    }

    /// Waits until the back-end has ended, as it does when either side closes the connection.
    pub fn join(&mut self) {
        drop(self.stream.take());
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            // What the back-end asserts is asserted by the test.
            if !std::thread::panicking() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.join();
    }
}

struct Device {
    offer: Offer,
    status: u8,
    notes: Arc<Mutex<Notes>>,
}

impl Device {
    fn serve(&mut self, stream: Stream, script: Script) {
        self.notes.lock().unwrap().serving = Stream::share(stream.as_fd()).ok();
        self.follow(&stream, script);
        // The end is seen by the other side when nobody has the connection any more.
        self.notes.lock().unwrap().serving = None;
    }

    fn follow(&mut self, stream: &Stream, mut script: Script) {
        for n in 0.. {
            let Some(seen) = receive(stream, &self.notes) else { return };
            self.notes.lock().unwrap().seen.push(seen.clone());
            let right = self.answer(&seen);
            match script(n, &seen, right.as_deref()) {
                Deed::Right if seen.request == 31 => {
                    let notes = SharedMemory::new("vuser-test", 0x1000, false).unwrap();
                    say(stream, &right.unwrap(), &[notes.as_fd().as_raw_fd()]);
                }
                Deed::Right => right.iter().for_each(|r| say(stream, r, &[])),
                Deed::Say(bytes) => say(stream, &bytes, &[]),
                Deed::WithFds(count) => self.say_with(stream, &right.unwrap(), count),
                Deed::SayWithFd(bytes) => self.say_with(stream, &bytes, 1),
                Deed::SayOnChannel(bytes, answer) => {
                    let channel = self.notes.lock().unwrap().channel.take().unwrap();
                    say(&channel, &bytes, &[]);
                    assert!(channel.wait_closed(Duration::from_secs(60)));
                    say(stream, &answer, &[]);
                }
                Deed::Drip(bytes, pause) => {
                    for b in bytes {
                        say(stream, &[b], &[]);
                        std::thread::sleep(pause);
                    }
                }
                Deed::Silence => {}
                Deed::Close => return,
                Deed::SayAndClose(bytes) => return say(stream, &bytes, &[]),
                Deed::Freeze => while !hung_up(stream.as_fd(), 1000) {},
            }
        }
    }

    fn answer(&mut self, seen: &Seen) -> Option<Vec<u8>> {
        let u64_of = |n: u64| n.to_ne_bytes().to_vec();
        let payload = match seen.request {
            1 => u64_of(self.offer.features),
            15 => u64_of(self.offer.protocol),
            17 => u64_of(self.offer.queues),
            6 => u64_of(0),
            31 => [&0x1000u64.to_ne_bytes()[..], &[0; 8], &seen.payload[16..]].concat(),
            36 => u64_of(self.offer.slots),
            40 => u64_of(self.status.into()),
            11 => {
                let index = seen.u32s()[0];
                [index, 0x1234 + index].map(u32::to_ne_bytes).concat()
            }
            24 => {
                let asked = seen.u32s()[1] as usize;
                let space = self.offer.config.as_ref().and_then(|c| c.get(..asked));
                space.map_or(Vec::new(), |s| [&seen.payload[..12], s].concat())
            }
            request => {
                if request == 39 {
                    self.status = seen.payload[0];
                }
                if !seen.needs_reply() {
                    return None;
                }
                u64_of(0)
            }
        };
        Some(message(seen.request, 5, &payload))
    }

    fn say_with(&self, stream: &Stream, bytes: &[u8], count: usize) {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        self.notes.lock().unwrap().pipes.push(read);
        say(stream, bytes, &vec![write.as_raw_fd(); count]);
    }
}

fn receive(stream: &Stream, notes: &Mutex<Notes>) -> Option<Seen> {
    let mut fds = Vec::new();
    let mut header = [0; 12];
    // Longer than any test: the end comes by the front-end's closing.
    let deadline = || Deadline::after(Duration::from_secs(60));
    stream.recv(&mut header, &mut fds, deadline()).ok()?;
    let word = |n: usize| u32::from_ne_bytes(header[4 * n..4 * n + 4].try_into().unwrap());
    let mut payload = vec![0; word(2) as usize];
    stream.recv(&mut payload, &mut fds, deadline()).ok()?;
    if matches!(word(0), 12 | 13) {
        fds.iter().for_each(|bell| assert_eq!(nix::unistd::write(bell, &1u64.to_ne_bytes()), Ok(8)));
    }
    let inodes: Vec<_> = fds.iter().map(|fd| nix::sys::stat::fstat(fd).unwrap().st_ino).collect();
    let (seen, mut notes) =
        (Seen { request: word(0), flags: word(1), payload, fds: fds.len(), inodes }, notes.lock().unwrap());
    match seen.request {
        14 => notes.errors.push((seen.u32s()[0], fds.remove(0))),
        21 => notes.channel = Some(Stream::share(fds[0].as_fd()).unwrap()),
        _ => {}
    }
    Some(seen)
}

/// The front-end may have gone already: that is its right.
fn say(stream: &Stream, bytes: &[u8], fds: &[i32]) {
    let _ = stream.send(bytes, fds, Deadline::after(Duration::from_secs(60)));
}

fn hung_up(fd: BorrowedFd<'_>, within_ms: u16) -> bool {
    use nix::poll::{PollFd, PollFlags, poll};
    poll(&mut [PollFd::new(fd, PollFlags::empty())], within_ms).unwrap() > 0
}
