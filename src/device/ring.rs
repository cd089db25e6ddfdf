//! The device's side of a virtqueue, over both layouts.
//!
//! A ring is built from the three areas of a queue as they lie in this process ([`Setup`]) and stepped by these
//! verbs, always by one thread at a time:
//!
//! 1. [`Ring::next`] takes the next available buffer into a [`Chain`] (reuse it: it then allocates nothing);
//! 2. [`Ring::push_used`] hands it back, or [`Ring::put_back`] undoes the taking;
//! 3. [`Ring::publish`] makes all that was handed back visible at once;
//! 4. [`Ring::should_call`] says whether the driver wants a call for it;
//! 5. before sleeping, [`Ring::kicks`] asks for kicks and says whether something has arrived meanwhile.
//!
//! No server and no thread is needed for that. A benchmark or a test steps a device by hand over memory of its own
//! process with [`Identity`](super::memory::Identity); whole frames are moved by [`Pair`](super::net::Pair) in the
//! same way:
//!
//! ```
//! use vuser::device::memory::Identity;
//! use vuser::device::ring::{Areas, Chain, Ring, Setup};
//! use vuser::spec::ring::QueueLayout;
//! use vuser::spec::virtio::Features;
//! use vuser::sys::shm::SharedMemory;
//!
//! let layout = QueueLayout::split(256);
//! let queue = SharedMemory::new("queue", layout.bytes, false)?;
//! let mut memory = Identity::default();
//! // SAFETY: the queue's memory outlives both, and only doors and raw copies touch it.
//! let mut ring = unsafe {
//!     memory.add(queue.addr(), queue.len());
//!     let areas = Areas {
//!         desc: queue.addr().add(layout.desc),
//!         driver: queue.addr().add(layout.driver),
//!         device: queue.addr().add(layout.device),
//!     };
//!     Ring::new(&Setup::new(areas, 256, Features::VERSION_1))?
//! };
//! let mut chain = Chain::default();
//! while ring.next(&memory, &mut chain)? {
//!     ring.push_used(&chain, 0);
//! }
//! ring.publish();
//! let _call = ring.should_call();
//! # Ok::<(), vuser::error::Error>(())
//! ```

use std::collections::VecDeque;

use super::inflight::{Notes, Raw};
use super::memory::Memory;
use super::packed::Packed;
use super::split::Split;
use crate::error::{Error, Result};
use crate::mem::shared::Shared;
use crate::spec::ring::MAX_QUEUE_SIZE;
use crate::spec::virtio::Features;
use std::sync::atomic::Ordering::Relaxed;

/// One element of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Device address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// The device writes it; otherwise it reads it.
    pub writable: bool,
}

/// A buffer that the driver made available: its elements, readable ones first, all of them inside its memory.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    segments: Vec<Segment>,
    id: u16,
    slots: u16,
    readable: u64,
    writable: u64,
    /// Where it stands in the notes on what is in flight, and whether it did so from the beginning.
    entry: u16,
    again: bool,
    /// Its descriptors as they are in a packed ring, where notes are kept.
    raw: Vec<Raw>,
}

impl Chain {
    /// The elements. Those without a byte are left out.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The driver's name for it: index of the head descriptor (split) or buffer id (packed).
    pub fn id(&self) -> u16 {
        self.id
    }

    /// Descriptors of the ring that it takes up.
    pub fn slots(&self) -> u16 {
        self.slots
    }

    /// Bytes that the device can read.
    pub fn readable(&self) -> u64 {
        self.readable
    }

    /// Bytes that the device can write.
    pub fn writable(&self) -> u64 {
        self.writable
    }

    pub(super) fn start(&mut self, id: u16) {
        self.segments.clear();
        self.raw.clear();
        (self.id, self.slots, self.readable, self.writable) = (id, 0, 0, 0);
        (self.entry, self.again) = (id, false);
    }

    pub(super) fn keep(&mut self, raw: Raw) {
        self.raw.push(raw);
    }

    pub(super) fn set_id(&mut self, id: u16) {
        self.id = id;
    }

