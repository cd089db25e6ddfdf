//! Frames lent in place: the application reads them where the device has written them, and gives the buffers back to the
//! device by the same ring, without any of them being received, freed or allocated.
//!
//! What is lent stays in the ring and in the ledger, as if nobody had looked: whatever becomes of the queue meanwhile finds
//! it as ever, and a burst receives it. Only then, or when it is given back, is it counted.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use super::SHORTEST_FRAME;
use super::header;
use super::rx::{MOST, RxQueue};
use super::steps::{Lend, Renew};
use crate::buf::MbufRef;
use crate::buf::mbuf::flags;
use crate::mem::lanes::{Job, Lanes};
use crate::ring::{Ask, Lie, Place, Ring, STEP, Used};
use crate::spec::net::NetHdr;
use crate::spec::ring::DESC_F_WRITE;

/// A received frame, or a part of one, lent in place.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LentFrame {
    /// Its first byte.
    pub data: *const c_void,
    /// Bytes here.
    pub len: u32,
    /// What is to be said of it: VUSER_FRAME_*. 0 of an ordinary frame, which is all here.
    pub flags: u32,
}

impl LentFrame {
    /// Its first byte. Lanes have written the address as a number; that of a pool's memory is exposed.
    #[inline(always)]
    pub fn begin(&self) -> *const u8 {
        std::ptr::with_exposed_provenance(self.data.addr())
    }
}

/// The frame goes on in the next buffer.
pub const MORE: u32 = 1 << 0;
/// Of the checksum there is only the pseudo-header's sum; the data are good.
pub const NEEDS_CSUM: u32 = 1 << 1;
/// The device has seen that the checksum is right.
pub const CSUM_GOOD: u32 = 1 << 2;
/// Several segments of one flow in one frame.
pub const LARGE: u32 = 1 << 3;

// Steps write frames as two words.
const _: () = assert!(size_of::<LentFrame>() == 16 && cfg!(target_endian = "little"));

/// What is lent: buffers of the backlog first, then those at the front of the ring.
#[derive(Debug)]
pub(super) struct Loan {
    /// Of each buffer of the ring its bytes, and [`MORE`] above them. No number of ours is in the application's hands.
    lens: Box<[u64]>,
    /// The first of them that was not given back.
    first: usize,
    /// Buffers of the ring.
    pub ring: usize,
    /// Buffers of the backlog.
    pub backlog: usize,
    /// Buffers of the last frame that had no place.
    pub hidden: usize,
    /// An in-order device's batch was met.
    batch: bool,
    /// What the queue had received by then.
    mark: u64,
}

impl Loan {
    pub fn new(size: u16) -> Self {
        let lens = vec![0; size.into()].into();
        Self { lens, first: 0, ring: 0, backlog: 0, hidden: 0, batch: false, mark: 0 }
    }

    /// Nothing is lent any more.
    pub fn end(&mut self) {
        (self.first, self.ring, self.backlog, self.hidden, self.batch) = (0, 0, 0, 0, false);
    }

    /// Buffers.
    pub fn len(&self) -> usize {
        self.ring + self.backlog
    }

    /// Those of the ring that were not given back.
    fn lens(&self) -> &[u64] {
        self.lens.get(self.first..self.first + self.ring).unwrap_or(&[])
    }

    /// Whether the frame of a buffer goes on behind it.
    fn goes_on(&self, n: usize) -> bool {
        self.lens().get(n).is_some_and(|len| len >> 32 != 0)
    }

    /// Buffers from the first on that belong to a frame of which the first buffers were given back.
    pub fn rest_of_frame(&self) -> usize {
        let more = self.lens().iter().take_while(|len| **len >> 32 != 0).count();
        self.ring.min(more + 1)
    }

    pub fn pass(&mut self, n: usize) {
        self.first += n;
        self.ring -= n;
    }
}

/// A whole frame in the ring.
struct Seen {
    head: MbufRef,
    header: NetHdr,
    buffers: usize,
    bytes: u32,
}

/// A look at what has come, for [`Lanes::run`].
struct Peek<'a, R> {
    queue: &'a mut RxQueue<R>,
    out: &'a mut [MaybeUninit<LentFrame>],
}

