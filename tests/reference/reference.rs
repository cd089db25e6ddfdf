//! The device's side of a ring, by the text of the standard: slow, in one thread, over positions that never wrap.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

use vuser::ring::Segment;
use vuser::spec::ring::{
    AVAIL_F_NO_INTERRUPT, DESC_F_AVAIL, DESC_F_NEXT, DESC_F_USED, DESC_F_WRITE, EVENT_DESC, EVENT_DISABLE,
    EVENT_ENABLE, QueueLayout, USED_F_NO_NOTIFY,
};

use super::Shape;

/// What the device has read of a chain.
#[derive(Clone, Debug)]
pub struct Chain {
    pub id: u16,
    pub segments: Vec<Segment>,
}

/// Positions count chains in a split ring, as its indices do, and slots in a packed one.
pub struct Reference {
    shape: Shape,
    layout: QueueLayout,
    base: *mut u8,
    /// What the driver has offered, and up to where it has asked about kicks.
    offered: u64,
    asked: u64,
    /// What the device has seen, has used, and was told to have been taken.
    seen: u64,
    used: u64,
    taken: u64,
    /// Up to where calls were considered.
    called: u64,
    /// Of the last use: where it began.
    last: u64,
    /// Where the next use is to be told of.
    armed: Option<u64>,
    /// Where the device wants to be kicked.
    wish: Option<u64>,
}

impl Reference {
    /// # Safety
    /// The layout's bytes are there, zeroed and aligned to 64, as long as this is used.
    pub unsafe fn new(shape: Shape, base: *mut u8) -> Self {
        let (layout, wish) = (shape.layout(), if shape.event_idx && !shape.packed { Some(0) } else { None });
        let it = Self {
            shape,
            layout,
            base,
            offered: 0,
            asked: 0,
            seen: 0,
            used: 0,
            taken: 0,
            called: 0,
            last: 0,
            armed: None,
            wish,
        };
        it.write_wish();
        it
    }