    /// Counts one more descriptor of the ring; more than the ring has make a loop (2.7.5.2, 2.8.17).
    pub(super) fn count_slot(&mut self, limit: u16) -> Result<()> {
        self.slots += 1;
        if self.slots > limit { Err(lie(format!("chain of more than {limit} descriptors"))) } else { Ok(()) }
    }

    /// Adds an element after checking what a driver must keep (2.7.4.2, 2.7.5.2, 2.8.17).
    pub(super) fn add(&mut self, memory: &impl Memory, limit: u16, segment: Segment) -> Result<()> {
        let Segment { addr, len, writable } = segment;
        if self.segments.len() >= limit.into() {
            return Err(lie(format!("buffer of more than {limit} elements")));
        }
        if !writable && self.writable > 0 {
            return Err(lie("a readable element follows a writable one".into()));
        }
        if len == 0 {
            return Ok(());
        }
        if memory.local(addr, len.into()).is_none() {
            return Err(lie(format!("{len} bytes at {addr:#x} are outside the shared memory")));
        }
        *(if writable { &mut self.writable } else { &mut self.readable }) += u64::from(len);
        if self.readable + self.writable > u64::from(u32::MAX) {
            return Err(lie("buffer of 4 GiB or more".into()));
        }
        self.segments.push(segment);
        Ok(())
    }
}

/// The driver broke a rule of the ring.
pub(super) fn lie(what: String) -> Error {
    Error::protocol(format!("the driver broke the ring: {what}"))
}

/// Doors to a row of 16-byte descriptors, of either layout.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descs {
    wide: Shared<u64>,
    middle: Shared<u32>,
    narrow: Shared<u16>,
    size: u16,
}

impl Descs {
    /// # Safety
    /// As [`Shared::new`], for `size` descriptors; `ptr` is aligned to 16.
    pub(super) unsafe fn new(ptr: *mut u8, size: u16) -> Self {
        // SAFETY: the caller vouches for the row; 16 is enough for each kind of door.
        unsafe {
            let (wide, middle, narrow) = (Shared::new(ptr.cast()), Shared::new(ptr.cast()), Shared::new(ptr.cast()));
            Self { wide, middle, narrow, size }
        }
    }

    /// Doors to the words at offsets 12 and 14 of descriptor `n`, if there is one.
    pub(super) fn words(&self, n: u16) -> Option<(Shared<u16>, Shared<u16>)> {
        let at = usize::from(n) * 8;
        // SAFETY: `n` is a descriptor of the row.
        (n < self.size).then(|| unsafe { (self.narrow.at(at + 6), self.narrow.at(at + 7)) })
    }

    /// Door to the length of descriptor `n`, if there is one.
    pub(super) fn len(&self, n: u16) -> Option<Shared<u32>> {
        // SAFETY: `n` is a descriptor of the row.
        (n < self.size).then(|| unsafe { self.middle.at(usize::from(n) * 4 + 2) })
    }

    /// Address, length and the words at offsets 12 and 14 of descriptor `n`, if there is one. Each is read once.
    pub(super) fn read(&self, n: u16) -> Option<(u64, u32, u16, u16)> {
        let (first, second) = self.words(n)?;
        // SAFETY: `words` has found `n` to be a descriptor of the row.
        let addr = unsafe { self.wide.at(usize::from(n) * 2) }.load(Relaxed);
        Some((addr, self.len(n)?.load(Relaxed), first.load(Relaxed), second.load(Relaxed)))
    }
}

/// Reads descriptor `n` of an indirect table, in the form of [`Descs::read`]. The table may lie at any alignment.
pub(super) fn read_indirect(memory: &impl Memory, table: u64, n: u32) -> Option<(u64, u32, u16, u16)> {
    let mut b = [0; 16];
    let there = memory.read(table.checked_add(u64::from(n) * 16)?, &mut b);
    there.then(|| {
        let addr = u64::from_ne_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
        let len = u32::from_ne_bytes([b[8], b[9], b[10], b[11]]);
        (addr, len, u16::from_ne_bytes([b[12], b[13]]), u16::from_ne_bytes([b[14], b[15]]))
    })
}