impl<R: Ring> Job for Peek<'_, R> {
    type Output = usize;

    #[inline(always)]
    fn run(self) -> usize {
        self.queue.peek_in_lanes(self.out)
    }
}

/// Giving back, for [`Lanes::run`].
struct Release<'a, R> {
    queue: &'a mut RxQueue<R>,
    n: usize,
}

impl<R: Ring> Job for Release<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.queue.release_in_lanes(self.n);
    }
}

impl<R: Ring> RxQueue<R> {
    /// Lends what comes next, in as many buffers as there are places; in how many. What was lent before is among it.
    pub fn peek(&mut self, out: &mut [MaybeUninit<LentFrame>]) -> usize {
        self.ring.lanes().run(Peek { queue: self, out })
    }

    /// Gives back the first `n` of the buffers that are lent.
    pub fn release(&mut self, n: usize) {
        self.ring.lanes().run(Release { queue: self, n });
    }

    /// What the queue has received: another number once a burst has received anything.
    fn received(&self) -> u64 {
        let counters = &self.board.counters;
        counters.packets.get().wrapping_add(counters.runt.get()).wrapping_add(counters.bad_header.get())
    }

    #[inline(always)]
    fn peek_in_lanes(&mut self, out: &mut [MaybeUninit<LentFrame>]) -> usize {
        let again = self.loan.len() > 0;
        self.loan.end();
        if self.board.is_broken() || (!again && self.gate.is_shut()) {
            return 0;
        }
        self.top_up();
        if let Err(lie) = self.ring.poll().and_then(|()| self.lend(out)) {
            self.board.set_broken(lie);
        }
        let n = self.loan.len();
        match n == out.len() {
            true => self.gate.open(),
            false => self.gate.shut(),
        }
        self.loan.mark = self.received();
        self.publish(Ask::after(n));
        n
    }

    /// Buffers stay in their slots only in a ring that has no free one.
    #[inline(always)]
    fn top_up(&mut self) {
        let free = self.ring.ledger().free() >> u8::from(self.framing.own_descriptor);
        if free > 0 {
            let offered = self.offer_stock(free.min(self.bulk));
            self.board.counters.no_buffer.add(u64::from(offered == 0 && free >= self.bulk));
        }
    }

    #[inline(always)]
    fn lend(&mut self, out: &mut [MaybeUninit<LentFrame>]) -> Result<(), Lie> {
        if self.merge.is_some() || !self.backlog.is_empty() {
            return self.lend_backlog(out);
        }
        let (mut place, mut budget) = (self.ring.first_place(), MOST);
        loop {
            // Twice, because steps end at the end of the ring.
            while let lent @ 1.. = self.lend_steps(&place, out) {
                place.skip(lent);
            }
            for _ in 0..STEP {
                if !self.lend_one(&mut place, &mut budget, out)? {
                    return Ok(());
                }
            }
        }
    }

    /// Lends ordinary frames by steps of four; how many.
    #[inline(always)]
    fn lend_steps(&mut self, place: &Place, out: &mut [MaybeUninit<LentFrame>]) -> usize {
        let (lanes, room, n) = (self.ring.lanes(), self.room, self.loan.ring);
        let (Some(places), Some(lens)) = (out.get_mut(n..), self.loan.lens.get_mut(n..)) else { return 0 };
        let most = places.len().min(lens.len());
        if most < STEP || place.in_batch() || !self.steps || room.linear.is_none() {
            return 0;
        }
        let look = self.look.unwrap_or_default();
        let lent = match self.look {
            Some(_) => {
                self.ring.look_steps(place.slots(), most, &mut Lend::<_, true> { lanes, room, look, places, lens })
            }
            None => {
                self.ring.look_steps(place.slots(), most, &mut Lend::<_, false> { lanes, room, look, places, lens })
            }
        };
        self.loan.ring += lent;
        lent
    }

