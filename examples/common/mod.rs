//! What the example programs have in common, as `common.h` has it for those in C: the command line, opening a device, saying
//! what it is, a rate once a second, a clean end on Ctrl-C.
#![allow(dead_code, reason = "no example needs all of it")]

use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use vuser::buf::MbufRef;
use vuser::buf::pool::{Pool, PoolConfig};
use vuser::dev::port::{RxHandle, TxHandle};
use vuser::dev::{Config, Device, SourceSetup};
use vuser::spec::virtio::Features;

/// Frames in a call: enough to spread the cost of a call, few enough to stay in cache.
pub const BURST: usize = 32;

/// What ends a program: the command line, or the library.
pub enum Trouble {
    Usage(String),
    Failed(String),
}

impl From<vuser::error::Error> for Trouble {
    fn from(error: vuser::error::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<lexopt::Error> for Trouble {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

static STOPPING: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_: nix::libc::c_int) {
    STOPPING.store(true, Ordering::Relaxed);
}

/// Whether Ctrl-C was typed.
pub fn stopping() -> bool {
    STOPPING.load(Ordering::Relaxed)
}

/// Runs a program: the first Ctrl-C ends its loop, a second one kills; every error of the library's is a sentence.
pub fn run(usage: &str, main: impl FnOnce() -> Result<bool, Trouble>) -> ExitCode {
    let action = SigAction::new(SigHandler::Handler(on_signal), SaFlags::SA_RESETHAND, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler stores to an atomic, and nothing else.
        let _ = unsafe { sigaction(signal, &action) };
    }
    match main() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Trouble::Failed(sentence)) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
        Err(Trouble::Usage(what)) if what.is_empty() => {
            print!("{usage}");
            ExitCode::SUCCESS
        }
        Err(Trouble::Usage(what)) => {
            eprint!("{what}\n{usage}");
            ExitCode::from(2)
        }
    }
}

/// The help was asked for.
pub fn help<T>() -> Result<T, Trouble> {
    Err(Trouble::Usage(String::new()))
}

/// A number of an option's.
pub fn number<T: FromStr + PartialOrd + std::fmt::Display>(value: OsString, least: T, most: T) -> Result<T, Trouble> {
    let text = value.to_string_lossy().into_owned();
    let found = text.parse().ok().filter(|n| (&least..=&most).contains(&n));
    found.ok_or_else(|| Trouble::Usage(format!("{text}: a number from {least} to {most} is expected")))
}

/// An option that is text.
pub fn text(value: OsString) -> Result<String, Trouble> {
    value.into_string().map_err(|text| Trouble::Usage(format!("{}: it is not UTF-8", text.to_string_lossy())))
}

/// A device that shall be, from its text.
pub fn read_devargs(devargs: &str) -> Result<Config, Trouble> {
    let mut config = Config::default();
    config.parse(devargs)?;
    Ok(config)
}

/// Buffers for these devices. Frames go from one device to another without a copy only if both know the memory they are in:
/// use one pool for all devices that exchange frames.
pub fn make_pool(configs: &[&Config]) -> Result<Arc<Pool>, Trouble> {
    let of = |c: &&Config| u32::from(c.queues) * (2 * u32::from(c.queue_size) + 2 * 144 + 4 * BURST as u32);
    let huge = configs.iter().all(|config| config.huge);
    Ok(Pool::new(PoolConfig { count: configs.iter().map(of).sum(), huge, ..PoolConfig::default() })?)
}

/// Connects, sets every queue pair up and starts the device.
pub fn open_port(config: &Config, pool: &Arc<Pool>) -> Result<Device, Trouble> {
    let mut device = Device::new(config.clone())?;
    for pair in 0..config.queues {
        device.setup_rx(pair, 0, SourceSetup::Pool(pool.clone()))?;
        device.setup_tx(pair, 0, SourceSetup::Pool(pool.clone()))?;
    }
    device.start()?;
    Ok(device)
}

/// What has been agreed on.
pub fn print_port(name: &str, device: &mut Device) {
    let (info, size) = (device.info(), device.config().queue_size);
    let framing =
        [(info.features.contains(Features::IN_ORDER), ", in order"), (info.framing.mergeable, ", mergeable buffers")];
    let words: String = framing.iter().filter(|(on, _)| *on).map(|(_, word)| *word).collect();
    let layout = if info.features.contains(Features::RING_PACKED) { "packed" } else { "split" };
    let many = if info.pairs == 1 { "" } else { "s" };
    println!("{name}: {}, {layout} ring{words}, {} queue pair{many} of {size} descriptors", info.backend, info.pairs);
    let mac = info.mac.map(|byte| format!("{byte:02x}")).join(":");
    let speed = if info.speed == u32::MAX { String::new() } else { format!(", {} Mb/s", info.speed) };
    println!("{name}: MAC {mac}, MTU {}, link {}{speed}", info.mtu, if info.link_up { "up" } else { "down" });
    let names: Vec<_> = info.features.iter_names().map(|(name, _)| name.to_lowercase()).collect();
    println!("{name}: features {:#x}: {}", info.features.bits(), names.join(" "));
}

