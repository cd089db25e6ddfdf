//! What bursts do to four packets at once: the receive burst takes ([`Receive`]) and offers ([`Refill`]), the transmit
//! burst offers ([`Transmit`]) and takes ([`Collect`]). Without branches but for one question: is any of the four out of the
//! ordinary? Then the burst goes on packet by packet.

use std::mem::MaybeUninit;

use super::lend::LentFrame;
use super::{SHORTEST_FRAME, header};
use crate::buf::MbufRef;
use crate::buf::mbuf::{self, flags};
use crate::buf::source::Linear;
use crate::mem::lanes::{Lanes, STEP, step_at};
use crate::ring::{Cookie, OfferStep, Offers, Renews, Segment, Takes, UsedStep};

/// The bit that a difference has where it is negative.
const SIGN: u64 = 1 << 63;
/// refcnt 1 and nb_segs 1 in the word from data_off on, and their places.
const ONE_OWNER_ONE_SEGMENT: u64 = 1 << 16 | 1 << 32;
const OWNERS_AND_SEGMENTS: u64 = 0xffff_ffff << 16;

/// Where frames and their headers lie in the buffers of a receive queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Where buffers begin, if that can be computed. Steps are for such buffers only.
    pub linear: Linear,
    /// Bytes in front of the header.
    pub offset: u16,
    /// Bytes of the header.
    pub hdr_len: u16,
    /// Bytes of header and frame.
    pub len: u32,
}

impl Room {
    /// Where the device's header of a buffer is.
    #[inline(always)]
    pub fn begin(self, m: MbufRef) -> u64 {
        let buffer = match self.linear {
            Some((k, c)) => (m.as_ptr() as u64).wrapping_mul(k.into()).wrapping_add(c),
            None => m.buf_addr() as u64,
        };
        buffer.wrapping_add(self.offset.into())
    }

    /// The same for four buffers of which it can be computed.
    #[inline(always)]
    fn begins<L: Lanes>(self, lanes: L, step: &[MbufRef; STEP]) -> L::Quad {
        let (k, c) = self.linear.unwrap_or_default();
        lanes.add(lanes.mul(handles(lanes, step), k), lanes.splat(c.wrapping_add(self.offset.into())))
    }

    /// Bytes of the frames that four buffers hold, by what the ring says of them; none where one of them is no whole frame.
    #[inline(always)]
    fn frames<L: Lanes>(self, lanes: L, used: L::Quad) -> Option<L::Quad> {
        let lens = lanes.sub(used, lanes.splat(self.hdr_len.into()));
        // Beyond the shortest frame. One that is shorter has wrapped around and is far above the longest, as is a buffer that is
        // not used, or out of order.
        let beyond = lanes.sub(lens, lanes.splat(SHORTEST_FRAME.into()));
        let longest = self.len.saturating_sub(u32::from(self.hdr_len) + SHORTEST_FRAME);
        (!lanes.any_above(beyond, longest)).then_some(lens)
    }

    /// Not zero if one of four headers says anything but "one ordinary frame in one buffer": which bits of them matter, and
    /// what they are to be.
    #[inline(always)]
    fn odd_headers<L: Lanes>(self, lanes: L, look: [[u64; 2]; 2], step: &[MbufRef; STEP]) -> L::Quad {
        let [mask, ordinary] = look;
        let [a, b, c, d] = lanes.array(self.begins(lanes, step)).map(|at| at as *const u8);
        // SAFETY: a header and the first bytes of a frame, in buffers that are ours again.
        let (low, high) = unsafe { (lanes.load_pairs(a, b), lanes.load_pairs(c, d)) };
        let ordinary = lanes.quad(&[ordinary[0], ordinary[1], ordinary[0], ordinary[1]]);
        let mask = lanes.quad(&[mask[0], mask[1], mask[0], mask[1]]);
        lanes.and(lanes.or(lanes.xor(low, ordinary), lanes.xor(high, ordinary)), mask)
    }
}

/// Four handles as words.
#[inline(always)]
fn handles<L: Lanes>(lanes: L, step: &[MbufRef; STEP]) -> L::Quad {
    lanes.quad(MbufRef::words(step))
}

/// The buffers of a step that the ring is about to release.
#[inline(always)]
fn buffers(cookies: &[Cookie; STEP]) -> [MbufRef; STEP] {
    // SAFETY: a step of a ring carries what was offered: buffers.
    cookies.map(|c| unsafe { MbufRef::from_cookie(c) })
}