    /// Lends one frame, whatever it is like; whether to go on. One that can't be is given back as soon as it is the first.
    #[inline(never)]
    fn lend_one(
        &mut self,
        place: &mut Place,
        budget: &mut usize,
        out: &mut [MaybeUninit<LentFrame>],
    ) -> Result<bool, Lie> {
        let n = self.loan.ring;
        let room = out.len().min(self.loan.lens.len()) - n;
        if room == 0 {
            return Ok(false);
        }
        let Some(seen) = self.look_at_frame(place, out)? else { return Ok(false) };
        let Some(flags) = self.judge(&seen) else {
            if n > 0 {
                return Ok(false);
            }
            self.drop_first(&seen);
            *place = self.ring.first_place();
            *budget = budget.saturating_sub(seen.buffers);
            return Ok(*budget > 0);
        };
        // A frame is lent in parts only where it would never have room.
        if seen.buffers > room && n > 0 {
            return Ok(false);
        }
        if let Some(first) = out.get_mut(n) {
            // SAFETY: the look has written it.
            unsafe { (*first.as_mut_ptr()).flags |= flags };
        }
        self.loan.ring = n + seen.buffers.min(room);
        self.loan.hidden = seen.buffers.saturating_sub(room);
        Ok(true)
    }

    /// Looks at the next frame, and writes its buffers behind what is lent, as far as there are places. None if it
    /// is not there in whole.
    fn look_at_frame(&mut self, place: &mut Place, out: &mut [MaybeUninit<LentFrame>]) -> Result<Option<Seen>, Lie> {
        let mut frame: Option<Seen> = None;
        let mut left = 1;
        while left > 0 {
            let Some((cookie, used)) = self.ring.look(place)? else { return Ok(None) };
            self.loan.batch |= place.in_batch();
            let len = match used {
                Used::Bytes(len) if len > self.room.len => return Err(Lie::Length),
                Used::Bytes(len) => len,
                Used::Whole => self.room.len,
            };
            // SAFETY: what this ring has are buffers; the device is done with this one, as far as it says.
            let m = unsafe { MbufRef::from_cookie(cookie) };
            let (begin, hdr_len) = (self.room.begin(m), u32::from(self.framing.hdr_len));
            let (skip, n) = match &frame {
                None => {
                    let header = self.header_of(m, len);
                    left = self.buffers_of(&header)?;
                    frame = Some(Seen { head: m, header, buffers: 0, bytes: 0 });
                    (hdr_len, self.loan.ring)
                }
                Some(seen) => (0, self.loan.ring + seen.buffers),
            };
            left -= 1;
            let (len, flags) = (len.saturating_sub(skip), if left > 0 { MORE } else { 0 });
            if let (Some(place), Some(kept)) = (out.get_mut(n), self.loan.lens.get_mut(n)) {
                place.write(LentFrame { data: (begin + u64::from(skip)) as *const c_void, len, flags });
                *kept = u64::from(len) | u64::from(flags) << 32;
            }
            if let Some(seen) = &mut frame {
                (seen.buffers, seen.bytes) = (seen.buffers + 1, seen.bytes.saturating_add(len));
            }
        }
        Ok(frame)
    }

    /// What can be said of a frame, or none if it is no frame; counted once it is the first.
    fn judge(&self, seen: &Seen) -> Option<u32> {
        if seen.bytes < SHORTEST_FRAME {
            return None;
        }
        if self.look.is_none() && self.steps {
            return Some(0);
        }
        // Nobody has this descriptor but the ledger; whoever receives it writes it anew.
        seen.head.receive(self.first, seen.bytes);
        let says = header::apply(&seen.header, seen.head, self.features).ok().map(|()| said(seen.head));
        // It goes back to where it came from as it was.
        seen.head.receive(self.first, 0);
        says
    }

    /// The first frame of the ring can't be lent.
    #[cold]
    fn drop_first(&mut self, seen: &Seen) {
        let counters = &self.board.counters;
        if seen.bytes < SHORTEST_FRAME { &counters.runt } else { &counters.bad_header }.add(1);
        self.offer_again(seen.buffers);
    }

    #[inline(always)]
    fn release_in_lanes(&mut self, n: usize) {
        let n = n.min(self.loan.len());
        if n == 0 || self.board.is_broken() {
            return;
        }
        if self.is_over() {
            self.loan.end();
            return;
        }
        let kept = n.min(self.loan.backlog);
        if kept > 0 {
            self.release_backlog(kept);
            self.loan.mark = self.received();
        }
        if n > kept {
            self.release_ring(n - kept);
        }
        self.loan.mark = self.received();
        self.publish(Ask::Soon);
    }

