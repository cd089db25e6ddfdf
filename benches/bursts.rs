//! What a burst costs the CPU: cycles and instructions per packet, on every layout and feature set.
//!
//! The device is in this process and on this thread: between two bursts, outside the measured window, it marks
//! descriptors as used, and does nothing else. So nothing but the driver's own work is measured, on one core, and
//! it reproduces to a few per cent. Cycles are those of the time stamp counter between two fenced reads, less what
//! the reads cost; instructions are counted exactly, by single-stepping a burst in a child process.

use std::arch::x86_64::{_mm_lfence, _rdtsc};
use std::mem::MaybeUninit;
use std::sync::Arc;

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use vuser::buf::MbufRef;
use vuser::buf::pool::{Cache, Pool, PoolConfig};
use vuser::buf::source::Source;
use vuser::mem::kick::Kick;
use vuser::mem::lanes::Simd;
use vuser::mem::map::{MemoryMap, Region};
use vuser::mem::reach::MapCell;
use vuser::net::copy::{Frames, Places};
use vuser::net::lend::LentFrame;
use vuser::net::path::{self, RingPlace, Rx, Tx};
use vuser::net::rx::RxOptions;
use vuser::net::send::{EXTRA, Extras};
use vuser::net::tx::TxParts;
use vuser::spec::ring::{DESC_F_AVAIL, DESC_F_USED, QueueLayout};
use vuser::spec::virtio::Features;
use vuser::sys::shm::SharedMemory;

const FRAME: u32 = 64;
const HEADER: u32 = 12;
const ROUNDS: usize = 20_000;

/// Marks descriptors as used in the order they were offered.
struct NullDevice {
    base: *mut u8,
    layout: QueueLayout,
    size: u16,
    packed: bool,
    /// Bytes it claims to have written.
    len: u32,
    next: u16,
    done: u16,
    wrap: bool,
}

impl NullDevice {
    fn use_some(&mut self, n: u16) {
        for _ in 0..n {
            let slot = usize::from(self.next);
            // SAFETY: inside the ring memory, which this thread alone uses; volatile, as another process would.
            unsafe {
                if self.packed {
                    let flags = if self.wrap { DESC_F_AVAIL | DESC_F_USED } else { 0 };
                    let meta = u64::from(self.len) | (slot as u64) << 32 | u64::from(flags) << 48;
                    self.base.add(self.layout.desc + 16 * slot + 8).cast::<u64>().write_volatile(meta);
                } else {
                    let element = slot as u64 | u64::from(self.len) << 32;
                    self.base.add(self.layout.device + 4 + 8 * slot).cast::<u64>().write_volatile(element);
                }
            }
            self.next += 1;
            if self.next == self.size {
                (self.next, self.wrap) = (0, !self.wrap);
            }
        }
        self.done = self.done.wrapping_add(n);
        if !self.packed {
            // SAFETY: the used index.
            unsafe { self.base.add(self.layout.device + 2).cast::<u16>().write_volatile(self.done) };
        }
    }
}

struct Bench {
    pool: Arc<Pool>,
    /// Kept as long as the queue.
    _memory: SharedMemory,
    device: NullDevice,
}

fn bench(simd: Simd, features: Features, size: u16, len: u32) -> (Bench, RingPlace, Extras) {
    let pool = Pool::new(PoolConfig { count: 2048, huge: false, ..PoolConfig::default() }).unwrap();
    // The headers of a device that merges: one buffer. Nobody overwrites them here.
    let all: Vec<_> = std::iter::from_fn(|| pool.get()).collect();
    for m in &all {
        // SAFETY: inside the headroom, at whose end the header is.
        unsafe { m.data().sub(2).cast::<u16>().write(1) };
    }
    // SAFETY: buffers of a living pool.
    all.into_iter().for_each(|m| unsafe { Pool::free(m) });
    let layout = path::layout(features, size);
    let memory = SharedMemory::new("bench", layout.bytes + usize::from(size) * EXTRA, false).unwrap();
    let base = memory.addr();
    let packed = features.contains(Features::RING_PACKED);
    // SAFETY: room was made for them behind the ring.
    let extras = unsafe { Extras::new(base.add(layout.bytes)) };
    let device = NullDevice { base, layout, size, packed, len, next: 0, done: 0, wrap: true };
    // SAFETY: the parts of the ring; a device that polls wants no kicks.
    unsafe {
        let quiet = if packed { 1u32 << 16 } else { 1 };
        base.add(layout.device).cast::<u32>().write_volatile(quiet);
    }
    (Bench { pool, _memory: memory, device }, RingPlace { base, size, simd }, extras)
}

