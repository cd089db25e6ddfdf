//! A capture: copies of the frames of a device's queues, in a pcapng file.
//!
//! ```text
//!   queue -> tap -> relay  \\
//!   queue -> tap -> relay   >  one thread, "vuser-capture"  ->  file
//!   ...                    /
//! ```
//!
//! Bursts copy ([`crate::net::tap`]) and never wait: what the thread does not take in time is dropped and counted. Frames are
//! put in the order of their times. A capture outlives its device, whose queues it knows weakly.

use std::ops::RangeInclusive;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use parking_lot::Mutex;

use super::Device;
use super::port::Port;
use super::queues::Side;
use crate::error::{Error, Result};
use crate::net::relay::{LONGEST, Relay};
use crate::spec::pcapng::{self, Direction, Packet};
use crate::sys::clock;
use crate::sys::output::Output;
use crate::sys::thread::spawn;

/// Frames of each queue that may wait, where nobody says otherwise, and fewer the more queues there are.
const FRAMES: RangeInclusive<u32> = 256..=4096;
/// Frames of all queues that may wait then.
const ALL_FRAMES: usize = 1 << 16;
/// Frames of each queue that may wait at most.
const MOST_FRAMES: u32 = 1 << 20;
/// How long the stop waits for what is still to be written.
const FLUSH: Duration = Duration::from_secs(5);
/// And for a write that does not come back.
const GRACE: Duration = Duration::from_millis(500);
/// Shortest and longest sleep of the thread.
const NAPS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(8)];
/// A frame waits for so long whether one of another queue comes that was before it.
const ORDER: u64 = 2_000_000;
/// Rounds without anything written, after which a clock that was set back is not believed any more.
const PATIENCE: u32 = 4;
/// Bytes that are written together.
const CHUNK: usize = 256 << 10;

/// Where to.
#[derive(Debug)]
pub enum Target<'a> {
    /// A file, made or emptied.
    Path(PathBuf),
    /// A descriptor, from where it stands.
    Fd(BorrowedFd<'a>),
}

/// What is to be captured, beside where to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Bytes that are kept of each frame; 0: all.
    pub snaplen: u32,
    /// Frames of each queue for which there is room; 0: 4096, or fewer for more than 16 queues.
    pub frames: u32,
    /// Bytes of the file; 0: no limit.
    pub max_bytes: u64,
}

/// What has come of a capture.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Frames that were copied.
    pub captured: u64,
    /// Frames that are not in the file and never will be.
    pub dropped: u64,
    /// Bytes kept of those that were copied.
    pub bytes: u64,
    /// Frames in the file.
    pub written: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// It has as many bytes as it may have.
    pub is_full: bool,
    /// What ended it.
    pub error: Option<Error>,
}

/// What the thread shares with whoever has the capture.
#[derive(Debug)]
pub struct Shared {
    sources: Vec<Source>,
    stop: AtomicBool,
    /// When whoever starts or stops it gives up.
    deadline: Mutex<Option<Instant>>,
    written: AtomicU64,
    file_bytes: AtomicU64,
    full: AtomicBool,
    error: Mutex<Option<Error>>,
}

/// A queue of which frames are captured.
#[derive(Debug)]
struct Source {
    relay: Arc<Relay>,
    direction: Direction,
    /// Frames that were copied, and for which the file had no room.
    lost: AtomicU64,
}

impl Shared {
    /// Whether what cannot be written now is to be waited with.
    fn goes_on(&self) -> bool {
        self.deadline.lock().is_none_or(|end| Instant::now() < end)
    }

    fn close(&self) {
        self.sources.iter().for_each(|source| source.relay.close());
    }
}

/// A capture under way. Dropped, it is stopped.
#[derive(Debug)]
pub struct Capture {
    shared: Arc<Shared>,
    ports: Vec<Weak<Port>>,
    thread: Option<JoinHandle<()>>,
    /// Ends when the thread does.
    ended: Mutex<Receiver<()>>,
    /// A child that was forked has no such thread.
    process: u32,
}

