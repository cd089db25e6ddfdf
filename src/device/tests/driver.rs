//! A driver for tests: it writes each field at the offset that the standard gives, and remembers nothing it can read.

use std::sync::Arc;
use std::sync::atomic::{Ordering::SeqCst, fence};

use crate::device::memory::Identity;
use crate::device::ring::{Areas, Ring, Setup};
use crate::spec::virtio::Features;
use crate::sys::shm::SharedMemory;

pub const DESC: usize = 0;
pub const DRIVER: usize = 0x4000;
pub const DEVICE: usize = 0x5000;
/// Bytes of a queue; buffers lie behind the queues.
pub const QUEUE: usize = 0x8000;

pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

/// One element: offset in the memory, length, writable.
pub type Element = (usize, u32, bool);

/// A queue at `at` in shared memory, whose first byte the device knows as `guest`.
pub struct RawDriver {
    pub memory: Arc<SharedMemory>,
    pub guest: u64,
    at: usize,
    pub size: u16,
    pub packed: bool,
    /// Split: `avail.idx`. Packed: slots offered in all.
    pub offered: u32,
    /// Split: next descriptor of the table, used in ring order.
    pub next_desc: u16,
    /// Split: used entries seen. Packed: slots collected in all.
    pub collected: u32,
    /// Packed: slots of each id.
    slots: Vec<u16>,
}

impl RawDriver {
    pub fn new(memory: Arc<SharedMemory>, guest: u64, at: usize, size: u16, packed: bool) -> Self {
        let slots = vec![0; size.into()];
        Self { memory, guest, at, size, packed, offered: 0, next_desc: 0, collected: 0, slots }
    }

    /// A queue of its own over identity translation, and the device's side of it.
    pub fn with_ring(size: u16, features: Features, change: impl FnOnce(&mut Setup)) -> (Self, Identity, Ring) {
        let memory = Arc::new(SharedMemory::new("test", 1 << 20, false).unwrap());
        let guest = memory.addr() as u64;
        let driver = Self::new(memory.clone(), guest, 0, size, features.contains(Features::RING_PACKED));
        let mut identity = Identity::default();
        // SAFETY: the driver keeps the memory as long as the test runs, and only raw accesses are made to it.
        unsafe { identity.add(memory.addr(), memory.len()) };
        let mut setup = Setup::new(driver.areas(), size, features);
        change(&mut setup);
        // SAFETY: as above.
        let ring = unsafe { Ring::new(&setup).unwrap() };
        (driver, identity, ring)
    }

    pub fn areas(&self) -> Areas {
        let at = |offset| self.memory.addr().wrapping_add(self.at + offset);
        Areas { desc: at(DESC), driver: at(DRIVER), device: at(DEVICE) }
    }

    fn place<T>(&self, offset: usize) -> *mut T {
        assert!(offset + size_of::<T>() <= self.memory.len());
        self.memory.addr().wrapping_add(offset).cast()
    }

    pub fn put16(&self, offset: usize, value: u16) {
        // SAFETY: `place` has checked the bounds.
        unsafe { self.place::<u16>(self.at + offset).write_volatile(value) }
    }

    pub fn get16(&self, offset: usize) -> u16 {
        // SAFETY: `place` has checked the bounds.
        unsafe { self.place::<u16>(self.at + offset).read_volatile() }
    }

    fn get32(&self, offset: usize) -> u32 {
        // SAFETY: `place` has checked the bounds.
        unsafe { self.place::<u32>(self.at + offset).read_volatile() }
    }

    /// Copies bytes to an offset of the whole memory.
    pub fn put(&self, offset: usize, bytes: &[u8]) {
        for (n, &byte) in bytes.iter().enumerate() {
            // SAFETY: `place` has checked the bounds.
            unsafe { self.place::<u8>(offset + n).write_volatile(byte) }
        }
    }

    /// Copies bytes from an offset of the whole memory.
    pub fn get(&self, offset: usize, len: usize) -> Vec<u8> {
        // SAFETY: `place` has checked the bounds.
        (0..len).map(|n| unsafe { self.place::<u8>(offset + n).read_volatile() }).collect()
    }

    /// A descriptor of either layout at an offset of the whole memory: 64, 32, 16 and 16 bits.
    pub fn put_desc(&self, offset: usize, addr: u64, len: u32, first: u16, second: u16) {
        self.put(offset, &addr.to_le_bytes());
        self.put(offset + 8, &len.to_le_bytes());
        self.put(offset + 12, &first.to_le_bytes());
        self.put(offset + 14, &second.to_le_bytes());
    }

    /// A descriptor of the queue, as the layout has it.
    pub fn put_ring_desc(&self, n: u16, addr: u64, len: u32, first: u16, second: u16) {
        self.put_desc(self.at + DESC + 16 * usize::from(n), addr, len, first, second);
    }

    pub fn addr(&self, offset: usize) -> u64 {
        self.guest + offset as u64
    }

    /// AVAIL and USED of a descriptor that is made available at a place of the packed ring.
    pub fn avail_bits(&self, number: u32) -> u16 {
        if (number / u32::from(self.size)).is_multiple_of(2) { 1 << 7 } else { 1 << 15 }
    }

    /// Makes a buffer available; returns its head or id.
    pub fn offer(&mut self, elements: &[Element]) -> u16 {
        let raw: Vec<_> =
            elements.iter().map(|&(at, len, w)| (self.addr(at), len, if w { WRITE } else { 0 })).collect();
        self.offer_raw(&raw)
    }

    /// Makes the same buffer of one element available so many times.
    pub fn offer_many(&mut self, count: usize, element: Element) {
        for _ in 0..count {
            self.offer(&[element]);
        }
    }