fn receiver(simd: Simd, features: Features, size: u16) -> (Bench, Box<dyn Rx>) {
    let (bench, place, _) = bench(simd, features, size, HEADER + FRAME);
    let source = Source::Pool(Cache::new(bench.pool.clone()));
    let kick = Arc::new(Kick::new().unwrap());
    // SAFETY: the memory is kept in the bench.
    let mut rx = unsafe { path::rx(place, source, features, RxOptions::default(), Arc::default(), kick) };
    (0..=size / 32).for_each(|_| rx.refill());
    (bench, rx)
}

fn sender(simd: Simd, features: Features, size: u16) -> (Bench, Box<dyn Tx>) {
    let (bench, place, extras) = bench(simd, features, size, 0);
    let mut map = MemoryMap::default();
    map.add(Region::ours(bench.pool.memory().clone())).unwrap();
    let source = Source::Pool(Cache::new(bench.pool.clone()));
    let (map, kick) = (Arc::new(MapCell::new(&map)), Arc::new(Kick::new().unwrap()));
    let parts = TxParts { source, features, extras, map, board: Arc::default(), kick, sort: false, shift: 0 };
    // SAFETY: the memory is kept in the bench.
    let tx = unsafe { path::tx(place, parts) };
    (bench, tx)
}

fn now() -> u64 {
    // SAFETY: every x86-64 CPU has both.
    unsafe {
        _mm_lfence();
        let t = _rdtsc();
        _mm_lfence();
        t
    }
}

/// What two reads of the counter cost by themselves.
fn overhead() -> u64 {
    (0..1000).map(|_| now().abs_diff(now())).min().unwrap_or(0)
}

/// One round of a queue: prepares it, runs `window` around the burst alone, and cleans up.
type Round<'a> = Box<dyn FnMut(&mut dyn FnMut(&mut dyn FnMut())) + 'a>;

fn rx_round(simd: Simd, features: Features, size: u16, burst: u16) -> Round<'static> {
    let (mut bench, mut rx) = receiver(simd, features, size);
    let mut out = vec![MaybeUninit::<MbufRef>::uninit(); usize::from(burst)];
    Box::new(move |window| {
        // The whole of it is captured, with the memory that only its pointers name.
        let bench = &mut bench;
        bench.device.use_some(burst);
        let mut got = 0;
        window(&mut || got = rx.burst(&mut out));
        assert_eq!(got, usize::from(burst));
        // SAFETY: the burst has written them.
        let frames: Vec<_> = out.iter().map(|m| unsafe { m.assume_init() }).collect();
        assert!(frames.iter().all(|m| m.pkt_len() == FRAME));
        bench.pool.put_plain(&frames);
    })
}

fn tx_round(simd: Simd, features: Features, size: u16, burst: u16) -> Round<'static> {
    let (mut bench, mut tx) = sender(simd, features, size);
    let mut packets = vec![None; usize::from(burst)];
    Box::new(move |window| {
        let bench = &mut bench;
        bench.pool.get_bulk(&mut packets).unwrap();
        let ready: Vec<_> = packets.iter().copied().flatten().collect();
        for m in &ready {
            m.set_data_len(FRAME as u16);
            m.set_pkt_len(FRAME);
        }
        let mut sent = 0;
        window(&mut || sent = tx.burst(&ready));
        assert_eq!(sent, usize::from(burst));
        bench.device.use_some(burst);
    })
}

