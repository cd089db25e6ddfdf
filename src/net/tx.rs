//! THE transmit burst.
//!
//! A plain packet (one segment, one owner, its own data, nothing asked of the device) gets its header written into
//! its headroom and takes one descriptor; four of them are offered in a step. What was found out then is
//! remembered, so that their completion gives them back in bulk without touching them again. Every other packet
//! goes through [`send`](super::send). Completed packets are collected lazily, when half the ring is in use.

use std::mem::MaybeUninit;
use std::sync::Arc;

use arrayvec::ArrayVec;

use super::salvage::TxSalvage;
use super::send::Extras;
use super::stats::Board;
use super::steps::{Collect, Plain, Transmit};
use super::{Framing, header};
use crate::buf::MbufRef;
use crate::buf::source::{BULK, Source};
use crate::mem::kick::Kick;
use crate::mem::lanes::{Job, Lanes, Scalar};
use crate::mem::reach::MapCell;
use crate::ring::{Ask, Lengths, Lie, Ring, STEP};
use crate::spec::net::HDR_LEN;
use crate::spec::virtio::Features;

/// No pool.
const NOWHERE: u64 = u64::MAX;
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

/// A burst, for [`Lanes::run`].
struct Burst<'a, R> {
    queue: &'a mut TxQueue<R>,
    packets: &'a [MbufRef],
}

impl<R: Ring> Job for Burst<'_, R> {
    type Output = usize;

    #[inline(always)]
    fn run(self) -> usize {
        self.queue.in_lanes(self.packets)
    }
}

/// A collection of completed packets, for [`Lanes::run`]: not every burst has one.
struct Collection<'a, R> {
    queue: &'a mut TxQueue<R>,
    most: usize,
}

impl<R: Ring> Job for Collection<'_, R> {
    type Output = Result<usize, Lie>;

    #[inline(always)]
    fn run(self) -> Result<usize, Lie> {
        self.queue.collect_in_lanes(self.most)
    }
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
    /// What a packet must be to be plain.
    pub(super) plain: Plain,
    /// The last pool that could not become the home of plain packets, and the address of the map that was
    /// asked about then.
    refused: u64,
    known: usize,
    /// Slots offered since a plain packet was.
    pub(super) since_plain: usize,
    /// Whether headers may be put into headroom.
    pub(super) push: bool,
    /// Whether packets may be sent by steps: with the usual header.
    steps: bool,
    pub(super) sort: bool,
    kick: Arc<Kick>,
    /// Device addresses are ours less this.
    pub(super) shift: u64,
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
    pub kick: Arc<Kick>,
    /// Keep the opt-in counters.
    pub sort: bool,
    /// Device addresses are ours less this.
    pub shift: u64,
}

impl<R: Ring> TxQueue<R> {
    /// A queue over a fresh ring.
    pub fn new(ring: R, parts: TxParts) -> Self {
        let framing = Framing::new(parts.features);
        Self {
            ring,
            plain: Plain {
                home: if parts.source.adapts() { NOWHERE } else { parts.source.home() as u64 },
                hdr_len: framing.hdr_len,
            },
            refused: 0,
            known: 0,
            since_plain: 0,
            source: parts.source,
            features: parts.features,
            framing,
            extras: parts.extras,
            map: parts.map,
            board: parts.board,
            push: !framing.own_descriptor,
            steps: parts.shift == 0 && !framing.own_descriptor && usize::from(framing.hdr_len) == HDR_LEN,
            sort: parts.sort,
            kick: parts.kick,
            shift: parts.shift,
        }
    }

    /// Sends packets from the first on; how many were taken. Those belong to the queue now, the others stay the
    /// caller's.
    #[inline]
    pub fn burst(&mut self, packets: &[MbufRef]) -> usize {
        self.ring.lanes().run(Burst { queue: self, packets })
    }

