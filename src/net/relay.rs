//! Copies of frames on their way from the thread of a queue to one that writes them down: bytes in a circle, one thread at
//! each end, neither of which ever waits for the other. Private memory.
//!
//! A record is a word with the time, a word with both lengths, and the frame's bytes, rounded up to whole words.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::errno::Errno;

use crate::buf::MbufRef;
use crate::error::{Error, Result};

/// Bytes in front of a frame.
const HEAD: u64 = 16;
/// The longest frame: what virtio's lengths allow of a large one, with its header.
pub const LONGEST: u32 = 65_562;
/// Bytes of an ordinary frame.
const ORDINARY: u32 = 1518;

/// The circle.
#[derive(Debug)]
pub struct Relay {
    words: Box<[UnsafeCell<u64>]>,
    /// Bytes that are kept of a frame.
    snaplen: u32,
    /// Bytes put in so far, by the queue's thread.
    head: AtomicU64,
    /// Bytes taken out so far, by the writer.
    tail: AtomicU64,
    closed: AtomicBool,
    captured: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
}

// SAFETY: what lies between tail and head is the reader's, all else the queue's thread's; both move by release, and are
// looked at by acquire. The counters are atomics.
unsafe impl Sync for Relay {}
// SAFETY: plain memory.
unsafe impl Send for Relay {}

/// What there is of a frame beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Nanoseconds since 1970.
    pub time: u64,
    /// Bytes that it had.
    pub len: u32,
    /// Bytes that are kept.
    pub kept: u32,
}

fn record_len(kept: u32) -> u64 {
    HEAD + u64::from(kept).next_multiple_of(8)
}

/// Adds to a counter of which there is one writer.
fn count(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

impl Relay {
    /// Room for so many ordinary frames at least, or for two of the longest, of each of which `snaplen` bytes are kept.
    pub fn new(frames: u32, snaplen: u32) -> Result<Self> {
        let ordinary = record_len(snaplen.min(ORDINARY)) * u64::from(frames);
        let bytes = ordinary.max(2 * record_len(snaplen.min(LONGEST))).next_power_of_two();
        let (len, mut words) = ((bytes / 8) as usize, Vec::new());
        words.try_reserve_exact(len).map_err(|_| {
            Error::new(Errno::ENOMEM, format!("no memory for {frames} frames of each queue; give fewer"))
        })?;
        // Written now, so that a burst finds it there.
        words.resize_with(len, || UnsafeCell::new(0));
        let counter = || AtomicU64::new(0);
        Ok(Self {
            words: words.into_boxed_slice(),
            snaplen,
            head: counter(),
            tail: counter(),
            closed: AtomicBool::new(false),
            captured: counter(),
            bytes: counter(),
            dropped: counter(),
        })
    }

    /// From now on nothing more is copied, and all that comes counts as dropped.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Frames that were copied, the bytes kept of them, and frames for which there was no room.
    pub fn counts(&self) -> [u64; 3] {
        [&self.captured, &self.bytes, &self.dropped].map(|counter| counter.load(Ordering::Relaxed))
    }

    fn size(&self) -> u64 {
        8 * self.words.len() as u64
    }

    /// Whether a quarter of it and more is waiting.
    pub fn is_filling(&self) -> bool {
        let (tail, head) = (self.tail.load(Ordering::Relaxed), self.head.load(Ordering::Relaxed));
        head.wrapping_sub(tail) > self.size() / 4
    }

    /// Where the byte of a position is, and how many come before the circle's end.
    fn place(&self, at: u64) -> (*mut u8, usize) {
        let offset = (at & (self.size() - 1)) as usize;
        let base = UnsafeCell::raw_get(self.words.as_ptr()).cast::<u8>();
        (base.wrapping_add(offset), self.size() as usize - offset)
    }

    /// Begins to put frames in that a queue moves now. By the thread of the queue.
    pub fn begin(&self, time: u64) -> Batch<'_> {
        let (at, tail) = (self.head.load(Ordering::Relaxed), self.tail.load(Ordering::Acquire));
        Batch { relay: self, time, at, tail, open: !self.closed.load(Ordering::Acquire) }
    }

    /// What has been put in so far. By the reader.
    pub fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// The next record before that position, if there is one. By the reader.
    pub fn front(&self, head: u64) -> Option<Record> {
        let tail = self.tail.load(Ordering::Relaxed);
        if tail == head {
            return None;
        }
        let word = |at: u64| {
            let (from, _) = self.place(at);
            // SAFETY: a word of a record that was put in: they begin and end at whole words, of which the circle has a
            // whole number.
            unsafe { from.cast::<u64>().read() }
        };
        let (time, lens) = (word(tail), word(tail.wrapping_add(8)));
        Some(Record { time, len: (lens >> 32) as u32, kept: lens as u32 })
    }

    /// Takes the next record out, which was looked at; its bytes are appended if they are wanted. By the reader.
    pub fn take(&self, record: Record, out: Option<&mut Vec<u8>>) {
        let (tail, kept) = (self.tail.load(Ordering::Relaxed), record.kept as usize);
        if let Some(out) = out {
            let (from, room) = self.place(tail.wrapping_add(HEAD));
            let (again, _) = self.place(0);
            let (start, first) = (out.len(), kept.min(room));
            out.resize(start + kept, 0);
            if let Some(to) = out.get_mut(start..) {
                // SAFETY: a record's bytes, the circle's end among them; there is room for all.
                unsafe {
                    std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), first);
                    std::ptr::copy_nonoverlapping(again, to.as_mut_ptr().add(first), kept - first);
                }
            }
        }
        // Pairs with the acquire of `begin`: it was read before it is written over.
        self.tail.store(tail.wrapping_add(record_len(record.kept)), Ordering::Release);
    }
}

