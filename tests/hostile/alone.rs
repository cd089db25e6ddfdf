//! Promise: no lie about the rings does more than break its queue, and a reset mends that. Here the front-end is in the same
//! process as the hostile device, so that everything is seen: outcomes, frames to the byte, buffers.

#[allow(dead_code, reason = "the outcomes are shared with the lies of the control path")]
mod control;
#[allow(dead_code, reason = "front-ends in other processes are told of a lie by words")]
mod data;
mod device;
#[allow(dead_code, reason = "other front-ends have more outcomes, and a table")]
mod fault;
mod frame;
mod packed;
mod ring;
mod split;
mod tell;

use std::mem::MaybeUninit;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vuser::buf::MbufRef;
use vuser::buf::pool::{Pool, PoolConfig};
use vuser::dev::{Config, Device, SourceSetup};

use data::{Content, Lie, What};
use fault::{Fault, Kind, Outcome};

/// Buffers of the pool.
const BUFFERS: u32 = 512;
/// Frames after which a device works.
const ENOUGH: u32 = 200;
/// Without a frame for so long, nothing moves any more.
const STALL: Duration = Duration::from_secs(5);
/// The same where that is one of the right outcomes, so that a machine that is late does no harm.
const STALL_OF_A_STALL: Duration = Duration::from_millis(250);
/// Never reached by who works, on a busy machine either.
const LIMIT: Duration = Duration::from_secs(20);
/// A burst of a driver is never longer; on a busy machine it may not run for some time.
const BURST_WITHIN: Duration = Duration::from_secs(2);

struct Life {
    outcome: Outcome,
    says: String,
    fired: bool,
}

/// The front-end.
struct Front {
    device: Device,
    pool: Arc<Pool>,
    sent: u32,
    content: Content,
    corrupt: Option<String>,
    slowest: Duration,
    frames: u32,
}

impl Front {
    fn new(path: &std::path::Path, args: &str, content: Content) -> Self {
        let mut config = Config::default();
        config.parse(&format!("path={},huge=0,queue_size=64,{args}", path.display())).unwrap();
        let mut device = Device::new(config).unwrap();
        let pool = Pool::new(PoolConfig { count: BUFFERS, huge: false, ..PoolConfig::default() }).unwrap();
        device.setup_rx(0, 0, SourceSetup::Pool(pool.clone())).unwrap();
        device.setup_tx(0, 0, SourceSetup::Pool(pool.clone())).unwrap();
        device.start().unwrap();
        Self { device, pool, sent: 0, content, corrupt: None, slowest: Duration::ZERO, frames: 0 }
    }

    /// Sends up to eight frames of any length; those that were not taken are freed.
    fn send(&mut self) -> u32 {
        let mut burst = Vec::new();
        for _ in 0..8 {
            let mut one = [None];
            if self.pool.get_bulk(&mut one).is_err() {
                break;
            }
            let m = one[0].unwrap();
            self.sent += 1;
            let bytes = frame::make(self.sent, 60 + (self.sent as usize * 37) % 1400);
            // SAFETY: inside the buffer, which is ours.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), m.data(), bytes.len()) };
            m.set_data_len(bytes.len() as u16);
            m.set_pkt_len(bytes.len() as u32);
            burst.push(m);
        }
        let port = self.device.port(1).unwrap();
        let begin = Instant::now();
        // SAFETY: one thread uses the queue, and the packets are ours.
        let taken = unsafe { port.tx_burst(&burst) };
        self.slowest = self.slowest.max(begin.elapsed());
        // SAFETY: not taken, so ours.
        burst[taken..].iter().for_each(|m| unsafe { Pool::free(*m) });
        taken as u32
    }

    fn receive(&mut self) -> u32 {
        let mut out: [MaybeUninit<MbufRef>; 32] = [MaybeUninit::uninit(); 32];
        let begin = Instant::now();
        // SAFETY: one thread uses the queue.
        let n = unsafe { self.device.port(0).unwrap().rx_burst(&mut out) };
        self.slowest = self.slowest.max(begin.elapsed());
        for m in &out[..n] {
            // SAFETY: the burst has written it.
            let m = unsafe { m.assume_init() };
            self.check(m);
            // SAFETY: received, so ours.
            unsafe { Pool::free(m) };
        }
        self.frames += n as u32;
        n as u32
    }

    fn check(&mut self, m: MbufRef) {
        let (mut bytes, mut at) = (Vec::new(), Some(m));
        while let Some(part) = at {
            // SAFETY: inside the data of a frame that was received.
            bytes.extend((0..usize::from(part.data_len())).map(|k| unsafe { part.data().add(k).read_volatile() }));
            at = part.next();
        }
        let kind = frame::look(&bytes);
        let right = match kind {
            frame::Kind::Whole(number) => (1..=self.sent).contains(&number),
            frame::Kind::Cut | frame::Kind::Longer(_) => self.content >= Content::Length,
            frame::Kind::Foreign => self.content == Content::Free,
        };
        if !right || bytes.len() != m.pkt_len() as usize {
            let start = &bytes[..bytes.len().min(32)];
            self.corrupt.get_or_insert(format!("{kind:?} of {} bytes: {start:02x?}", bytes.len()));
        }
    }

