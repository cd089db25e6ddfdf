//! Promise: no wake-up is lost. One frame is under way at a time, and both sides sleep until they are woken: if either
//! forgot to wake the other, or either missed it, nothing would move any more.
//!
//! `VUSER_WAKEUPS` is the number of waits of all cases together.

use std::mem::MaybeUninit;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use vuser::buf::MbufRef;
use vuser::buf::pool::{Pool, PoolConfig};
use vuser::dev::port::Port;
use vuser::dev::{Config, Device, SourceSetup};
use vuser::device::{Loopback, Options};

/// Far longer than any wake-up takes on a busy machine.
const LOST: Duration = Duration::from_secs(20);
const BUFFERS: u32 = 256;

/// A device that sleeps as soon as it has nothing to do, and the driver's side of it.
struct Pair {
    device: Device,
    rx: Arc<Port>,
    tx: Arc<Port>,
    pool: Arc<Pool>,
    _peer: Loopback,
    _directory: Directory,
}

struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Pair {
    fn new(devargs: &str, options: &str) -> Self {
        let directory = Directory(std::env::temp_dir().join(format!("vuser-wakeups-{}", std::process::id())));
        std::fs::create_dir_all(&directory.0).unwrap();
        let path = directory.0.join("socket");
        let peer = Loopback::listen(&path, Options::parse(options).unwrap()).unwrap();
        let pool = Pool::new(PoolConfig { count: BUFFERS, huge: false, ..PoolConfig::default() }).unwrap();
        let mut config = Config::default();
        config.parse(&format!("path={},{devargs}", path.display())).unwrap();
        let mut device = Device::new(config).unwrap();
        device.setup_rx(0, 0, SourceSetup::Pool(pool.clone())).unwrap();
        device.setup_tx(0, 0, SourceSetup::Pool(pool.clone())).unwrap();
        device.start().unwrap();
        let (rx, tx) = (device.port(0).unwrap().clone(), device.port(1).unwrap().clone());
        Self { device, rx, tx, pool, _peer: peer, _directory: directory }
    }

    /// Sends frames; how many sleeps it takes until they have been sent.
    fn send(&self, frames: usize) -> usize {
        let mut packets = [None; 64];
        self.pool.get_bulk(&mut packets[..frames]).unwrap();
        let packets: Vec<MbufRef> = packets.into_iter().flatten().collect();
        packets.iter().for_each(|m| {
            m.set_data_len(60);
            m.set_pkt_len(60);
        });
        // SAFETY: the packets are ours, and this thread is the only one that uses the queue, here and below.
        assert_eq!(unsafe { self.tx.tx_burst(&packets) }, frames);
        // SAFETY: as above.
        self.sleep(&self.tx, frames, "nobody said that frames were sent", |tx| unsafe { tx.tx_done_cleanup(64) })
    }

    /// Receives so many frames; how many sleeps it takes.
    fn receive(&self, frames: usize) -> usize {
        self.sleep(&self.rx, frames, "nobody said that frames came", |rx| {
            let mut out = [MaybeUninit::uninit(); 16];
            // SAFETY: as above; the burst has written what it gave.
            unsafe {
                let n = rx.rx_burst(&mut out);
                out[..n].iter().for_each(|m| Pool::free(m.assume_init()));
                n
            }
        })
    }

    fn sleep(&self, port: &Port, mut left: usize, lost: &str, take: impl Fn(&Port) -> usize) -> usize {
        let mut sleeps = 0;
        while left > 0 {
            // SAFETY: as above.
            assert!(unsafe { port.wait(LOST) }, "{lost}, after {sleeps} sleeps");
            sleeps += 1;
            left -= take(port);
        }
        sleeps
    }
}

/// Waits until there have been `waits`, of one frame and now and then of more at a time.
fn rounds(pair: &Pair, waits: usize) -> usize {
    let (mut done, mut round) = (0, 0);
    while done < waits {
        let frames = if round % 16 == 0 { 1 + round / 16 % 33 } else { 1 };
        done += pair.send(frames) + pair.receive(frames);
        round += 1;
    }
    done
}

#[test]
fn no_wake_up_is_lost() {
    let all: usize = std::env::var("VUSER_WAKEUPS").map_or(1_000_000, |n| n.parse().unwrap());
    let cases = [0, 1].map(|packed| [0, 1].map(|event| [false, true].map(|load| (packed, event, load))));
    let cases = cases.as_flattened().as_flattened();
    for &(packed, event, load) in cases {
        // Half of them in order, which changes how buffers are used.
        let in_order = packed ^ event ^ i32::from(load);
        let devargs = format!("queue_size=64,packed_vq={packed},in_order={in_order}");
        let pair = Pair::new(&devargs, &format!("spin_us=0,event_idx={event}"));
        let (busy, begin) = (AtomicBool::new(load), std::time::Instant::now());
        std::thread::scope(|scope| {
            if load {
                // Threads that want the same CPUs put both sides aside where nobody expects it.
                (0..2).for_each(|_| {
                    scope.spawn(|| {
                        while busy.load(Relaxed) {
                            std::hint::spin_loop();
                        }
                    });
                });
            }
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| rounds(&pair, all / cases.len())));
            busy.store(false, Relaxed);
            let done = result.unwrap_or_else(|e| {
                eprintln!("this was {devargs}, event_idx={event}, load={load}");
                std::panic::resume_unwind(e)
            });
            println!("{devargs},event_idx={event},load={load}: {done} waits in {:?}", begin.elapsed());
        });
        let Pair { mut device, rx, tx, pool, .. } = pair;
        let kicks = rx.stats().kicks + tx.stats().kicks;
        assert!(kicks > 0, "the device did not sleep");
        device.stop().unwrap();
        assert_eq!(pool.available(), BUFFERS as usize);
    }
}
