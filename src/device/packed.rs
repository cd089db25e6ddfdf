//! The device's side of a packed virtqueue (VIRTIO 2.8).

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;

use super::inflight::{Left, Notes, Raw};
use super::memory::Memory;
use super::ring::{Chain, Descs, Segment, Setup, Used, indirect_entries, lie, read_indirect};
use crate::error::{Error, Result};
use crate::mem::shared::Shared;
use crate::spec::ring::{
    DESC_F_AVAIL, DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_USED, DESC_F_WRITE, EVENT_DESC, EVENT_DISABLE, EVENT_ENABLE,
};
use crate::spec::virtio::Features;

/// A slot and the wrap counter with which it is met (2.8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    slot: u16,
    wrap: bool,
}

impl Place {
    /// From 15 bits of slot and the wrap counter above them.
    fn from_bits(bits: u16) -> Self {
        Self { slot: bits & 0x7fff, wrap: bits & 0x8000 != 0 }
    }

    fn bits(self) -> u16 {
        self.slot | u16::from(self.wrap) << 15
    }

    /// `n` slots further on, in a ring of `size`; `n` is at most `size`.
    fn plus(self, n: u16, size: u16) -> Self {
        let (slot, size) = (u32::from(self.slot) + u32::from(n), u32::from(size));
        if slot < size {
            Self { slot: slot as u16, wrap: self.wrap }
        } else {
            Self { slot: (slot - size) as u16, wrap: !self.wrap }
        }
    }

    /// `n` slots back.
    fn minus(self, n: u16, size: u16) -> Self {
        // Two laps are where we began.
        let back = size - n.min(size);
        let lapped = self.plus(back, size);
        Self { wrap: !lapped.wrap, ..lapped }
    }

    /// Slots from here to `other`, which is at most two laps away: the counter makes them different laps.
    fn until(self, other: Self, size: u16) -> u32 {
        let laps = 2 * u32::from(size);
        let number = |p: Self| u32::from(p.slot) + if p.wrap { 0 } else { u32::from(size) };
        (number(other) + laps - number(self)) % laps
    }

    /// `flags` of a descriptor that the driver made available here: the bits differ (2.8.1).
    fn is_available(self, flags: u16) -> bool {
        (flags & DESC_F_AVAIL != 0) == self.wrap && (flags & DESC_F_USED != 0) != self.wrap
    }

    /// `flags` of a descriptor that we have used here: the bits are equal.
    fn used_flags(self) -> u16 {
        if self.wrap { DESC_F_AVAIL | DESC_F_USED } else { 0 }
    }
}

/// A packed ring.
#[derive(Debug)]
pub(super) struct Packed {
    descs: Descs,
    /// What the driver wishes: place, flags (2.8.10).
    driver_event: [Shared<u16>; 2],
    /// What we wish.
    device_event: [Shared<u16>; 2],
    size: u16,
    features: Features,
    /// Next descriptor to take.
    next_avail: Place,
    /// Slots from there on that were taken and put back: behind them nobody has looked yet.
    ahead: u16,
    /// The first slot behind was looked at, and was not available.
    drained: bool,
    /// Next descriptor to mark used.
    next_used: Place,
    /// `next_used` when a call was considered last, and slots since.
    called: Place,
    since_called: u32,
    /// Descriptors of a buffer are kept with it.
    keeps: bool,
}

impl Packed {
    /// # Safety
    /// As [`Ring::new`](super::ring::Ring::new), with the setup checked.
    pub(super) unsafe fn new(setup: &Setup) -> Result<Self> {
        let Setup { areas, size, features, base, .. } = *setup;
        // Available position in the low half, used position in the high one. Front-ends that know the low half only
        // leave the high one zero and mean the same place.
        let (low, high) = (base as u16, (base >> 16) as u16);
        let next_avail = Place::from_bits(low);
        let next_used = Place::from_bits(if high == 0 { low } else { high });
        if next_avail.slot >= size || next_used.slot >= size {
            return Err(Error::invalid(format!("position {base:#x} is outside a packed ring of {size}")));
        }
        // SAFETY: the caller vouches for the areas; an event structure is two words (2.8.14).
        let (descs, driver_event, device_event) = unsafe {
            let event = |p: *mut u8| [Shared::new(p.cast()), Shared::new(p.cast()).at(1)];
            (Descs::new(areas.desc, size), event(areas.driver), event(areas.device))
        };
        Ok(Self {
            descs,
            driver_event,
            device_event,
            size,
            features,
            next_avail,
            ahead: 0,
            drained: false,
            next_used,
            called: next_used,
            since_called: 0,
            keeps: false,
        })
    }

    fn event_idx(&self) -> bool {
        self.features.contains(Features::EVENT_IDX)
    }