    /// What a queue says, if it is broken.
    fn broken(&self) -> Option<String> {
        [0, 1].into_iter().find_map(|ring| self.device.port(ring).unwrap().status().err()).map(|e| e.to_string())
    }

    /// Frames there and back until there were enough, a queue is broken, or nothing moves.
    fn exchange(&mut self, stall: Duration, mut over: impl FnMut() -> bool) -> Result<(), Option<String>> {
        let (end, mut moved, mut count) = (Instant::now() + LIMIT, Instant::now(), 0);
        while Instant::now() < end {
            if let Some(sentence) = self.broken() {
                return Err(Some(sentence));
            }
            // Sending alone is no movement: a ring that nobody serves takes some.
            self.send();
            let n = self.receive();
            count += n;
            if n > 0 {
                moved = Instant::now();
            } else if moved.elapsed() > stall {
                return Err(None);
            } else {
                std::thread::sleep(Duration::from_micros(50));
            }
            if count >= ENOUGH && over() {
                return Ok(());
            }
        }
        Err(None)
    }

    /// Ends it; how many buffers are missing.
    fn close(mut self) -> usize {
        self.device.stop().unwrap();
        drop(self.device);
        BUFFERS as usize - self.pool.available()
    }
}

fn place(name: &str) -> PathBuf {
    let name: String = name.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
    std::env::temp_dir().join(format!("vuser-hostile-{}-{name}", std::process::id()))
}

/// One life against one lie.
fn live(name: &str, lie: Option<Lie>, args: &str, expect: &[Outcome]) -> Life {
    let path = place(&format!("{name}-{args}"));
    let device = device::Device::start(&path, device::Plan::new(lie), false);
    let content = lie.map_or(Content::Whole, |lie| lie.content());
    let mut front = Front::new(&path, args, content);
    let stall = if expect.contains(&Outcome::Stalled) { STALL_OF_A_STALL } else { STALL };
    // The lie first, then as many frames again.
    let (mut outcome, mut says) = (Outcome::Works, String::new());
    let first = front.exchange(stall, || lie.is_none() || device.fired() > 0);
    let ended = first.and_then(|()| front.exchange(stall, || true));
    if let Err(sentence) = ended {
        outcome = if sentence.is_some() { Outcome::Contained } else { Outcome::Stalled };
        says = sentence.unwrap_or_default();
        front.device.stop().unwrap();
        front.device.start().unwrap();
        if let Err(sentence) = front.exchange(STALL, || true) {
            (outcome, says) = (Outcome::Hang, format!("after a reset: {sentence:?}, {says}"));
        }
    }
    if let Some(what) = front.corrupt.take() {
        (outcome, says) = (Outcome::Corrupt, what);
    }
    if front.slowest > BURST_WITHIN {
        (outcome, says) = (Outcome::Hang, format!("a burst took {:?}", front.slowest));
    }
    let missing = front.close();
    if missing > 0 || device.could_cut() {
        (outcome, says) = (Outcome::Corrupt, format!("{missing} buffers are missing"));
    }
    Life { outcome, says, fired: device.fired() > 0 }
}

fn all(packed: bool, more: &str) {
    let args = format!("packed_vq={}{more}", u8::from(packed));
    let honest = live("honest", None, &args, &[]);
    assert_eq!(honest.outcome, Outcome::Works, "{}", honest.says);
    let mut wrong = Vec::new();
    for Fault { name, group, expect, kind } in data::faults() {
        let Kind::Data(lie) = kind else { continue };
        // What merged frames have is nothing without them.
        if !lie.fits(packed) || !more.is_empty() && matches!(lie.what, What::Buffers(_)) {
            continue;
        }
        let begin = Instant::now();
        let life = live(&name, Some(lie), &args, expect);
        let line = format!("{args} {name} ({}): {} {}", group.title(), life.outcome.word(), life.says);
        println!("{line} ({} ms)", begin.elapsed().as_millis());
        if !life.fired || !expect.contains(&life.outcome) {
            wrong.push(format!("{line}{}", if life.fired { "" } else { " (never fired)" }));
        }
    }
    assert!(wrong.is_empty(), "{} lies ended otherwise:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_lie_on_split_rings_is_survived_or_contained() {
    all(false, "");
}

#[test]
fn every_lie_on_packed_rings_is_survived_or_contained() {
    all(true, "");
}

#[test]
fn every_lie_on_split_rings_without_merged_frames_is_survived_or_contained() {
    all(false, ",mrg_rxbuf=0");
}

#[test]
fn every_lie_on_packed_rings_without_merged_frames_is_survived_or_contained() {
    all(true, ",mrg_rxbuf=0");
}
