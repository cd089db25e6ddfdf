//! Notes on what is in flight (vhost-user, "Inflight I/O tracking"): in memory of the front-end's, so that whoever comes after
//! a back-end that died goes on where it was, and does nothing twice.
//!
//! Of each batch of buffers it is noted that they go back, then the driver sees them, by one store, then it is noted that
//! they have gone. A back-end that dies in between leaves what tells its successor which of the two is true.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};

use super::ring::lie;
use crate::error::{Error, Result};
use crate::mem::shared::Shared;
use crate::spec::ring::MAX_QUEUE_SIZE;
use crate::spec::vhost_user::{InflightMessage, MAX_VRINGS};
use crate::spec::virtio::Features;
use crate::sys::shm::{Mapping, SharedMemory, stays_as_long};

/// Both layouts: features (64 bits), version, number of entries; then what differs, then the entries.
const VERSION: usize = 8;
const ENTRIES: usize = 10;
/// Split: head of the last batch, used index.
const LAST_BATCH: usize = 12;
const USED_IDX: usize = 14;
const SPLIT_HEAD: usize = 16;
/// Of an entry: in flight (8 bits), next (at 6), counter (at 8).
const SPLIT_ENTRY: usize = 16;
/// Packed: heads of the free list now and before the batch, used position now and before.
const FREE: usize = 12;
const OLD_FREE: usize = 14;
/// Used index and wrap counter, each now (at 16, 20) and before the batch (at 18, 21): in one store.
const USED: usize = 16;
const PACKED_HEAD: usize = 32;
/// Of an entry: in flight (8 bits), next (2), last (4), number (6), counter (8), id (16), flags (18), length (20), address (24).
const PACKED_ENTRY: usize = 32;
/// Notes of a ring begin at a line.
const ALIGN: usize = 64;

/// A descriptor as the driver wrote it: address, length, id, flags.
pub(super) type Raw = (u64, u32, u16, u16);

fn bytes(size: u16, packed: bool) -> usize {
    let (head, entry) = if packed { (PACKED_HEAD, PACKED_ENTRY) } else { (SPLIT_HEAD, SPLIT_ENTRY) };
    (head + usize::from(size) * entry).next_multiple_of(ALIGN)
}

/// The memory for the notes of all rings.
#[derive(Debug)]
pub(super) struct Region {
    map: Arc<Mapping>,
    offset: usize,
    rings: u16,
    size: u16,
    packed: bool,
}

impl Region {
    /// GET_INFLIGHT_FD: the answer, and the file.
    pub(super) fn offer(asked: &InflightMessage, features: Features) -> Result<(InflightMessage, SharedMemory)> {
        let InflightMessage { rings, ring_size, .. } = *asked;
        if !(1..=MAX_VRINGS).contains(&rings) || !(1..=MAX_QUEUE_SIZE).contains(&ring_size) {
            return Err(Error::protocol(format!("no notes can be kept of {rings} rings of {ring_size}")));
        }
        let size = usize::from(rings) * bytes(ring_size, features.contains(Features::RING_PACKED));
        let memory = SharedMemory::new("vuser-inflight", size, false)?;
        Ok((InflightMessage { size: size as u64, offset: 0, ..*asked }, memory))
    }

    /// SET_INFLIGHT_FD.
    pub(super) fn new(told: &InflightMessage, fd: &OwnedFd, features: Features) -> Result<Self> {
        let &InflightMessage { size, offset, rings, ring_size, .. } = told;
        let packed = features.contains(Features::RING_PACKED);
        let need = u64::from(rings) * bytes(ring_size, packed) as u64;
        let end = offset.checked_add(size).filter(|_| offset.is_multiple_of(8) && size >= need && need > 0);
        let wrong =
            || Error::protocol(format!("{size} bytes at {offset:#x} are no notes of {rings} rings of {ring_size}"));
        let end = end.ok_or_else(wrong)?;
        if !stays_as_long(fd.as_fd(), end) {
            return Err(Error::protocol("the file of the notes is too short, or could become so"));
        }
        // From the beginning of the file: a mapping begins at a page.
        let map = Mapping::new(fd.as_fd(), 0, usize::try_from(end).map_err(|_| wrong())?)?;
        Ok(Self { map: Arc::new(map), offset: offset as usize, rings, size: ring_size, packed })
    }

