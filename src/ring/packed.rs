//! Packed virtqueues, driver's side (VIRTIO 2.8).
//!
//! Slot = position in the descriptor ring. The device uses slots in turn and says in each which buffer it means;
//! a chain of n descriptors takes n slots of which it writes the first.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

use super::ledger::{Ledger, PLAIN_STEP};
use super::run::Run;
use super::{
    Ask, Cookie, Lengths, Lie, Monitor, Offers, Place, Renews, Ring, STEP, Segment, Takes, Used, UsedStep, need_event,
};
use crate::mem::atomic::fence;
use crate::mem::lanes::{Lanes, step_at};
use crate::mem::shared::{Row, Shared};
use crate::spec::ring::{DESC_F_AVAIL, DESC_F_NEXT, DESC_F_USED, EVENT_DESC, EVENT_DISABLE, EVENT_ENABLE, QueueLayout};

/// The bits of a descriptor's second word (len, id, flags) that say whether it is the used one that we expect.
const META_USED_MASK: u64 = ((DESC_F_AVAIL | DESC_F_USED) as u64) << 48 | 0xffff << 32;

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
    /// Slots offered of which it is not known whether the device wants a kick.
    unasked: u16,
    run: Run,
    in_order: bool,
    event_idx: bool,
    lanes: L,
}