    /// Whether the descriptor there has been made available.
    fn available(&self, place: Place, order: std::sync::atomic::Ordering) -> bool {
        self.descs.words(place.slot).is_some_and(|(_, flags)| place.is_available(flags.load(order)))
    }

    pub(super) fn next(&mut self, memory: &impl Memory, chain: &mut Chain) -> Result<bool> {
        // Pair [available]: the driver stores the flags of a chain's first descriptor with release, after the rest.
        let available = self.available(self.next_avail, Acquire);
        if self.ahead == 0 {
            self.drained = !available;
        }
        if !available {
            return Ok(false);
        }
        chain.start(0);
        self.read_chain(memory, chain)?;
        self.ahead = self.ahead.saturating_sub(chain.slots());
        self.next_avail = self.next_avail.plus(chain.slots(), self.size);
        Ok(true)
    }

    fn read_chain(&self, memory: &impl Memory, chain: &mut Chain) -> Result<()> {
        let mut place = self.next_avail;
        loop {
            let Some((addr, len, id, flags)) = self.descs.read(place.slot) else {
                return Err(lie(format!("slot {} is outside the ring", place.slot)));
            };
            chain.count_slot(self.size)?;
            // All descriptors of a list carry the right bits, not only the first (2.8.6).
            if !place.is_available(flags) {
                return Err(lie(format!("slot {} of a list is not available", place.slot)));
            }
            if self.keeps {
                chain.keep((addr, len, id, flags));
            }
            let more = flags & DESC_F_NEXT != 0;
            if flags & DESC_F_INDIRECT != 0 {
                // An indirect table is a list by itself (2.8.5, 2.8.19).
                if more || chain.slots() > 1 || !self.features.contains(Features::INDIRECT_DESC) {
                    return Err(lie(format!("slot {} must not be indirect", place.slot)));
                }
                self.read_table(memory, addr, len, chain)?;
            } else {
                chain.add(memory, self.size, Segment { addr, len, writable: flags & DESC_F_WRITE != 0 })?;
            }
            if !more {
                // The id stands in the last descriptor of the list (2.8.6).
                chain.set_id(id);
                return Ok(());
            }
            place = place.plus(1, self.size);
        }
    }

    /// All entries of the table, in order; of their flags only WRITE counts (2.8.7).
    fn read_table(&self, memory: &impl Memory, table: u64, bytes: u32, chain: &mut Chain) -> Result<()> {
        for at in 0..indirect_entries(memory, table, bytes)? {
            let Some((addr, len, _, flags)) = read_indirect(memory, table, at) else {
                return Err(lie(format!("descriptor {at} of an indirect table cannot be read")));
            };
            chain.add(memory, self.size, Segment { addr, len, writable: flags & DESC_F_WRITE != 0 })?;
        }
        Ok(())
    }

    /// Goes on where a predecessor was: behind all that is used, and what it had in flight.
    pub(super) fn recover(&mut self, notes: &mut Notes) -> Result<Left> {
        self.keeps = true;
        let begin = (self.next_used.slot, self.next_used.wrap);
        let ((slot, wrap), left) = notes.recover_packed(begin, |(slot, wrap)| {
            !self.descs.words(slot).is_some_and(|(_, flags)| Place { slot, wrap }.is_available(flags.load(Acquire)))
        })?;
        self.next_used = Place { slot, wrap };
        self.next_avail = self.next_used.plus(left.slots, self.size);
        self.called = self.next_used;
        Ok(left)
    }

    /// A buffer that was taken by a predecessor, as it was then: others may have gone back in its place.
    pub(super) fn take_again(&mut self, memory: &impl Memory, raw: &[Raw], chain: &mut Chain) -> Result<()> {
        chain.start(0);
        for &(addr, len, id, flags) in raw {
            chain.count_slot(self.size)?;
            if flags & DESC_F_INDIRECT != 0 {
                self.read_table(memory, addr, len, chain)?;
            } else {
                chain.add(memory, self.size, Segment { addr, len, writable: flags & DESC_F_WRITE != 0 })?;
            }
            chain.set_id(id);
        }
        match chain.slots() {
            0 => Err(lie("its notes have a buffer without a descriptor".into())),
            _ => Ok(()),
        }
    }

    pub(super) fn put_back(&mut self, chain: &Chain) {
        self.next_avail = self.next_avail.minus(chain.slots(), self.size);
        self.ahead = self.ahead.saturating_add(chain.slots());
    }