    /// The notes of a ring.
    pub(super) fn notes(&self, index: usize, size: u16, features: Features) -> Result<Notes> {
        if self.packed != features.contains(Features::RING_PACKED) {
            // The features were others when it was told.
            return Err(Error::protocol(format!("the notes of ring {index} are of the other layout")));
        }
        if index >= self.rings.into() || size > self.size {
            return Err(Error::protocol(format!(
                "there is no room for notes of ring {index}, which has {size} descriptors"
            )));
        }
        let at = self.offset + index * bytes(self.size, self.packed);
        let (map, packed) = (self.map.clone(), self.packed);
        let mut notes = Notes { map, at, size, counter: 0, batch: Vec::new(), packed, fresh: false };
        if notes.half(VERSION).load(Acquire) == 0 {
            notes.fresh = true;
            notes.begin();
        }
        match notes.half(ENTRIES).load(Acquire) {
            entries if entries == size => Ok(notes),
            entries => {
                Err(Error::protocol(format!("the notes of ring {index} are of {entries} descriptors, not {size}")))
            }
        }
    }
}

/// The notes of a ring.
#[derive(Debug)]
pub(super) struct Notes {
    map: Arc<Mapping>,
    at: usize,
    size: u16,
    packed: bool,
    /// Counts buffers as they are taken, so that they can be put in order again.
    counter: u64,
    /// Entries that are on their way back.
    batch: Vec<u16>,
    /// Nobody kept them before.
    fresh: bool,
}

/// Used position of a packed ring: slot and wrap counter.
type Place = (u16, bool);

/// What a predecessor has left.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Entries in flight, oldest first.
    pub(super) entries: Vec<u16>,
    /// Their descriptors in a packed ring.
    pub(super) slots: u16,
}

impl Notes {
    fn begin(&self) {
        (0..self.size).filter(|_| self.packed).for_each(|n| self.next(n).store((n + 1) % self.size, Release));
        self.half(ENTRIES).store(self.size, Release);
        self.half(VERSION).store(1, Release);
    }

    /// # Safety
    /// The value lies within the notes of the ring, and is aligned.
    unsafe fn place<T>(&self, at: usize) -> Shared<T> {
        assert!(at + size_of::<T>() <= bytes(self.size, self.packed) && at.is_multiple_of(align_of::<T>()));
        // SAFETY: inside the mapping, which lives as long as we do; its start and the notes' are aligned.
        unsafe { Shared::new(self.map.addr().add(self.at + at).cast()) }
    }

    fn half(&self, at: usize) -> Shared<u16> {
        // SAFETY: a field of the head.
        unsafe { self.place(at) }
    }

    fn entry<T>(&self, n: u16, field: usize) -> Shared<T> {
        let (head, entry) = if self.packed { (PACKED_HEAD, PACKED_ENTRY) } else { (SPLIT_HEAD, SPLIT_ENTRY) };
        // SAFETY: a field of an entry: by the remainder it is one of those there are.
        unsafe { self.place(head + usize::from(n % self.size) * entry + field) }
    }

    fn in_flight(&self, n: u16) -> Shared<u8> {
        self.entry(n, 0)
    }

    fn next(&self, n: u16) -> Shared<u16> {
        self.entry(n, if self.packed { 2 } else { 6 })
    }

    fn count(&mut self, n: u16) {
        self.entry::<u64>(n, 8).store(self.counter, Release);
        self.counter = self.counter.wrapping_add(1);
        self.in_flight(n).store(1, Release);
    }