impl Device {
    /// Captures the frames of all queues that are set up, from now on.
    pub fn start_capture(&mut self, target: Target<'_>, options: Options) -> Result<Capture> {
        if self.capture.upgrade().is_some_and(|other| !other.stop.load(Ordering::Acquire)) {
            return Err(Error::new(
                Errno::EBUSY,
                "frames of this device are being captured already; stop that capture",
            ));
        }
        let queues = self.queues.iter().flatten().filter(|queue| queue.source.is_some()).count();
        let share = (ALL_FRAMES / queues.max(1)) as u32;
        let frames = if options.frames == 0 { share.clamp(*FRAMES.start(), *FRAMES.end()) } else { options.frames };
        if frames > MOST_FRAMES {
            return Err(Error::invalid(format!("frames={frames}: {MOST_FRAMES} at most")));
        }
        let snaplen = if options.snaplen == 0 { LONGEST } else { options.snaplen };
        let (mut head, mut sources, mut ports) = (Vec::new(), Vec::new(), Vec::new());
        pcapng::section(&mut head, concat!("vuser ", env!("CARGO_PKG_VERSION")));
        for (index, queue) in self.queues.iter().enumerate() {
            let Some(queue) = queue.as_ref().filter(|queue| queue.source.is_some()) else { continue };
            let (side, pair) = (Side::of(index), index / 2);
            let (direction, word) = match side {
                Side::Rx => (Direction::Inbound, "receive"),
                Side::Tx => (Direction::Outbound, "transmit"),
            };
            let description = format!("{word} queue {pair}, {}", self.describe());
            pcapng::interface(&mut head, options.snaplen, &format!("{}{pair}", side.name()), &description);
            let (relay, lost) = (Arc::new(Relay::new(frames, snaplen)?), AtomicU64::new(0));
            sources.push(Source { relay, direction, lost });
            ports.push(queue.port.clone());
        }
        if sources.is_empty() {
            return Err(Error::invalid("no queue has been set up, so that there is nothing to capture"));
        }
        let capture = Capture::start(target, options, head, sources, &ports)?;
        self.capture = Arc::downgrade(&capture.shared);
        for (port, source) in ports.iter().zip(&capture.shared.sources) {
            port.pause()?.set_tap(Some(source.relay.clone()));
        }
        Ok(capture)
    }
}

impl Capture {
    fn start(
        target: Target<'_>,
        options: Options,
        head: Vec<u8>,
        sources: Vec<Source>,
        ports: &[Arc<Port>],
    ) -> Result<Self> {
        let mut tail = Vec::new();
        (0..sources.len()).for_each(|n| pcapng::statistics(&mut tail, n as u32, 0, 0, 0, 0));
        let (least, limit) = ((head.len() + tail.len()) as u64, options.max_bytes);
        if limit != 0 && limit < least {
            return Err(Error::invalid(format!("max_bytes={limit}: a file without frames has {least} already")));
        }
        let room = if limit == 0 { u64::MAX } else { limit - least };
        let output = match target {
            Target::Path(path) => Output::create(&path)?,
            Target::Fd(fd) => Output::share(fd)?,
        };
        let shared = Arc::new(Shared {
            sources,
            stop: AtomicBool::new(false),
            deadline: Mutex::new(Some(Instant::now() + FLUSH)),
            written: AtomicU64::new(0),
            file_bytes: AtomicU64::new(0),
            full: AtomicBool::new(false),
            error: Mutex::new(None),
        });
        let mut writer = Writer { shared: shared.clone(), output, buffer: head, room, began: clock::now() };
        // By that thread, in which a reader that has gone is an error and no signal.
        let ((tell, began), (living, ended)) = (channel(), channel());
        let thread = spawn("vuser-capture", move || {
            let first = writer.flush();
            let goes_on = first.is_ok();
            if tell.send(first).is_ok() && goes_on {
                writer.run();
            }
            drop(living);
        })?;
        // What cannot be written at all is said here.
        began.recv_timeout(FLUSH + GRACE).map_err(|_| slow())??;
        *shared.deadline.lock() = None;
        let ports = ports.iter().map(Arc::downgrade).collect();
        Ok(Self { shared, ports, thread: Some(thread), ended: Mutex::new(ended), process: std::process::id() })
    }

    /// What has come of it so far. From any thread of the process that [made](Self::is_ours) it.
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let mut stats = Stats {
            written: shared.written.load(Ordering::Relaxed),
            file_bytes: shared.file_bytes.load(Ordering::Relaxed),
            is_full: shared.full.load(Ordering::Relaxed),
            error: shared.error.lock().clone(),
            ..Stats::default()
        };
        for source in &shared.sources {
            let [captured, bytes, dropped] = source.relay.counts();
            stats.captured += captured;
            stats.bytes += bytes;
            stats.dropped += dropped + source.lost.load(Ordering::Relaxed);
        }
        if stats.error.is_some() {
            // What was copied and is not in the file will not come into it any more.
            let lost = shared.sources.iter().map(|source| source.lost.load(Ordering::Relaxed)).sum::<u64>();
            stats.dropped += stats.captured.saturating_sub(stats.written + lost);
        }
        stats
    }

    /// Whether this is the process that made it: in a child that was forked a lock of it may be held for ever.
    pub fn is_ours(&self) -> Result<()> {
        if self.process == std::process::id() {
            return Ok(());
        }
        Err(Error::new(Errno::ECHILD, "the capture belongs to the process that this one was forked from"))
    }

    /// Takes the taps off, and waits until all that was captured is in the file. What ended it before, if something did.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        if let Err(e) = self.is_ours() {
            std::mem::forget(thread);
            return Err(e);
        }
        for port in self.ports.drain(..).filter_map(|port| port.upgrade()) {
            // A queue that can't be paused copies nothing any more, and loses its tap when it changes.
            match port.pause() {
                Ok(mut paused) => paused.set_tap(None),
                Err(e) => log::warn!("a capture has stopped: {e}"),
            }
        }
        self.shared.close();
        *self.shared.deadline.lock() = Some(Instant::now() + FLUSH);
        self.shared.stop.store(true, Ordering::Release);
        thread.thread().unpark();
        if self.ended.lock().recv_timeout(FLUSH + GRACE) == Err(RecvTimeoutError::Timeout) {
            // It is in the kernel, in a write that does not end.
            return Err(slow());
        }
        if thread.join().is_err() {
            return Err(Error::new(Errno::ENOTRECOVERABLE, "a bug in this library: the thread that writes has ended"));
        }
        self.shared.error.lock().take().map_or(Ok(()), Err)
    }
}

