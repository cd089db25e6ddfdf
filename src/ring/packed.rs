//! Packed virtqueues, driver's side (VIRTIO 2.8).
//!
//! Slot = position in the descriptor ring. The device uses slots in turn and says in each which buffer it means;
//! a chain of n descriptors takes n slots of which it writes the first.

use std::marker::PhantomData;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;

use super::lanes::Lanes;
use super::ledger::Ledger;
use super::run::Run;
use super::{Cookie, Lie, Monitor, OfferStep, Ring, STEP, Segment, Used, need_event};
use crate::mem::shared::{Row, Shared};
use crate::spec::ring::{DESC_F_AVAIL, DESC_F_NEXT, DESC_F_USED, EVENT_DESC, EVENT_DISABLE, EVENT_ENABLE, QueueLayout};

/// The bits of a descriptor's second word (len, id, flags) that say whether it is the used one that we expect.
pub const META_USED_MASK: u64 = ((DESC_F_AVAIL | DESC_F_USED) as u64) << 48 | 0xffff << 32;

/// What those bits are when this id is used in the lap whose used flags are these.
#[inline(always)]
pub const fn used_pattern(id: u16, flags: u16) -> u64 {
    (flags as u64) << 48 | (id as u64) << 32
}

/// `off_wrap` of the event suppression structures: the wrap counter.
const OFF_WRAP: u16 = 1 << 15;

/// A packed ring over shared memory.
#[derive(Debug)]
pub struct PackedRing<L> {
    ledger: Ledger,
    desc: Row<u64>,
    /// off_wrap in the low half, flags in the high half.
    driver_event: Shared<u32>,
    device_event: Shared<u32>,
    /// Flags that make a descriptor available in the lap of `head`.
    avail: u16,
    /// Flags that a descriptor has when it is used in the lap of `tail`.
    used: u16,
    /// Slots offered and not yet published.
    unpublished: u16,
    run: Run,
    in_order: bool,
    event_idx: bool,
    lanes: PhantomData<L>,
}

impl<L: Lanes> PackedRing<L> {
    /// A ring of `size` at the beginning of zeroed memory.
    ///
    /// # Safety
    /// As [`SplitRing::new`](super::split::SplitRing::new), with `QueueLayout::packed(size)`.
    pub unsafe fn new(base: *mut u8, size: u16, in_order: bool, event_idx: bool) -> Self {
        let layout = QueueLayout::packed(size);
        // SAFETY: all parts lie inside the layout, which is mapped, and are aligned by it.
        unsafe {
            Self {
                ledger: Ledger::new(size),
                desc: Row::new(base.add(layout.desc).cast(), 2 * usize::from(size)),
                driver_event: Shared::new(base.add(layout.driver).cast()),
                device_event: Shared::new(base.add(layout.device).cast()),
                // Both wrap counters begin with 1 (2.8.1).
                avail: DESC_F_AVAIL,
                used: DESC_F_AVAIL | DESC_F_USED,
                unpublished: 0,
                run: Run::default(),
                in_order,
                event_idx,
                lanes: PhantomData,
            }
        }
    }

    /// A lap of `head` has ended if it moved to `slot`, below where it was.
    #[inline(always)]
    fn offered(&mut self, before: u16, span: u16) {
        if self.ledger.head() < before || span == self.ledger.size() {
            self.avail ^= DESC_F_AVAIL | DESC_F_USED;
        }
        self.unpublished += span;
    }

    #[inline(always)]
    fn taken(&mut self, before: u16, span: u16) {
        if self.ledger.tail() < before || span == self.ledger.size() {
            self.used ^= DESC_F_AVAIL | DESC_F_USED;
        }
    }

    #[inline(always)]
    fn meta(&self, slot: u16) -> Option<Shared<u64>> {
        self.desc.get(2 * usize::from(slot) + 1)
    }

