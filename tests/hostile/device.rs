//! The device: a vhost-user back-end that sends every frame back, honestly, but for one lie.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, fallocate, fcntl};
use vuser::device::memory::{Memory, Table};
use vuser::device::ring::{Areas, area_bytes, first_base};
use vuser::spec::vhost_user::{
    FLAG_NEED_REPLY, FLAG_REPLY, MemRegion, ProtocolFeatures, Request, VERSION, VRING_IDX_MASK, VringAddr, VringState,
};
use vuser::spec::virtio::Features;
use vuser::sys::eventfd::Bell;
use vuser::sys::listener::Listener;
use vuser::sys::socket::{Deadline, Stream};
use zerocopy::{FromBytes, IntoBytes};

use crate::data::{Area, Lie, Way, What};
use crate::ring::{Hand, Lent, Place};
use crate::tell::{Chance, Done, Scene, read, scribble, write};

/// Frames that wait for a buffer to be received in.
const WAITING: usize = 1024;
/// Times that a lie waits for company in its batch.
const PATIENCE: u32 = 300;
/// How long an idle device sleeps, kick or not, so that no lie about kicks stops it.
const NAP: Duration = Duration::from_millis(1);
/// What is longer came of a scribbled descriptor; it would wait for ever for a ring that has room for it.
const LONGEST: usize = 9000;
const HEADER: usize = 12;
/// Calls of a storm.
const STORM: u32 = 20_000;
/// An answer is taken by then.
const SOON: Duration = Duration::from_secs(5);

/// What the device offers. No large frames: their headers are among the lies.
pub fn features() -> Features {
    Features::VERSION_1
        | Features::RING_PACKED
        | Features::MRG_RXBUF
        | Features::EVENT_IDX
        | Features::INDIRECT_DESC
        | Features::CSUM
        | Features::GUEST_CSUM
        | Features::PROTOCOL_FEATURES
}

const PROTOCOL: ProtocolFeatures =
    ProtocolFeatures::MQ.union(ProtocolFeatures::REPLY_ACK).union(ProtocolFeatures::STATUS);

/// What a device is told to be.
#[derive(Clone, Debug)]
pub struct Plan {
    pub lie: Option<Lie>,
    /// How many buffers of its way come before the lie.
    pub after: usize,
    pub features: Features,
    /// A file that is made when the lie was told, for front-ends in other processes.
    pub sign: Option<PathBuf>,
}

impl Plan {
    pub fn new(lie: Option<Lie>) -> Self {
        Self { lie, after: 20, features: features(), sign: None }
    }
}

struct Shared {
    plan: Plan,
    stop: AtomicBool,
    fired: AtomicUsize,
    /// The memory could be cut off.
    cut: AtomicBool,
}

impl Shared {
    fn told(&self) {
        self.fired.fetch_add(1, SeqCst);
        if let Some(sign) = &self.plan.sign {
            std::fs::write(sign, "").expect("the sign of a lie that was told");
        }
    }
}

