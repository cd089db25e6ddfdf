//! The device's end of a packed ring (VIRTIO 2.8).

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use vuser::device::memory::Memory;
use vuser::spec::ring::{DESC_F_AVAIL, DESC_F_NEXT, DESC_F_USED, DESC_F_WRITE, EVENT_DESC, EVENT_ENABLE};
use vuser::spec::virtio::Features;

use crate::ring::{Lent, Place};

/// Both bits that say whose a descriptor is.
pub const BOTH: u16 = DESC_F_AVAIL | DESC_F_USED;

pub struct Packed {
    pub place: Place,
    pub lent: VecDeque<Lent>,
    /// Positions, counted in slots from the first lap on.
    pub next_avail: u64,
    pub next_used: u64,
    /// Flags that are stored last: until then nobody looks behind them.
    held: Option<(u64, u16)>,
}

impl Packed {
    pub fn new(place: Place) -> Self {
        // Slot, and the wrap counter above it; a counter of zero is an odd lap.
        let number = |bits: u16| u64::from(bits & 0x7fff) + if bits & 0x8000 == 0 { u64::from(place.size) } else { 0 };
        let at = number(place.base as u16);
        Self { place, lent: VecDeque::new(), next_avail: at, next_used: at, held: None }
    }

    /// Slot and wrap counter of a position.
    pub fn slot(&self, position: u64) -> (u16, bool) {
        let size = u64::from(self.place.size);
        ((position % size) as u16, (position / size).is_multiple_of(2))
    }

    pub fn look(&mut self, memory: &dyn Memory) -> bool {
        loop {
            match self.chain(memory) {
                Ok(Some(lent)) => {
                    self.next_avail += u64::from(lent.slots);
                    self.lent.push_back(lent);
                }
                other => return other.is_ok(),
            }
        }
    }

    fn chain(&self, memory: &dyn Memory) -> Result<Option<Lent>, ()> {
        let mut lent = Lent::default();
        // What is lent at once fits into the ring.
        let taken = self.next_avail.saturating_sub(self.next_used);
        let room = u64::from(self.place.size).saturating_sub(taken);
        loop {
            let (slot, wrap) = self.slot(self.next_avail + u64::from(lent.slots));
            let (addr, len, id, flags) = self.place.desc(slot, Acquire);
            let available = flags & BOTH == if wrap { DESC_F_AVAIL } else { DESC_F_USED };
            if !available || u64::from(lent.slots) == room {
                return if lent.slots == 0 { Ok(None) } else { Err(()) };
            }
            lent.slots += 1;
            lent.id = id;
            if !lent.add(memory, true, addr, len, flags) {
                return Err(());
            }
            if flags & DESC_F_NEXT == 0 {
                return Ok(Some(lent));
            }
        }
    }

    /// Writes a descriptor so many slots behind the next, with these flags. It is seen at once.
    pub fn element(&self, ahead: u64, id: u16, len: u32, flags: u16) {
        self.words(self.next_used + ahead, id, len);
        self.flags(self.next_used + ahead, flags);
    }

    fn words(&self, position: u64, id: u16, len: u32) {
        let at = 16 * usize::from(self.slot(position).0);
        self.place.at32(self.place.areas.desc, at + 8).store(len, Relaxed);
        self.place.at16(self.place.areas.desc, at + 12).store(id, Relaxed);
    }

    fn flags(&self, position: u64, flags: u16) {
        let at = 16 * usize::from(self.slot(position).0) + 14;
        self.place.at16(self.place.areas.desc, at).store(flags, Release);
    }

    /// The flags that say "used" so many slots behind the next.
    pub fn used_flags(&self, ahead: u64) -> u16 {
        if self.slot(self.next_used + ahead).1 { BOTH } else { 0 }
    }

    pub fn push(&mut self, id: u32, len: u32, slots: u16) {
        self.words(self.next_used, id as u16, len);
        let flags = self.used_flags(0) | if len > 0 { DESC_F_WRITE } else { 0 };
        match self.held {
            None => self.held = Some((self.next_used, flags)),
            Some(_) => self.flags(self.next_used, flags),
        }
        self.next_used += u64::from(slots);
    }

    pub fn publish(&mut self) {
        if let Some((position, flags)) = self.held.take() {
            self.flags(position, flags);
        }
    }

    pub fn want_kick(&self) {
        let (slot, wrap) = self.slot(self.next_avail);
        let event = self.place.features.contains(Features::EVENT_IDX);
        self.kick_words(if event { EVENT_DESC } else { EVENT_ENABLE }, slot | u16::from(wrap) << 15);
    }

    pub fn kick_words(&self, flags: u16, event: u16) {
        self.place.at32(self.place.areas.device, 0).store(u32::from(event) | u32::from(flags) << 16, Relaxed);
    }

    pub fn base(&self) -> u32 {
        let (slot, wrap) = self.slot(self.next_used);
        let bits = u32::from(slot) | u32::from(wrap) << 15;
        bits | bits << 16
    }
}