    /// A buffer was taken: its head, and in a packed ring its descriptors, which must be kept because others may go back in
    /// their places. Which entry it has.
    pub(super) fn take(&mut self, head: u16, raw: &[Raw]) -> u16 {
        if !self.packed {
            self.count(head);
            return head;
        }
        let first = self.half(OLD_FREE).load(Acquire) % self.size;
        // Until all is there it has none.
        self.entry::<u16>(first, 6).store(0, Release);
        self.count(first);
        let (mut free, mut last) = (first, first);
        for &(addr, len, id, flags) in raw {
            last = free;
            self.entry::<u64>(free, 24).store(addr, Release);
            self.entry::<u32>(free, 20).store(len, Release);
            self.entry::<u16>(free, 18).store(flags, Release);
            self.entry::<u16>(free, 16).store(id, Release);
            free = self.next(free).load(Acquire) % self.size;
        }
        self.entry::<u16>(first, 4).store(last, Release);
        self.half(FREE).store(free, Release);
        self.entry::<u16>(first, 6).store(raw.len() as u16, Release);
        self.half(OLD_FREE).store(free, Release);
        first
    }

    /// The buffer that was taken last is as if it had not been.
    pub(super) fn put_back(&mut self, entry: u16) {
        if self.packed {
            self.half(OLD_FREE).store(entry, Release);
            self.half(FREE).store(entry, Release);
        }
        self.in_flight(entry).store(0, Release);
    }

    /// The descriptors of a buffer that is in flight.
    pub(super) fn raw(&self, entry: u16) -> Vec<Raw> {
        let mut at = entry;
        let number = self.slots(entry);
        let descriptors = (0..number).map(|_| {
            let all = (
                self.entry::<u64>(at, 24).load(Acquire),
                self.entry::<u32>(at, 20).load(Acquire),
                self.entry::<u16>(at, 16).load(Acquire),
                self.entry::<u16>(at, 18).load(Acquire),
            );
            at = self.next(at).load(Acquire);
            all
        });
        descriptors.collect()
    }

    /// Descriptors of a buffer in a packed ring that is in flight.
    fn slots(&self, entry: u16) -> u16 {
        self.entry::<u16>(entry, 6).load(Acquire).min(self.size)
    }

    /// Buffers go back: these entries, with so many descriptors each.
    pub(super) fn going(&mut self, used: impl Iterator<Item = (u16, u16)>) {
        self.batch.clear();
        let (mut slots, size) = (0, u32::from(self.size));
        for (entry, number) in used {
            self.batch.push(entry);
            slots += u32::from(number);
            if self.packed {
                let last = self.entry::<u16>(entry, 4).load(Acquire);
                self.next(last).store(self.half(FREE).load(Acquire), Release);
                self.half(FREE).store(entry, Release);
            } else {
                self.next(entry).store(self.half(LAST_BATCH).load(Acquire), Release);
                self.half(LAST_BATCH).store(entry, Release);
            }
        }
        if self.packed {
            let ((slot, wrap), old) = self.used();
            let to = u32::from(slot) + slots;
            self.set_used(((to % size) as u16, wrap ^ (to >= size)), old);
        }
    }

    /// They have gone. `idx` is the used index of a split ring.
    pub(super) fn gone(&mut self, idx: u16) {
        self.batch.iter().for_each(|entry| self.in_flight(*entry).store(0, Release));
        match self.packed {
            true => self.agree(),
            false => self.half(USED_IDX).store(idx, Release),
        }
    }

    /// Used position now and before the batch.
    fn used(&self) -> (Place, Place) {
        // SAFETY: a field of the head.
        let [now, now_too, old, old_too, wrap, old_wrap, ..] =
            unsafe { self.place::<u64>(USED) }.load(Acquire).to_le_bytes();
        let place = |low, high, wrap| (u16::from_le_bytes([low, high]) % self.size, wrap != 0);
        (place(now, now_too, wrap), place(old, old_too, old_wrap))
    }

    fn set_used(&self, now: Place, old: Place) {
        let ([a, b], [c, d]) = (now.0.to_le_bytes(), old.0.to_le_bytes());
        let all = u64::from_le_bytes([a, b, c, d, now.1.into(), old.1.into(), 0, 0]);
        // SAFETY: a field of the head.
        unsafe { self.place::<u64>(USED) }.store(all, Release);
    }

