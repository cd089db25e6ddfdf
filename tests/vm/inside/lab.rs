//! Devices, interfaces and namespaces for the tests: nothing here judges.
#![allow(dead_code, reason = "each test uses a part")]

use std::mem::MaybeUninit;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use vuser::buf::MbufRef;
use vuser::buf::mbuf::flags;
use vuser::buf::pool::{Pool, PoolConfig};
use vuser::dev::{Config, Device, SourceSetup};

/// Runs a line of shell, which has to succeed; what it printed.
pub fn sh(line: &str) -> String {
    let output = Command::new("bash").args(["-ec", line]).output().expect("bash");
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    assert!(output.status.success(), "{line}: {}\n{}", output.status, String::from_utf8_lossy(&said));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A file of the kernel's, in one word.
pub fn cat(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}")).trim().to_owned()
}

/// Waits until something is so, for ten seconds.
pub fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < end, "not within ten seconds: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs something in another network namespace.
pub fn in_namespace<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let file = std::fs::File::open(format!("/run/netns/{name}")).expect("a namespace");
    std::thread::spawn(move || {
        setns(file, CloneFlags::CLONE_NEWNET).expect("to enter a namespace");
        work()
    })
}

pub fn config(devargs: &str) -> Config {
    let mut config = Config::default();
    config.parse(devargs).expect(devargs);
    config
}

/// A pool for so many devices like this one, in huge pages if there are any.
pub fn pool(config: &Config, devices: u32) -> Arc<Pool> {
    let count = devices * u32::from(config.queues) * (2 * u32::from(config.queue_size) + 128);
    let pool = Pool::new(PoolConfig { count, ..PoolConfig::default() }).expect("a pool");
    let there_are = cat("/proc/meminfo").lines().any(|l| l.starts_with("HugePages_Free:") && !l.ends_with(" 0"));
    assert!(pool.memory().is_huge() || !there_are, "there are huge pages, and none was used");
    pool
}

/// A device with all its queues, started.
pub fn device(devargs: &str, pool: &Arc<Pool>) -> Device {
    let mut device = Device::new(config(devargs)).expect(devargs);
    for pair in 0..device.config().queues {
        device.setup_rx(pair, 0, SourceSetup::Pool(pool.clone())).expect("a receive queue");
        device.setup_tx(pair, 0, SourceSetup::Pool(pool.clone())).expect("a transmit queue");
    }
    device.start().expect(devargs);
    device
}

/// One burst.
pub fn receive(device: &mut Device, pair: usize) -> Vec<MbufRef> {
    let mut out = [MaybeUninit::uninit(); 32];
    let n = device.pairs()[pair].0.burst(&mut out);
    // SAFETY: the burst has filled so many.
    out[..n].iter().map(|m| unsafe { m.assume_init() }).collect()
}

/// One burst; what does not fit is freed. How many fitted.
pub fn send(device: &mut Device, pair: usize, packets: &[MbufRef]) -> usize {
    // SAFETY: the packets are ours.
    unsafe {
        let mut pairs = device.pairs();
        let sent = pairs[pair].1.burst(packets);
        packets[sent..].iter().for_each(|m| Pool::free(*m));
        sent
    }
}

/// The bytes of a packet, which has to be in one segment as far as they go.
pub fn bytes(m: MbufRef) -> &'static mut [u8] {
    // SAFETY: the data of a packet that is ours, for as long as the caller has it.
    unsafe { std::slice::from_raw_parts_mut(m.data(), m.data_len().into()) }
}

/// What a wire has seen of frames.
#[derive(Default)]
pub struct Seen {
    pub frames: AtomicU64,
    /// Longer than an MTU of 1500 lets frames be.
    pub large: AtomicU64,
    /// Whose checksum was left to us.
    pub partial: AtomicU64,
    pub dropped: AtomicU64,
    /// By queue pair that they came in by.
    pub pairs: [AtomicU64; 8],
}

/// A wire between two devices: what comes in at one goes out at the other, with all that is still to be done to it.
pub struct Wire {
    stop: Arc<AtomicBool>,
    pub seen: Arc<Seen>,
    thread: Option<JoinHandle<[Device; 2]>>,
}

impl Wire {
    pub fn new(mut ends: [Device; 2]) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
        let (told, counts) = (stop.clone(), seen.clone());
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                let moved = pass(&mut ends, 0, &counts) + pass(&mut ends, 1, &counts);
                if moved == 0 {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
            ends
        });
        Self { stop, seen, thread: Some(thread) }
    }

    /// Cuts the wire; the devices, still started.
    pub fn cut(mut self) -> [Device; 2] {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("once").join().expect("the wire")
    }
}

impl Drop for Wire {
    /// A test that has failed leaves no interfaces to the next one.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn pass(ends: &mut [Device; 2], from: usize, seen: &Seen) -> usize {
    let mut moved = 0;
    for pair in 0..usize::from(ends[from].config().queues) {
        let got = receive(&mut ends[from], pair);
        for m in &got {
            seen.frames.fetch_add(1, Ordering::Relaxed);
            seen.large.fetch_add((m.pkt_len() > 1514).into(), Ordering::Relaxed);
            seen.partial.fetch_add((m.ol_flags() & flags::RX_L4_CKSUM_NONE != 0).into(), Ordering::Relaxed);
            seen.pairs[pair].fetch_add(1, Ordering::Relaxed);
            pass_on(*m);
        }
        let sent = send(&mut ends[1 - from], pair, &got);
        seen.dropped.fetch_add((got.len() - sent) as u64, Ordering::Relaxed);
        moved += got.len();
    }
    moved
}

/// Asks the next device for what the former left undone.
fn pass_on(m: MbufRef) {
    let (data, received) = (bytes(m), m.ol_flags());
    let ipv4 = data.len() >= 34 && data[12..14] == [8, 0];
    let ipv6 = data.len() >= 54 && data[12..14] == [0x86, 0xdd] && matches!(data[20], 6 | 17);
    if received & flags::RX_L4_CKSUM_NONE == 0 || !(ipv4 || ipv6) {
        return m.set_ol_flags(0);
    }
    let (l2, l3, tcp) = match ipv4 {
        true => (14u64, u64::from(data[14] & 0xf) * 4, data[23] == 6),
        false => (14, 40, data[20] == 6),
    };
    let at = (l2 + l3) as usize;
    let l4 = if tcp { u64::from(data[at + 12] >> 4) * 4 } else { 8 };
    let large = received & flags::RX_LRO != 0;
    let segsz = if large { m.raw_tx_offload() >> 24 & 0xffff } else { 0 };
    m.set_raw_tx_offload(l2 | l3 << 7 | l4 << 16 | segsz << 24);
    m.set_ol_flags(
        if ipv4 { flags::TX_IPV4 } else { flags::TX_IPV6 }
            | match (tcp, large) {
                (true, false) => flags::TX_TCP_CKSUM,
                (true, true) => flags::TX_TCP_SEG | flags::TX_TCP_CKSUM,
                (false, false) => flags::TX_UDP_CKSUM,
                (false, true) => flags::TX_UDP_SEG | flags::TX_UDP_CKSUM,
            },
    );
}
