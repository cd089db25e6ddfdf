//! The device's end of a split ring (VIRTIO 2.7).

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use vuser::device::memory::Memory;
use vuser::spec::ring::DESC_F_NEXT;
use vuser::spec::virtio::Features;

use crate::ring::{Lent, Place};

pub struct Split {
    pub place: Place,
    pub lent: VecDeque<Lent>,
    pub next_avail: u16,
    pub next_used: u16,
}

impl Split {
    pub fn new(place: Place) -> Self {
        let at = place.base as u16;
        Self { place, lent: VecDeque::new(), next_avail: at, next_used: at }
    }

    fn slot(&self, position: u16) -> usize {
        usize::from(position % self.place.size)
    }

    pub fn look(&mut self, memory: &dyn Memory) -> bool {
        let idx = self.place.at16(self.place.areas.driver, 2).load(Acquire);
        if idx.wrapping_sub(self.next_avail) > self.place.size {
            return false;
        }
        while idx != self.next_avail {
            let at = 4 + 2 * self.slot(self.next_avail);
            let head = self.place.at16(self.place.areas.driver, at).load(Relaxed);
            let Some(lent) = self.chain(memory, head) else { return false };
            self.lent.push_back(lent);
            self.next_avail = self.next_avail.wrapping_add(1);
        }
        true
    }

    fn chain(&self, memory: &dyn Memory, head: u16) -> Option<Lent> {
        let mut lent = Lent { id: head, ..Lent::default() };
        let mut at = head;
        while at < self.place.size && lent.slots < self.place.size {
            let (addr, len, flags, next) = self.place.desc(at, Relaxed);
            lent.slots += 1;
            if !lent.add(memory, false, addr, len, flags) {
                return None;
            }
            if flags & DESC_F_NEXT == 0 {
                return Some(lent);
            }
            at = next;
        }
        None
    }

    /// Writes a used element so many behind the next, whatever it says.
    pub fn element(&self, ahead: u16, id: u32, len: u32) {
        let (area, at) = (self.place.areas.device, 4 + 8 * self.slot(self.next_used.wrapping_add(ahead)));
        self.place.at32(area, at).store(id, Relaxed);
        self.place.at32(area, at + 4).store(len, Relaxed);
    }

    /// Writes the used index.
    pub fn used_idx(&self, idx: u16) {
        self.place.at16(self.place.areas.device, 2).store(idx, Release);
    }

    pub fn push(&mut self, id: u32, len: u32, _slots: u16) {
        self.element(0, id, len);
        self.next_used = self.next_used.wrapping_add(1);
    }

    pub fn publish(&self) {
        self.used_idx(self.next_used);
    }

    pub fn want_kick(&self) {
        self.kick_words(0, self.next_avail);
    }

    pub fn kick_words(&self, flags: u16, event: u16) {
        let (area, size) = (self.place.areas.device, usize::from(self.place.size));
        self.place.at16(area, 0).store(flags, Relaxed);
        if self.place.features.contains(Features::EVENT_IDX) {
            self.place.at16(area, 4 + 8 * size).store(event, Relaxed);
        }
    }

    pub fn base(&self) -> u32 {
        u32::from(self.next_avail.wrapping_sub(self.lent.len() as u16))
    }
}