    /// There is no batch on its way any more.
    fn agree(&self) {
        self.half(OLD_FREE).store(self.half(FREE).load(Acquire), Release);
        let (now, _) = self.used();
        self.set_used(now, now);
    }

    /// What a predecessor left of a split ring with this used index.
    pub(super) fn recover_split(&mut self, idx: u16) -> Result<Left> {
        let behind = idx.wrapping_sub(self.half(USED_IDX).load(Acquire));
        if !self.fresh && behind > self.size {
            return Err(lie(format!("its notes are {behind} buffers behind")));
        }
        // The driver has seen the last batch; not all of it is noted.
        let mut at = self.half(LAST_BATCH).load(Acquire);
        for _ in (0..behind).filter(|_| !self.fresh) {
            self.in_flight(at).store(0, Release);
            at = self.next(at).load(Acquire);
        }
        self.half(USED_IDX).store(idx, Release);
        Ok(Left { entries: self.in_order(), slots: 0 })
    }

    /// What a predecessor left of a packed ring, and where that is; one that nobody has kept notes of begins at `begin`.
    /// `is_used` says whether the driver has seen what was at a position go back.
    pub(super) fn recover_packed(&mut self, begin: Place, is_used: impl Fn(Place) -> bool) -> Result<(Place, Left)> {
        if self.fresh {
            self.set_used(begin, begin);
        }
        let (now, old) = self.used();
        if now != old && is_used(old) {
            // The batch is what is first among the free ones.
            let laps = if now.1 == old.1 { 0 } else { self.size };
            let slots = (now.0 + laps).checked_sub(old.0).filter(|slots| *slots <= self.size);
            let mut at = self.half(FREE).load(Acquire);
            for _ in 0..slots.ok_or_else(|| lie("its notes are of another ring".into()))? {
                self.in_flight(at).store(0, Release);
                at = self.next(at).load(Acquire);
            }
            self.agree();
        } else {
            self.half(FREE).store(self.half(OLD_FREE).load(Acquire), Release);
            self.set_used(old, old);
        }
        // One that was being taken, or put back, is free.
        if self.taken() < self.size.into() {
            self.in_flight(self.half(FREE).load(Acquire)).store(0, Release);
        }
        let (slots, entries) = (self.taken(), self.in_order());
        match u16::try_from(slots) {
            Ok(slots) if slots <= self.size => Ok((self.used().0, Left { entries, slots })),
            _ => Err(lie(format!("its notes have {slots} descriptors in flight"))),
        }
    }

    /// Descriptors of all that is in flight in a packed ring.
    fn taken(&self) -> u32 {
        let heads = (0..self.size).filter(|n| self.in_flight(*n).load(Acquire) != 0);
        heads.map(|n| u32::from(self.slots(n))).sum()
    }

    /// All entries in flight, as they were taken.
    fn in_order(&mut self) -> Vec<u16> {
        let counter = |n: &u16| self.entry::<u64>(*n, 8).load(Acquire);
        let mut entries: Vec<u16> = (0..self.size).filter(|n| self.in_flight(*n).load(Acquire) != 0).collect();
        entries.sort_by_key(counter);
        self.counter = entries.last().map_or(0, |n| counter(n).wrapping_add(1));
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_of_the_other_layout_are_refused() {
        let (split, packed) = (Features::VERSION_1, Features::VERSION_1 | Features::RING_PACKED);
        for (told, other) in [(split, packed), (packed, split)] {
            let asked = InflightMessage { rings: 2, ring_size: 64, ..Default::default() };
            let (answer, memory) = Region::offer(&asked, told).unwrap();
            let region = Region::new(&answer, &memory.as_fd().try_clone_to_owned().unwrap(), told).unwrap();
            assert!(region.notes(1, 64, told).is_ok());
            // Entries of split rings are half as long: those of packed ones would lie outside.
            let error = region.notes(1, 64, other).unwrap_err().to_string();
            assert!(error.contains("of the other layout"), "{error}");
        }
    }
}