/// A running device, until dropped.
pub struct Device {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Device {
    /// At a path, where it listens, or with `dials` looks for a front-end that does; for one front-end after another.
    pub fn start(path: &Path, plan: Plan, dials: bool) -> Self {
        let listener = (!dials).then(|| Listener::bind(path).expect("the socket of the hostile device"));
        let shared = Arc::new(Shared {
            plan,
            stop: AtomicBool::new(false),
            fired: AtomicUsize::new(0),
            cut: AtomicBool::new(false),
        });
        let (theirs, path) = (Arc::clone(&shared), path.to_owned());
        let thread = std::thread::spawn(move || {
            while !theirs.stop.load(SeqCst) {
                let stream = match &listener {
                    Some(listener) => listener.accept(Duration::from_millis(20)).ok().flatten(),
                    None => Stream::connect(&path, Deadline::after(Duration::from_millis(20))).ok(),
                };
                match stream {
                    Some(stream) => Session::new(&theirs, stream).serve(),
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// How many times the lie was told: never or once.
    pub fn fired(&self) -> usize {
        self.shared.fired.load(SeqCst)
    }

    /// Whether memory that it was given could be cut off under the front-end.
    pub fn could_cut(&self) -> bool {
        self.shared.cut.load(SeqCst)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Serves until the process is ended.
#[allow(dead_code, reason = "the tests in process have no need of it")]
pub fn serve(path: &Path, lie: Lie, dials: bool) {
    let device = Device::start(path, Plan::new(Some(lie)), dials);
    while device.fired() == 0 {
        std::thread::sleep(NAP);
    }
    println!("fired {}", device.fired());
    loop {
        std::thread::park();
    }
}

#[derive(Default)]
struct Queue {
    size: u16,
    base: Option<u32>,
    addr: Option<VringAddr>,
    kick: Option<OwnedFd>,
    call: Option<Bell>,
    enabled: bool,
    hand: Option<Hand>,
    /// Ids that were used, oldest first.
    recent: Vec<u16>,
    /// Uses nothing until it is started anew: because it shall, or because the driver's words cannot be true any more.
    mute: bool,
}

impl Queue {
    fn stop(&mut self) {
        if let Some(hand) = self.hand.take() {
            self.base = Some(hand.base());
        }
    }

    /// Calls the driver. Never waits: the front-end's part of the bell is not trusted either.
    fn call(&self) {
        if let Some(call) = &self.call {
            call.ring();
        }
    }

    fn live(&mut self) -> Option<&mut Hand> {
        self.hand.as_mut().filter(|_| self.enabled && !self.mute)
    }
}

struct Session<'a> {
    shared: &'a Shared,
    stream: Stream,
    features: Features,
    status: u64,
    table: Option<Arc<Table>>,
    /// The regions' files.
    files: Vec<(OwnedFd, MemRegion)>,
    queues: [Queue; 2],
    frames: VecDeque<Vec<u8>>,
    chance: Chance,
    /// Buffers that were used, by way.
    used: [usize; 2],
    waited: u32,
}

impl<'a> Session<'a> {
    fn new(shared: &'a Shared, stream: Stream) -> Self {
        Self {
            shared,
            stream,
            features: Features::empty(),
            status: 0,
            table: None,
            files: Vec::new(),
            queues: Default::default(),
            frames: VecDeque::new(),
            chance: Chance(0x9e37_79b9_7f4a_7c15),
            used: [0; 2],
            waited: 0,
        }
    }

    fn serve(&mut self) {
        while !self.shared.stop.load(SeqCst) {
            let busy = self.turn();
            if !self.stream.readable(if busy { Duration::ZERO } else { NAP }) {
                continue;
            }
            if self.message().is_none() {
                return;
            }
        }
    }

    /// Takes what was sent, and gives it back; whether there was anything.
    fn turn(&mut self) -> bool {
        let Some(table) = self.table.clone() else { return false };
        let lie = self.shared.plan.lie.filter(|_| self.shared.fired.load(SeqCst) == 0);
        let mut busy = false;
        for (way, index) in [(Way::Transmit, 1), (Way::Receive, 0)] {
            let batch = self.batch(index, &table);
            if !batch.is_empty() {
                busy = true;
                self.show(index, &table, batch, lie.filter(|lie| lie.way == way));
            }
        }
        busy
    }

    /// Buffers with what is to be said of them: frames taken, or given.
    fn batch(&mut self, index: usize, table: &Table) -> Vec<Done> {
        let (queue, frames) = (&mut self.queues[index], &mut self.frames);
        let Some(hand) = queue.live() else { return Vec::new() };
        let mut batch = Vec::new();
        let mut sane = hand.look(table);
        if index == 1 {
            while frames.len() < WAITING && sane {
                let Some(lent) = hand.lent().pop_front() else { break };
                match read(table, &lent) {
                    Some(frame) => {
                        frames.extend(frame.get(HEADER..).filter(|f| f.len() <= LONGEST).map(<[u8]>::to_vec))
                    }
                    None => sane = false,
                }
                batch.push(Done { lent, len: 0 });
            }
        } else {
            let merge = self.features.contains(Features::MRG_RXBUF);
            while let (true, Some(frame)) = (sane, frames.pop_front()) {
                match give(hand, table, &frame, merge) {
                    Given::Done(mut all) => batch.append(&mut all),
                    Given::Later => {
                        frames.push_front(frame);
                        break;
                    }
                    Given::Never => sane = false,
                }
            }
        }
        hand.want_kick();
        queue.mute |= !sane;
        batch
    }

    fn show(&mut self, index: usize, table: &Arc<Table>, mut batch: Vec<Done>, lie: Option<Lie>) {
        self.used[index] += batch.len();
        let due = lie.filter(|_| self.used[index] > self.shared.plan.after);
        let told = due.is_some_and(|lie| self.tell(index, table, &mut batch, lie.what));
        let queue = &mut self.queues[index];
        if told {
            self.shared.told();
        } else if let Some(hand) = &mut queue.hand {
            batch.iter().for_each(|done| hand.push(done.lent.id.into(), done.len, done.lent.slots));
            hand.publish();
        }
        queue.recent.extend(batch.iter().map(|done| done.lent.id));
        let old = queue.recent.len().saturating_sub(512);
        queue.recent.drain(..old);
        queue.call();
    }

    /// Tells the lie if its time has come; what it does not say about the batch was then said, too.
    fn tell(&mut self, index: usize, table: &Arc<Table>, batch: &mut Vec<Done>, what: What) -> bool {
        self.waited += 1;
        if batch.len() < 2 && self.waited < PATIENCE {
            return false;
        }
        let queue = &mut self.queues[index];
        match what {
            What::Never => {
                queue.mute = true;
                return true;
            }
            What::Storm => (0..STORM).for_each(|_| queue.call()),
            What::CallFull => queue.call.iter().for_each(fill),
            What::KickFull => queue.kick.iter().for_each(block),
            What::KickRace => queue.kick.iter().for_each(race),
            What::Truncate => self.truncate(),
            What::Holes => self.files.iter().for_each(|(file, region)| {
                let how = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                let _ = fallocate(file, how, region.mmap_offset as i64, region.size as i64);
            }),
            What::Random(Area::All) | What::Flip(Area::All) => {
                for (_, region) in &self.files {
                    if let Some(addr) = table.local(region.guest_addr, region.size) {
                        let span = (addr, region.size as usize);
                        scribble(span, &mut self.chance, matches!(what, What::Flip(_)));
                    }
                }
            }
            _ => {
                let Some(hand) = &mut queue.hand else { return false };
                let recent = &queue.recent;
                let memory: &Table = table;
                return Scene { hand, memory, batch, recent, chance: &mut self.chance }.tell(what);
            }
        }
        let Some(hand) = &mut self.queues[index].hand else { return true };
        batch.iter().for_each(|done| hand.push(done.lent.id.into(), done.len, done.lent.slots));
        hand.publish();
        true
    }

    /// Nobody can cut off memory that is sealed. Who finds a way looks no further: the next access is an end.
    fn truncate(&mut self) {
        for (file, _) in &self.files {
            if nix::unistd::ftruncate(file, 0).is_ok() {
                self.shared.cut.store(true, SeqCst);
            }
        }
        if self.shared.cut.load(SeqCst) {
            self.table = None;
            self.queues = Default::default();
        }
    }

    /// Receives a message and does what it says. None: the front-end has gone, or we are no device for it.
    fn message(&mut self) -> Option<()> {
        let (mut header, mut fds) = ([0u32; 3], Vec::new());
        self.stream.recv(header.as_mut_bytes(), &mut fds, Deadline::after(SOON)).ok()?;
        let [request, flags, size] = header;
        let mut payload = vec![0; (size as usize).min(4096)];
        self.stream.recv(&mut payload, &mut fds, Deadline::after(SOON)).ok()?;
        let answer = match Request::from_number(request)? {
            Request::GET_VRING_BASE => {
                let VringState { index, .. } = body(&payload)?;
                let queue = self.queues.get_mut(index as usize)?;
                queue.stop();
                let num = queue.base.unwrap_or_else(|| first_base(self.features));
                Some(VringState { index, num }.as_bytes().to_vec())
            }
            known => match self.number(known) {
                Some(number) => Some(number.as_bytes().to_vec()),
                None => {
                    let done = self.request(known, &payload, fds).is_some();
                    (flags & FLAG_NEED_REPLY != 0).then(|| u64::from(!done).as_bytes().to_vec())
                }
            },
        };
        let Some(answer) = answer else { return Some(()) };
        let header = [request, VERSION | FLAG_REPLY, answer.len() as u32];
        self.stream.send(&[header.as_bytes(), &answer].concat(), &[], Deadline::after(SOON)).ok()
    }

    /// The answer to a request that asks for a number.
    fn number(&self, request: Request) -> Option<u64> {
        Some(match request {
            Request::GET_FEATURES => self.shared.plan.features.bits() as u64,
            Request::GET_PROTOCOL_FEATURES => PROTOCOL.bits(),
            Request::GET_QUEUE_NUM => 1,
            Request::GET_STATUS => self.status,
            _ => return None,
        })
    }

    fn request(&mut self, request: Request, payload: &[u8], fds: Vec<OwnedFd>) -> Option<()> {
        match request {
            Request::SET_FEATURES => self.features = Features::from_bits_retain(body::<u64>(payload)?.into()),
            Request::SET_STATUS => {
                self.status = body(payload)?;
                if self.status == 0 {
                    self.queues = Default::default();
                }
            }
            Request::SET_MEM_TABLE => self.memory(payload, fds)?,
            Request::SET_VRING_ADDR => {
                let addr: VringAddr = body(payload)?;
                let queue = self.queues.get_mut(addr.index as usize)?;
                queue.stop();
                queue.addr = Some(addr);
            }
            Request::SET_VRING_KICK | Request::SET_VRING_CALL | Request::SET_VRING_ERR => {
                let queue = self.queues.get_mut((body::<u64>(payload)? & VRING_IDX_MASK) as usize)?;
                let fd = fds.into_iter().next();
                match request {
                    Request::SET_VRING_KICK => queue.kick = fd,
                    Request::SET_VRING_CALL => queue.call = fd.map(Bell::from_fd),
                    _ => {}
                }
            }
            Request::SET_VRING_NUM | Request::SET_VRING_BASE | Request::SET_VRING_ENABLE => {
                let VringState { index, num } = body(payload)?;
                let queue = self.queues.get_mut(index as usize)?;
                match request {
                    Request::SET_VRING_NUM => queue.size = num as u16,
                    Request::SET_VRING_BASE => queue.base = Some(num),
                    _ => queue.enabled = num == 1,
                }
            }
            Request::SET_OWNER | Request::SET_PROTOCOL_FEATURES => {}
            _ => return None,
        }
        self.start()
    }

    fn memory(&mut self, payload: &[u8], fds: Vec<OwnedFd>) -> Option<()> {
        let regions = payload.get(8..)?.chunks_exact(size_of::<MemRegion>());
        let regions: Vec<MemRegion> = regions.filter_map(|r| MemRegion::read_from_bytes(r).ok()).collect();
        let files = fds.iter().map(|fd| fd.try_clone().ok()).collect::<Option<Vec<_>>>()?;
        self.queues.iter_mut().for_each(Queue::stop);
        self.table = Some(Arc::new(Table::new(&regions, fds).ok()?));
        self.files = files.into_iter().zip(regions).collect();
        Some(())
    }

    /// Starts the rings of which all is known.
    fn start(&mut self) -> Option<()> {
        let (features, Some(table)) = (self.features, &self.table) else { return Some(()) };
        for (index, queue) in self.queues.iter_mut().enumerate() {
            let Some(addr) = queue.addr.filter(|_| queue.hand.is_none() && queue.size > 0 && queue.kick.is_some())
            else {
                continue;
            };
            if index == 0 {
                // What it could not deliver before is of another time.
                self.frames.clear();
            }
            let (desc, driver, device) = area_bytes(queue.size, features);
            let areas = Areas {
                desc: table.local_of_user(addr.desc, desc)?,
                driver: table.local_of_user(addr.avail, driver)?,
                device: table.local_of_user(addr.used, device)?,
            };
            let base = queue.base.unwrap_or_else(|| first_base(features));
            // SAFETY: the table has found the areas to be mapped, and the session keeps it longer than the ring.
            queue.hand = Some(unsafe { Hand::new(Place { areas, size: queue.size, features, base }) });
            queue.mute = false;
            queue.recent.clear();
        }
        Some(())
    }
}

fn body<T: FromBytes>(payload: &[u8]) -> Option<T> {
    T::read_from_bytes(payload).ok()
}

enum Given {
    Done(Vec<Done>),
    /// There are too few buffers now.
    Later,
    /// The driver lent what is not in its memory.
    Never,
}

/// Writes a frame into the oldest buffers, one or, where they merge, as many as it needs.
fn give(hand: &mut Hand, memory: &dyn Memory, frame: &[u8], merge: bool) -> Given {
    let bytes = [&[0; HEADER][..], frame].concat();
    let (mut room, mut count) = (0, 0);
    for lent in hand.lent().iter().take(if merge { usize::MAX } else { 1 }) {
        room += lent.room(true) as usize;
        count += 1;
        if room >= bytes.len() {
            break;
        }
    }
    if room < bytes.len() {
        // Of a single buffer more will not come: such a frame is lost.
        return if merge || count == 0 { Given::Later } else { Given::Done(Vec::new()) };
    }
    let mut buffers: Vec<Lent> = hand.lent().drain(..count).collect();
    let mut left = &bytes[..];
    let mut done = Vec::new();
    for lent in buffers.drain(..) {
        let Some(len) = write(memory, &lent, left) else { return Given::Never };
        left = &left[len as usize..];
        done.push(Done { lent, len });
    }
    // num_buffers, in the first of them.
    let first = done[0].lent.parts.iter().find(|p| p.write).map_or(0, |p| p.addr);
    memory.write(first + 10, &(count as u16).to_le_bytes());
    Given::Done(done)
}

/// Makes a bell's counter full.
fn fill(bell: &impl AsFd) {
    // Whatever the other side does in between: there may be more in it.
    for _ in 0..100 {
        let _ = nix::unistd::read(bell, &mut [0; 8]);
        if nix::unistd::write(bell, &(u64::MAX - 1).to_ne_bytes()).is_ok() {
            return;
        }
    }
}

fn set_blocking(bell: &OwnedFd, on: bool) {
    let flags = if on { OFlag::empty() } else { OFlag::O_NONBLOCK };
    let _ = fcntl(bell, FcntlArg::F_SETFL(flags | OFlag::O_RDWR));
}

/// Whoever writes to it now waits until somebody reads.
fn block(bell: &OwnedFd) {
    set_blocking(bell, false);
    fill(bell);
    set_blocking(bell, true);
}

/// Becomes so at any moment, again and again, and stays so in the end.
fn race(bell: &OwnedFd) {
    let Ok(bell) = bell.try_clone() else { return };
    std::thread::spawn(move || {
        let end = Instant::now() + Duration::from_millis(300);
        while Instant::now() < end {
            block(&bell);
            set_blocking(&bell, false);
            let _ = nix::unistd::read(&bell, &mut [0; 8]);
            std::thread::yield_now();
        }
        block(&bell);
    });
}
