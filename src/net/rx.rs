//! THE receive burst.
//!
//! Buffers are offered one descriptor each. The frame begins behind the headroom, as the application expects, and so
//! at the beginning of a cache line; the device's header is at the end of the headroom, in a line that hardly moves
//! between the cores, since DPDK's vhost writes only headers that change. Four used buffers that are as expected, in order
//! and a whole ordinary frame each, are taken in a step; everything else (merged frames, offloads, another order, lies)
//! goes one by one through [`RxQueue::receive_one`].

use std::mem::MaybeUninit;
use std::sync::Arc;

use super::backlog::Backlog;
use super::gate::Gate;
use super::header::{self, BadHeader};
use super::lend::Loan;
use super::salvage::RxSalvage;
use super::stats::Board;
use super::steps::{Receive, Refill, Room};
use super::toeplitz::Toeplitz;
use super::{Framing, SHORTEST_FRAME, vlan};
use crate::buf::MbufRef;
use crate::buf::mbuf::rearm;
use crate::buf::source::{BULK, Source};
use crate::mem::kick::Kick;
use crate::mem::lanes::{Job, Lanes};
use crate::ring::{Ask, Lengths, Lie, Ring, STEP, Segment, Used};
use crate::spec::net::NetHdr;
use crate::spec::ring::DESC_F_WRITE;
use crate::spec::virtio::Features;

/// Buffers that one burst takes from the device at most, whatever they are: a burst must end.
pub(super) const MOST: usize = 1024;
/// Bulks of buffers that one burst offers at most.
const REFILLS: usize = 4;

/// What a receive queue is to do besides receiving.
#[derive(Clone, Copy, Debug, Default)]
pub struct RxOptions {
    /// Port number for the mbufs.
    pub port: u16,
    /// Take VLAN tags out of frames.
    pub vlan_strip: bool,
    /// Keep the opt-in counters.
    pub sort: bool,
    /// Ticks to stay off the ring after a burst that was not full.
    pub gate: u16,
    /// Device addresses are ours less this.
    pub shift: u64,
}

/// A frame of several buffers of which some are still to come, from this burst or a later one.
#[derive(Debug)]
pub(super) struct Merge {
    head: MbufRef,
    last: MbufRef,
    left: u16,
    header: NetHdr,
}

/// A receive queue.
#[derive(Debug)]
pub struct RxQueue<R> {
    pub(super) ring: R,
    pub(super) source: Source,
    pub(super) features: Features,
    pub(super) framing: Framing,
    /// First words of the mbuf of a buffer with a header, and of one without.
    pub(super) first: u64,
    pub(super) rest: u64,
    pub(super) room: Room,
    /// Whether frames may be taken in steps, and whether their headers must be looked at then.
    pub(super) steps: bool,
    /// The same, and that they can be: it is known where buffers begin.
    pub(super) by_steps: bool,
    /// Buffers are not offered in steps: two descriptors each, addresses that are not ours, or nobody knows where they begin.
    one_by_one: bool,
    pub(super) look: Option<[[u64; 2]; 2]>,
    pub(super) options: RxOptions,
    /// Computes hashes, where that is wanted and no device does it.
    hasher: Option<Arc<Toeplitz>>,
    /// Something is done to each frame.
    finishes: bool,
    pub(super) gate: Gate,
    /// Buffers offered at a time.
    pub(super) bulk: u16,
    pub(super) merge: Option<Merge>,
    /// Frames of a former connection, to be given out first. There are no steps as long as there are any.
    pub(super) backlog: Backlog,
    /// What is lent to the application in place.
    pub(super) loan: Loan,
    pub(super) board: Arc<Board>,
    kick: Arc<Kick>,
}

/// A burst, for [`Lanes::run`].
struct Burst<'a, R> {
    queue: &'a mut RxQueue<R>,
    out: &'a mut [MaybeUninit<MbufRef>],
}

impl<R: Ring> Job for Burst<'_, R> {
    type Output = usize;

    #[inline(always)]
    fn run(self) -> usize {
        self.queue.in_lanes(self.out)
    }
}

/// A refill, for [`Lanes::run`].
struct Fill<'a, R> {
    queue: &'a mut RxQueue<R>,
}

impl<R: Ring> Job for Fill<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.queue.refill_in_lanes(Ask::Surely);
    }
}

/// The first `n` places are filled.
#[inline(always)]
fn skip(places: &mut &mut [MaybeUninit<MbufRef>], n: usize) {
    *places = std::mem::take(places).get_mut(n..).unwrap_or_default();
}

