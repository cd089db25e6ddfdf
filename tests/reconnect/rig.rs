//! A device with one thread's queues, and the built-in device in the place of its back-end, as often as it is wanted.

use std::mem::MaybeUninit;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use vuser::buf::MbufRef;
use vuser::buf::pool::{Pool, PoolConfig};
use vuser::dev::events::{Event, Kind};
use vuser::dev::handle::Handle;
use vuser::dev::port::Port;
use vuser::dev::{Config, Device, Info, SourceSetup};
use vuser::device::{Loopback, Options};
use vuser::sys::socket::{Deadline, Stream};

/// Time for what is meant to happen; never reached, even on a busy machine.
pub const PATIENT: Duration = Duration::from_secs(20);
/// Buffers of a rig.
pub const BUFFERS: u32 = 2048;

/// A place for a socket that nobody else has.
pub fn place() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("vuser-reconnect-{}-{number}", std::process::id()))
}

pub fn options(text: &str) -> Options {
    Options::parse(text).unwrap()
}

/// Does something until it is so.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENT;
    while !so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub struct Rig {
    pub path: PathBuf,
    pub handle: Handle,
    pub pool: Arc<Pool>,
    pub seen: Vec<Event>,
    pub sent: u32,
}

impl Rig {
    pub fn make(path: PathBuf, devargs: &str) -> vuser::error::Result<Self> {
        let mut config = Config::default();
        config.parse(&format!("path={},huge=0,queue_size=64,reconnect_ms=20", path.display())).unwrap();
        config.parse(devargs).unwrap();
        let (handle, pairs) = (Handle::new(config.clone())?, config.queues);
        let pool = Pool::new(PoolConfig { count: BUFFERS, huge: false, ..PoolConfig::default() }).unwrap();
        handle.with(|device| {
            for pair in 0..pairs {
                device.setup_rx(pair, 0, SourceSetup::Pool(pool.clone())).unwrap();
                device.setup_tx(pair, 0, SourceSetup::Pool(pool.clone())).unwrap();
            }
        });
        Ok(Self { path, handle, pool, seen: Vec::new(), sent: 0 })
    }

    pub fn new(devargs: &str) -> Self {
        Self::make(place(), devargs).unwrap()
    }

    pub fn start(self) -> Self {
        self.device(|d| d.start().unwrap());
        self
    }

    pub fn device<T>(&self, call: impl FnOnce(&mut Device) -> T) -> T {
        self.handle.with(call)
    }

    pub fn info(&self) -> Info {
        self.device(Device::info)
    }

    /// What a queue says of itself; empty when it works.
    pub fn says(&self, ring: u32) -> String {
        self.port(ring).status().map_or_else(|e| e.to_string(), |()| String::new())
    }

    fn port(&self, ring: u32) -> Arc<Port> {
        self.device(|d| d.port(ring).unwrap().clone())
    }

    /// The back-end, listening where the device looks for it.
    pub fn listen(&self, text: &str) -> Loopback {
        Loopback::listen(&self.path, options(text)).unwrap()
    }

    /// The back-end, which comes to a device that listens.
    pub fn come(&self, text: &str) -> Loopback {
        Loopback::on_stream(self.stream(), options(text)).unwrap()
    }

    pub fn stream(&self) -> Stream {
        Stream::connect(&self.path, Deadline::after(PATIENT)).unwrap()
    }

    /// Sends frames that bear numbers; how many were taken.
    pub fn send(&mut self, most: u32) -> u32 {
        let (port, mut taken) = (self.port(1), 0);
        while taken < most && send_one(&port, &self.pool, self.sent + 1) {
            self.sent += 1;
            taken += 1;
        }
        taken
    }

    /// Receives what is there: the frames' numbers.
    pub fn receive(&mut self) -> Vec<u32> {
        let (port, mut numbers) = (self.port(0), Vec::new());
        while receive_some(&port, &mut numbers) > 0 {}
        numbers
    }

    /// Sends so many frames and waits until all have come back, once and in order.
    pub fn echo(&mut self, count: u32) {
        let first = self.sent + 1;
        let (mut got, mut left) = (Vec::new(), count);
        until("all frames come back", || {
            left -= self.send(left.min(32));
            got.extend(self.receive());
            got.len() >= count as usize
        });
        assert_eq!(got, (first..first + count).collect::<Vec<_>>());
    }