/// Entries of an indirect table of `len` bytes at `addr`, if it can be one (2.7.5.3, 2.8.7).
pub(super) fn indirect_entries(memory: &impl Memory, addr: u64, len: u32) -> Result<u32> {
    if len == 0 || !len.is_multiple_of(16) {
        return Err(lie(format!("indirect table of {len} bytes")));
    }
    if memory.local(addr, len.into()).is_none() {
        return Err(lie(format!("indirect table at {addr:#x} is outside the shared memory")));
    }
    Ok(len / 16)
}

/// A buffer, or an in-order batch of them, on its way back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    /// Name of the (last) buffer.
    pub id: u16,
    /// Bytes written into it.
    pub len: u32,
    /// Its entry in the notes.
    entry: u16,
    /// Descriptors of the ring.
    pub slots: u16,
    /// Buffers.
    pub buffers: u16,
    /// Written to the last byte that can be written, so that an in-order driver need not be told.
    full: bool,
    /// Ends a frame; the buffers of one frame stay together.
    last: bool,
}

/// Where the parts of a queue lie in this process.
#[derive(Clone, Copy, Debug)]
pub struct Areas {
    /// Descriptor table or ring, aligned to 16.
    pub desc: *mut u8,
    /// Available ring (aligned to 2) or driver event suppression (4).
    pub driver: *mut u8,
    /// Used ring or device event suppression, aligned to 4.
    pub device: *mut u8,
}

/// What a ring is built from.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Its memory.
    pub areas: Areas,
    /// Descriptors.
    pub size: u16,
    /// Negotiated features: RING_PACKED, EVENT_IDX, INDIRECT_DESC and IN_ORDER count here.
    pub features: Features,
    /// Where to begin, in the form of SET_VRING_BASE.
    pub base: u32,
    /// Without IN_ORDER: hand buffers back in another order, each at most so many places away, within one publish.
    pub shuffle: u16,
    /// With IN_ORDER: tell only the last of a batch of buffers that are used to the full (2.7.9, 2.8.8).
    pub batch_used: bool,
    /// Also refuse what only an in-order device could notice: descriptors that are not in ring order (2.7.5).
    pub strict: bool,
}

impl Setup {
    /// A new queue, with nothing peculiar.
    pub fn new(areas: Areas, size: u16, features: Features) -> Self {
        let base = first_base(features);
        Self { areas, size, features, base, shuffle: 0, batch_used: false, strict: false }
    }

    fn check(&self) -> Result<()> {
        let Self { areas, size, features, .. } = *self;
        let packed = features.contains(Features::RING_PACKED);
        if size == 0 || size > MAX_QUEUE_SIZE || !(packed || size.is_power_of_two()) {
            return Err(Error::invalid(format!("a queue cannot have {size} descriptors")));
        }
        let driver = if packed { 4 } else { 2 };
        let aligned = |p: *mut u8, to: usize| !p.is_null() && (p as usize).is_multiple_of(to);
        if aligned(areas.desc, 16) && aligned(areas.driver, driver) && aligned(areas.device, 4) {
            Ok(())
        } else {
            Err(Error::invalid("the parts of a queue are not aligned"))
        }
    }
}

/// Position of a queue that nobody has used: all counters zero, wrap counters one (2.8.1).
pub fn first_base(features: Features) -> u32 {
    if features.contains(Features::RING_PACKED) { 0x8000_8000 } else { 0 }
}

/// Bytes of the descriptor, driver and device areas of a queue.
pub fn area_bytes(size: u16, features: Features) -> (u64, u64, u64) {
    let n = u64::from(size);
    match (features.contains(Features::RING_PACKED), features.contains(Features::EVENT_IDX)) {
        (true, _) => (16 * n, 4, 4),
        (false, true) => (16 * n, 6 + 2 * n, 6 + 8 * n),
        (false, false) => (16 * n, 4 + 2 * n, 4 + 8 * n),
    }
}

#[derive(Debug)]
enum Layout {
    Split(Split),
    Packed(Packed),
}

/// The device's side of a queue.
#[derive(Debug)]
pub struct Ring {
    layout: Layout,
    pending: Vec<Used>,
    shuffle: Option<Shuffle>,
    batch_used: bool,
    broken: bool,
    notes: Option<Notes>,
    /// What was in flight when the notes came, by entry: it is taken before anything else.
    again: VecDeque<u16>,
}

