//! The device's side of a split virtqueue (VIRTIO 2.7).

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;

use super::inflight::{Left, Notes};
use super::memory::Memory;
use super::ring::{Chain, Descs, Segment, Setup, Used, indirect_entries, lie, read_indirect};
use crate::error::Result;
use crate::mem::shared::Shared;
use crate::spec::ring::{AVAIL_F_NO_INTERRUPT, DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE, USED_F_NO_NOTIFY};
use crate::spec::virtio::Features;

/// A split ring. Both indices run freely over 16 bits; the slot is the index modulo the size (2.7.6, 2.7.8).
#[derive(Debug)]
pub(super) struct Split {
    descs: Descs,
    /// `flags`, `idx`, `ring[size]`, `used_event`.
    avail: Shared<u16>,
    /// `flags`, `idx`, then 4 words for each element, then `avail_event`.
    used: Shared<u16>,
    /// The same place: an element is 2 words of 32 bits, from word 1 on.
    elems: Shared<u32>,
    size: u16,
    features: Features,
    /// Next available entry to take.
    next_avail: u16,
    /// `avail.idx` as it was seen last: entries before it may be taken.
    seen: u16,
    /// `seen` was looked at again, and nothing was there.
    drained: bool,
    /// Next used element to write.
    next_used: u16,
    /// `next_used` when a call was considered last.
    called: u16,
    /// In order, strictly: the head that must come next, once one has come.
    expected: Option<u16>,
    strict: bool,
}

impl Split {
    /// # Safety
    /// As [`Ring::new`](super::ring::Ring::new), with the setup checked.
    pub(super) unsafe fn new(setup: &Setup) -> Self {
        let Setup { areas, size, features, .. } = *setup;
        // SAFETY: the caller vouches for the three areas.
        let (descs, avail, used, elems) = unsafe {
            let (device, wide) = (Shared::new(areas.device.cast()), Shared::new(areas.device.cast()));
            (Descs::new(areas.desc, size), Shared::new(areas.driver.cast()), device, wide)
        };
        let base = setup.base as u16;
        let strict = setup.strict && features.contains(Features::IN_ORDER);
        let mut ring = Self {
            descs,
            avail,
            used,
            elems,
            size,
            features,
            next_avail: base,
            seen: base,
            drained: false,
            next_used: 0,
            called: 0,
            expected: None,
            strict,
        };
        // SET_VRING_BASE carries no used index: it stands in the ring.
        ring.next_used = ring.used_word(1).load(Acquire);
        ring.called = ring.next_used;
        ring
    }

    fn avail_word(&self, n: usize) -> Shared<u16> {
        debug_assert!(n < 3 + usize::from(self.size));
        // SAFETY: the available ring has 3 + size words with an event index, 2 + size without; all callers keep to it.
        unsafe { self.avail.at(n) }
    }

    fn used_word(&self, n: usize) -> Shared<u16> {
        debug_assert!(n < 3 + 4 * usize::from(self.size));
        // SAFETY: the used ring has 3 + 4 * size words with an event index, 2 + 4 * size without.
        unsafe { self.used.at(n) }
    }

    fn slot(&self, index: u16) -> usize {
        usize::from(index & (self.size - 1))
    }

    fn event_idx(&self) -> bool {
        self.features.contains(Features::EVENT_IDX)
    }

    /// The driver's event index, behind the last entry (2.7.6).
    fn used_event(&self) -> Shared<u16> {
        self.avail_word(2 + usize::from(self.size))
    }

    /// Our event index, behind the last element (2.7.8).
    fn avail_event(&self) -> Shared<u16> {
        self.used_word(2 + 4 * usize::from(self.size))
    }

    pub(super) fn next(&mut self, memory: &impl Memory, chain: &mut Chain) -> Result<bool> {
        if self.next_avail == self.seen && !self.look()? {
            return Ok(false);
        }
        let head = self.avail_word(2 + self.slot(self.next_avail)).load(Relaxed);
        if self.strict && self.expected.is_some_and(|e| e != head) {
            return Err(lie(format!("descriptor {head} is out of order")));
        }
        chain.start(head);
        self.read_chain(memory, head, chain)?;
        // Below the size: the chain's descriptors are counted.
        self.expected = Some((u32::from(head) + u32::from(chain.slots())) as u16 & (self.size - 1));
        self.next_avail = self.next_avail.wrapping_add(1);
        Ok(true)
    }

    /// Reads the driver's index anew.
    fn look(&mut self) -> Result<bool> {
        // Pair [available]: the driver stores `idx` with release after the entries and descriptors behind it.
        let idx = self.avail_word(1).load(Acquire);
        self.drained = idx == self.seen;
        // The driver cannot make more available than there are descriptors, less those taken and not yet used;
        // it did not take back any either (2.7.6.1).
        if idx.wrapping_sub(self.seen) > self.size {
            return Err(lie(format!("available index went from {} to {idx}", self.seen)));
        }
        self.seen = idx;
        Ok(!self.drained)
    }

    fn read_chain(&self, memory: &impl Memory, head: u16, chain: &mut Chain) -> Result<()> {
        let mut at = head;
        loop {
            let Some((addr, len, flags, next)) = self.descs.read(at) else {
                return Err(lie(format!("descriptor {at} is outside the table of {}", self.size)));
            };
            chain.count_slot(self.size)?;
            if flags & DESC_F_INDIRECT != 0 {
                // It ends the chain, alone or after ordinary descriptors (2.7.5.3).
                if flags & DESC_F_NEXT != 0 || !self.features.contains(Features::INDIRECT_DESC) {
                    return Err(lie(format!("descriptor {at} must not be indirect")));
                }
                return self.read_table(memory, addr, len, chain);
            }
            chain.add(memory, self.size, Segment { addr, len, writable: flags & DESC_F_WRITE != 0 })?;
            if flags & DESC_F_NEXT == 0 {
                return Ok(());
            }
            // 2.7.5.1: in ring order, around the end of the table.
            if self.strict && next != (at + 1) & (self.size - 1) {
                return Err(lie(format!("descriptor {at} is followed by {next}, which is out of order")));
            }
            at = next;
        }
    }

