//! THE transmit burst.
//!
//! A plain packet (one segment, one owner, its own data, nothing asked of the device) gets its header written into
//! its headroom and takes one descriptor; four of them are offered in a step. What was found out then is
//! remembered, so that their completion gives them back in bulk without touching them again. Every other packet
//! goes through [`send`](super::send). Completed packets are collected lazily, when half the ring is in use.

use std::sync::Arc;

use arrayvec::ArrayVec;

use super::send::Extras;
use super::stats::Board;
use super::{Framing, SHORTEST_FRAME, header};
use crate::buf::MbufRef;
use crate::buf::mbuf::flags;
use crate::buf::source::{BULK, Source};
use crate::mem::reach::MapCell;
use crate::ring::{Lie, OfferStep, Ring, STEP};
use crate::spec::virtio::Features;
use crate::sys::eventfd::Bell;

/// refcnt 1 and nb_segs 1, as they stand in an mbuf from refcnt on.
const ONE_OWNER_ONE_SEGMENT: u32 = 1 | 1 << 16;
/// Packets that one burst collects at most.
const COLLECT: usize = 4 * BULK;

/// What happened to a packet that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The ring has it, or it was refused, counted and freed: not the caller's any more.
    Gone,
    /// The ring is full.
    Full,
}

/// A transmit queue.
#[derive(Debug)]
pub struct TxQueue<R> {
    pub(super) ring: R,
    pub(super) source: Source,
    pub(super) features: Features,
    pub(super) framing: Framing,
    pub(super) extras: Extras,
    pub(super) map: Arc<MapCell>,
    pub(super) board: Arc<Board>,
    /// The `pool` field of plain packets.
    home: u64,
    /// Whether headers may be put into headroom.
    pub(super) push: bool,
    pub(super) sort: bool,
    kick: Arc<Bell>,
}

/// What a transmit queue is made of.
pub struct TxParts {
    /// Where packets come from and go back to.
    pub source: Source,
    /// What was negotiated.
    pub features: Features,
    /// Shared memory for headers and tables that have no place in a packet.
    pub extras: Extras,
    /// All memory that the device was told of.
    pub map: Arc<MapCell>,
    /// Where the queue counts.
    pub board: Arc<Board>,
    /// How the device is woken.
    pub kick: Arc<Bell>,
    /// Keep the opt-in counters.
    pub sort: bool,
}

impl<R: Ring> TxQueue<R> {
    /// A queue over a fresh ring.
    pub fn new(ring: R, parts: TxParts) -> Self {
        let framing = Framing::new(parts.features);
        Self {
            ring,
            home: parts.source.home() as u64,
            source: parts.source,
            features: parts.features,
            framing,
            extras: parts.extras,
            map: parts.map,
            board: parts.board,
            push: !framing.own_descriptor,
            sort: parts.sort,
            kick: parts.kick,
        }
    }

    /// Sends packets from the first on; how many were taken. Those belong to the queue now, the others stay the
    /// caller's.
    #[inline]
    pub fn burst(&mut self, packets: &[MbufRef]) -> usize {
        if self.board.is_broken() {
            return 0;
        }
        let free = usize::from(self.ring.ledger().free());
        let half = usize::from(self.ring.ledger().size() / 2);
        let dry = self.source.is_dry();
        if (free < half.max(packets.len()) || dry) && self.collect(COLLECT).is_err() {
            return 0;
        }
        if dry {
            // Others wait for the buffers that this queue would keep near.
            self.source.flush();
        }
        let n = self.send(packets);
        if self.ring.publish() {
            self.board.counters.kicks.add(1);
            self.kick.ring();
        }
        n
    }

    #[inline(always)]
    fn send(&mut self, packets: &[MbufRef]) -> usize {
        let mut n = 0;
        loop {
            while let Some(step) = packets.get(n..).and_then(<[_]>::first_chunk)
                && self.send_step(step)
            {
                n += STEP;
            }
            // One of the next four is not plain, or there are not four: one by one, then steps again.
            for _ in 0..STEP {
                let Some(&packet) = packets.get(n) else { return n };
                if self.send_or_collect(packet) == Sent::Full {
                    self.board.counters.ring_full.add(1);
                    return n;
                }
                n += 1;
            }
        }
    }

    /// Sends one packet. A chain may need more slots than were made free at the beginning of the burst: then all that
    /// is done is collected first.
    fn send_or_collect(&mut self, packet: MbufRef) -> Sent {
        match self.send_one(packet) {
            Sent::Full if self.collect(8 * COLLECT).is_ok_and(|collected| collected > 0) => self.send_one(packet),
            sent => sent,
        }
    }