/// The same, to where a burst wants them, from the `n`th place on.
///
/// # Safety
/// There are four places.
#[inline(always)]
unsafe fn hand_out<L: Lanes>(lanes: L, from: &[Cookie; STEP], to: &mut [MaybeUninit<MbufRef>], n: usize) {
    // SAFETY: as much room, by the caller, in private memory; the words of handles that were offered are handles.
    unsafe { lanes.store(to.as_mut_ptr().add(n).cast(), lanes.quad(Cookie::words(from))) };
}

/// Receives ordinary frames.
pub(super) struct Receive<'a, L: Lanes, const LOOK: bool> {
    pub lanes: L,
    pub room: Room,
    /// The first words of a received descriptor.
    pub rearm: u64,
    /// With LOOK: which bits of headers matter, and what they are to be.
    pub look: [[u64; 2]; 2],
    /// Where the frames go.
    pub places: &'a mut [MaybeUninit<MbufRef>],
    /// The frames' bytes so far.
    pub bytes: L::Quad,
}

impl<L: Lanes, const LOOK: bool> Takes<L::Quad> for Receive<'_, L, LOOK> {
    #[inline(always)]
    unsafe fn step(&mut self, n: usize, used: UsedStep<'_, L::Quad>) -> bool {
        let lanes = self.lanes;
        let Some(lens) = self.room.frames(lanes, used.lens) else { return false };
        let frames = buffers(used.cookies);
        if LOOK && lanes.any(self.room.odd_headers(lanes, self.look, &frames)) {
            return false;
        }
        // SAFETY: the descriptors are ours again.
        unsafe { mbuf::receive_step(lanes, frames, self.rearm, lens) };
        self.bytes = lanes.add(self.bytes, lens);
        // SAFETY: no more were asked for than there are places.
        unsafe { hand_out(lanes, used.cookies, self.places, n) };
        true
    }
}

/// Lends ordinary frames in place.
pub(super) struct Lend<'a, L, const LOOK: bool> {
    pub lanes: L,
    pub room: Room,
    /// As in [`Receive`].
    pub look: [[u64; 2]; 2],
    /// Where the frames are told.
    pub places: &'a mut [MaybeUninit<LentFrame>],
    /// Their lengths, for ourselves; as many.
    pub lens: &'a mut [u64],
}

impl<L: Lanes, const LOOK: bool> Takes<L::Quad> for Lend<'_, L, LOOK> {
    #[inline(always)]
    unsafe fn step(&mut self, n: usize, used: UsedStep<'_, L::Quad>) -> bool {
        let lanes = self.lanes;
        let Some(lens) = self.room.frames(lanes, used.lens) else { return false };
        let frames = buffers(used.cookies);
        if LOOK && lanes.any(self.room.odd_headers(lanes, self.look, &frames)) {
            return false;
        }
        let data = lanes.add(self.room.begins(lanes, &frames), lanes.splat(self.room.hdr_len.into()));
        // SAFETY: no more were asked for than there are places, of two words each: address and length.
        unsafe {
            lanes.store_pairs(self.places.as_mut_ptr().add(n).cast(), data, lens);
            lanes.store(self.lens.as_mut_ptr().add(n), lens);
        }
        true
    }
}

/// Offers buffers again that were lent in place.
pub(super) struct Renew<L> {
    pub lanes: L,
    pub room: Room,
    /// Device addresses are ours less this.
    pub shift: u64,
}

impl<L: Lanes> Renews<L::Quad> for Renew<L> {
    #[inline(always)]
    fn step(&mut self, cookies: &[Cookie; STEP]) -> Option<(L::Quad, L::Quad)> {
        let (lanes, _) = (self.lanes, self.room.linear?);
        let addrs = lanes.sub(self.room.begins(lanes, &buffers(cookies)), lanes.splat(self.shift));
        Some((addrs, lanes.splat(self.room.len.into())))
    }

    fn one(&mut self, cookie: Cookie) -> Segment {
        // SAFETY: what this ring has are buffers.
        let addr = self.room.begin(unsafe { MbufRef::from_cookie(cookie) }).wrapping_sub(self.shift);
        Segment { addr, len: self.room.len, flags: 0 }
    }
}

/// Offers free buffers.
pub(super) struct Refill<'a, L> {
    pub lanes: L,
    pub room: Room,
    pub stock: &'a [MbufRef],
}

