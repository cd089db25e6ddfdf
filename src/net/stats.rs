//! What a queue counts, and whether it is well. Written by the thread of the burst, read by any.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::buf::MbufRef;
use crate::ring::Lie;

/// A number that one thread counts up and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts. One writer: a plain load and a plain store, not a locked instruction.
    #[inline(always)]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// What it has come to.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of a queue.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: Counter,)* }

        /// What the counters of a queue were at a moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[allow(missing_docs, reason = "documented at the counters")]
        pub struct Stats { $(pub $name: u64,)* }

        impl Counters {
            /// All of them.
            pub fn snapshot(&self) -> Stats {
                Stats { $($name: self.$name.get(),)* }
            }
        }

        impl std::ops::Sub for Stats {
            type Output = Self;

            fn sub(self, then: Self) -> Self {
                Self { $($name: self.$name.wrapping_sub(then.$name),)* }
            }
        }
    };
}

counters! {
    /// Frames received or sent.
    packets,
    /// Their bytes, without the virtio header.
    bytes,
    /// Times the device was woken.
    kicks,
    /// Receive: times no free buffer was there to offer.
    no_buffer,
    /// Receive: frames shorter than an Ethernet header.
    runt,
    /// Receive: frames whose virtio header asks for what was not negotiated, or points outside the frame.
    bad_header,
    /// Transmit: times the ring was full.
    ring_full,
    /// Transmit: packets of no length, or whose segments do not add up.
    bad_packet,
    /// Transmit: packets that ask for an offload that was not negotiated, or whose lengths are wrong for it.
    bad_offload,
    /// Transmit: packets outside the memory that the device was told of.
    bad_address,
    /// Transmit: packets of more segments than fit.
    too_many_segments,
    /// Frames that were under way when the queue was stopped: offered and never used (transmit), half received.
    lost,
    /// Transmit: packets that were sent once more, since the device went away before it said that it had sent them. They
    /// are not counted again among the packets.
    tx_resent,
    /// Transmit: packets that were dropped when a device came back, and had not been sent before, as far as it had said.
    tx_dropped_on_reconnect,
    /// Frames to a multicast address (opt-in).
    multicast,
    /// Frames to the broadcast address (opt-in).
    broadcast,
    /// Frames below 64 bytes (opt-in, as all bins: they read the frame or touch its line).
    size_undersize,
    /// Frames of 64 bytes.
    size_64,
    /// Frames of 65 to 127 bytes.
    size_65_127,
    /// Frames of 128 to 255 bytes.
    size_128_255,
    /// Frames of 256 to 511 bytes.
    size_256_511,
    /// Frames of 512 to 1023 bytes.
    size_512_1023,
    /// Frames of 1024 to 1518 bytes.
    size_1024_1518,
    /// Longer frames.
    size_1519_max,
}

impl Stats {
    /// The counters of frames by length, from the shortest on.
    pub fn size_bins(&self) -> [u64; 8] {
        [
            self.size_undersize,
            self.size_64,
            self.size_65_127,
            self.size_128_255,
            self.size_256_511,
            self.size_512_1023,
            self.size_1024_1518,
            self.size_1519_max,
        ]
    }
}

impl Counters {
    /// Counts a frame, of an Ethernet header at least, in the opt-in counters.
    pub fn sort(&self, m: MbufRef) {
        // SAFETY: the first segment's data.
        unsafe { self.sort_bytes(m.pkt_len(), m.data_len().into(), m.data()) };
    }

    /// The same of a frame of so many bytes, of which so many are at a place.
    ///
    /// # Safety
    /// They are mapped there.
    pub unsafe fn sort_bytes(&self, len: u32, here: u32, data: *const u8) {
        let bin = match len {
            0..64 => &self.size_undersize,
            64 => &self.size_64,
            65..128 => &self.size_65_127,
            128..256 => &self.size_128_255,
            256..512 => &self.size_256_511,
            512..1024 => &self.size_512_1023,
            1024..1519 => &self.size_1024_1518,
            _ => &self.size_1519_max,
        };
        bin.add(1);
        if here < 6 {
            // An address in pieces is not put together for the sake of a counter.
            return;
        }
        // SAFETY: passed on; six bytes are there.
        let address: [u8; 6] = unsafe { crate::mem::shared::peek(data) };
        if address == [0xff; 6] {
            self.broadcast.add(1);
        } else if address[0] & 1 != 0 {
            self.multicast.add(1);
        }
    }
}

/// What the thread of the burst tells everybody else. Alone on its cache lines: it is written by every burst.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Board {
    /// What was counted.
    pub counters: Counters,
    /// 0, or the lie that broke the queue.
    broken: AtomicU8,
}

const LIES: [Lie; 5] = [Lie::UsedIndex, Lie::UsedId, Lie::Order, Lie::Length, Lie::NumBuffers];

impl Board {
    /// The queue is broken from now on.
    #[cold]
    pub fn set_broken(&self, lie: Lie) {
        let number = LIES.iter().position(|l| *l == lie).map_or(0, |n| n + 1);
        self.broken.store(number as u8, Ordering::Release);
    }

    /// A new ring, a new chance.
    pub fn mend(&self) {
        self.broken.store(0, Ordering::Release);
    }

    /// Whether the queue is broken.
    #[inline(always)]
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed) != 0
    }

    /// What broke the queue.
    pub fn lie(&self) -> Option<Lie> {
        LIES.get(usize::from(self.broken.load(Ordering::Acquire)).checked_sub(1)?).copied()
    }
}
