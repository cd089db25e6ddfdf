//! Split virtqueues, driver's side (VIRTIO 2.7).
//!
//! Slot = descriptor, as long as the device keeps the order; what is offered at a slot is the descriptor that the
//! ledger has there. The available ring is written only where it would change: with single buffers used in order
//! it is written once, in the first lap, and never again.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

use super::ledger::{Ledger, PLAIN_STEP};
use super::run::Run;
use super::{
    Ask, Cookie, Lengths, Lie, Monitor, Offers, Place, Renews, Ring, STEP, Segment, Takes, Used, UsedStep, need_event,
};
use crate::mem::atomic::fence;
use crate::mem::lanes::{Lanes, step_at};
use crate::mem::shared::{Row, Shared};
use crate::spec::ring::{AVAIL_F_NO_INTERRUPT, DESC_F_NEXT, QueueLayout, USED_F_NO_NOTIFY};

/// No descriptor: an id that no ring is large enough to have.
const NOTHING: u16 = u16::MAX;

/// A split ring over shared memory.
#[derive(Debug)]
pub struct SplitRing<L> {
    ledger: Ledger,
    desc: Row<u64>,
    avail_flags: Shared<u16>,
    avail_idx: Shared<u16>,
    avail: Row<u16>,
    used_event: Shared<u16>,
    used_flags: Shared<u16>,
    used_idx: Shared<u16>,
    used: Row<u64>,
    avail_event: Shared<u16>,
    /// What stands in the available ring: our copy, since the device can write there.
    written: Box<[u16]>,
    /// Single buffers offered in a row whose slot, id and place in the available ring are one number. Once that is the
    /// whole ring, none of these need be looked at until the device leaves the order, or a chain is offered.
    in_place: u16,
    /// Chains offered, published and taken since the start, modulo 2^16 as on the wire.
    offered: u16,
    published: u16,
    taken: u16,
    /// Up to where it is known whether the device wants a kick.
    asked: u16,
    /// The device's used index when we last looked.
    seen: u16,
    mask: u16,
    run: Run,
    in_order: bool,
    event_idx: bool,
    lanes: L,
}

impl<L: Lanes> SplitRing<L> {
    /// A ring of `size`, a power of two, at the beginning of zeroed memory.
    ///
    /// # Safety
    /// `base` is aligned to 64 and `QueueLayout::split(size).bytes` are mapped there as long as the ring lives;
    /// nothing but this ring and the device uses them.
    pub unsafe fn new(lanes: L, base: *mut u8, size: u16, in_order: bool, event_idx: bool) -> Self {
        let layout = QueueLayout::split(size);
        let n = usize::from(size);
        // SAFETY: all parts lie inside the layout, which is mapped, and are aligned by it.
        unsafe {
            let (driver, device) = (base.add(layout.driver), base.add(layout.device));
            Self {
                ledger: Ledger::new(size),
                desc: Row::new(base.add(layout.desc).cast(), 2 * n),
                avail_flags: Shared::new(driver.cast()),
                avail_idx: Shared::new(driver.add(2).cast()),
                avail: Row::new(driver.add(4).cast(), n),
                used_event: Shared::new(driver.add(4 + 2 * n).cast()),
                used_flags: Shared::new(device.cast()),
                used_idx: Shared::new(device.add(2).cast()),
                used: Row::new(device.add(4).cast(), n),
                avail_event: Shared::new(device.add(4 + 8 * n).cast()),
                written: vec![NOTHING; n].into(),
                in_place: 0,
                offered: 0,
                published: 0,
                asked: 0,
                taken: 0,
                seen: 0,
                mask: size - 1,
                run: Run::default(),
                in_order,
                event_idx,
                lanes,
            }
        }
    }

    /// Puts a chain's head into the available ring at position `at`.
    #[inline(always)]
    fn announce(&mut self, at: u16, id: u16) {
        let slot = usize::from(at & self.mask);
        if let (Some(written), Some(place)) = (self.written.get_mut(slot), self.avail.get(slot))
            && *written != id
        {
            *written = id;
            place.store(id, Relaxed);
        }
    }