    #[inline(always)]
    fn release_ring(&mut self, n: usize) {
        if self.options.sort {
            self.sort(n);
        }
        // No ring has as many bytes as would touch the upper half.
        let sum: u64 = self.loan.lens().iter().take(n).sum();
        self.board.counters.packets.add(n as u64 - (sum >> 32));
        self.board.counters.bytes.add(sum & u64::from(u32::MAX));
        let torn = self.loan.goes_on(n - 1);
        self.loan.pass(n);
        self.offer_again(n);
        if torn {
            self.keep_rest();
        }
    }

    /// Offers the oldest buffers of the ring again.
    #[inline(always)]
    fn offer_again(&mut self, n: usize) {
        let mut from = Renew { lanes: self.ring.lanes(), room: self.room, shift: self.options.shift };
        let stay = !self.framing.own_descriptor && !self.loan.batch;
        if !stay || !self.ring.renew(n as u16, DESC_F_WRITE, &mut from) {
            self.move_on(n);
        }
    }

    /// The same where they can't stay in their slots.
    #[cold]
    fn move_on(&mut self, n: usize) {
        for _ in 0..n {
            match self.ring.take() {
                Ok(Some((cookie, ..))) => {
                    // SAFETY: the ring has just released it.
                    let m = unsafe { MbufRef::from_cookie(cookie) };
                    if !Self::offer_one(&mut self.ring, self.framing, self.room, self.options.shift, m) {
                        self.source.put(&[m]);
                    }
                }
                Ok(None) => return,
                Err(lie) => return self.board.set_broken(lie),
            }
        }
    }

    /// Shows the first `n` buffers that are lent, as they were told.
    pub fn each_lent(&self, n: usize, see: &mut dyn FnMut(LentFrame)) {
        self.walk_lent(n, see);
    }

    fn walk_lent(&self, n: usize, mut see: impl FnMut(LentFrame)) {
        if self.is_over() || self.board.is_broken() {
            return;
        }
        let n = n.min(self.loan.len());
        let kept = n.min(self.loan.backlog);
        for m in self.backlog.iter().flat_map(MbufRef::segments).take(kept) {
            let flags = if m.next().is_some() { MORE } else { 0 };
            see(LentFrame { data: m.data().cast::<c_void>(), len: m.data_len().into(), flags });
        }
        let (ledger, mut skip) = (self.ring.ledger(), self.framing.hdr_len);
        let mut slot = ledger.tail();
        for len in self.loan.lens().iter().take(n - kept) {
            let (Some(cookie), span @ 1..) = (ledger.cookie(slot), ledger.span(slot)) else { return };
            slot = ledger.after(slot, span);
            // SAFETY: a chain begins at the slot, and the chains of this ring are buffers.
            let begin = self.room.begin(unsafe { MbufRef::from_cookie(cookie) });
            let (data, flags) = ((begin + u64::from(skip)) as *const c_void, (len >> 32) as u32);
            see(LentFrame { data, len: *len as u32, flags });
            skip = if flags == 0 { self.framing.hdr_len } else { 0 };
        }
    }

    /// Counts the first frames that are lent in the opt-in counters.
    #[cold]
    fn sort(&self, n: usize) {
        let (mut bytes, mut first) = (0, None);
        self.walk_lent(self.loan.backlog + n, |part| {
            let first_part = *first.get_or_insert(part);
            bytes += part.len;
            if part.flags == 0 {
                // SAFETY: so many bytes are lent there.
                unsafe { self.board.counters.sort_bytes(bytes, first_part.len, first_part.begin()) };
                (bytes, first) = (0, None);
            }
        });
    }

    /// Whether a burst has received what was lent.
    fn is_over(&self) -> bool {
        self.loan.mark != self.received() || self.merge.is_some()
    }
}

/// What an mbuf says of its frame, as flags of a [`LentFrame`].
pub(super) fn said(m: MbufRef) -> u32 {
    let (says, sum) = (m.ol_flags(), m.ol_flags() & flags::RX_L4_CKSUM_NONE);
    let checksum = match sum {
        flags::RX_L4_CKSUM_NONE => NEEDS_CSUM,
        flags::RX_L4_CKSUM_GOOD => CSUM_GOOD,
        _ => 0,
    };
    checksum | if says & flags::RX_LRO != 0 { LARGE } else { 0 }
}
