//! A device with many queue pairs, all in one thread, and frames that say which of them they were sent by.

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vuser::buf::pool::{Pool, PoolConfig};
use vuser::dev::{Config, Device, SourceSetup};

/// The most that a device can have.
pub const PAIRS: u16 = 128;
/// Frames of a pair in one go: more than its rings hold.
const FRAMES: u32 = 150;
/// Of a pair, on their way.
const WINDOW: u32 = 32;
const SIZE: u16 = 64;
const LEN: usize = 60;
/// Time for what is meant to happen; never reached, even on a busy machine.
const PATIENT: Duration = Duration::from_secs(60);

pub struct Many {
    pub device: Device,
    pool: Arc<Pool>,
    buffers: usize,
    /// Of each pair: frames sent, which is also how many have come back, between two calls.
    done: Vec<u32>,
}

fn contents(pair: usize, number: u32) -> [u8; LEN] {
    let mut bytes = [pair as u8; LEN];
    bytes[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    bytes[14..18].copy_from_slice(&number.to_be_bytes());
    bytes
}

impl Many {
    pub fn start(devargs: &str) -> Self {
        Self::with(devargs, PAIRS)
    }

    pub fn with(devargs: &str, pairs: u16) -> Self {
        let mut config = Config::default();
        config.parse(&format!("{devargs},queues={pairs},queue_size={SIZE},huge=0")).unwrap();
        let count = u32::from(pairs) * (2 * u32::from(SIZE) + 64);
        let pool = Pool::new(PoolConfig { count, huge: false, ..PoolConfig::default() }).unwrap();
        let mut device = Device::new(config).unwrap();
        for pair in 0..pairs {
            device.setup_rx(pair, 0, SourceSetup::Pool(pool.clone())).unwrap();
            device.setup_tx(pair, 0, SourceSetup::Pool(pool.clone())).unwrap();
        }
        let buffers = pool.available();
        device.start().unwrap();
        Self { device, pool, buffers, done: vec![0; pairs.into()] }
    }

    /// Sends frames by each of the first pairs, and waits until all have come back by the pair that they were sent by, once, in
    /// order and whole.
    pub fn echo(&mut self, pairs: u16) {
        let (first, end) = (self.done.clone(), Instant::now() + PATIENT);
        let mut sent = first.clone();
        let mut left = usize::from(pairs);
        while left > 0 {
            left = 0;
            for pair in 0..usize::from(pairs) {
                let last = first[pair] + FRAMES;
                while sent[pair] < last && sent[pair] - self.done[pair] < WINDOW && self.send(pair, sent[pair]) {
                    sent[pair] += 1;
                }
                self.receive(pair);
                left += usize::from(self.done[pair] < last);
            }
            assert!(Instant::now() < end, "{left} of {pairs} pairs wait: {sent:?} sent, {:?} back", self.done);
        }
    }

    /// The pairs that are not used take nothing and give nothing.
    pub fn others_are_still(&mut self, pairs: u16) {
        for pair in usize::from(pairs)..self.done.len() {
            assert!(!self.send(pair, 0), "pair {pair} of {pairs} takes a frame");
            assert_eq!(self.receive(pair), 0, "pair {pair} of {pairs}");
        }
    }

    fn send(&mut self, pair: usize, number: u32) -> bool {
        let mut one = [None];
        self.pool.get_bulk(&mut one).expect("a buffer");
        let m = one[0].expect("a buffer");
        // SAFETY: an empty buffer has room for it.
        unsafe { std::ptr::copy_nonoverlapping(contents(pair, number).as_ptr(), m.data(), LEN) };
        m.set_data_len(LEN as u16);
        m.set_pkt_len(LEN as u32);
        // SAFETY: the packet is ours; what is not taken is ours still. One thread uses the queues.
        unsafe {
            let taken = self.device.port(2 * pair as u32 + 1).expect("a queue").tx_burst(&[m]) == 1;
            if !taken {
                Pool::free(m);
            }
            taken
        }
    }

    fn receive(&mut self, pair: usize) -> usize {
        let mut out = [MaybeUninit::uninit(); 32];
        // SAFETY: one thread uses the queues.
        let n = unsafe { self.device.port(2 * pair as u32).expect("a queue").rx_burst(&mut out) };
        for m in &out[..n] {
            // SAFETY: the burst has written it, and it is ours.
            unsafe {
                let m = m.assume_init();
                let bytes = std::slice::from_raw_parts(m.data(), m.data_len().into());
                assert_eq!(bytes, contents(pair, self.done[pair]), "pair {pair}, frame {}", self.done[pair]);
                Pool::free(m);
            }
            self.done[pair] += 1;
        }
        n
    }

    /// Of a stopped device: all buffers are back.
    pub fn is_whole(&self) {
        assert_eq!(self.pool.available(), self.buffers, "buffers are missing");
    }

    pub fn close(self) {
        let Self { device, pool, buffers, .. } = self;
        drop(device);
        assert_eq!(pool.available(), buffers, "buffers are missing");
    }
}