    /// Writes a chain behind its head first: the device sees nothing of it before the head.
    fn write_chain(&self, chain: &[Segment]) {
        let (head, id) = (self.ledger.head(), self.ledger.next_id());
        for (k, segment) in chain.iter().enumerate().rev() {
            let slot = self.ledger.after(head, k as u16);
            let lap = if slot < head { self.avail ^ (DESC_F_AVAIL | DESC_F_USED) } else { self.avail };
            let more = if k + 1 < chain.len() { DESC_F_NEXT } else { 0 };
            let flags = u64::from(segment.flags | more | lap) << 48;
            if let Some([addr, meta]) = self.desc.window(2 * usize::from(slot)) {
                addr.store(segment.addr, Relaxed);
                // [avail] pairs with the device's acquire of the flags.
                meta.store(u64::from(segment.len) | u64::from(id) << 32 | flags, Release);
            }
        }
    }

    /// Takes the oldest chain, of which the ring says that it is used.
    fn release(&mut self, used: Used) -> Option<(Cookie, Used, bool)> {
        let (before, span) = (self.ledger.tail(), self.ledger.tail_span());
        let (cookie, plain) = self.ledger.release()?;
        self.taken(before, span);
        Some((cookie, used, plain))
    }
}

impl<L: Lanes> Ring for PackedRing<L> {
    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    #[inline(always)]
    fn offer_step(&mut self, step: &OfferStep) -> bool {
        let Some(ids) = self.ledger.head_step() else { return false };
        let before = self.ledger.head();
        let Some(words) = self.desc.window(2 * usize::from(before)) else { return false };
        L::offer_packed(words, ids, self.avail, step);
        self.ledger.lend_step(&step.cookies, step.plain);
        self.offered(before, STEP as u16);
        true
    }

    fn offer(&mut self, chain: &[Segment], cookie: Cookie, plain: bool) -> bool {
        if chain.is_empty() || chain.len() > usize::from(self.ledger.free()) {
            return false;
        }
        self.write_chain(chain);
        let (before, span) = (self.ledger.head(), chain.len() as u16);
        self.ledger.lend(span, cookie, plain);
        self.offered(before, span);
        true
    }

    #[inline(always)]
    fn publish(&mut self) -> bool {
        // The descriptors became visible one by one, each whole; what is left is the kick.
        let n = std::mem::take(&mut self.unpublished);
        if n == 0 {
            return false;
        }
        // [kick] descriptors before the look at whether the device sleeps; the device asks for kicks, fences, and
        // looks at the descriptors (2.8.21.3.1). One of us sees the other's write.
        fence(SeqCst);
        let event = self.device_event.load(Relaxed);
        let (off_wrap, flags) = (event as u16, (event >> 16) as u16);
        if flags != EVENT_DESC || !self.event_idx {
            return flags != EVENT_DISABLE;
        }
        let new = self.ledger.head();
        let this_lap = (off_wrap & OFF_WRAP != 0) == (self.avail == DESC_F_AVAIL);
        let slot = off_wrap & !OFF_WRAP;
        let slot = if this_lap { slot } else { slot.wrapping_sub(self.ledger.size()) };
        need_event(slot, new, new.wrapping_sub(n))
    }

    #[inline(always)]
    fn poll(&mut self) -> Result<(), Lie> {
        // There is no index to look at: each descriptor says for itself.
        Ok(())
    }

    #[inline(always)]
    fn used_step(&self) -> Option<[u32; STEP]> {
        if self.run.is_on() {
            return None;
        }
        let words = self.desc.window(2 * usize::from(self.ledger.tail()))?;
        L::used_packed(words, self.ledger.tail_step()?, self.used)
    }

    #[inline(always)]
    fn consume_step(&mut self) {
        let before = self.ledger.tail();
        self.ledger.release_step();
        self.taken(before, STEP as u16);
    }

    #[inline(always)]
    fn take_step(&mut self) -> bool {
        let used = if self.run.is_on() { self.run.next_step(&self.ledger) } else { self.used_step().is_some() };
        if used {
            self.consume_step();
        }
        used
    }

