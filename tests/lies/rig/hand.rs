//! The device's end of a ring, and what was negotiated for it.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU16, AtomicU32};

use vuser::mem::lanes::Simd;
use vuser::net::path;
use vuser::spec::ring::{DESC_F_AVAIL, DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_USED, EVENT_DESC, QueueLayout};
use vuser::spec::virtio::Features;

use super::{HDR, ROOM, step};

const BOTH: u16 = DESC_F_AVAIL | DESC_F_USED;

/// What was negotiated for a queue.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub size: u16,
    pub features: Features,
    pub simd: Simd,
}

impl Shape {
    pub fn new(size: u16, features: Features) -> Self {
        Self { size, features: features | Features::VERSION_1, simd: Simd::Auto }
    }

    /// The features that change what a ring does.
    const FEATURES: [Features; 5] =
        [Features::RING_PACKED, Features::MRG_RXBUF, Features::IN_ORDER, Features::INDIRECT_DESC, Features::EVENT_IDX];
    /// How many kinds there are: with and without each.
    pub const KINDS: usize = 1 << Self::FEATURES.len();

    /// One of the kinds.
    pub fn of(kind: usize, size: u16) -> Self {
        let on = Self::FEATURES.iter().enumerate().filter(|(k, _)| kind >> k & 1 != 0);
        Self::new(size, on.fold(Features::empty(), |all, (_, f)| all | *f))
    }

    /// On some of the lanes that there are.
    pub fn lanes(self, n: usize) -> Self {
        let lanes: Vec<Simd> = Simd::all().collect();
        Self { simd: lanes[n % lanes.len()], ..self }
    }

    /// All kinds, on all lanes.
    pub fn all(size: u16) -> impl Iterator<Item = Self> {
        let kinds = (0..Self::KINDS).map(move |kind| Self::of(kind, size));
        kinds.flat_map(|shape| Simd::all().map(move |simd| Self { simd, ..shape }))
    }

    pub fn has(&self, feature: Features) -> bool {
        self.features.contains(feature)
    }

    pub fn packed(&self) -> bool {
        self.has(Features::RING_PACKED)
    }

    pub fn in_order(&self) -> bool {
        self.has(Features::IN_ORDER)
    }

    pub fn mergeable(&self) -> bool {
        self.has(Features::MRG_RXBUF)
    }

    pub fn layout(&self) -> QueueLayout {
        path::layout(self.features, self.size)
    }
}

/// Something that the driver lent to the device.
#[derive(Clone, Debug, Default)]
pub struct Lent {
    pub id: u16,
    /// Slots of the ring.
    pub slots: u16,
    /// Address and bytes of its elements, those of an indirect table included.
    pub parts: Vec<(u64, u32)>,
    /// Split: the index of the second descriptor.
    pub second: Option<u16>,
}

/// The device's end. Positions are counted from the start and never wrap: chains (split) or slots (packed).
pub struct Hand {
    base: *mut u8,
    layout: QueueLayout,
    shape: Shape,
    /// Bytes of all that the driver and the device share, but frames.
    pub bytes: usize,
    /// What we have and did not use, oldest first.
    pub lent: VecDeque<Lent>,
    pub next_avail: u64,
    pub next_used: u64,
    pub seq: u32,
}