impl Ring {
    /// Takes up a queue.
    ///
    /// # Safety
    /// The areas have the lengths of [`area_bytes`], stay mapped as long as the ring lives, and are touched only by
    /// doors and by the driver.
    pub unsafe fn new(setup: &Setup) -> Result<Self> {
        setup.check()?;
        // SAFETY: the caller vouches for the areas, and their alignment has been checked.
        let layout = unsafe {
            if setup.features.contains(Features::RING_PACKED) {
                Layout::Packed(Packed::new(setup)?)
            } else {
                Layout::Split(Split::new(setup))
            }
        };
        let in_order = setup.features.contains(Features::IN_ORDER);
        let shuffle = (setup.shuffle > 0 && !in_order).then(|| Shuffle::new(setup.shuffle));
        let pending = Vec::with_capacity(setup.size.into());
        Ok(Self {
            layout,
            pending,
            shuffle,
            batch_used: setup.batch_used && in_order,
            broken: false,
            notes: None,
            again: VecDeque::new(),
        })
    }

    /// From now on notes are kept of what is in flight. What they have already is taken up first.
    pub(super) fn keep_notes(&mut self, mut notes: Notes) -> Result<()> {
        let left = match &mut self.layout {
            Layout::Split(ring) => ring.recover(&mut notes)?,
            Layout::Packed(ring) => ring.recover(&mut notes)?,
        };
        self.again = left.entries.into();
        self.notes = Some(notes);
        Ok(())
    }

    /// The oldest of what was in flight.
    fn take_again(&mut self, memory: &impl Memory, chain: &mut Chain) -> Result<bool> {
        let (Some(entry), Some(notes)) = (self.again.pop_front(), &self.notes) else { return Ok(false) };
        match &mut self.layout {
            Layout::Split(ring) => ring.take_again(memory, entry, chain)?,
            Layout::Packed(ring) => ring.take_again(memory, &notes.raw(entry), chain)?,
        }
        (chain.entry, chain.again) = (entry, true);
        Ok(true)
    }

    fn take_new(&mut self, memory: &impl Memory, chain: &mut Chain) -> Result<bool> {
        let taken = match &mut self.layout {
            Layout::Split(ring) => ring.next(memory, chain)?,
            Layout::Packed(ring) => ring.next(memory, chain)?,
        };
        if let (true, Some(notes)) = (taken, &mut self.notes) {
            chain.entry = notes.take(chain.id, &chain.raw);
        }
        Ok(taken)
    }

    /// Takes the next available buffer; false when there is none. An error breaks the ring for good.
    pub fn next(&mut self, memory: &impl Memory, chain: &mut Chain) -> Result<bool> {
        if self.broken {
            return Err(lie("it is broken already".into()));
        }
        let taken = match self.again.is_empty() {
            true => self.take_new(memory, chain),
            false => self.take_again(memory, chain),
        };
        self.broken = taken.is_err();
        taken
    }

    /// Undoes the taking of a buffer: of the latest first.
    pub fn put_back(&mut self, chain: &Chain) {
        if chain.again {
            return self.again.push_front(chain.entry);
        }
        if let Some(notes) = &mut self.notes {
            notes.put_back(chain.entry);
        }
        match &mut self.layout {
            Layout::Split(ring) => ring.put_back(chain),
            Layout::Packed(ring) => ring.put_back(chain),
        }
    }

    /// Hands a buffer back in which `len` bytes were written. Not visible before [`publish`](Self::publish).
    pub fn push_used(&mut self, chain: &Chain, len: u32) {
        self.push(chain, len, true);
    }

    /// Hands the buffers of one frame back, over which `len` bytes were spread: each but the last filled (5.1.6.4).
    pub fn push_frame(&mut self, chains: &[Chain], len: u32) {
        let mut left = len;
        for (n, chain) in chains.iter().enumerate() {
            let part = left.min(u32::try_from(chain.writable).unwrap_or(u32::MAX));
            left -= part;
            self.push(chain, part, n + 1 == chains.len());
        }
    }

    fn push(&mut self, chain: &Chain, len: u32, last: bool) {
        let full = u64::from(len) == chain.writable;
        let (entry, slots) = (chain.entry, chain.slots);
        self.pending.push(Used { id: chain.id, len, entry, slots, buffers: 1, full, last });
    }