    /// Makes an indirect buffer available whose table lies at an offset of the whole memory.
    pub fn offer_indirect(&mut self, table: usize, elements: &[Element]) -> u16 {
        for (n, &(at, len, writable)) in elements.iter().enumerate() {
            let flags = if writable { WRITE } else { 0 };
            let more = if n + 1 < elements.len() { NEXT } else { 0 };
            let (first, second) = if self.packed { (0xeeee, flags) } else { (flags | more, n as u16 + 1) };
            self.put_desc(table + 16 * n, self.addr(at), len, first, second);
        }
        self.offer_raw(&[(self.addr(table), 16 * elements.len() as u32, INDIRECT)])
    }

    pub fn offer_raw(&mut self, elements: &[(u64, u32, u16)]) -> u16 {
        if self.packed { self.offer_packed(elements) } else { self.offer_split(elements) }
    }

    fn offer_split(&mut self, elements: &[(u64, u32, u16)]) -> u16 {
        let head = self.next_desc;
        for (n, &(addr, len, flags)) in elements.iter().enumerate() {
            let at = self.next_desc;
            self.next_desc = (at + 1) % self.size;
            let more = if n + 1 < elements.len() { NEXT } else { 0 };
            self.put_ring_desc(at, addr, len, flags | more, self.next_desc);
        }
        self.make_available(head);
        head
    }

    /// Split: a head goes into the available ring, and the index goes on.
    pub fn make_available(&mut self, head: u16) {
        let slot = self.offered as usize % usize::from(self.size);
        self.put16(DRIVER + 4 + 2 * slot, head);
        self.offered += 1;
        self.put16(DRIVER + 2, self.offered as u16);
    }

    fn offer_packed(&mut self, elements: &[(u64, u32, u16)]) -> u16 {
        let size = u32::from(self.size);
        // The id is not the slot, so that nobody takes one for the other.
        let id = (self.offered * 7 + 3) as u16 % self.size;
        let id = (0..self.size).map(|n| (id + n) % self.size).find(|&n| self.slots[usize::from(n)] == 0).unwrap();
        for (n, &(addr, len, flags)) in elements.iter().enumerate().rev() {
            let number = self.offered + n as u32;
            let more = if n + 1 < elements.len() { NEXT } else { 0 };
            // Written from the last to the first: the first makes the list available.
            self.put_ring_desc((number % size) as u16, addr, len, id, flags | more | self.avail_bits(number));
        }
        self.offered += elements.len() as u32;
        self.slots[usize::from(id)] = elements.len() as u16;
        id
    }

    /// The next used buffer: its id and length.
    pub fn collect(&mut self) -> Option<(u16, u32)> {
        if self.packed { self.collect_packed() } else { self.collect_split() }
    }

    fn collect_split(&mut self) -> Option<(u16, u32)> {
        if self.get16(DEVICE + 2) == self.collected as u16 {
            return None;
        }
        let at = DEVICE + 4 + 8 * (self.collected as usize % usize::from(self.size));
        self.collected += 1;
        Some((self.get32(at) as u16, self.get32(at + 4)))
    }

    fn collect_packed(&mut self) -> Option<(u16, u32)> {
        let size = u32::from(self.size);
        let at = DESC + 16 * (self.collected % size) as usize;
        let flags = self.get16(at + 14);
        let bits = if (self.collected / size).is_multiple_of(2) { 0x8080 } else { 0 };
        if self.collected == self.offered || flags & 0x8080 != bits {
            return None;
        }
        let id = self.get16(at + 12);
        self.collected += u32::from(std::mem::take(&mut self.slots[usize::from(id)]));
        // The length counts only with WRITE.
        Some((id, if flags & WRITE != 0 { self.get32(at + 8) } else { 0 }))
    }

    /// Whether the device wants a kick for what was offered since `before` (2.7.10, 2.8.10).
    pub fn wants_kick(&self, event_idx: bool, before: u32) -> bool {
        fence(SeqCst);
        let size = u32::from(self.size);
        match (self.packed, event_idx) {
            (false, false) => self.get16(DEVICE) & 1 == 0,
            (false, true) => {
                let (event, new) = (self.get16(DEVICE + 4 + 8 * usize::from(self.size)), self.offered as u16);
                new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(before as u16)
            }
            (true, _) => match self.get16(DEVICE + 2) {
                2 => {
                    assert!(event_idx);
                    let place = self.get16(DEVICE);
                    let number = u32::from(place & 0x7fff) + if place & 0x8000 != 0 { 0 } else { size };
                    (before..self.offered).any(|n| n % (2 * size) == number)
                }
                flags => flags == 0,
            },
        }
    }

    /// Asks for a call when the next buffer is used (2.7.7, 2.8.10).
    pub fn ask_call(&self, event_idx: bool) {
        let size = u32::from(self.size);
        if self.packed {
            let lap = if (self.collected / size).is_multiple_of(2) { 0x8000 } else { 0 };
            self.put16(DRIVER, (self.collected % size) as u16 | lap);
            self.put16(DRIVER + 2, if event_idx { 2 } else { 0 });
        } else if event_idx {
            self.put16(DRIVER + 4 + 2 * usize::from(self.size), self.collected as u16);
        }
        fence(SeqCst);
    }

    /// Packed: these ids came back without being told, as part of a batch.
    pub fn forget(&mut self, ids: &[u16]) {
        ids.iter().for_each(|&id| self.slots[usize::from(id)] = 0);
    }

    /// Split: begins as if everything had gone on to this index.
    pub fn start_split_at(&mut self, index: u16) {
        (self.offered, self.collected) = (index.into(), index.into());
        self.put16(DRIVER + 2, index);
        self.put16(DEVICE + 2, index);
    }
}
