//! A man in the middle: between a front-end and an honest device he passes messages on, and tells one lie.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use vuser::device::{Loopback, Options};
use vuser::spec::vhost_user::{FLAG_NEED_REPLY, FLAG_REPLY, Request, VERSION, VringArea, VringState, backend_request};
use vuser::spec::virtio::Features;
use vuser::sys::listener::Listener;
use vuser::sys::shm::SharedMemory;
use vuser::sys::socket::{Deadline, Stream};
use zerocopy::{FromBytes, IntoBytes};

use crate::control::{Answer, Ask, Lie, Plan, has_reply};

/// How often an idle man looks whether he is still wanted.
const LOOK: Duration = Duration::from_millis(20);
/// An honest device answers by then.
const PATIENCE: Duration = Duration::from_secs(10);
/// A device that is to die while it runs is left in peace so long.
const RUN: Duration = Duration::from_millis(5);

/// What the front-end has said.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Numbers of the requests that had an answer.
    pub answered: BTreeSet<u32>,
    /// Messages of the longest connection.
    pub messages: usize,
}

struct Shared {
    lie: Option<Lie>,
    plan: Plan,
    /// The front-end waits so long for an answer.
    timeout: Duration,
    stop: AtomicBool,
    /// How many times it is still to be told, and was told.
    left: AtomicUsize,
    fired: AtomicUsize,
    heard: Mutex<Heard>,
}

/// The man, until dropped.
pub struct Man {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Man {
    /// At a path, where he listens, or with `dials` looks for a front-end that does.
    pub fn start(path: &Path, lie: Option<Lie>, plan: Plan, timeout: Duration, dials: bool) -> Self {
        let left = match &lie {
            Some(Lie::NeverRead(times) | Lie::Flapping(times) | Lie::Deaths(times)) => *times,
            // The death, and the smaller offer.
            Some(Lie::Lessened) => 2,
            _ => 1,
        };
        let (stop, heard) = (AtomicBool::new(false), Mutex::default());
        let (left, fired) = (AtomicUsize::new(left), AtomicUsize::new(0));
        let shared = Arc::new(Shared { lie, plan, timeout, stop, left, fired, heard });
        let listener = (!dials).then(|| Listener::bind(path).expect("the socket of the hostile device"));
        let (theirs, path) = (Arc::clone(&shared), path.to_owned());
        let thread = std::thread::spawn(move || theirs.run(listener.as_ref(), &path));
        Self { shared, thread: Some(thread) }
    }

    /// How many times the lie was told.
    pub fn fired(&self) -> usize {
        self.shared.fired.load(SeqCst)
    }

    pub fn heard(&self) -> Heard {
        self.shared.heard.lock().unwrap().clone()
    }
}

impl Drop for Man {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    }
}

/// A message with its descriptors.
struct Message {
    words: [u32; 3],
    payload: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Message {
    fn receive(from: &Stream) -> Option<Self> {
        let (mut header, mut fds) = ([0; 12], Vec::new());
        from.recv(&mut header, &mut fds, Deadline::after(PATIENCE)).ok()?;
        let words = <[u32; 3]>::read_from_bytes(&header).ok()?;
        // Honest messages are short; the front-end's are, too.
        let mut payload = vec![0; (words[2] as usize).min(1 << 16)];
        from.recv(&mut payload, &mut fds, Deadline::after(PATIENCE)).ok()?;
        Some(Self { words, payload, fds })
    }

    fn bytes(&self) -> Vec<u8> {
        [self.words.as_bytes(), &self.payload].concat()
    }

    fn send(&self, to: &Stream) -> Option<()> {
        say(to, &self.bytes(), &self.fds)
    }

    fn request(&self) -> Option<Request> {
        Request::from_number(self.words[0])
    }

    fn is_answered(&self) -> bool {
        self.words[1] & FLAG_NEED_REPLY != 0 || self.request().is_some_and(has_reply)
    }

    /// Whether it sets a transmit ring going.
    fn enables(&self) -> bool {
        let state = VringState::read_from_bytes(&self.payload);
        self.request() == Some(Request::SET_VRING_ENABLE) && state.is_ok_and(|s| s.index == 1 && s.num == 1)
    }
}

/// The front-end may have gone: that is its right.
fn say(to: &Stream, bytes: &[u8], fds: &[OwnedFd]) -> Option<()> {
    let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    to.send(bytes, &fds, Deadline::after(Duration::from_secs(1))).ok()
}

/// Bytes without a meaning, the same in each run.
fn garbage(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let next = std::iter::repeat_with(|| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 56) as u8
    });
    next.take(bytes).collect()
}

impl Shared {
    /// Whether the lie is to be told now; it counts as told.
    fn fire(&self) -> bool {
        let took = self.left.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok();
        if took {
            self.fired.fetch_add(1, SeqCst);
        }
        took
    }