    #[inline(always)]
    fn in_lanes(&mut self, packets: &[MbufRef]) -> usize {
        if self.board.is_broken() {
            return 0;
        }
        if self.known != std::ptr::from_ref(self.map.current()).addr() {
            self.forget_home();
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
        if self.ring.publish(Ask::Surely) {
            self.board.counters.kicks.add(1);
            self.kick.ring();
        }
        n
    }

    #[inline(always)]
    fn send(&mut self, packets: &[MbufRef]) -> usize {
        let mut n = 0;
        loop {
            while let Some(rest) = packets.get(n..)
                && let sent @ 1.. = self.send_steps(rest)
            {
                n += sent;
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

    /// Sends plain packets by steps of four; how many.
    #[inline(always)]
    fn send_steps(&mut self, packets: &[MbufRef]) -> usize {
        if packets.len() < STEP || !self.steps {
            return 0;
        }
        let lanes = self.ring.lanes();
        let mut from = Transmit { lanes, plain: self.plain, packets, bytes: lanes.splat(0) };
        let n = self.ring.offer_steps(packets.len(), 0, &mut from);
        let bytes = from.bytes;
        if n > 0 {
            self.since_plain = 0;
            self.board.counters.packets.add(n as u64);
            self.board.counters.bytes.add(lanes.array(bytes).iter().sum());
            if self.sort {
                packets.iter().take(n).for_each(|m| self.board.counters.sort(*m));
            }
        }
        n
    }

    /// Whether a packet may be offered as plain. One of another pool may make that pool the home of plain packets,
    /// where the source allows it.
    pub(super) fn is_plain(&mut self, m: MbufRef) -> bool {
        let pool = m.pool() as u64;
        if pool != self.plain.home && self.source.adapts() {
            self.move_home(pool);
        }
        self.push && !Scalar.any(self.plain.look(Scalar, &[m; STEP]).odd)
    }

    /// The device's memory has changed: what was found out about pools must be found out again.
    #[cold]
    fn forget_home(&mut self) {
        self.known = std::ptr::from_ref(self.map.current()).addr();
        self.refused = 0;
        if self.source.adapts() {
            self.plain.home = NOWHERE;
        }
    }

    /// Makes a pool the home of plain packets, if the source accepts it and no plain packet of the former home is
    /// under way: what was sent as plain goes back to the home all together.
    #[cold]
    fn move_home(&mut self, pool: u64) {
        let under_way = usize::from(self.ring.ledger().lent()) > self.since_plain;
        if under_way || pool == self.refused {
            return;
        }
        match self.source.accepts(pool) {
            true => self.plain.home = pool,
            false => self.refused = pool,
        }
    }

    /// Takes completed packets back, about `most` of them; how many.
    fn collect(&mut self, most: usize) -> Result<usize, Lie> {
        self.ring.lanes().run(Collection { queue: self, most })
    }

    #[inline(always)]
    fn collect_in_lanes(&mut self, most: usize) -> Result<usize, Lie> {
        let collected = self.ring.poll().and_then(|()| self.collect_used(most));
        if let Err(lie) = collected {
            self.board.set_broken(lie);
        }
        collected
    }

    #[inline(always)]
    fn collect_used(&mut self, most: usize) -> Result<usize, Lie> {
        let mut singles = ArrayVec::<MbufRef, BULK>::new();
        let mut n = 0;
        let result = loop {
            if n >= most {
                break Ok(n);
            }
            let collected = self.collect_steps();
            if collected > 0 {
                n += collected;
                continue;
            }
            if singles.is_full() {
                self.source.put(&singles);
                singles.clear();
            }
            match self.ring.take() {
                Ok(Some((cookie, _, true))) => {
                    // SAFETY: the ring has just released it.
                    let _ = singles.try_push(unsafe { MbufRef::from_cookie(cookie) });
                }
                // SAFETY: as above.
                Ok(Some((cookie, _, false))) => self.source.free(unsafe { MbufRef::from_cookie(cookie) }),
                Ok(None) => break Ok(n),
                Err(lie) => break Err(lie),
            }
            n += 1;
        };
        self.source.put(&singles);
        result
    }

    /// Takes completed plain packets back by steps of four, a bulk at most; how many.
    #[inline(always)]
    fn collect_steps(&mut self) -> usize {
        let mut places = [const { MaybeUninit::uninit() }; BULK];
        let mut to = Collect { lanes: self.ring.lanes(), places: &mut places };
        let n = self.ring.take_steps(BULK, Lengths::Ignored, &mut to);
        if n > 0 {
            let packets = places.get(..n).unwrap_or(&[]);
            // SAFETY: the steps have written them.
            self.source.put(unsafe { &*(std::ptr::from_ref(packets) as *const [MbufRef]) });
        }
        n
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

    /// The ring, to be told to the device anew.
    pub fn ring_mut(&mut self) -> &mut R {
        &mut self.ring
    }

    /// The device is gone, and with it this ring: what it had sent goes back, what it had not is left, oldest first.
    pub fn salvage(mut self) -> TxSalvage {
        if !self.board.is_broken() {
            while self.collect(COLLECT).is_ok_and(|n| n > 0) {}
        }
        let lent = std::iter::from_fn(|| self.ring.surrender());
        // SAFETY: the ring has just released them.
        let packets = lent.map(|(cookie, _)| unsafe { MbufRef::from_cookie(cookie) }).collect();
        TxSalvage::new(self.source, packets)
    }

    /// Takes over what was salvaged of the former connection: sends it once more, or drops it, and whatever can't be
    /// sent any more. For a queue that has sent nothing yet.
    pub fn restore(&mut self, salvage: TxSalvage, resend: bool) {
        self.board.mend();
        self.forget_home();
        let packets = salvage.into_packets(&self.source);
        // Packets are sent as ever, but what is counted meanwhile is not counted again.
        let (sort, board) = (std::mem::take(&mut self.sort), std::mem::take(&mut self.board));
        let all = packets.len() as u64;
        for m in packets {
            if !resend || self.send_one(m) == Sent::Full {
                self.source.free(m);
            }
        }
        let sent = self.board.counters.packets.get();
        (self.sort, self.board) = (sort, board);
        self.board.counters.tx_resent.add(sent);
        self.board.counters.tx_dropped_on_reconnect.add(all - sent);
        if self.ring.publish(Ask::Surely) {
            self.board.counters.kicks.add(1);
            self.kick.ring();
        }
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