    pub(super) fn publish(&mut self, used: &[Used]) {
        let mut first = None;
        for u in used {
            let place = self.next_used;
            if let (Some(len), Some((id, flags))) = (self.descs.len(place.slot), self.descs.words(place.slot)) {
                len.store(u.len, Relaxed);
                id.store(u.id, Relaxed);
                // WRITE says whether anything was written (2.8.3).
                let value = place.used_flags() | if u.len > 0 { DESC_F_WRITE } else { 0 };
                match first {
                    None => first = Some((flags, value)),
                    Some(_) => flags.store(value, Release),
                }
            }
            self.next_used = place.plus(u.slots, self.size);
            self.since_called += u32::from(u.slots);
        }
        if let Some((flags, value)) = first {
            // Pair [used]: the driver polls this descriptor, and loads its flags with acquire before all that follows
            // it. So the rest of the batch, and of a frame in several buffers, is there when it looks (2.8.9).
            flags.store(value, Release);
        }
    }

    pub(super) fn should_call(&mut self) -> bool {
        let from = std::mem::replace(&mut self.called, self.next_used);
        let slots = std::mem::take(&mut self.since_called);
        if slots == 0 {
            return false;
        }
        // Pair [call]: we store used flags, then read what the driver wishes; it stores its wish, then reads the flags,
        // with a full fence of its own between (2.8.10, 2.8.22).
        fence(SeqCst);
        let [place, flags] = self.driver_event;
        // The place is valid once the flags say so: the driver stores it first.
        match flags.load(Acquire) & 3 {
            EVENT_DISABLE => false,
            EVENT_DESC if self.event_idx() => {
                let event = Place::from_bits(place.load(Relaxed));
                reached(event, from, slots, self.size)
            }
            // ENABLE; and what is not valid at all, where a call too many does no harm.
            _ => true,
        }
    }

    pub(super) fn kicks(&mut self, on: bool) -> bool {
        if on && !self.drained {
            return true;
        }
        let [place, flags] = self.device_event;
        if !on {
            flags.store(EVENT_DISABLE, Relaxed);
            return false;
        }
        let wanted = self.next_avail.plus(self.ahead.min(self.size), self.size);
        if self.event_idx() {
            place.store(wanted.bits(), Relaxed);
            // The driver reads the flags first: the place must be there already.
            flags.store(EVENT_DESC, Release);
        } else {
            flags.store(EVENT_ENABLE, Relaxed);
        }
        // Pair [kick]: we store our wish, then read the descriptor's flags; the driver stores the flags, then reads our
        // wish, with a full fence of its own between (2.8.21.3).
        fence(SeqCst);
        self.available(wanted, Relaxed)
    }

    pub(super) fn position(&self) -> u32 {
        u32::from(self.next_avail.bits()) | u32::from(self.next_used.bits()) << 16
    }

    pub(super) fn size(&self) -> u16 {
        self.size
    }
}

/// Whether the place `event` is among the `slots` used from `from` on (2.8.10).
fn reached(event: Place, from: Place, slots: u32, size: u16) -> bool {
    // A place outside the ring is never reached: better one call too many than none.
    event.slot >= size || from.until(event, size) < slots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_go_around_forth_and_back() {
        for size in [1, 2, 3, 5, 8, 32768] {
            let mut place = Place { slot: 0, wrap: true };
            for n in 0..3 * u32::from(size).min(20) {
                assert_eq!((u32::from(place.slot), place.wrap), (n % u32::from(size), n / u32::from(size) % 2 == 0));
                for step in [0, 1, size / 2, size] {
                    let there = place.plus(step, size);
                    assert_eq!(there.minus(step, size), place);
                    assert_eq!(place.until(there, size), u32::from(step));
                    assert_eq!(Place::from_bits(there.bits()), there);
                }
                place = place.plus(1, size);
            }
        }
    }

    /// As drivers compute it, after virtio_ring.h: the event is moved a lap back when its counter is not ours.
    fn vring_need_event(event: Place, new: Place, slots: u32, size: u16) -> bool {
        let moved = if event.wrap == new.wrap { event.slot } else { event.slot.wrapping_sub(size) };
        let old = new.slot.wrapping_sub(slots as u16);
        new.slot.wrapping_sub(moved).wrapping_sub(1) < new.slot.wrapping_sub(old)
    }

    #[test]
    fn the_event_place_agrees_with_the_standard() {
        for size in [1, 2, 3, 7, 8] {
            for number in 0..2 * size {
                let from = Place { slot: 0, wrap: true }.plus(number % size, size);
                let from = if number < size { from } else { from.plus(size, size) };
                for slots in 0..=size {
                    let new = from.plus(slots, size);
                    for bits in (0..size).flat_map(|s| [s, s | 0x8000]) {
                        let event = Place::from_bits(bits);
                        let ours = reached(event, from, slots.into(), size);
                        assert_eq!(ours, vring_need_event(event, new, slots.into(), size), "{size} {from:?} {event:?}");
                    }
                }
            }
        }
    }
}