impl<L: Lanes> PackedRing<L> {
    /// A ring of `size` at the beginning of zeroed memory.
    ///
    /// # Safety
    /// As [`SplitRing::new`](super::split::SplitRing::new), with `QueueLayout::packed(size)`.
    pub unsafe fn new(lanes: L, base: *mut u8, size: u16, in_order: bool, event_idx: bool) -> Self {
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
                unasked: 0,
                run: Run::default(),
                in_order,
                event_idx,
                lanes,
            }
        }
    }

    /// A lap of `head` has ended if it moved to `slot`, below where it was.
    #[inline(always)]
    fn offered(&mut self, before: u16, span: u16) {
        if self.ledger.head() < before || span == self.ledger.size() {
            self.avail ^= DESC_F_AVAIL | DESC_F_USED;
        }
        self.unasked += span;
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

    /// Whether the device's event structure asks for a kick for the last `n` slots.
    #[inline(always)]
    fn wants_kick(&self, n: u16) -> bool {
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

    /// If an in-order device has named another buffer than the oldest, all up to that one are a batch, of whose lengths
    /// nothing is known. What can't be is left to `take`, which says so.
    #[inline(always)]
    fn begin_batch(&mut self, lengths: Lengths) {
        if lengths == Lengths::Wanted || !self.in_order || self.run.is_on() || !self.has_used() {
            return;
        }
        let meta = self.meta(self.ledger.tail()).map_or(0, |m| m.load(Relaxed));
        let (id, len) = ((meta >> 32) as u16, meta as u32);
        if id != self.ledger.id(self.ledger.tail())
            && let Ok(run) = Run::begin(&self.ledger, 0, id, len)
        {
            self.run = run;
        }
    }

    /// Flags that a descriptor has when it is used in the lap in which the slot is the next to be taken.
    #[inline(always)]
    fn used_in_lap_of(&self, slot: u16) -> u16 {
        if slot < self.ledger.tail() { self.used ^ (DESC_F_AVAIL | DESC_F_USED) } else { self.used }
    }

    /// Offers the oldest buffers again by steps, up to the end of the ring; how many.
    #[inline(always)]
    fn renew_steps(&mut self, most: u16, flags: u16, from: &mut impl Renews<L::Quad>) -> u16 {
        let (lanes, before) = (self.lanes, self.ledger.tail());
        let flags = lanes.splat(u64::from(self.avail | flags) << 48);
        let steps = self.ledger.tail_steps(most.into());
        // SAFETY: there are two words for each slot, and the steps begin at `before`.
        let desc = unsafe { self.desc.from(2 * usize::from(before)) };
        let mut n = 0;
        while n < steps.ids.len() {
            // SAFETY: the rows are of whole steps.
            let (ids, _, cookies) = unsafe { steps.at(n) };
            let Some((addrs, lens)) = from.step(cookies) else { break };
            let metas = lanes.or(lanes.or(lens, lanes.shl::<32>(lanes.widen(ids))), flags);
            // [avail] pairs with the device's acquire of the flags.
            // SAFETY: a step of descriptors, as many as there are ids.
            unsafe { lanes.store_pairs(desc.add(2 * n), addrs, metas) };
            n += STEP;
        }
        self.ledger.renew(n as u16);
        self.taken(before, n as u16);
        self.offered(before, n as u16);
        n as u16
    }

    /// Offers the oldest buffer again; 1.
    fn renew_one(&mut self, flags: u16, from: &mut impl Renews<L::Quad>) -> u16 {
        let before = self.ledger.tail();
        if let (Some(cookie), Some([addr, meta])) =
            (self.ledger.cookie(before), self.desc.window(2 * usize::from(before)))
        {
            let segment = from.one(cookie);
            addr.store(segment.addr, Relaxed);
            let head = u64::from(self.ledger.id(before)) << 32 | u64::from(self.avail | flags) << 48;
            // [avail] pairs with the device's acquire of the flags.
            meta.store(u64::from(segment.len) | head, Release);
        }
        self.ledger.renew(1);
        self.taken(before, 1);
        self.offered(before, 1);
        1
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
    type Lanes = L;

    #[inline(always)]
    fn lanes(&self) -> L {
        self.lanes
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    #[inline(always)]
    fn offer_steps(&mut self, most: usize, flags: u16, from: &mut impl Offers<L::Quad>) -> usize {
        let (lanes, before) = (self.lanes, self.ledger.head());
        let flags = lanes.splat(u64::from(self.avail | flags) << 48);
        let steps = self.ledger.head_steps(most);
        // SAFETY: there are two words for each slot, and the steps begin at `before`.
        let desc = unsafe { self.desc.from(2 * usize::from(before)) };
        let mut n = 0;
        while n < steps.ids.len() {
            // SAFETY: `n` counts buffers, of which there are `most` at most, by steps; the rows are of whole steps.
            let (ids, step) = unsafe { (step_at(steps.ids, n), from.step(n)) };
            let Some(step) = step else { break };
            let metas = lanes.or(lanes.or(step.lens, lanes.shl::<32>(lanes.widen(ids))), flags);
            // [avail] pairs with the device's acquire of the flags.
            // SAFETY: a step of descriptors, as many as there are ids; the cookies are as many words.
            unsafe {
                lanes.store_pairs(desc.add(2 * n), step.addrs, metas);
                lanes.store(steps.cookies.as_mut_ptr().add(n).cast(), step.cookies);
            }
            n += STEP;
        }
        self.ledger.lend_steps(n);
        self.offered(before, n as u16);
        n
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
    fn publish(&mut self, ask: Ask) -> bool {
        // The descriptors became visible one by one, each whole; what is left is the kick.
        let n = self.unasked;
        if n == 0 {
            return false;
        }
        let sure = ask == Ask::Surely || n > self.ledger.size() / 2;
        if sure {
            // [kick] descriptors before the look at whether the device sleeps; the device asks for kicks, fences, and
            // looks at the descriptors (2.8.21.3.1). One of us sees the other's write.
            fence(SeqCst);
        }
        let wanted = self.wants_kick(n);
        if sure || wanted {
            self.unasked = 0;
        }
        wanted
    }

    #[inline(always)]
    fn poll(&mut self) -> Result<(), Lie> {
        // There is no index to look at: each descriptor says for itself.
        Ok(())
    }

    #[inline(always)]
    fn take_steps(&mut self, most: usize, lengths: Lengths, to: &mut impl Takes<L::Quad>) -> usize {
        self.begin_batch(lengths);
        let (lanes, before, in_batch) = (self.lanes, self.ledger.tail(), self.run.is_on());
        let most = match (in_batch, lengths) {
            (false, _) => most,
            (true, Lengths::Ignored) => most.min(self.run.chains()),
            (true, Lengths::Wanted) => return 0,
        };
        let steps = self.ledger.tail_steps(most);
        // SAFETY: there are two words for each slot, and the steps begin at `before`.
        let desc = unsafe { self.desc.from(2 * usize::from(before)) };
        // The slots of a batch say nothing, but for its first.
        let mask = lanes.splat(u64::from(u32::MAX) | if in_batch { 0 } else { META_USED_MASK });
        let pattern = lanes.splat(u64::from(self.used) << 48);
        let mut n = 0;
        while n < steps.ids.len() {
            // SAFETY: the rows are of whole steps.
            let (ids, spans, cookies) = unsafe { steps.at(n) };
            if lengths == Lengths::Ignored && *spans != PLAIN_STEP {
                break;
            }
            // [used] pairs with the device's release of the flags: length, id and frame are there.
            // SAFETY: a step of descriptors, as many as there are ids.
            let metas = unsafe { lanes.load_seconds(desc.add(2 * n)) };
            // The length, below what makes id and flags others than expected.
            let lens = lanes.and(lanes.xor(metas, lanes.or(lanes.shl::<32>(lanes.widen(ids)), pattern)), mask);
            // SAFETY: `n` counts buffers, of which there are `most` at most, by steps.
            if !unsafe { to.step(n, UsedStep { cookies, lens }) } {
                break;
            }
            n += STEP;
        }
        self.ledger.release_steps(n);
        self.taken(before, n as u16);
        if in_batch {
            self.run.skip(n);
        }
        n
    }

    #[inline(always)]
    fn look_steps(&self, behind: u16, most: usize, to: &mut impl Takes<L::Quad>) -> usize {
        if self.run.is_on() {
            return 0;
        }
        let (lanes, slot) = (self.lanes, self.ledger.after(self.ledger.tail(), behind));
        let steps = self.ledger.steps_behind(behind, most);
        // SAFETY: there are two words for each slot, and the steps begin at `slot`.
        let desc = unsafe { self.desc.from(2 * usize::from(slot)) };
        let mask = lanes.splat(u64::from(u32::MAX) | META_USED_MASK);
        let pattern = lanes.splat(u64::from(self.used_in_lap_of(slot)) << 48);
        let mut n = 0;
        while n < steps.ids.len() {
            // SAFETY: the rows are of whole steps.
            let (ids, _, cookies) = unsafe { steps.at(n) };
            // [used] pairs with the device's release of the flags: length, id and frame are there.
            // SAFETY: a step of descriptors, as many as there are ids.
            let metas = unsafe { lanes.load_seconds(desc.add(2 * n)) };
            let lens = lanes.and(lanes.xor(metas, lanes.or(lanes.shl::<32>(lanes.widen(ids)), pattern)), mask);
            // SAFETY: `n` counts buffers, of which there are `most` at most, by steps.
            if !unsafe { to.step(n, UsedStep { cookies, lens }) } {
                break;
            }
            n += STEP;
        }
        n
    }

    #[inline(always)]
    fn used_at(&mut self, place: &mut Place) -> Result<Option<Used>, Lie> {
        let slot = self.ledger.after(self.ledger.tail(), place.slots);
        if !place.run.is_on() {
            if self.is_used(place.slots) != Some(true) {
                return Ok(None);
            }
            // Behind the acquire of the flags in `is_used`: the device wrote the rest before.
            let Some(meta) = self.meta(slot).map(|m| m.load(Relaxed)) else { return Ok(None) };
            let (id, len) = ((meta >> 32) as u16, meta as u32);
            if id == self.ledger.id(slot) {
                return Ok(Some(Used::Bytes(len)));
            }
            if !self.in_order {
                return if self.ledger.bring_forward(place.slots, id) {
                    Ok(Some(Used::Bytes(len)))
                } else {
                    Err(Lie::UsedId)
                };
            }
            place.run = Run::begin(&self.ledger, place.slots, id, len)?;
        }
        place.run.next(self.ledger.span(slot)).map(Some)
    }

    fn first_place(&self) -> Place {
        Place::first(self.run)
    }

    #[inline(always)]
    fn renew(&mut self, n: u16, flags: u16, from: &mut impl Renews<L::Quad>) -> bool {
        if self.ledger.free() > 0 || self.run.is_on() {
            return false;
        }
        let mut left = n;
        while left > 0 {
            left -= match self.renew_steps(left, flags, from) {
                0 => self.renew_one(flags, from),
                steps => steps,
            };
        }
        true
    }

    fn take(&mut self) -> Result<Option<(Cookie, Used, bool)>, Lie> {
        let mut place = self.first_place();
        let Some(used) = self.used_at(&mut place)? else { return Ok(None) };
        self.run = place.run;
        Ok(self.release(used))
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
        (0..self.ledger.lent()).take_while(|&k| self.is_used(k) == Some(true)).count() as u16
    }

    fn is_used(&self, offset: u16) -> Option<bool> {
        if offset >= self.ledger.lent() {
            return None;
        }
        let slot = self.ledger.after(self.ledger.tail(), offset);
        let lap = self.used_in_lap_of(slot);
        let meta = self.meta(slot).map_or(0, |m| m.load(Acquire));
        Some((meta >> 48) as u16 & (DESC_F_AVAIL | DESC_F_USED) == lap)
    }

    fn monitor(&self) -> Monitor {
        // The flags are the upper quarter of the descriptor.
        let addr = self.meta(self.ledger.tail()).map_or(0, |m| m.addr() + 6);
        Monitor { addr, mask: DESC_F_AVAIL | DESC_F_USED, value: self.used, while_equal: false }
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

    fn resume_base(&self) -> Option<u32> {
        let mut behind = 0;
        if self.run.is_on() {
            behind = self.run.rest(&self.ledger);
        }
        // Each used descriptor says whose chain it was, and that says where the next one is.
        while behind < self.ledger.lent() && self.is_used(behind) == Some(true) {
            let slot = self.ledger.after(self.ledger.tail(), behind);
            let id = (self.meta(slot).map_or(0, |m| m.load(Relaxed)) >> 32) as u16;
            behind += self.ledger.used_span(behind, id, self.in_order)?;
        }
        let (tail, size) = (self.ledger.tail(), self.ledger.size());
        if behind > self.ledger.lent() {
            return None;
        }
        let lap = if behind >= size - tail { self.used ^ (DESC_F_AVAIL | DESC_F_USED) } else { self.used };
        let half = u32::from(self.ledger.after(tail, behind) | if lap != 0 { OFF_WRAP } else { 0 });
        Some(half | half << 16)
    }

    fn resume(&mut self) {
        self.device_event.store(u32::from(EVENT_ENABLE) << 16, Relaxed);
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