    /// Makes all buffers handed back visible to the driver at once.
    pub fn publish(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        if let Some(shuffle) = &mut self.shuffle {
            shuffle.reorder(&mut self.pending);
        }
        if let Some(notes) = &mut self.notes {
            notes.going(self.pending.iter().map(|used| (used.entry, used.slots)));
        }
        if self.batch_used {
            batch(&mut self.pending);
        }
        match &mut self.layout {
            Layout::Split(ring) => ring.publish(&self.pending),
            Layout::Packed(ring) => ring.publish(&self.pending),
        }
        if let Some(notes) = &mut self.notes {
            notes.gone(match &self.layout {
                Layout::Split(ring) => ring.used_index(),
                Layout::Packed(_) => 0,
            });
        }
        self.pending.clear();
    }

    /// Whether the driver wants a call for what has been published since this was asked last (2.7.7, 2.8.10).
    #[must_use]
    pub fn should_call(&mut self) -> bool {
        match &mut self.layout {
            Layout::Split(ring) => ring.should_call(),
            Layout::Packed(ring) => ring.should_call(),
        }
    }

    /// Asks for kicks, or asks not to be kicked. Asking for them looks once more afterwards: true means that there
    /// is something to take that [`next`](Self::next) has not seen, so do not sleep.
    #[must_use]
    pub fn kicks(&mut self, on: bool) -> bool {
        match &mut self.layout {
            Layout::Split(ring) => ring.kicks(on),
            Layout::Packed(ring) => ring.kicks(on),
        }
    }

    /// Where the ring stands, in the form of GET_VRING_BASE. Publish first.
    pub fn position(&self) -> u32 {
        match &self.layout {
            Layout::Split(ring) => ring.position(),
            Layout::Packed(ring) => ring.position(),
        }
    }

    /// Descriptors.
    pub fn size(&self) -> u16 {
        match &self.layout {
            Layout::Split(ring) => ring.size(),
            Layout::Packed(ring) => ring.size(),
        }
    }

    /// Whether the driver has broken it. Only a new ring helps.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Breaks the ring for a rule that the device class makes.
    pub fn fail(&mut self, what: impl Into<String>) -> Error {
        self.broken = true;
        lie(what.into())
    }
}

/// Joins each run of fully used buffers with the one that follows: an in-order driver concludes that the skipped
/// ones were used completely (2.7.9, 2.8.8), so a partly written buffer can only be the last of a batch.
fn batch(pending: &mut Vec<Used>) {
    let (mut buffers, mut slots) = (0, 0);
    let mut left = pending.len();
    pending.retain_mut(|used| {
        left -= 1;
        buffers += used.buffers;
        slots += used.slots;
        if used.full && left > 0 {
            return false;
        }
        (used.buffers, used.slots) = (buffers, slots);
        (buffers, slots) = (0, 0);
        true
    });
}

/// Another order, without a clock or a seed from outside: tests that fail must fail again.
#[derive(Debug)]
struct Shuffle {
    window: u16,
    state: u32,
    frames: Vec<(usize, usize)>,
    copy: Vec<Used>,
}

impl Shuffle {
    fn new(window: u16) -> Self {
        Self { window, state: 0x9e37_79b9, frames: Vec::new(), copy: Vec::new() }
    }

    fn random(&mut self, below: usize) -> usize {
        // Xorshift.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 17;
        self.state ^= self.state << 5;
        self.state as usize % below
    }

    fn reorder(&mut self, pending: &mut Vec<Used>) {
        self.frames.clear();
        let mut start = 0;
        for (n, used) in pending.iter().enumerate() {
            if used.last {
                self.frames.push((start, n + 1));
                start = n + 1;
            }
        }
        // Blocks of window + 1 frames are permuted, so none moves farther than the window.
        let block = usize::from(self.window) + 1;
        for first in (0..self.frames.len()).step_by(block) {
            let end = (first + block).min(self.frames.len());
            for n in first..end {
                let other = n + self.random(end - n);
                self.frames.swap(n, other);
            }
        }
        self.copy.clear();
        self.copy.append(pending);
        for &(from, to) in &self.frames {
            pending.extend_from_slice(&self.copy[from..to]);
        }
    }
}