    fn half(&self, at: usize) -> &AtomicU16 {
        // SAFETY: inside the layout, by `new`; all that access it are atomics.
        unsafe { AtomicU16::from_ptr(self.base.add(at).cast()) }
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(self.base.add(at).cast()) }
    }

    fn double(&self, at: usize) -> &AtomicU64 {
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(self.base.add(at).cast()) }
    }

    fn slot(&self, position: u64) -> usize {
        (position % u64::from(self.shape.size)) as usize
    }

    /// 2.8.1: both wrap counters begin with 1 and change at the end of the ring.
    fn wrap(&self, position: u64) -> bool {
        (position / u64::from(self.shape.size)).is_multiple_of(2)
    }

    /// A descriptor: its segment without what belongs to the ring, flags, and the word between.
    fn descriptor(&self, slot: usize) -> (Segment, u16, u16) {
        let at = self.layout.desc + 16 * slot;
        let (addr, len) = (self.double(at).load(SeqCst), self.word(at + 8).load(SeqCst));
        let (a, b) = (self.half(at + 12).load(SeqCst), self.half(at + 14).load(SeqCst));
        // Split: flags, next (2.7.5). Packed: id, flags (2.8.5).
        let (flags, other) = if self.shape.packed { (b, a) } else { (a, b) };
        let mine = !(DESC_F_NEXT | DESC_F_AVAIL | DESC_F_USED);
        (Segment { addr, len, flags: flags & mine }, flags, other)
    }

    /// The next available chain, if there is one.
    pub fn next(&mut self) -> Option<Chain> {
        if self.shape.packed { self.next_packed() } else { self.next_split() }
    }

    fn next_split(&mut self) -> Option<Chain> {
        let driver = self.layout.driver;
        let index = self.half(driver + 2).load(SeqCst);
        let ahead = index.wrapping_sub(self.seen as u16);
        assert!(ahead <= self.shape.size, "the available index is {ahead} ahead");
        if ahead == 0 {
            return None;
        }
        let id = self.half(driver + 4 + 2 * self.slot(self.seen)).load(SeqCst);
        let (mut slot, mut segments) = (id, Vec::new());
        loop {
            let (segment, flags, next) = self.descriptor(slot.into());
            segments.push(segment);
            if flags & DESC_F_NEXT == 0 {
                break;
            }
            slot = next;
        }
        self.seen += 1;
        Some(Chain { id, segments })
    }

    fn next_packed(&mut self) -> Option<Chain> {
        let (mut position, mut segments) = (self.seen, Vec::new());
        loop {
            let (segment, flags, id) = self.descriptor(self.slot(position));
            // 2.8.1: available when AVAIL is the driver's counter and USED is not.
            let available = if self.wrap(position) { DESC_F_AVAIL } else { DESC_F_USED };
            if flags & (DESC_F_AVAIL | DESC_F_USED) != available {
                assert!(segments.is_empty(), "a chain that ends in the middle");
                return None;
            }
            segments.push(segment);
            position += 1;
            if flags & DESC_F_NEXT == 0 {
                self.seen = position;
                return Some(Chain { id, segments });
            }
        }
    }

    /// So many descriptors were offered as a chain.
    pub fn offered(&mut self, slots: u16) {
        self.offered += if self.shape.packed { slots.into() } else { 1 };
    }

    /// Uses a batch of chains of so many slots, of which the last has this id.
    pub fn put(&mut self, id: u16, len: u32, slots: u16, chains: u16) {
        self.last = self.used;
        if self.shape.packed {
            // The first slot of the batch, with the id of its last buffer (2.8.7); WRITE says nothing to the driver.
            let at = self.layout.desc + 16 * self.slot(self.used);
            let flags = if self.wrap(self.used) { DESC_F_AVAIL | DESC_F_USED } else { 0 };
            self.word(at + 8).store(len, SeqCst);
            self.half(at + 12).store(id, SeqCst);
            self.half(at + 14).store(flags | DESC_F_WRITE, SeqCst);
            self.used += u64::from(slots);
        } else {
            // One element for a batch, with the id of its last buffer; then the ring is skipped forward (2.7.9).
            let device = self.layout.device;
            let place = |position| device + 4 + 8 * self.slot(position);
            let first = place(self.used);
            self.word(first).store(id.into(), SeqCst);
            self.word(first + 4).store(len, SeqCst);
            self.used += u64::from(chains);
            self.half(device + 2).store(self.used as u16, SeqCst);
        }
    }

    /// The driver has taken a chain of so many slots.
    pub fn taken(&mut self, slots: u16) {
        self.taken += if self.shape.packed { slots.into() } else { 1 };
    }

    /// Whether what was used last is what the driver has asked to be called for.
    pub fn is_awaited(&self) -> bool {
        self.armed == Some(self.last)
    }

    /// The driver asks for a call for what comes after what it has taken, or for none. What was used before is seen by looking.
    pub fn arm(&mut self, on: bool) {
        self.called = self.used;
        self.armed = on.then_some(self.taken);
    }

    /// Whether the driver wants a call for what was used since this was asked last.
    pub fn should_call(&mut self) -> bool {
        let way = std::mem::replace(&mut self.called, self.used)..self.used;
        let (driver, size) = (self.layout.driver, usize::from(self.shape.size));
        if !self.shape.packed {
            let event = self.half(driver + 4 + 2 * size).load(SeqCst);
            let flags = self.half(driver).load(SeqCst);
            return match self.shape.event_idx {
                true => way.into_iter().any(|position| position as u16 == event),
                false => flags & AVAIL_F_NO_INTERRUPT == 0,
            };
        }
        let (place, flags) = (self.half(driver).load(SeqCst), self.half(driver + 2).load(SeqCst));
        let there = |p: &u64| self.slot(*p) == usize::from(place & 0x7fff) && self.wrap(*p) == (place >> 15 != 0);
        match flags {
            EVENT_DISABLE => false,
            EVENT_DESC if self.shape.event_idx => way.into_iter().any(|p| there(&p)),
            flags => {
                assert_eq!(flags, EVENT_ENABLE, "a value that is reserved");
                true
            }
        }
    }

    /// The device wants a kick when the place so many behind what it has seen is available, or none.
    pub fn wish(&mut self, ahead: Option<u16>) {
        self.wish = ahead.map(|n| self.seen + u64::from(n % self.shape.size));
        self.write_wish();
    }

    fn write_wish(&self) {
        let (device, size) = (self.layout.device, usize::from(self.shape.size));
        match (self.shape.packed, self.shape.event_idx, self.wish) {
            (false, true, Some(at)) => self.half(device + 4 + 8 * size).store(at as u16, SeqCst),
            // There is no "none" (2.7.10): a place that was just passed.
            (false, true, None) => self.half(device + 4 + 8 * size).store(self.seen.wrapping_sub(1) as u16, SeqCst),
            (false, false, wish) => {
                self.half(device).store(if wish.is_some() { 0 } else { USED_F_NO_NOTIFY }, SeqCst);
            }
            (true, _, None) => self.half(device + 2).store(EVENT_DISABLE, SeqCst),
            (true, false, Some(_)) => self.half(device + 2).store(EVENT_ENABLE, SeqCst),
            (true, true, Some(at)) => {
                let place = self.slot(at) as u16 | u16::from(self.wrap(at)) << 15;
                self.half(device).store(place, SeqCst);
                self.half(device + 2).store(EVENT_DESC, SeqCst);
            }
        }
    }

    /// Whether a kick may be due for what was offered since it was asked last, and whether it must be.
    pub fn kick_is_due(&self) -> (bool, bool) {
        let something = self.offered > self.asked;
        if !self.shape.event_idx {
            let due = something && self.wish.is_some();
            return (due, due);
        }
        match self.wish {
            // A split device has no way to want none; the place it gives was passed, or will be in 2^16 chains.
            None => (something && !self.shape.packed, false),
            Some(at) => {
                let on_the_way = (self.asked..self.offered).contains(&at);
                // A wish from before the last lap is no longer anybody's: its place means two positions.
                let old = self.offered - self.asked > self.shape.size.into()
                    || at + u64::from(self.shape.size) < self.offered;
                (on_the_way || old, on_the_way && !old)
            }
        }
    }

    /// The driver has asked, surely or not, and kicks or not. More than half a ring is asked about surely.
    pub fn asked(&mut self, surely: bool, kick: bool) {
        let half = if self.shape.packed { self.shape.size / 2 } else { (self.shape.size - 1) / 2 };
        if surely || kick || self.offered - self.asked > half.into() {
            self.asked = self.offered;
        }
    }

    /// What only the device writes is as it was written.
    pub fn check_own_words(&self) {
        if !self.shape.packed {
            assert_eq!(self.half(self.layout.device + 2).load(SeqCst), self.used as u16);
        }
    }
}