/// The counters of all queues.
pub fn print_port_statistics(name: &str, device: &Device) {
    for pair in 0..u32::from(device.config().queues) {
        let (Some(rx), Some(tx)) = (device.port(2 * pair), device.port(2 * pair + 1)) else { continue };
        let (rx, tx) = (rx.stats(), tx.stats());
        println!(
            "{name}, queue pair {pair}: received {} frames, {} bytes; sent {} frames, {} bytes",
            rx.packets, rx.bytes, tx.packets, tx.bytes
        );
    }
}

/// A queue that the other side broke moves nothing for ever; that is an error here.
pub fn check_port(device: &Device) -> Result<(), Trouble> {
    let queues = (0..2 * u32::from(device.config().queues)).filter_map(|index| device.port(index));
    for queue in queues {
        queue.status()?;
    }
    Ok(())
}

/// Up to a burst of frames, which are the caller's.
pub fn receive(rx: &mut RxHandle<'_>, most: usize) -> Vec<MbufRef> {
    let mut places = [MaybeUninit::<MbufRef>::uninit(); BURST];
    let n = rx.burst(&mut places[..most.min(BURST)]);
    // SAFETY: the burst has written so many.
    places[..n].iter().map(|place| unsafe { place.assume_init() }).collect()
}

/// Sends frames of ours; those that were not taken, which are ours still.
pub fn send<'a>(tx: &mut TxHandle<'_>, frames: &'a [MbufRef]) -> &'a [MbufRef] {
    // SAFETY: each of them came from a pool or a burst, and is nowhere else.
    let sent = unsafe { tx.burst(frames) };
    &frames[sent..]
}

/// Gives frames back to their pools.
pub fn free(frames: &[MbufRef]) {
    let all: Vec<_> = frames.iter().copied().map(Some).collect();
    // SAFETY: they are ours, and of a pool.
    unsafe { Pool::free_bulk(&all) };
}

/// The bytes of a frame that is in one buffer.
pub fn bytes(frame: &mut MbufRef) -> &mut [u8] {
    // SAFETY: so many bytes are there, and a frame that was received or made is nobody else's. Whoever holds the slice
    // keeps the frame.
    unsafe { std::slice::from_raw_parts_mut(frame.data(), frame.data_len().into()) }
}

/// A frame of these bytes; None while the pool has none.
pub fn make(pool: &Pool, content: &[u8]) -> Option<MbufRef> {
    let mut frame = pool.get()?;
    frame.set_data_len(content.len() as u16);
    frame.set_pkt_len(content.len() as u32);
    bytes(&mut frame).copy_from_slice(content);
    Some(frame)
}

/// A line per second.
pub struct Meter {
    pub start: Instant,
    last: Instant,
    limit: u64,
    before: u64,
    skip: u32,
}

impl Meter {
    /// For so many seconds, 0 for ever.
    pub fn new(limit: u64) -> Self {
        let now = Instant::now();
        Self { start: now, last: now, limit, before: 0, skip: 0 }
    }

    /// To be called once per round with the frames moved so far; false when the time is over, or Ctrl-C was typed. Looks at
    /// the clock only now and then: a round may take less time than the question.
    pub fn tick(&mut self, frames: u64, verb: &str) -> bool {
        self.skip += 1;
        if !self.skip.is_multiple_of(64) {
            return !stopping();
        }
        let passed = self.last.elapsed().as_secs_f64();
        if passed >= 1.0 {
            let rate = (frames - self.before) as f64 / passed / 1e6;
            println!("{:4.0} s  {rate:10.3} Mpps  {frames:14} frames {verb}", self.start.elapsed().as_secs_f64());
            (self.last, self.before) = (Instant::now(), frames);
        }
        !stopping() && (self.limit == 0 || self.start.elapsed() < Duration::from_secs(self.limit))
    }

    /// The last line.
    pub fn total(&self, frames: u64, verb: &str) {
        let passed = self.start.elapsed().as_secs_f64();
        println!("total: {frames} frames {verb} in {passed:.2} s, {:.3} Mpps", frames as f64 / passed / 1e6);
    }
}
