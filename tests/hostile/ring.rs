//! The device's end of a ring of either layout, for who is not bound to tell the truth. It needs the three areas as they lie
//! in this process, and, to read descriptors, memory: no socket, so that fuzzers and tests in process can use it too.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use vuser::device::memory::Memory;
use vuser::device::ring::Areas;
use vuser::spec::ring::{DESC_F_INDIRECT, DESC_F_WRITE};
use vuser::spec::virtio::Features;

use crate::packed::Packed;
use crate::split::Split;

/// An element of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub addr: u64,
    pub len: u32,
    /// The device writes it.
    pub write: bool,
}

/// A buffer that the driver lent to the device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lent {
    pub id: u16,
    /// Descriptors of the ring.
    pub slots: u16,
    pub parts: Vec<Part>,
}

impl Lent {
    /// Bytes that the device can write, or read.
    pub fn room(&self, write: bool) -> u32 {
        self.parts.iter().filter(|p| p.write == write).fold(0, |sum, p| sum.saturating_add(p.len))
    }

    /// Adds what a descriptor says; false when it cannot be.
    pub(crate) fn add(&mut self, memory: &dyn Memory, packed: bool, addr: u64, len: u32, flags: u16) -> bool {
        if flags & DESC_F_INDIRECT == 0 {
            self.parts.push(Part { addr, len, write: flags & DESC_F_WRITE != 0 });
            return true;
        }
        let entries = len / 16;
        // Drivers write the entries of a table one behind the other, in both layouts. Of their flags only WRITE counts here.
        (1..=MOST_ENTRIES).contains(&entries) && (0..u64::from(entries)).all(|n| self.entry(memory, packed, addr, n))
    }

    fn entry(&mut self, memory: &dyn Memory, packed: bool, table: u64, n: u64) -> bool {
        let mut b = [0; 16];
        let there = table.checked_add(16 * n).is_some_and(|at| memory.read(at, &mut b));
        let at = if packed { 14 } else { 12 };
        self.parts.push(Part {
            addr: u64::from_ne_bytes(b[..8].try_into().unwrap()),
            len: u32::from_ne_bytes(b[8..12].try_into().unwrap()),
            write: u16::from_ne_bytes([b[at], b[at + 1]]) & DESC_F_WRITE != 0,
        });
        there
    }
}

/// Entries of an indirect table that no driver needs more of.
const MOST_ENTRIES: u32 = 4096;

/// What a ring is, as SET_VRING_* have it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub areas: Areas,
    pub size: u16,
    pub features: Features,
    /// Where to begin, in the form of SET_VRING_BASE.
    pub base: u32,
}

// SAFETY: addresses of memory that both processes write by atomics.
unsafe impl Send for Place {}

impl Place {
    pub(crate) fn at16(&self, area: *mut u8, at: usize) -> &AtomicU16 {
        // SAFETY: the maker of the place vouches for its areas, aligned; all offsets are bounded by the size, and both sides
        // use whole values.
        unsafe { AtomicU16::from_ptr(area.add(at).cast()) }
    }

    pub(crate) fn at32(&self, area: *mut u8, at: usize) -> &AtomicU32 {
        // SAFETY: as above, at a multiple of four.
        unsafe { AtomicU32::from_ptr(area.add(at).cast()) }
    }

    /// Address, length and the words at 12 and 14 of a descriptor.
    pub(crate) fn desc(&self, slot: u16, order: Ordering) -> (u64, u32, u16, u16) {
        let at = 16 * usize::from(slot % self.size);
        let area = self.areas.desc;
        let last = self.at16(area, at + 14).load(order);
        let word = |k: usize| self.at32(area, at + k).load(Ordering::Relaxed);
        let addr = u64::from(word(0)) | u64::from(word(4)) << 32;
        (addr, word(8), self.at16(area, at + 12).load(Ordering::Relaxed), last)
    }
}

/// The device's end.
pub enum Hand {
    Split(Split),
    Packed(Packed),
}

macro_rules! either {
    ($self:ident, $hand:ident => $what:expr) => {
        match $self {
            Hand::Split($hand) => $what,
            Hand::Packed($hand) => $what,
        }
    };
}

impl Hand {
    /// # Safety
    /// The areas are mapped with the lengths that size and features ask for, as long as this lives.
    pub unsafe fn new(place: Place) -> Self {
        if place.features.contains(Features::RING_PACKED) {
            Self::Packed(Packed::new(place))
        } else {
            Self::Split(Split::new(place))
        }
    }

    /// Takes what the driver has made available since the last time; false when that cannot be true.
    pub fn look(&mut self, memory: &dyn Memory) -> bool {
        either!(self, hand => hand.look(memory))
    }

    /// What we have and did not use, oldest first.
    pub fn lent(&mut self) -> &mut VecDeque<Lent> {
        either!(self, hand => &mut hand.lent)
    }

    /// Writes the next used element, seen by nobody before [`publish`](Self::publish). Split: ids have 32 bits.
    pub fn push(&mut self, id: u32, len: u32, slots: u16) {
        either!(self, hand => hand.push(id, len, slots));
    }

    /// Shows all that was pushed, at once.
    pub fn publish(&mut self) {
        either!(self, hand => hand.publish());
    }

    /// Asks for a kick for the next buffer.
    pub fn want_kick(&self) {
        either!(self, hand => hand.want_kick());
    }

    /// Writes the words by which the device says when it wants kicks.
    pub fn kick_words(&self, flags: u16, event: u16) {
        either!(self, hand => hand.kick_words(flags, event));
    }

    /// The position in the form of GET_VRING_BASE: all that is taken and not used is given back untouched.
    pub fn base(&self) -> u32 {
        either!(self, hand => hand.base())
    }

    pub fn place(&self) -> &Place {
        either!(self, hand => &hand.place)
    }

    /// The descriptors, the driver's area and the device's area, with their bytes.
    pub fn areas(&self) -> [(*mut u8, usize); 3] {
        let Place { areas, size, features, .. } = self.place();
        let (desc, driver, device) = vuser::device::ring::area_bytes(*size, *features);
        [(areas.desc, desc as usize), (areas.driver, driver as usize), (areas.device, device as usize)]
    }
}