/// The frame begins where the application expects it, behind the headroom.
fn room(source: &Source, framing: Framing) -> Room {
    let (buf_len, headroom) = source.room();
    let offset = headroom.saturating_sub(framing.hdr_len);
    let len = u32::from(buf_len.saturating_sub(offset));
    Room { linear: source.linear(), offset, hdr_len: framing.hdr_len, len }
}

impl<R: Ring> RxQueue<R> {
    /// A queue over a fresh ring, with no buffers offered yet.
    pub fn new(
        ring: R,
        source: Source,
        features: Features,
        options: RxOptions,
        board: Arc<Board>,
        kick: Arc<Kick>,
    ) -> Self {
        let framing = Framing::new(features);
        let room = room(&source, framing);
        // With a hash in each header no frame is ordinary.
        let steps = !features.contains(Features::HASH_REPORT) && !framing.own_descriptor;
        Self {
            features,
            framing,
            first: rearm(room.offset + framing.hdr_len, options.port),
            rest: rearm(room.offset, options.port),
            room,
            steps,
            one_by_one: framing.own_descriptor || options.shift != 0 || room.linear.is_none(),
            by_steps: steps && room.linear.is_some(),
            look: (framing.mergeable || features.contains(Features::GUEST_CSUM))
                .then(|| header::ordinary(framing.mergeable)),
            options,
            hasher: None,
            finishes: options.vlan_strip || options.sort,
            gate: Gate::new(options.gate),
            bulk: (ring.ledger().size() / 4).clamp(1, BULK as u16),
            merge: None,
            backlog: Backlog::default(),
            loan: Loan::new(ring.ledger().size()),
            ring,
            source,
            board,
            kick,
        }
    }

    /// Receives up to as many frames as there are places; how many.
    #[inline]
    pub fn burst(&mut self, out: &mut [MaybeUninit<MbufRef>]) -> usize {
        self.ring.lanes().run(Burst { queue: self, out })
    }

    #[inline(always)]
    fn in_lanes(&mut self, out: &mut [MaybeUninit<MbufRef>]) -> usize {
        if self.board.is_broken() || self.gate.is_shut() {
            return 0;
        }
        let mut rest = &mut *out;
        if let Err(lie) = self.ring.poll().and_then(|()| self.receive(&mut rest)) {
            self.board.set_broken(lie);
        }
        match rest.is_empty() {
            true => self.gate.open(),
            false => self.gate.shut(),
        }
        let left = rest.len();
        let n = out.len() - left;
        self.board.counters.packets.add(n as u64);
        self.refill_in_lanes(Ask::after(n));
        n
    }

    /// Fills places from the first on; those are left that are not filled.
    #[inline(always)]
    fn receive(&mut self, left: &mut &mut [MaybeUninit<MbufRef>]) -> Result<(), Lie> {
        let mut budget = MOST;
        loop {
            // Twice, because steps end at the end of the ring.
            while let received @ 1.. = self.receive_steps(left) {
                skip(left, received);
            }
            // Some of the next four are not there yet or not ordinary: one by one, then steps again.
            for _ in 0..STEP {
                let Some(place) = left.first_mut() else { return Ok(()) };
                let Some(m) = self.receive_one(&mut budget)? else { return Ok(()) };
                place.write(m);
                skip(left, 1);
            }
        }
    }

    /// Receives ordinary frames by steps of four; how many.
    #[inline(always)]
    fn receive_steps(&mut self, places: &mut [MaybeUninit<MbufRef>]) -> usize {
        if places.len() < STEP || self.merge.is_some() || !self.by_steps {
            return 0;
        }
        let n = match self.look {
            Some(look) => self.take_steps::<true>(places, look),
            None => self.take_steps::<false>(places, Default::default()),
        };
        if self.finishes {
            let frames = places.iter().take(n);
            // SAFETY: the steps have written them.
            frames.for_each(|m| self.finish(unsafe { m.assume_init() }));
        }
        n
    }

    #[inline(always)]
    fn take_steps<const LOOK: bool>(&mut self, places: &mut [MaybeUninit<MbufRef>], look: [[u64; 2]; 2]) -> usize {
        let lanes = self.ring.lanes();
        let (most, bytes) = (places.len(), lanes.splat(0));
        let mut to = Receive::<_, LOOK> { lanes, room: self.room, rearm: self.first, look, bytes, places };
        let n = self.ring.take_steps(most, Lengths::Wanted, &mut to);
        self.board.counters.bytes.add(lanes.array(to.bytes).iter().sum());
        n
    }