    /// So many more single buffers were offered, in place or not.
    #[inline(always)]
    fn count_in_place(&mut self, n: u16, in_place: bool) {
        self.in_place = if in_place { self.ledger.size().min(self.in_place.saturating_add(n)) } else { 0 };
    }

    /// Offers steps. With `SETTLED`, all ids and the whole available ring are in place.
    #[inline(always)]
    fn write_steps<const SETTLED: bool>(&mut self, most: usize, flags: u16, from: &mut impl Offers<L::Quad>) -> usize {
        let (lanes, slot) = (self.lanes, usize::from(self.ledger.head()));
        let at = usize::from(self.offered & self.mask);
        // Neither the descriptors nor the available ring end inside.
        let room = self.written.len() - at;
        let steps = self.ledger.head_steps(most.min(room));
        // SAFETY: there are two words for each slot, and the steps begin at `slot`.
        let desc = unsafe { self.desc.from(2 * slot) };
        let flags = lanes.splat(u64::from(flags) << 32);
        let mut n = 0;
        while n < steps.ids.len() {
            // SAFETY: the rows are of whole steps.
            if !SETTLED && unsafe { *step_at(steps.ids, n) } != in_place(slot + n) {
                break;
            }
            // SAFETY: `n` counts buffers, of which there are `most` at most, by steps.
            let Some(step) = (unsafe { from.step(n) }) else { break };
            // SAFETY: a step of descriptors, as many as there are ids; the cookies are as many words.
            unsafe {
                lanes.store_pairs(desc.add(2 * n), step.addrs, lanes.or(step.lens, flags));
                lanes.store(steps.cookies.as_mut_ptr().add(n).cast(), step.cookies);
            }
            n += STEP;
        }
        if !SETTLED {
            (0..n).for_each(|k| self.announce(self.offered.wrapping_add(k as u16), (slot + k) as u16));
            self.count_in_place(n as u16, at == slot);
        }
        self.ledger.lend_steps(n);
        self.offered = self.offered.wrapping_add(n as u16);
        n
    }

    /// Writes the descriptors of a chain from the last to the first.
    fn write_chain(&self, chain: &[Segment]) {
        let mut next = 0;
        for (k, segment) in chain.iter().enumerate().rev() {
            let id = self.ledger.id(self.ledger.after(self.ledger.head(), k as u16));
            let more = if k + 1 < chain.len() { DESC_F_NEXT } else { 0 };
            if let Some([addr, rest]) = self.desc.window(2 * usize::from(id)) {
                addr.store(segment.addr, Relaxed);
                let flags = u64::from(segment.flags | more) << 32;
                rest.store(u64::from(segment.len) | flags | u64::from(next) << 48, Relaxed);
            }
            next = id;
        }
    }
}

/// The ids of the step at a slot, as long as the device keeps the order.
#[inline(always)]
fn in_place(slot: usize) -> [u16; STEP] {
    let first = slot as u16;
    [first, first.wrapping_add(1), first.wrapping_add(2), first.wrapping_add(3)]
}