/// Frames are looked at in place and given back: both calls.
fn borrow_round(simd: Simd, features: Features, size: u16, burst: u16) -> Round<'static> {
    let (mut bench, mut rx) = receiver(simd, features, size);
    let mut out = vec![MaybeUninit::<LentFrame>::uninit(); usize::from(burst)];
    Box::new(move |window| {
        let bench = &mut bench;
        bench.device.use_some(burst);
        let mut got = 0;
        window(&mut || {
            got = rx.peek(&mut out);
            rx.release(got);
        });
        assert_eq!(got, usize::from(burst));
        // SAFETY: lent, so written.
        assert!(out.iter().all(|frame| unsafe { frame.assume_init() }.len == FRAME));
    })
}

/// Frames are copied out of the ring.
fn copy_out_round(simd: Simd, features: Features, size: u16, burst: u16) -> Round<'static> {
    let (mut bench, mut rx) = receiver(simd, features, size);
    let mut data = vec![0u8; usize::from(burst) * 2048];
    let row = || vec![MaybeUninit::uninit(); usize::from(burst)];
    let (mut offsets, mut lengths) = (row(), row());
    Box::new(move |window| {
        let bench = &mut bench;
        bench.device.use_some(burst);
        let (size, data) = (data.len(), data.as_mut_ptr());
        let mut places = Places { data, size, offsets: &mut offsets, lengths: &mut lengths };
        let mut got = 0;
        // SAFETY: the memory is ours, of this size.
        window(&mut || got = unsafe { rx.copy_out(&mut places) });
        assert_eq!(got, usize::from(burst));
    })
}

/// Frames are copied into buffers of the queue's.
fn copy_in_round(simd: Simd, features: Features, size: u16, burst: u16) -> Round<'static> {
    let (mut bench, mut tx) = sender(simd, features, size);
    let data = vec![0u8; usize::from(burst) * FRAME as usize];
    let offsets: Vec<u32> = (0..u32::from(burst)).map(|n| n * FRAME).collect();
    let lengths = vec![FRAME; usize::from(burst)];
    Box::new(move |window| {
        let bench = &mut bench;
        let frames = Frames { data: data.as_ptr(), size: data.len(), offsets: &offsets, lengths: &lengths };
        let mut sent = 0;
        // SAFETY: the memory is ours, of this size.
        window(&mut || sent = unsafe { tx.copy_in(frames) });
        assert_eq!(sent, usize::from(burst));
        bench.device.use_some(burst);
    })
}

/// Median cycles per packet.
fn cycles(mut round: Round<'_>, burst: u16) -> f64 {
    let reads = overhead();
    let mut times: Vec<u64> = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        round(&mut |burst| {
            let begin = now();
            burst();
            times.push((now() - begin).saturating_sub(reads));
        });
    }
    // The mean without the slowest percent, which are interrupts: collecting comes in lumps, so that the median
    // burst is not what a burst costs on average.
    times.sort_unstable();
    times.truncate(ROUNDS * 99 / 100);
    times.iter().sum::<u64>() as f64 / times.len() as f64 / f64::from(burst)
}

/// Exact instructions per packet, over as many bursts as a ring has laps of them.
fn instructions(mut round: Round<'_>, burst: u16, size: u16) -> f64 {
    let rounds = 4 * u32::from(size / burst);
    // SAFETY: this program has one thread.
    match unsafe { fork() }.expect("a child process") {
        ForkResult::Child => {
            ptrace::traceme().expect("to be traced");
            for warm in [true, false] {
                for _ in 0..rounds {
                    round(&mut |burst| {
                        let trap = || {
                            if !warm {
                                // SAFETY: the parent waits for this signal.
                                unsafe { libc::raise(libc::SIGUSR1) };
                            }
                        };
                        trap();
                        burst();
                        trap();
                    });
                }
            }
            std::process::exit(0);
        }
        ForkResult::Parent { child } => {
            let count = |skip: bool| -> Option<u64> {
                let mut steps = 0;
                loop {
                    match waitpid(child, None).expect("the child") {
                        WaitStatus::Stopped(_, Signal::SIGUSR1) => return Some(steps),
                        WaitStatus::Stopped(_, Signal::SIGTRAP) => steps += 1,
                        WaitStatus::Stopped(_, signal) => panic!("the child got {signal}"),
                        _ => return None,
                    }
                    if skip { ptrace::cont(child, None) } else { ptrace::step(child, None) }.expect("to go on");
                }
            };
            let mut total = 0;
            while count(true).is_some() {
                ptrace::step(child, None).expect("to go on");
                total += count(false).expect("the end of a burst");
                ptrace::cont(child, None).expect("to go on");
            }
            total as f64 / f64::from(rounds) / f64::from(burst)
        }
    }
}