    /// Longer than anybody waits for an answer.
    fn linger(&self) {
        self.idle(self.timeout * 3);
    }

    fn idle(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.stop.load(SeqCst) && Instant::now() < end {
            sleep(LOOK.min(time));
        }
    }

    fn run(&self, listener: Option<&Listener>, path: &Path) {
        if self.lie == Some(Lie::NeverAccept) {
            self.never_accept(path);
        }
        while !self.stop.load(SeqCst) {
            let Some(front) = self.next(listener, path) else { continue };
            if matches!(self.lie, Some(Lie::Flapping(_))) && self.fire() {
                continue;
            }
            if matches!(self.lie, Some(Lie::NeverRead(_))) && self.fire() {
                self.linger();
                continue;
            }
            self.serve(&front);
        }
    }

    fn next(&self, listener: Option<&Listener>, path: &Path) -> Option<Stream> {
        let Some(listener) = listener else {
            let found = Stream::connect(path, Deadline::after(Duration::ZERO)).ok();
            if found.is_none() {
                sleep(LOOK);
            }
            return found;
        };
        // Those that filled the queue of `never_accept`, or have lost their patience in it, are gone.
        listener.accept(LOOK).ok().flatten().filter(|front| !front.is_closed())
    }

    /// Fills the queue of the listening socket, so that nobody else gets into it.
    fn never_accept(&self, path: &Path) {
        let full: Vec<Stream> =
            std::iter::from_fn(|| Stream::connect(path, Deadline::after(Duration::ZERO)).ok()).take(10_000).collect();
        if !full.is_empty() && self.fire() {
            self.idle(self.timeout * 5);
        }
    }

    fn options(&self) -> Options {
        let mut options = self.plan.options();
        if self.lie == Some(Lie::Lessened) && self.left.load(SeqCst) == 1 && self.fire() {
            options.features = Features::VERSION_1 | Features::PROTOCOL_FEATURES;
        }
        options
    }

    /// One connection, until it ends.
    fn serve(&self, front: &Stream) {
        let (ours, theirs) = Stream::pair().expect("a pair of sockets");
        let device = Loopback::on_stream(theirs, self.options()).expect("an honest device");
        let _ = self.pass_on(front, &ours);
        front.cut();
        drop(ours);
        drop(device);
    }

    fn pass_on(&self, front: &Stream, back: &Stream) -> Option<()> {
        let (mut running, mut messages) = (false, 0);
        while !self.stop.load(SeqCst) {
            if running {
                self.while_running(front)?;
            }
            if !front.readable(LOOK) {
                continue;
            }
            let message = Message::receive(front)?;
            if self.lie == Some(Lie::CloseAt(messages)) && self.fire() {
                return None;
            }
            messages += 1;
            let answered = self.note(&message, messages);
            let channel = self.channel(&message);
            message.send(back)?;
            if answered {
                let reply = Message::receive(back)?;
                self.answer(front, &message, reply)?;
            }
            if let (Some(channel), Some(Lie::Ask(ask))) = (channel, &self.lie)
                && self.fire()
            {
                tell(&channel, *ask);
            }
            running |= message.enables();
        }
        None
    }

    /// What is done to a device that runs.
    fn while_running(&self, front: &Stream) -> Option<()> {
        match self.lie {
            Some(Lie::Deaths(_)) if self.left.load(SeqCst) > 0 => {}
            Some(Lie::Lessened) if self.left.load(SeqCst) == 2 => {}
            Some(Lie::FreezeRunning) if self.left.load(SeqCst) > 0 => {
                self.fire();
                self.linger();
                return Some(());
            }
            _ => return Some(()),
        }
        front.readable(RUN);
        self.fire();
        None
    }

    fn note(&self, message: &Message, messages: usize) -> bool {
        let answered = message.is_answered();
        let mut heard = self.heard.lock().unwrap();
        heard.messages = heard.messages.max(messages);
        if answered {
            heard.answered.insert(message.words[0]);
        }
        answered
    }

    /// The channel for requests of the back-end, if this message has it and it is to be misused.
    fn channel(&self, message: &Message) -> Option<Stream> {
        let wanted = matches!(self.lie, Some(Lie::Ask(_))) && message.request() == Some(Request::SET_BACKEND_REQ_FD);
        message.fds.first().filter(|_| wanted).and_then(|fd| Stream::share(fd.as_fd()).ok())
    }

    /// Passes an answer on, or what is told in place of it. None: the connection is over.
    fn answer(&self, front: &Stream, asked: &Message, mut right: Message) -> Option<()> {
        let request = asked.request();
        let mut number = |n: u64| {
            right.payload = n.to_ne_bytes().to_vec();
            right.send(front)
        };
        match self.lie {
            Some(Lie::Features(bits)) if request == Some(Request::GET_FEATURES) && self.fire() => number(bits),
            Some(Lie::QueueNum(n)) if request == Some(Request::GET_QUEUE_NUM) && self.fire() => number(n),
            Some(Lie::Answer(at, lie)) if request == Some(at) && self.fire() => self.lie_about(front, right, lie),
            _ => right.send(front),
        }
    }