fn slow() -> Error {
    Error::new(Errno::ETIMEDOUT, "the file has not taken what was captured within 5 s")
}

impl Drop for Capture {
    fn drop(&mut self) {
        if let Err(e) = self.end() {
            log::warn!("a capture was not stopped well: {e}");
        }
    }
}

/// The thread that writes.
struct Writer {
    shared: Arc<Shared>,
    output: Output,
    buffer: Vec<u8>,
    /// Bytes that frames may still take of the file.
    room: u64,
    began: u64,
}

impl Writer {
    fn run(&mut self) {
        let (mut naps, mut idle) = (0, NAPS[0]);
        loop {
            // Looked at before the frames: what was captured before the stop is found after it.
            let last = self.shared.stop.load(Ordering::Acquire);
            let wrote = match self.round(last || naps >= PATIENCE).and_then(|n| self.flush().map(|()| n > 0)) {
                Ok(wrote) => wrote,
                Err(_) => return,
            };
            if last {
                break;
            }
            (naps, idle) = if wrote { (0, NAPS[0]) } else { (naps + 1, (2 * idle).min(NAPS[1])) };
            if !wrote {
                std::thread::park_timeout(idle);
            }
        }
        self.finish();
    }

    /// Takes the frames that there are, in the order of their times; how many.
    fn round(&mut self, all: bool) -> Result<u64> {
        let shared = self.shared.clone();
        let filling = shared.sources.iter().any(|source| source.relay.is_filling());
        let until = if all || filling { u64::MAX } else { clock::now().saturating_sub(ORDER) };
        let heads: Vec<_> = shared.sources.iter().map(|source| source.relay.head()).collect();
        let mut n = 0;
        loop {
            let fronts = shared.sources.iter().zip(&heads).enumerate();
            let fronts = fronts.filter_map(|(i, (source, head))| Some((i, source, source.relay.front(*head)?)));
            let first = fronts.min_by_key(|(_, _, record)| record.time);
            let Some((interface, source, record)) = first.filter(|(_, _, record)| record.time <= until) else { break };
            let size = pcapng::packet_len(record.kept) as u64;
            if shared.full.load(Ordering::Relaxed) || size > self.room {
                shared.full.store(true, Ordering::Relaxed);
                shared.close();
                source.lost.fetch_add(1, Ordering::Relaxed);
                source.relay.take(record, None);
                continue;
            }
            self.room -= size;
            let (time, len, kept) = (record.time, record.len, record.kept);
            let packet = Packet { interface: interface as u32, time, len, kept, direction: source.direction };
            pcapng::packet(&mut self.buffer, &packet, |out| source.relay.take(record, Some(out)));
            n += 1;
            if self.buffer.len() >= CHUNK {
                self.flush()?;
            }
        }
        Ok(n)
    }

    /// Writes what was put together. On an error the file ends with the last whole block, and nothing more is captured.
    fn flush(&mut self) -> Result<()> {
        let shared = &self.shared;
        let result = self.output.write(&self.buffer, || shared.goes_on());
        let given = match result {
            Ok(()) => self.buffer.as_slice(),
            Err((n, _)) => self.buffer.get(..n).unwrap_or_default(),
        };
        let (whole, packets) = pcapng::whole(given);
        shared.written.fetch_add(packets, Ordering::Relaxed);
        shared.file_bytes.fetch_add(whole as u64, Ordering::Relaxed);
        let Err((_, errno)) = result else {
            self.buffer.clear();
            return Ok(());
        };
        self.output.take_back(given.len() - whole);
        shared.close();
        let sentence = format!("the capture has ended, since its file cannot be written: {}", errno.desc());
        let error = Error::new(errno, sentence);
        *shared.error.lock() = Some(error.clone());
        Err(error)
    }

    /// The statistics at the end of the file.
    fn finish(&mut self) {
        let (from, to) = (self.began, clock::now());
        for (n, source) in (0..).zip(&self.shared.sources) {
            let ([captured, _, dropped], lost) = (source.relay.counts(), source.lost.load(Ordering::Relaxed));
            pcapng::statistics(&mut self.buffer, n, from, to, captured + dropped, dropped + lost);
        }
        // Its error is kept.
        let _ = self.flush();
    }
}