/// What the signals around an empty window cost.
fn empty() -> f64 {
    instructions(Box::new(|window| window(&mut || {})), 1, 8)
}

fn name(features: Features) -> String {
    let name = [
        if features.contains(Features::RING_PACKED) { "packed" } else { "split" },
        if features.contains(Features::MRG_RXBUF) { " mergeable" } else { "" },
        if features.contains(Features::IN_ORDER) { " in-order" } else { "" },
    ];
    name.concat()
}

fn row(simd: Simd, features: Features, size: u16, around: f64) {
    let [rx32, tx32, rx8, tx8] = [32, 8]
        .map(|b| [cycles(rx_round(simd, features, size, b), b), cycles(tx_round(simd, features, size, b), b)])
        .concat()
        .try_into()
        .expect("four figures");
    let rx_instr = instructions(rx_round(simd, features, size, 32), 32, size) - around / 32.0;
    let tx_instr = instructions(tx_round(simd, features, size, 32), 32, size) - around / 32.0;
    println!(
        "{:8} {:26} {rx32:>10.1} {tx32:>11.1} {rx8:>10.1} {tx8:>11.1} {rx_instr:>10.1} {tx_instr:>11.1}",
        simd.name(),
        name(features)
    );
}

/// The same of frames that are borrowed, and of those that are copied.
fn row_without_packets(simd: Simd, features: Features, size: u16, around: f64) {
    let rounds = [borrow_round, copy_out_round, copy_in_round];
    let [lent32, out32, in32] = rounds.map(|round| cycles(round(simd, features, size, 32), 32));
    let [lent8, out8, in8] = rounds.map(|round| cycles(round(simd, features, size, 8), 8));
    let [lent, copied, sent] =
        rounds.map(|round| instructions(round(simd, features, size, 32), 32, size) - around / 32.0);
    println!(
        "{:8} {:26} {lent32:>7.1} {out32:>7.1} {in32:>7.1} {lent8:>7.1} {out8:>7.1} {in8:>7.1} {lent:>7.1} {copied:>7.1} \
         {sent:>7.1}",
        simd.name(),
        name(features)
    );
}

/// Calls a body for all lanes that the CPU has, on every layout and feature set.
fn each_path(mut row: impl FnMut(Simd, Features)) {
    for simd in [Simd::Avx512, Simd::Avx2, Simd::Scalar].into_iter().filter(|simd| simd.available() == *simd) {
        for packed in [false, true] {
            for (mrg, order) in [(true, false), (true, true), (false, true), (false, false)] {
                let mut features = Features::VERSION_1 | Features::INDIRECT_DESC | Features::EVENT_IDX;
                features.set(Features::RING_PACKED, packed);
                features.set(Features::MRG_RXBUF, mrg);
                features.set(Features::IN_ORDER, order);
                row(simd, features);
            }
        }
    }
}

fn main() {
    let size = 256;
    println!("{:35} {:>22} {:>22} {:>22}", "", "burst 32", "burst 8", "burst 32");
    println!(
        "{:35} {:>10} {:>11} {:>10} {:>11} {:>10} {:>11}",
        "path", "rx c/p", "tx c/p", "rx c/p", "tx c/p", "rx instr", "tx instr"
    );
    let around = empty();
    each_path(|simd, features| row(simd, features, size, around));
    println!("\nwithout packets: frames borrowed (vuser_rx_peek and _release), copied out and copied in (_burst_copy)");
    println!("{:35} {:>23} {:>23} {:>23}", "", "burst 32, c/p", "burst 8, c/p", "burst 32, instructions");
    let columns = [" borrow", "rx copy", "tx copy"].join(" ");
    println!("{:35} {columns} {columns} {columns}", "path");
    each_path(|simd, features| row_without_packets(simd, features, size, around));
}