impl<L: Lanes> Ring for SplitRing<L> {
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
        match self.in_place == self.ledger.size() {
            true => self.write_steps::<true>(most, flags, from),
            false => self.write_steps::<false>(most, flags, from),
        }
    }

    fn offer(&mut self, chain: &[Segment], cookie: Cookie, plain: bool) -> bool {
        if chain.is_empty() || chain.len() > usize::from(self.ledger.free()) {
            return false;
        }
        self.write_chain(chain);
        let id = self.ledger.next_id();
        self.announce(self.offered, id);
        let in_place = chain.len() == 1 && id == self.offered & self.mask && id == self.ledger.head();
        self.count_in_place(1, in_place);
        self.ledger.lend(chain.len() as u16, cookie, plain);
        self.offered = self.offered.wrapping_add(1);
        true
    }

    #[inline(always)]
    fn publish(&mut self, ask: Ask) -> bool {
        let (old, new) = (self.asked, self.offered);
        if old == new {
            return false;
        }
        if self.published != new {
            // [avail] pairs with the device's acquire of the index: descriptors and ring before it (2.7.13.3).
            self.avail_idx.store(new, Release);
            self.published = new;
        }
        let sure = ask == Ask::Surely || new.wrapping_sub(old) > self.mask / 2;
        if sure {
            // [kick] the index before the look at whether the device sleeps; the device asks for kicks, fences, and
            // looks at the index (2.7.13.4.1). One of us sees the other's write.
            fence(SeqCst);
        }
        let wanted = if self.event_idx {
            need_event(self.avail_event.load(Relaxed), new, old)
        } else {
            self.used_flags.load(Relaxed) & USED_F_NO_NOTIFY == 0
        };
        if sure || wanted {
            self.asked = new;
        }
        wanted
    }

    #[inline(always)]
    fn poll(&mut self) -> Result<(), Lie> {
        // [used] pairs with the device's release of the index: elements and frames are there.
        let seen = self.used_idx.load(Acquire);
        if seen.wrapping_sub(self.taken) > self.published.wrapping_sub(self.taken) {
            return Err(Lie::UsedIndex);
        }
        self.seen = seen;
        Ok(())
    }

    #[inline(always)]
    fn take_steps(&mut self, most: usize, lengths: Lengths, to: &mut impl Takes<L::Quad>) -> usize {
        if self.run.is_on() {
            return 0;
        }
        let (lanes, at) = (self.lanes, usize::from(self.taken & self.mask));
        let seen = usize::from(self.seen.wrapping_sub(self.taken));
        let room = seen.min(self.written.len() - at);
        let steps = self.ledger.tail_steps(most.min(room));
        // SAFETY: there are as many as slots, `at` is below that, and no more than `room` are touched.
        let used = unsafe { self.used.from(at) };
        let mut n = 0;
        while n < steps.ids.len() {
            // SAFETY: the rows are of whole steps.
            let (ids, spans, cookies) = unsafe { steps.at(n) };
            if lengths == Lengths::Ignored && *spans != PLAIN_STEP {
                break;
            }
            // SAFETY: a step of elements, as many as there are ids.
            let elements = unsafe { lanes.load(used.add(n)) };
            // The length, below what makes the id another than expected.
            let lens = lanes.swap_halves(lanes.xor(elements, lanes.widen(ids)));
            // SAFETY: `n` counts buffers, of which there are `most` at most, by steps.
            if !unsafe { to.step(n, UsedStep { cookies, lens }) } {
                break;
            }
            n += STEP;
        }
        self.ledger.release_steps(n);
        self.taken = self.taken.wrapping_add(n as u16);
        n
    }

    #[inline(always)]
    fn look_steps(&self, behind: u16, most: usize, to: &mut impl Takes<L::Quad>) -> usize {
        if self.run.is_on() {
            return 0;
        }
        let (lanes, at) = (self.lanes, usize::from(self.taken.wrapping_add(behind) & self.mask));
        let seen = usize::from(self.seen.wrapping_sub(self.taken).saturating_sub(behind));
        let room = seen.min(self.written.len() - at);
        let steps = self.ledger.steps_behind(behind, most.min(room));
        // SAFETY: as in `take_steps`.
        let used = unsafe { self.used.from(at) };
        let mut n = 0;
        while n < steps.ids.len() {
            // SAFETY: the rows are of whole steps.
            let (ids, _, cookies) = unsafe { steps.at(n) };
            // SAFETY: a step of elements, as many as there are ids.
            let elements = unsafe { lanes.load(used.add(n)) };
            let lens = lanes.swap_halves(lanes.xor(elements, lanes.widen(ids)));
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
        let behind = self.seen.wrapping_sub(self.taken).saturating_sub(place.chains);
        let slot = self.ledger.after(self.ledger.tail(), place.slots);
        if !place.run.is_on() {
            if behind == 0 {
                return Ok(None);
            }
            let at = usize::from(self.taken.wrapping_add(place.chains) & self.mask);
            let Some(element) = self.used.get(at) else { return Ok(None) };
            let (id, len) = {
                let word = element.load(Relaxed);
                (word as u32, (word >> 32) as u32)
            };
            if place.slots < self.ledger.lent() && id == u32::from(self.ledger.id(slot)) {
                return Ok(Some(Used::Bytes(len)));
            }
            let id = u16::try_from(id).map_err(|_| Lie::UsedId)?;
            if !self.in_order {
                self.in_place = 0;
                return if self.ledger.bring_forward(place.slots, id) {
                    Ok(Some(Used::Bytes(len)))
                } else {
                    Err(Lie::UsedId)
                };
            }
            place.run = Run::begin(&self.ledger, place.slots, id, len)?;
        }
        if behind == 0 {
            return Err(Lie::Order);
        }
        place.run.next(self.ledger.span(slot)).map(Some)
    }

    fn first_place(&self) -> Place {
        Place::first(self.run)
    }

    #[inline(always)]
    fn renew(&mut self, n: u16, _flags: u16, _from: &mut impl Renews<L::Quad>) -> bool {
        if self.ledger.free() > 0 || self.run.is_on() {
            return false;
        }
        // A descriptor is found by its id, and stays as it is: there may be nothing to write at all.
        if self.in_place != self.ledger.size() {
            for k in 0..n {
                let (slot, at) = (self.ledger.after(self.ledger.tail(), k), self.offered.wrapping_add(k));
                let id = self.ledger.id(slot);
                self.announce(at, id);
                self.count_in_place(1, id == slot && id == at & self.mask);
            }
        }
        self.ledger.renew(n);
        self.taken = self.taken.wrapping_add(n);
        self.offered = self.offered.wrapping_add(n);
        true
    }

    fn take(&mut self) -> Result<Option<(Cookie, Used, bool)>, Lie> {
        let mut place = self.first_place();
        let Some(used) = self.used_at(&mut place)? else { return Ok(None) };
        self.run = place.run;
        self.taken = self.taken.wrapping_add(1);
        Ok(self.ledger.release().map(|(cookie, plain)| (cookie, used, plain)))
    }

    fn surrender(&mut self) -> Option<(Cookie, bool)> {
        self.ledger.release()
    }

    fn has_used(&self) -> bool {
        self.used_idx.load(Acquire) != self.taken
    }

    fn used_count(&self) -> u16 {
        // [used] pairs as in `poll`; an index that lies is found out there.
        let used = self.used_idx.load(Acquire).wrapping_sub(self.taken);
        used.min(self.published.wrapping_sub(self.taken))
    }

    fn is_used(&self, offset: u16) -> Option<bool> {
        (offset < self.ledger.lent()).then(|| offset < self.used_count())
    }

    fn monitor(&self) -> Monitor {
        Monitor { addr: self.used_idx.addr(), mask: u16::MAX, value: self.taken, while_equal: true }
    }

    fn set_calls(&mut self, on: bool) {
        if self.event_idx {
            // Off: an event that has just passed is reached again only after 2^16 buffers.
            self.used_event.store(if on { self.taken } else { self.taken.wrapping_sub(1) }, Relaxed);
        } else {
            self.avail_flags.store(if on { 0 } else { AVAIL_F_NO_INTERRUPT }, Relaxed);
        }
        // [call] our wish before the look at the used index that follows; pairs with the device's fence between
        // its used index and its look at our wish (2.7.7.2).
        fence(SeqCst);
    }

    fn base(&self) -> u32 {
        u32::from(self.taken)
    }

    fn resume_base(&self) -> Option<u32> {
        // [used] pairs as in `poll`.
        let used = self.used_idx.load(Acquire);
        let outstanding = self.published.wrapping_sub(self.taken);
        (used.wrapping_sub(self.taken) <= outstanding).then_some(used.into())
    }

    fn resume(&mut self) {
        self.used_flags.store(0, Relaxed);
        self.avail_event.store(self.asked, Relaxed);
    }

    fn untouched(&self, base: u32) -> Option<u16> {
        let (left, begun) = (self.published.wrapping_sub(base as u16), (base as u16).wrapping_sub(self.taken));
        let outstanding = self.published.wrapping_sub(self.taken);
        (base <= 0xffff && left <= outstanding && begun <= outstanding).then_some(left)
    }
}