impl Hand {
    pub fn new(base: *mut u8, bytes: usize, shape: Shape) -> Self {
        let lent = VecDeque::new();
        Self { base, layout: shape.layout(), shape, bytes, lent, next_avail: 0, next_used: 0, seq: 0 }
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    pub fn area(&self, offset: usize, bytes: usize) -> (*mut u8, usize) {
        (self.base.wrapping_add(offset), bytes)
    }

    /// Descriptors, the driver's part, the device's part, everything.
    pub fn areas(&self) -> [(*mut u8, usize); 4] {
        let QueueLayout { desc, driver, device, bytes } = self.layout;
        [
            self.area(desc, driver - desc),
            self.area(driver, device - driver),
            self.area(device, bytes - device),
            self.area(0, self.bytes),
        ]
    }

    fn at16(&self, at: usize) -> &AtomicU16 {
        assert!(at + 2 <= self.layout.bytes);
        // SAFETY: inside the ring's memory, which outlives the rig, at an even place; both sides use atomics.
        unsafe { AtomicU16::from_ptr(self.base.add(at).cast()) }
    }

    fn at32(&self, at: usize) -> &AtomicU32 {
        assert!(at + 4 <= self.layout.bytes);
        // SAFETY: as above, at a multiple of four.
        unsafe { AtomicU32::from_ptr(self.base.add(at).cast()) }
    }

    fn desc(&self, slot: u16) -> (u64, u32, u16, u16) {
        let at = self.layout.desc + 16 * usize::from(slot);
        let addr = u64::from(self.at32(at).load(Relaxed)) | u64::from(self.at32(at + 4).load(Relaxed)) << 32;
        let last = [12, 14].map(|k| self.at16(at + k).load(Relaxed));
        (addr, self.at32(at + 8).load(Relaxed), last[0], last[1])
    }

    /// Slot and used flags of a packed position.
    fn slot(&self, position: u64) -> (u16, bool) {
        let size = u64::from(self.shape.size);
        ((position % size) as u16, (position / size).is_multiple_of(2))
    }

    /// Takes what the driver has made available since the last time.
    pub fn look(&mut self) {
        if self.shape.packed() {
            while self.look_packed() {}
        } else {
            let idx = self.at16(self.layout.driver + 2).load(Acquire);
            assert!(idx.wrapping_sub(self.next_avail as u16) <= self.shape.size, "the available index ran away");
            while idx != self.next_avail as u16 {
                let slot = usize::from(self.next_avail as u16 & (self.shape.size - 1));
                let head = self.at16(self.layout.driver + 4 + 2 * slot).load(Relaxed);
                self.look_split(head);
            }
        }
        let slots: u32 = self.lent.iter().map(|l| u32::from(l.slots)).sum();
        assert!(slots <= u32::from(self.shape.size), "{slots} slots are lent at once");
    }

    fn look_split(&mut self, head: u16) {
        let mut lent = Lent { id: head, ..Lent::default() };
        let mut at = head;
        loop {
            assert!(at < self.shape.size && lent.slots < self.shape.size, "a chain leads out of the table");
            let (addr, len, flags, next) = self.desc(at);
            lent.slots += 1;
            self.part(&mut lent, addr, len, flags);
            if flags & DESC_F_NEXT == 0 {
                break;
            }
            lent.second = lent.second.or(Some(next));
            at = next;
        }
        self.next_avail += 1;
        self.lent.push_back(lent);
    }

    fn look_packed(&mut self) -> bool {
        let mut lent = Lent::default();
        loop {
            let (slot, wrap) = self.slot(self.next_avail + u64::from(lent.slots));
            let flags = self.at16(self.layout.desc + 16 * usize::from(slot) + 14).load(Acquire);
            let available = if wrap { DESC_F_AVAIL } else { DESC_F_USED };
            if flags & BOTH != available {
                assert!(lent.slots == 0, "a chain that is available in part");
                return false;
            }
            let (addr, len, id, _) = self.desc(slot);
            lent.slots += 1;
            assert!(lent.slots <= self.shape.size, "a chain longer than the ring");
            lent.id = id;
            self.part(&mut lent, addr, len, flags);
            if flags & DESC_F_NEXT == 0 {
                break;
            }
        }
        self.next_avail += u64::from(lent.slots);
        self.lent.push_back(lent);
        true
    }

    fn part(&self, lent: &mut Lent, addr: u64, len: u32, flags: u16) {
        if flags & DESC_F_INDIRECT == 0 {
            return lent.parts.push((addr, len));
        }
        assert!(self.shape.has(Features::INDIRECT_DESC) && len > 0 && len.is_multiple_of(16));
        for k in 0..u64::from(len / 16) {
            // SAFETY: the driver's table, in memory that it shares.
            lent.parts
                .push(unsafe { (((addr + 16 * k) as *const u64).read(), ((addr + 16 * k + 8) as *const u32).read()) });
        }
    }

    /// Id and slots of what seems to be next, in a ring that may be garbled: nothing is asserted.
    pub fn offered(&self) -> (u16, u16) {
        let size = self.shape.size;
        if !self.shape.packed() {
            let slot = usize::from(self.next_used as u16 & (size - 1));
            return (self.at16(self.layout.driver + 4 + 2 * slot).load(Relaxed), 1);
        }
        let descs = (0..size).map(|k| self.desc(self.slot(self.next_used + u64::from(k)).0));
        let chain = descs.enumerate().find(|(_, (_, _, _, flags))| flags & DESC_F_NEXT == 0);
        chain.map_or((0, 1), |(k, (_, _, id, _))| (id, k as u16 + 1))
    }

    /// Writes a used element at a position, whatever it says. Packed: it is visible at once, and ids have 16 bits.
    pub fn element(&self, position: u64, id: u32, len: u32) {
        if self.shape.packed() {
            let flags = if self.slot(position).1 { BOTH } else { 0 };
            self.packed_element(position, id as u16, len, flags);
        } else {
            step();
            let at = self.layout.device + 4 + 8 * usize::from(position as u16 & (self.shape.size - 1));
            self.at32(at).store(id, Relaxed);
            self.at32(at + 4).store(len, Relaxed);
        }
    }

    /// Packed: writes a descriptor with these flags.
    pub fn packed_element(&self, position: u64, id: u16, len: u32, flags: u16) {
        step();
        let at = self.layout.desc + 16 * usize::from(self.slot(position).0);
        self.at32(at + 8).store(len, Relaxed);
        self.at16(at + 12).store(id, Relaxed);
        self.at16(at + 14).store(flags, Release);
    }

    /// Packed: the flags that say "used" at a position.
    pub fn used_flags(&self, position: u64) -> u16 {
        if self.slot(position).1 { BOTH } else { 0 }
    }

    /// Writes the next used element, which takes up so many slots.
    pub fn push(&mut self, id: u32, len: u32, slots: u16) {
        self.element(self.next_used, id, len);
        self.next_used += if self.shape.packed() { u64::from(slots) } else { 1 };
    }

    /// Writes one used element for the oldest `n`, as an in-order device may: it names the last of them.
    pub fn push_batch(&mut self, n: usize, len: u32) {
        let batch: Vec<Lent> = self.lent.drain(..n).collect();
        self.element(self.next_used, batch[n - 1].id.into(), len);
        let slots: u64 = batch.iter().map(|l| u64::from(l.slots)).sum();
        self.next_used += if self.shape.packed() { slots } else { n as u64 };
    }

    /// Split: the used index says how far we are. Packed: that is visible already.
    pub fn publish(&self) {
        self.used_idx(self.next_used as u16);
    }

    /// Where a device that takes this ring up would go on, as SET_VRING_BASE has it: behind all that is used.
    pub fn base(&self) -> u32 {
        let (slot, wrap) = self.slot(self.next_used);
        let packed = u32::from(slot) | u32::from(wrap) << 15;
        if self.shape.packed() { packed | packed << 16 } else { (self.next_used as u16).into() }
    }

    /// Split: any used index.
    pub fn used_idx(&self, idx: u16) {
        if !self.shape.packed() {
            step();
            self.at16(self.layout.device + 2).store(idx, Release);
        }
    }

    /// Writes all words by which the device says when it wants kicks.
    pub fn kick_words(&self, flags: u16, event: u16) {
        if self.shape.packed() {
            self.at32(self.layout.device).store(u32::from(event) | u32::from(flags) << 16, Relaxed);
        } else {
            self.at16(self.layout.device).store(flags, Relaxed);
            self.at16(self.layout.device + 4 + 8 * usize::from(self.shape.size)).store(event, Relaxed);
        }
    }

    /// Asks for a kick for the next thing that is made available, as 2.7.10 and 2.8.10 have it.
    pub fn sleep(&self) {
        if self.shape.packed() {
            let (slot, wrap) = self.slot(self.next_avail);
            let event = slot | u16::from(wrap) << 15;
            self.kick_words(if self.shape.has(Features::EVENT_IDX) { EVENT_DESC } else { 0 }, event);
        } else {
            self.kick_words(0, self.next_avail as u16);
        }
    }

    /// The driver's words by which it says when it wants calls: flags, event.
    pub fn call_words(&self) -> (u16, u16) {
        let driver = self.layout.driver;
        if self.shape.packed() {
            (self.at16(driver + 2).load(Relaxed), self.at16(driver).load(Relaxed))
        } else {
            let event = self.at16(driver + 4 + 2 * usize::from(self.shape.size)).load(Relaxed);
            (self.at16(driver).load(Relaxed), event)
        }
    }

    /// Puts a frame of `bytes` (without header) with its number into a lent buffer; the used length.
    pub fn fill(&self, lent: &Lent, header: [u8; HDR as usize], seq: u32, bytes: u32) -> u32 {
        let (addr, room) = lent.parts[0];
        assert!(room == ROOM && bytes <= room - HDR);
        let place = addr as *mut u8;
        // SAFETY: inside the buffer, which is lent to us.
        unsafe {
            place.cast::<[u8; HDR as usize]>().write_volatile(header);
            place.add(HDR as usize).cast::<[u8; 4]>().write_volatile(seq.to_le_bytes());
        }
        HDR + bytes
    }

    /// Uses the oldest `n` with a good frame each, or as sent.
    pub fn serve(&mut self, n: usize) {
        self.look();
        for _ in 0..n {
            let lent = self.lent.pop_front().expect("the driver lent too few");
            let len = if lent.parts[0].1 == ROOM { self.fill(&lent, header(1), self.seq, 60) } else { 0 };
            self.seq += 1;
            self.push(lent.id.into(), len, lent.slots);
        }
        self.publish();
    }
}

/// A plain header of a frame of so many buffers.
pub fn header(buffers: u16) -> [u8; HDR as usize] {
    let mut header = [0; HDR as usize];
    header[10..].copy_from_slice(&buffers.to_le_bytes());
    header
}