    /// Receives one frame, whatever it is like.
    #[inline(never)]
    pub(super) fn receive_one(&mut self, budget: &mut usize) -> Result<Option<MbufRef>, Lie> {
        if let Some(frame) = self.backlog.pop() {
            self.by_steps = self.can_step() && self.backlog.is_empty();
            if self.options.vlan_strip {
                vlan::strip_again(frame);
            }
            return Ok(Some(frame));
        }
        while *budget > 0 {
            let Some((cookie, used, _)) = self.ring.take()? else { return Ok(None) };
            *budget -= 1;
            // SAFETY: the ring has just released it.
            let m = unsafe { MbufRef::from_cookie(cookie) };
            let len = match used {
                Used::Bytes(len) => len,
                Used::Whole => self.room.len,
            };
            if len > self.room.len {
                self.source.put(&[m]);
                return Err(Lie::Length);
            }
            let merge = match self.merge.take() {
                None => self.begin(m, len)?,
                Some(merge) => Self::go_on(merge, m, len, self.rest),
            };
            if merge.left > 0 {
                self.merge = Some(merge);
            } else if let Some(frame) = self.complete(&merge) {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// The first buffer of a frame.
    fn begin(&mut self, m: MbufRef, len: u32) -> Result<Merge, Lie> {
        m.receive(self.first, len.saturating_sub(self.framing.hdr_len.into()));
        let header = self.header_of(m, len);
        match self.buffers_of(&header) {
            Ok(buffers) => Ok(Merge { head: m, last: m, left: buffers - 1, header }),
            Err(lie) => {
                self.source.put(&[m]);
                Err(lie)
            }
        }
    }

    /// The header of a frame that begins in a buffer which is ours again.
    #[inline(always)]
    pub(super) fn header_of(&self, m: MbufRef, len: u32) -> NetHdr {
        if len < u32::from(self.framing.hdr_len) {
            return NetHdr { num_buffers: 1, ..NetHdr::default() };
        }
        // SAFETY: the buffer has room for a header, and is ours again.
        unsafe { header::read(self.room.begin(m) as *const u8, usize::from(self.framing.hdr_len)) }
    }

    /// Buffers that its frame has.
    #[inline(always)]
    pub(super) fn buffers_of(&self, header: &NetHdr) -> Result<u16, Lie> {
        let buffers = if self.framing.mergeable { header.num_buffers } else { 1 };
        if buffers == 0 || buffers > self.ring.ledger().size() { Err(Lie::NumBuffers) } else { Ok(buffers) }
    }

    /// Another buffer of a frame.
    fn go_on(merge: Merge, m: MbufRef, len: u32, rest: u64) -> Merge {
        m.receive(rest, len);
        merge.last.set_next(Some(m));
        merge.head.set_nb_segs(merge.head.nb_segs() + 1);
        merge.head.set_pkt_len(merge.head.pkt_len() + len);
        Merge { last: m, left: merge.left - 1, ..merge }
    }

    /// All buffers of a frame are there: the frame, if it is one.
    fn complete(&mut self, merge: &Merge) -> Option<MbufRef> {
        let frame = merge.head;
        let counters = &self.board.counters;
        if frame.pkt_len() < SHORTEST_FRAME {
            counters.runt.add(1);
        } else if (self.look.is_some() || !self.steps)
            && let Err(BadHeader) = header::apply(&merge.header, frame, self.features)
        {
            counters.bad_header.add(1);
        } else {
            counters.bytes.add(u64::from(frame.pkt_len()));
            self.finish(frame);
            return Some(frame);
        }
        self.source.free(frame);
        None
    }

    /// What is done to each frame, if it was asked for.
    fn finish(&self, m: MbufRef) {
        if self.options.sort {
            self.board.counters.sort(m);
        }
        if self.options.vlan_strip {
            vlan::strip(m);
        }
        if let Some(hasher) = &self.hasher {
            hasher.mark(m);
        }
    }

    /// Computes the hash of each frame from now on, or not.
    pub fn set_hasher(&mut self, hasher: Option<Arc<Toeplitz>>) {
        self.finishes = self.options.vlan_strip || self.options.sort || hasher.is_some();
        self.hasher = hasher;
    }

    /// Offers free buffers to the device, and wakes it if it wants that.
    pub fn refill(&mut self) {
        self.ring.lanes().run(Fill { queue: self });
    }

    #[inline(always)]
    fn refill_in_lanes(&mut self, ask: Ask) {
        let slots = self.bulk << u8::from(self.framing.own_descriptor);
        for _ in 0..REFILLS {
            if self.ring.ledger().free() < slots {
                break;
            }
            let offered = self.offer_stock(self.bulk);
            if offered < usize::from(self.bulk) {
                self.board.counters.no_buffer.add(u64::from(offered == 0));
                break;
            }
        }
        self.publish(ask);
    }

    /// Makes what was offered visible, and wakes the device if it wants that.
    #[inline(always)]
    pub(super) fn publish(&mut self, ask: Ask) {
        if self.ring.publish(ask) {
            self.board.counters.kicks.add(1);
            self.kick.ring();
        }
    }

    /// Offers up to so many buffers, a bulk at most; how many.
    #[inline(always)]
    pub(super) fn offer_stock(&mut self, most: u16) -> usize {
        let stock = self.source.stock(usize::from(most));
        let mut n = 0;
        while let Some(rest @ [first, ..]) = stock.get(n..) {
            let mut from = Refill { lanes: self.ring.lanes(), room: self.room, stock: rest };
            let offered = match self.one_by_one {
                true => 0,
                false => self.ring.offer_steps(rest.len(), DESC_F_WRITE, &mut from),
            };
            if offered > 0 {
                n += offered;
            } else if Self::offer_one(&mut self.ring, self.framing, self.room, self.options.shift, *first) {
                n += 1;
            } else {
                break;
            }
        }
        self.source.taken(n);
        n
    }

    pub(super) fn offer_one(ring: &mut R, framing: Framing, room: Room, shift: u64, m: MbufRef) -> bool {
        let (addr, hdr_len) = (room.begin(m).wrapping_sub(shift), u32::from(room.hdr_len));
        let segment = |addr, len| Segment { addr, len, flags: DESC_F_WRITE };
        if framing.own_descriptor {
            let chain = [segment(addr, hdr_len), segment(addr + u64::from(hdr_len), room.len - hdr_len)];
            ring.offer(&chain, m.cookie(), true)
        } else {
            ring.offer(&[segment(addr, room.len)], m.cookie(), true)
        }
    }

    /// Asks the device to call when there is something to receive; true when there is already.
    pub fn set_calls(&mut self, on: bool) -> bool {
        if on {
            // Buffers may have come free since the last burst, and a device without buffers never calls.
            self.refill();
            self.gate.open();
        }
        self.ring.set_calls(on);
        on && (self.ring.has_used() || !self.backlog.is_empty())
    }

    /// The ring, for its position.
    pub fn ring(&self) -> &R {
        &self.ring
    }

    /// The ring, to be told to the device anew.
    pub fn ring_mut(&mut self) -> &mut R {
        &mut self.ring
    }

    /// Whether no frame is half received.
    pub fn is_whole(&self) -> bool {
        self.merge.is_none()
    }

    /// Whether frames may be taken in steps, but for a backlog.
    pub(super) fn can_step(&self) -> bool {
        self.steps && self.source.linear().is_some()
    }

    /// The device is gone, and with it this ring: what it had delivered and nobody has received, in order, and the
    /// buffers that it had. A frame of which buffers are missing is counted as lost.
    pub fn salvage(mut self) -> RxSalvage {
        let mut frames = self.backlog.take_all();
        if !self.board.is_broken() && self.ring.poll().is_ok() {
            while let Ok(Some(frame)) = self.receive_one(&mut usize::MAX.clone()) {
                frames.push_back(frame);
            }
        }
        if let Some(merge) = self.merge.take() {
            self.board.counters.lost.add(1);
            self.source.free(merge.head);
        }
        let lent = std::iter::from_fn(|| self.ring.surrender());
        // SAFETY: the ring has just released them.
        let buffers = lent.map(|(cookie, _)| unsafe { MbufRef::from_cookie(cookie) }).collect();
        RxSalvage::new(self.source, frames, buffers)
    }

    /// Takes over what was salvaged of the former connection: bursts give its frames out first, and its buffers are
    /// offered to the device. For a queue that has offered nothing yet.
    pub fn restore(&mut self, salvage: RxSalvage) {
        self.board.mend();
        let (frames, buffers) = salvage.into_parts(&self.source);
        self.backlog = frames.into();
        self.by_steps = self.can_step() && self.backlog.is_empty();
        for m in buffers {
            if !Self::offer_one(&mut self.ring, self.framing, self.room, self.options.shift, m) {
                self.source.put(&[m]);
            }
        }
        self.refill();
    }

    /// The device has stopped: all buffers go back to where they came from. Frames that it had delivered and nobody
    /// has received are counted as lost.
    pub fn reclaim(&mut self) {
        if !self.board.is_broken() && self.ring.poll().is_ok() {
            while let Ok(Some(frame)) = self.receive_one(&mut MOST.clone()) {
                self.board.counters.lost.add(1);
                self.source.free(frame);
            }
        }
        let merge = self.merge.take().map(|merge| merge.head);
        for frame in self.backlog.take_all().into_iter().chain(merge) {
            self.board.counters.lost.add(1);
            self.source.free(frame);
        }
        while let Some((cookie, _)) = self.ring.surrender() {
            // SAFETY: the ring has just released it.
            self.source.put(&[unsafe { MbufRef::from_cookie(cookie) }]);
        }
        self.source.flush();
    }
}