    fn read_table(&self, memory: &impl Memory, table: u64, bytes: u32, chain: &mut Chain) -> Result<()> {
        let entries = indirect_entries(memory, table, bytes)?;
        let mut at = 0;
        // Each round takes one entry: a loop would take more than there are.
        for _ in 0..entries.min(self.size.into()) {
            let Some((addr, len, flags, next)) = read_indirect(memory, table, at) else {
                return Err(lie(format!("descriptor {at} of an indirect table cannot be read")));
            };
            if flags & DESC_F_INDIRECT != 0 {
                return Err(lie("an indirect table inside an indirect table".into()));
            }
            chain.add(memory, self.size, Segment { addr, len, writable: flags & DESC_F_WRITE != 0 })?;
            if flags & DESC_F_NEXT == 0 {
                return Ok(());
            }
            if self.strict && u32::from(next) != at + 1 {
                return Err(lie(format!("indirect descriptor {at} is followed by {next}, which is out of order")));
            }
            at = next.into();
            if at >= entries {
                return Err(lie(format!("descriptor {at} is outside the indirect table of {entries}")));
            }
        }
        Err(lie(format!("chain without end in an indirect table of {entries}")))
    }

    pub(super) fn put_back(&mut self, chain: &Chain) {
        self.next_avail = self.next_avail.wrapping_sub(1);
        self.expected = Some(chain.id());
    }

    pub(super) fn publish(&mut self, used: &[Used]) {
        for u in used {
            let at = 1 + 2 * self.slot(self.next_used);
            // SAFETY: elements occupy words 1 to 2 * size of the used ring, and the slot is below the size.
            let (id, len) = unsafe { (self.elems.at(at), self.elems.at(at + 1)) };
            id.store(u.id.into(), Relaxed);
            len.store(u.len, Relaxed);
            // A batch has its one element at the first place and skips the rest (2.7.9).
            self.next_used = self.next_used.wrapping_add(u.buffers);
        }
        // Pair [used]: the driver loads `idx` with acquire before the elements and the buffers.
        self.used_word(1).store(self.next_used, Release);
    }

    pub(super) fn should_call(&mut self) -> bool {
        let old = std::mem::replace(&mut self.called, self.next_used);
        if old == self.next_used {
            return false;
        }
        // Pair [call]: we store the used index, then read what the driver wishes; it stores its wish, then reads the
        // used index, with a full fence of its own between. One of us sees the other (2.7.7, 2.7.14).
        fence(SeqCst);
        if self.event_idx() {
            reached(self.used_event().load(Relaxed), old, self.next_used)
        } else {
            self.avail_word(0).load(Relaxed) & AVAIL_F_NO_INTERRUPT == 0
        }
    }

    pub(super) fn kicks(&mut self, on: bool) -> bool {
        if on && !self.drained {
            return true;
        }
        match (self.event_idx(), on) {
            // 2.7.10: a kick is due when entry number `seen` is written; the flags stay zero.
            (true, true) => {
                self.used_word(0).store(0, Relaxed);
                self.avail_event().store(self.seen, Relaxed);
            }
            // An entry written long ago: the index passes it again only after a whole lap.
            (true, false) => {
                self.used_word(0).store(0, Relaxed);
                self.avail_event().store(self.seen.wrapping_sub(1), Relaxed);
            }
            (false, true) => self.used_word(0).store(0, Relaxed),
            (false, false) => self.used_word(0).store(USED_F_NO_NOTIFY, Relaxed),
        }
        if !on {
            return false;
        }
        // Pair [kick]: we store our wish, then read the available index; the driver stores the index, then reads our
        // wish, with a full fence of its own between (2.7.13.4).
        fence(SeqCst);
        self.avail_word(1).load(Relaxed) != self.seen
    }

    pub(super) fn used_index(&self) -> u16 {
        self.next_used
    }

    /// Goes on where a predecessor was: behind all that is used, and what it had in flight.
    pub(super) fn recover(&mut self, notes: &mut Notes) -> Result<Left> {
        let left = notes.recover_split(self.next_used)?;
        self.next_avail = self.next_used.wrapping_add(left.entries.len() as u16);
        self.seen = self.next_avail;
        Ok(left)
    }

    /// A buffer that was taken by a predecessor.
    pub(super) fn take_again(&mut self, memory: &impl Memory, head: u16, chain: &mut Chain) -> Result<()> {
        chain.start(head);
        self.read_chain(memory, head, chain)
    }

    pub(super) fn position(&self) -> u32 {
        self.next_avail.into()
    }

    pub(super) fn size(&self) -> u16 {
        self.size
    }
}

/// Whether the entry numbered `event` is among those written while the index went from `old` to `new` (2.7.7.2).
fn reached(event: u16, old: u16, new: u16) -> bool {
    event.wrapping_sub(old) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As virtio_ring.h of the standard's appendix has it.
    fn vring_need_event(event: u16, new: u16, old: u16) -> bool {
        new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
    }

    #[test]
    fn the_event_index_agrees_with_the_standard() {
        for old in [0, 1, 7, 32767, 32768, 65530, 65535] {
            for step in [0, 1, 2, 5, 9, 256, 32768] {
                let new = u16::wrapping_add(old, step);
                for event in 0..=u16::MAX {
                    assert_eq!(reached(event, old, new), vring_need_event(event, new, old), "{event} {old} {new}");
                }
            }
        }
    }
}