    /// Waits for an event of this kind, and takes all up to it.
    pub fn event(&mut self, kind: Kind) -> Event {
        let mut found = None;
        until(&format!("{kind:?}"), || {
            for event in self.handle.process(1) {
                self.seen.push(event.clone());
                if event.kind == kind {
                    found = Some(event);
                }
            }
            found.is_some()
        });
        found.unwrap()
    }

    pub fn link(&self) -> bool {
        self.handle.live().link()
    }

    /// Ends the device; all buffers are back.
    pub fn close(self) {
        let Self { handle, pool, .. } = self;
        handle.with(|d| d.stop()).unwrap();
        drop(handle);
        assert_eq!(pool.available(), BUFFERS as usize, "buffers are missing");
    }
}

/// Sends a frame that bears a number; whether it was taken.
fn send_one(port: &Port, pool: &Arc<Pool>, number: u32) -> bool {
    let mut one = [None];
    if pool.get_bulk(&mut one).is_err() {
        return false;
    }
    let m = one[0].unwrap();
    for i in 0..64 {
        let byte = if i < 12 { 0x22 } else { number.to_le_bytes()[i % 4] };
        // SAFETY: inside the buffer, which is ours.
        unsafe { m.data().add(i).write(byte) };
    }
    m.set_data_len(64);
    m.set_pkt_len(64);
    // SAFETY: one thread at a time uses the queue; the packet is ours.
    let taken = unsafe { port.tx_burst(&[m]) } == 1;
    if !taken {
        // SAFETY: ours still.
        unsafe { Pool::free(m) };
    }
    taken
}

/// Receives a burst of frames that are whole, and notes their numbers; how many they were.
fn receive_some(port: &Port, numbers: &mut Vec<u32>) -> usize {
    let mut out: [MaybeUninit<MbufRef>; 32] = [MaybeUninit::uninit(); 32];
    // SAFETY: one thread at a time uses the queue.
    let n = unsafe { port.rx_burst(&mut out) };
    for m in &out[..n] {
        // SAFETY: the burst has written it.
        let m = unsafe { m.assume_init() };
        // SAFETY: inside the data.
        let bytes: Vec<u8> = (0..64).map(|i| unsafe { m.data().add(i).read() }).collect();
        let number = u32::from_le_bytes(bytes[12..16].try_into().unwrap());
        let right = |i: usize| if i < 12 { 0x22 } else { number.to_le_bytes()[i % 4] };
        assert!(m.pkt_len() == 64 && (0..64).all(|i| bytes[i] == right(i)), "corrupt: {bytes:x?}");
        numbers.push(number);
        // SAFETY: received, so ours.
        unsafe { Pool::free(m) };
    }
    n
}

/// Sends and receives without a pause, whatever becomes of the device; how many frames.
pub fn babble(ports: &[Arc<Port>], pool: &Arc<Pool>, stop: &std::sync::atomic::AtomicBool) -> (u32, usize) {
    let (mut sent, mut received) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        if send_one(&ports[1], pool, sent + 1) {
            sent += 1;
        }
        let mut numbers = Vec::new();
        received += receive_some(&ports[0], &mut numbers);
        assert!(numbers.iter().all(|n| (1..=sent).contains(n)), "never sent: {numbers:?}");
    }
    (sent, received)
}

/// What a scripted back-end offers: all that a device may need to be told.
pub fn modern() -> crate::peer::Offer {
    let mut config = vec![0; 24];
    config[6] = 1;
    config[8] = 1;
    // Bit 30, VERSION_1, MRG_RXBUF, IN_ORDER, STATUS; MQ, REPLY_ACK, CONFIG and STATUS of the protocol's.
    let features = 1 << 30 | 1 << 32 | 1 << 15 | 1 << 35 | 1 << 16;
    crate::peer::Offer { features, protocol: 0x1_0209, queues: 1, config: Some(config), slots: 0 }
}

pub fn honest() -> crate::peer::Script {
    Box::new(|_, _, _| crate::peer::Deed::Right)
}