    fn lie_about(&self, front: &Stream, mut right: Message, lie: Answer) -> Option<()> {
        let half = right.bytes().len() / 2;
        match lie {
            Answer::GarbageHeader => right.words = <[u32; 3]>::read_from_bytes(&garbage(12)).unwrap_or_default(),
            Answer::GarbagePayload => right.payload = garbage(right.payload.len()),
            Answer::OnesPayload => right.payload.fill(0xff),
            Answer::OtherRequest => right.words[0] += 1,
            Answer::Size(size) => right.words[2] = size,
            Answer::Less => {
                right.payload.pop();
                right.words[2] = right.payload.len() as u32;
            }
            Answer::More => {
                right.payload.push(0);
                right.words[2] += 1;
            }
            Answer::NoReplyFlag => right.words[1] &= !FLAG_REPLY,
            Answer::BadVersion => right.words[1] = right.words[1] & !VERSION | 2,
            Answer::WithFds(count) => {
                let memory = SharedMemory::new("hostile", 0x1000, false).expect("a file of memory");
                let copies = std::iter::repeat_with(|| memory.as_fd().try_clone_to_owned().expect("a descriptor"));
                right.fds.extend(copies.take(count));
            }
            Answer::Refusal => right.payload = 1u64.to_ne_bytes().to_vec(),
            Answer::HalfThenSilence => {
                say(front, &right.bytes()[..half], &right.fds)?;
                return self.mute(front);
            }
            Answer::Silence => return self.mute(front),
            Answer::Drip => {
                for byte in right.bytes() {
                    say(front, &[byte], &[])?;
                    self.idle(self.timeout / 4);
                }
                return Some(());
            }
            Answer::Freeze => self.linger(),
            Answer::CloseBefore => return None,
            Answer::CloseAfter => {
                right.send(front)?;
                return None;
            }
            Answer::HalfThenClose => {
                say(front, &right.bytes()[..half], &right.fds)?;
                return None;
            }
        }
        right.send(front)
    }

    /// Reads on and says nothing any more.
    fn mute(&self, front: &Stream) -> Option<()> {
        while !self.stop.load(SeqCst) {
            if front.readable(LOOK) {
                Message::receive(front)?;
            }
        }
        None
    }
}

/// Says something over the channel that nobody has asked for.
fn tell(channel: &Stream, ask: Ask) {
    let message = |request: u32, flags: u32, payload: &[u8]| {
        [[request, flags, payload.len() as u32].as_bytes(), payload].concat()
    };
    let memory = SharedMemory::new("hostile", 0x1000, false).expect("a file of memory");
    let fds = |count: usize| -> Vec<OwnedFd> {
        (0..count).map(|_| memory.as_fd().try_clone_to_owned().expect("a descriptor")).collect()
    };
    let change = |flags| message(backend_request::CONFIG_CHANGE_MSG, flags, &[]);
    let none = Vec::new();
    let (bytes, fds) = match ask {
        Ask::Garbage => (garbage(300), none),
        Ask::Unknown => (message(99, VERSION | FLAG_NEED_REPLY, &[7; 40]), none),
        Ask::Fds => (change(VERSION | FLAG_NEED_REPLY), fds(100)),
        Ask::Size4G => ([backend_request::CONFIG_CHANGE_MSG, VERSION, u32::MAX].as_bytes().to_vec(), none),
        Ask::Half => (change(VERSION)[..7].to_vec(), none),
        Ask::Reply => (change(VERSION | FLAG_REPLY), none),
        Ask::DoorbellFar => {
            let area = VringArea { ring: 200, size: 1 << 40, offset: u64::MAX - 4095 };
            (message(backend_request::VRING_HOST_NOTIFIER_MSG, VERSION, area.as_bytes()), fds(1))
        }
        Ask::Close => return channel.cut(),
        Ask::Flood => {
            let many = change(VERSION | FLAG_NEED_REPLY).repeat(100);
            for _ in 0..100 {
                if channel.send(&many, &[], Deadline::after(Duration::from_millis(50))).is_err() {
                    break;
                }
            }
            return;
        }
    };
    let _ = say(channel, &bytes, &fds);
}

/// Serves until the process is ended.
pub fn serve(path: &Path, lie: Lie, timeout: Duration, dials: bool) {
    let plan = Plan::of(&lie);
    let man = Man::start(&PathBuf::from(path), Some(lie), plan, timeout, dials);
    let mut said = 0;
    loop {
        sleep(LOOK);
        if man.fired() > said {
            said = man.fired();
            println!("fired {said}");
        }
    }
}