    fn take(&mut self) -> Result<Option<(Cookie, Used, bool)>, Lie> {
        if self.run.is_on() {
            let used = self.run.next(&self.ledger)?;
            return Ok(self.release(used));
        }
        if self.ledger.lent() == 0 || !self.has_used() {
            return Ok(None);
        }
        // Behind the acquire of the flags in `has_used`: the device wrote the rest before.
        let Some(meta) = self.meta(self.ledger.tail()).map(|m| m.load(Relaxed)) else { return Ok(None) };
        let (id, len) = ((meta >> 32) as u16, meta as u32);
        if id != self.ledger.id(self.ledger.tail()) {
            if self.in_order {
                self.run = Run::begin(&self.ledger, id, len)?;
                return self.take();
            }
            if !self.ledger.bring_forward(id) {
                return Err(Lie::UsedId);
            }
        }
        Ok(self.release(Used::Bytes(len)))
    }

    fn surrender(&mut self) -> Option<(Cookie, bool)> {
        self.ledger.release()
    }

    fn has_used(&self) -> bool {
        // [used] pairs with the device's release of the flags: length, id and frame are there.
        let meta = self.meta(self.ledger.tail()).map_or(0, |m| m.load(Acquire));
        let used = (meta >> 48) as u16 & (DESC_F_AVAIL | DESC_F_USED) == self.used;
        // The slots of a batch do not say that they are used, but for its first.
        self.ledger.lent() > 0 && (used || self.run.is_on())
    }

    fn used_count(&self) -> u16 {
        (0..self.ledger.lent()).take_while(|&n| self.is_used(n)).count() as u16
    }

    fn is_used(&self, n: u16) -> bool {
        let slot = self.ledger.after(self.ledger.tail(), n.min(self.ledger.size()));
        let lap = if slot < self.ledger.tail() { DESC_F_AVAIL | DESC_F_USED } else { 0 };
        let meta = self.meta(slot).map_or(0, |m| m.load(Acquire));
        n < self.ledger.lent() && (meta >> 48) as u16 & (DESC_F_AVAIL | DESC_F_USED) == self.used ^ lap
    }

    fn monitor(&self) -> Monitor {
        let flags = self.meta(self.ledger.tail()).map_or(0, |m| m.addr() + 6);
        Monitor { addr: flags as *const u16, mask: DESC_F_AVAIL | DESC_F_USED, value: self.used, while_equal: false }
    }

    fn set_calls(&mut self, on: bool) {
        let (off_wrap, flags) = match (on, self.event_idx) {
            (false, _) => (0, EVENT_DISABLE),
            (true, false) => (0, EVENT_ENABLE),
            // Wrap counter 1 means that used descriptors have both flags set.
            (true, true) => (self.ledger.tail() | if self.used != 0 { OFF_WRAP } else { 0 }, EVENT_DESC),
        };
        self.driver_event.store(u32::from(off_wrap) | u32::from(flags) << 16, Relaxed);
        // [call] our wish before the look at the next descriptor that follows; pairs with the device's fence
        // between its used descriptor and its look at our wish (2.8.21.4).
        fence(SeqCst);
    }

    fn base(&self) -> u32 {
        // vhost-user: available position and its wrap counter, then used position and its wrap counter.
        let half = |slot: u16, wrap: bool| u32::from(slot | if wrap { OFF_WRAP } else { 0 });
        let used = half(self.ledger.tail(), self.used != 0);
        used | used << 16
    }

    fn untouched(&self, base: u32) -> Option<u16> {
        let slot = base as u16 & !OFF_WRAP;
        if slot >= self.ledger.size() {
            return None;
        }
        let lap_of_tail = (base as u16 & OFF_WRAP != 0) == (self.used != 0);
        // At the slot of `tail` the device has begun nothing, or, a lap later, everything.
        let begun =
            if slot == self.ledger.tail() && !lap_of_tail { self.ledger.size() } else { self.ledger.distance(slot) };
        self.ledger.lent().checked_sub(begun)
    }
}