    /// Sends four plain packets, or none.
    #[inline(always)]
    fn send_step(&mut self, step: &[MbufRef; STEP]) -> bool {
        if self.ring.ledger().head_step().is_none() {
            return false;
        }
        let lens = step.map(|m| u32::from(m.data_len()));
        let mut odd = 0;
        for m in step {
            odd |= self.oddity(*m);
        }
        if odd != 0 || !self.push {
            return false;
        }
        let headers = step.map(|m| m.data().wrapping_sub(usize::from(self.framing.hdr_len)));
        for header in headers {
            // SAFETY: `oddity` has seen that the headroom has room for it, and the packet is ours.
            unsafe { header::write_zero(header, self.framing.hdr_len) };
        }
        let offered = self.ring.offer_step(&OfferStep {
            addrs: headers.map(|h| h as u64),
            lens: lens.map(|len| len + u32::from(self.framing.hdr_len)),
            flags: 0,
            cookies: step.map(MbufRef::cookie),
            plain: true,
        });
        if offered {
            self.board.counters.packets.add(STEP as u64);
            self.board.counters.bytes.add(lens.iter().map(|len| u64::from(*len)).sum());
            if self.sort {
                step.iter().for_each(|m| self.board.counters.sort(*m));
            }
        }
        offered
    }

    /// Zero if a packet is plain: one owner, one segment, its own data, of our pool, room for the header, no runt,
    /// nothing asked. Without branches, for four at once.
    #[inline(always)]
    pub(super) fn oddity(&self, m: MbufRef) -> u64 {
        let word = m.rearm_word();
        let owners_and_segments = u64::from((word >> 16) as u32 ^ ONE_OWNER_ONE_SEGMENT);
        let asked = m.ol_flags() & (flags::TX_WORK | flags::BORROWED);
        let pool = m.pool() as u64 ^ self.home;
        let length = u64::from(m.pkt_len() ^ u32::from(m.data_len()));
        // Bit 31 where the difference is negative; bit 0 where the header would not be aligned to its fields.
        let headroom = (word as u16 as u32).wrapping_sub(u32::from(self.framing.hdr_len)) & 1 << 31;
        let runt = u32::from(m.data_len()).wrapping_sub(SHORTEST_FRAME) & 1 << 31;
        let unaligned = m.data() as u64 & 1;
        owners_and_segments | asked | pool | length | u64::from(headroom | runt) | unaligned
    }

    /// Takes completed packets back, about `most` of them; how many.
    #[inline]
    fn collect(&mut self, most: usize) -> Result<usize, Lie> {
        let collected = self.ring.poll().and_then(|()| self.collect_used(most));
        if let Err(lie) = collected {
            self.board.set_broken(lie);
        }
        collected
    }

    #[inline(always)]
    fn collect_used(&mut self, most: usize) -> Result<usize, Lie> {
        let mut plain = ArrayVec::<MbufRef, BULK>::new();
        let mut n = 0;
        let result = loop {
            if n >= most {
                break Ok(n);
            }
            if plain.remaining_capacity() < STEP {
                self.source.put(&plain);
                plain.clear();
            }
            let ledger = self.ring.ledger();
            let step = ledger.tail_cookies().filter(|_| ledger.tail_step_is_plain());
            if let Some(cookies) = step
                && self.ring.take_step()
            {
                // There is room for a step, which was seen to above.
                // SAFETY: the ring has just released them.
                let _ = plain.try_extend_from_slice(&cookies.map(|c| unsafe { MbufRef::from_cookie(c) }));
                n += STEP;
                continue;
            }
            match self.ring.take() {
                Ok(Some((cookie, _, true))) => {
                    // SAFETY: the ring has just released it.
                    let _ = plain.try_push(unsafe { MbufRef::from_cookie(cookie) });
                }
                // SAFETY: as above.
                Ok(Some((cookie, _, false))) => self.source.free(unsafe { MbufRef::from_cookie(cookie) }),
                Ok(None) => break Ok(n),
                Err(lie) => break Err(lie),
            }
            n += 1;
        };
        self.source.put(&plain);
        result
    }

    /// Gives completed packets back now, up to about `most`; how many. Also what the queue keeps near, so that
    /// others can have it.
    pub fn done_cleanup(&mut self, most: usize) -> usize {
        if self.board.is_broken() {
            return 0;
        }
        let n = self.collect(most).unwrap_or(0);
        self.source.flush();
        n
    }

    /// Asks the device to call when it has sent something; true when it has already.
    pub fn set_calls(&mut self, on: bool) -> bool {
        self.ring.set_calls(on);
        on && self.ring.has_used()
    }

    /// Prepares packets for the offloads they ask for; how many from the first on could be.
    pub fn prepare(&mut self, packets: &[MbufRef]) -> usize {
        packets.iter().take_while(|m| header::prepare(**m, self.features).is_ok()).count()
    }

    /// The ring, for its position.
    pub fn ring(&self) -> &R {
        &self.ring
    }

    /// The device has stopped: all packets go back. Those that it had not marked as used are counted as lost.
    pub fn reclaim(&mut self) {
        if !self.board.is_broken() {
            while self.collect(COLLECT).is_ok_and(|n| n > 0) {}
        }
        while let Some((cookie, _)) = self.ring.surrender() {
            self.board.counters.lost.add(1);
            // SAFETY: the ring has just released it.
            self.source.free(unsafe { MbufRef::from_cookie(cookie) });
        }
        self.source.flush();
    }
}