impl<L: Lanes> Offers<L::Quad> for Refill<'_, L> {
    #[inline(always)]
    unsafe fn step(&mut self, n: usize) -> Option<OfferStep<L::Quad>> {
        // SAFETY: no more were asked for than there are in stock.
        let step = unsafe { step_at(self.stock, n) };
        let lens = self.lanes.splat(self.room.len.into());
        Some(OfferStep { addrs: self.room.begins(self.lanes, step), lens, cookies: handles(self.lanes, step) })
    }
}

/// What a packet must be to be plain: one owner, one segment, its own data, of the pool that is home, room for the
/// header, no runt, nothing asked of the device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain {
    /// The `pool` field.
    pub home: u64,
    /// Bytes of the header.
    pub hdr_len: u16,
}

/// What a look at four packets has found.
pub(super) struct Look<Q> {
    /// Zero if all four are plain.
    pub odd: Q,
    /// Where their headers go.
    headers: Q,
    /// Bytes of each.
    lens: Q,
}

impl Plain {
    /// Looks at four packets.
    #[inline(always)]
    pub fn look<L: Lanes>(self, lanes: L, step: &[MbufRef; STEP]) -> Look<L::Quad> {
        let ([a, e], [b, f]) = (step[0].rows(lanes), step[1].rows(lanes));
        let ([c, g], [d, h]) = (step[2].rows(lanes), step[3].rows(lanes));
        let [buf_addr, _, rearm, ol_flags] = lanes.transpose([a, b, c, d]);
        let [types, data_lens, _, pool] = lanes.transpose([e, f, g, h]);
        let (low, hdr_len) = (lanes.splat(0xffff), lanes.splat(self.hdr_len.into()));
        let (data_off, lens) = (lanes.and(rearm, low), lanes.shr::<32>(types));
        let headers = lanes.sub(lanes.add(buf_addr, data_off), hdr_len);
        let owners = lanes.xor(rearm, lanes.splat(ONE_OWNER_ONE_SEGMENT));
        let mut odd = lanes.and(owners, lanes.splat(OWNERS_AND_SEGMENTS));
        odd = lanes.or(odd, lanes.and(ol_flags, lanes.splat(flags::TX_WORK | flags::BORROWED)));
        odd = lanes.or(odd, lanes.xor(pool, lanes.splat(self.home)));
        odd = lanes.or(odd, lanes.xor(lens, lanes.and(data_lens, low)));
        // Negative where the headroom is too small, or the packet.
        let short = lanes.or(lanes.sub(data_off, hdr_len), lanes.sub(lens, lanes.splat(SHORTEST_FRAME.into())));
        odd = lanes.or(odd, lanes.and(short, lanes.splat(SIGN)));
        // The header must be aligned to its fields.
        odd = lanes.or(odd, lanes.and(headers, lanes.splat(1)));
        Look { odd, headers, lens }
    }
}

/// Offers plain packets.
pub(super) struct Transmit<'a, L: Lanes> {
    pub lanes: L,
    pub plain: Plain,
    pub packets: &'a [MbufRef],
    /// The packets' bytes so far.
    pub bytes: L::Quad,
}

impl<L: Lanes> Offers<L::Quad> for Transmit<'_, L> {
    #[inline(always)]
    unsafe fn step(&mut self, n: usize) -> Option<OfferStep<L::Quad>> {
        // SAFETY: no more were asked for than there are packets.
        let (lanes, step) = (self.lanes, unsafe { step_at(self.packets, n) });
        let Look { odd, headers, lens } = self.plain.look(lanes, step);
        if lanes.any(odd) {
            return None;
        }
        // SAFETY: the headroom has room for them, and the packets are ours.
        unsafe { header::zero(lanes, headers) };
        self.bytes = lanes.add(self.bytes, lens);
        let lens = lanes.add(lens, lanes.splat(self.plain.hdr_len.into()));
        Some(OfferStep { addrs: headers, lens, cookies: handles(lanes, step) })
    }
}

/// Takes completed plain packets back.
pub(super) struct Collect<'a, L> {
    pub lanes: L,
    /// Where they go.
    pub places: &'a mut [MaybeUninit<MbufRef>],
}

impl<L: Lanes> Takes<L::Quad> for Collect<'_, L> {
    #[inline(always)]
    unsafe fn step(&mut self, n: usize, used: UsedStep<'_, L::Quad>) -> bool {
        if self.lanes.any_above(used.lens, u32::MAX) {
            return false;
        }
        // SAFETY: no more were asked for than there are places.
        unsafe { hand_out(self.lanes, used.cookies, self.places, n) };
        true
    }
}