/// Frames that are being put in. The reader sees them when they are [published](Batch::publish).
pub struct Batch<'a> {
    relay: &'a Relay,
    time: u64,
    /// Where the next record begins.
    at: u64,
    tail: u64,
    open: bool,
}

/// A record that was put in: where it ends, and the bytes kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    end: u64,
    kept: u32,
}

impl<'a> Batch<'a> {
    /// Copies a packet, whatever its segments; None when there is no room for it.
    pub fn add(&mut self, m: MbufRef) -> Option<Put> {
        // A chain that does not end, or is longer than it says, is the queue's to complain of.
        let segments = m.segments().take(usize::from(m.nb_segs().max(1)));
        // SAFETY: a packet is valid, and so are the data of its segments.
        unsafe { self.add_parts(m.pkt_len(), segments.map(|s| (s.data().cast_const(), usize::from(s.data_len())))) }
    }

    /// Copies a frame of that length, which lies in parts; None when there is no room for it.
    ///
    /// # Safety
    /// The parts are valid for reads.
    pub unsafe fn add_parts(&mut self, len: u32, parts: impl Iterator<Item = (*const u8, usize)>) -> Option<Put> {
        let most = len.min(self.relay.snaplen);
        if !self.open || self.tail.wrapping_add(self.relay.size()).wrapping_sub(self.at) < record_len(most) {
            return None;
        }
        let mut left = most as usize;
        let mut to = self.at.wrapping_add(HEAD);
        for (from, part) in parts {
            let part = part.min(left);
            // SAFETY: the caller's promise; there is room for what is left.
            unsafe { self.copy(to, from, part) };
            (to, left) = (to.wrapping_add(part as u64), left - part);
            if left == 0 {
                break;
            }
        }
        let kept = most - left as u32;
        let lens = u64::from(len) << 32 | u64::from(kept);
        for (at, word) in [(self.at, self.time), (self.at.wrapping_add(8), lens)] {
            // SAFETY: whole words, see `front`, in the room that was found.
            unsafe { self.relay.place(at).0.cast::<u64>().write(word) };
        }
        self.at = self.at.wrapping_add(record_len(kept));
        Some(Put { end: self.at, kept })
    }

    /// # Safety
    /// Bytes that are valid for reads, to a place that is free.
    unsafe fn copy(&self, to: u64, from: *const u8, len: usize) {
        let ((place, room), (again, _)) = (self.relay.place(to), self.relay.place(0));
        let first = len.min(room);
        // SAFETY: by the caller; what goes beyond the end of the circle goes on at its beginning.
        unsafe {
            std::ptr::copy_nonoverlapping(from, place, first);
            std::ptr::copy_nonoverlapping(from.add(first), again, len - first);
        }
    }

    /// Shows the reader the first of what was put in: of each frame, where it was put, or that there was no room.
    pub fn publish(mut self, frames: impl Iterator<Item = Option<Put>>) -> Self {
        let (mut end, mut captured, mut bytes, mut dropped) = (None, 0, 0, 0);
        for put in frames {
            match put {
                Some(put) => {
                    end = Some(put.end);
                    captured += 1;
                    bytes += u64::from(put.kept);
                }
                None => dropped += 1,
            }
        }
        count(&self.relay.captured, captured);
        count(&self.relay.bytes, bytes);
        count(&self.relay.dropped, dropped);
        if let Some(end) = end {
            // Pairs with the acquire of `head`: the records are there.
            self.relay.head.store(end, Ordering::Release);
            self.at = end;
        }
        self.tail = self.relay.tail.load(Ordering::Acquire);
        self
    }
}
