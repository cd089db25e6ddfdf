//! What the device does with frames: one pair of rings, stepped by hand or by the server.

use std::collections::VecDeque;

use zerocopy::{FromBytes, IntoBytes};

use super::frame::{Cursor, HASH_REPORT_IPV4, HASHED_BYTES, generate, hash, header_len, number, received_header};
use super::memory::Memory;
use super::ring::{Chain, Ring};
use crate::error::{Error, Result};
use crate::spec::net::{HDR_LEN, HDR_LEN_HASH, NetHdr};
use crate::spec::virtio::Features;

/// Frames that one step moves at most in each direction, so that the rings of a device take turns.
pub const BURST: usize = 32;
/// Longest frame that fits a driver: 64 KiB of IP and an Ethernet header (5.1.6.3).
pub const MAX_FRAME: u64 = 65550;

/// What the device does with frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Each frame sent comes back on the same pair. A full receive ring holds the transmit ring up: nothing is lost.
    #[default]
    Echo,
    /// Frames sent are swallowed.
    Sink,
    /// Frames sent are swallowed, and receive buffers are filled with numbered frames.
    Source,
}

/// Frames counted, from the device's side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames taken from transmit rings.
    pub received: u64,
    /// Of these, such as were dropped: shorter than a header, or not fitting any receive buffer.
    pub received_dropped: u64,
    /// Frames put into receive rings.
    pub sent: u64,
    /// Times that [`Mode::Source`] found no receive buffer for its next frame.
    pub sent_dropped: u64,
    /// Kicks that woke the device.
    pub kicks: u64,
    /// Calls made.
    pub calls: u64,
    /// Rings that the driver has broken.
    pub broken: u64,
}

/// The rings of a pair that may be served now.
#[derive(Debug)]
pub struct Rings<'a> {
    /// Receive ring: we fill its buffers.
    pub receive: Option<&'a mut Ring>,
    /// Transmit ring: we empty its buffers.
    pub transmit: Option<&'a mut Ring>,
    /// The transmit ring is disabled: what is in it is thrown away (vhost-user, "Ring states").
    pub discard: bool,
}

impl Rings<'_> {
    /// Broken rings are left alone.
    fn whole(&mut self) -> Rings<'_> {
        Rings {
            receive: self.receive.as_deref_mut().filter(|r| !r.is_broken()),
            transmit: self.transmit.as_deref_mut().filter(|r| !r.is_broken()),
            discard: self.discard,
        }
    }
}

/// Room in a receive ring.
enum Room {
    /// So many buffers were taken.
    Enough(usize),
    /// Not now.
    Later,
    /// However long we wait.
    Never,
}

/// One pair of rings: the frames in them.
#[derive(Debug)]
pub struct Pair {
    mode: Mode,
    features: Features,
    header: usize,
    /// Storage for buffers, kept from frame to frame.
    sent: [Chain; 1],
    room: Vec<Chain>,
    generated: Vec<u8>,
    sequence: u64,
    /// A frame waits in the transmit ring for receive buffers.
    blocked: bool,
    /// A generated frame fits no receive buffer: more of them are not waited for.
    hopeless: bool,
    /// Frames sent are kept until there are more than so many.
    hold: usize,
    held: VecDeque<Chain>,
    stats: Stats,
}

impl Pair {
    /// A pair with the negotiated features. `mac` and `frame_len` are for generated frames.
    pub fn new(mode: Mode, features: Features, mac: [u8; 6], frame_len: u16) -> Self {
        Self {
            mode,
            features,
            header: header_len(features),
            sent: [Chain::default()],
            room: Vec::new(),
            generated: generate(mac, frame_len),
            sequence: 0,
            blocked: false,
            hopeless: false,
            hold: 0,
            held: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// So many frames that were sent are always in hand, as those of a device that works on many at the same time. Without
    /// IN_ORDER they come back in another order.
    #[must_use]
    pub fn holding(mut self, frames: u16) -> Self {
        self.hold = frames.into();
        self
    }

    /// Finishes what is in hand, as far as there is room: the rings are about to go.
    pub fn finish(&mut self, memory: &impl Memory, mut rings: Rings<'_>) {
        let Rings { mut receive, transmit, discard } = rings.whole();
        let Some(tx) = transmit else { return self.held.clear() };
        while let Some(chain) = self.held.pop_front() {
            self.sent = [chain];
            let echo = self.mode == Mode::Echo && !discard;
            let done = echo && matches!(self.echo_one(memory, receive.as_deref_mut()), Ok(true));
            self.stats.received += 1;
            self.stats.received_dropped += u64::from(echo && !done);
            tx.push_used(&self.sent[0], 0);
        }
        tx.publish();
        receive.into_iter().for_each(Ring::publish);
    }

    /// What was in hand is of rings that have gone.
    pub fn forget(&mut self) {
        self.held.clear();
    }

    /// Takes the next frame, or, once there are as many in hand as shall be, one of those.
    fn take(&mut self, memory: &impl Memory, tx: &mut Ring) -> Result<bool> {
        if self.hold == 0 {
            return tx.next(memory, &mut self.sent[0]);
        }
        while self.held.len() <= self.hold {
            let mut chain = Chain::default();
            if !tx.next(memory, &mut chain)? {
                return Ok(false);
            }
            self.held.push_back(chain);
        }
        let newest = !self.features.contains(Features::IN_ORDER) && self.stats.received % 2 == 1;
        let chain = if newest { self.held.pop_back() } else { self.held.pop_front() };
        self.sent = [chain.unwrap_or_default()];
        Ok(true)
    }

    /// The frame in hand must wait.
    fn wait(&mut self, tx: &mut Ring) {
        match self.hold {
            0 => tx.put_back(&self.sent[0]),
            _ => self.held.push_front(std::mem::take(&mut self.sent[0])),
        }
    }

    /// Other features were negotiated.
    pub fn negotiate(&mut self, features: Features) {
        (self.features, self.header) = (features, header_len(features));
        (self.blocked, self.hopeless) = (false, false);
    }

    /// What has been counted.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Moves a burst of frames and publishes what was used; says how many buffers were. A ring that turns out to be
    /// broken is logged once and left alone from then on.
    pub fn step(&mut self, memory: &impl Memory, mut rings: Rings<'_>) -> usize {
        let mut moved = 0;
        let Rings { mut receive, transmit, discard } = rings.whole();
        if let Some(tx) = transmit {
            let echo = self.mode == Mode::Echo && !discard;
            let done = if echo { self.echo(memory, receive.as_deref_mut(), tx) } else { self.swallow(memory, tx) };
            moved += done.unwrap_or_else(|e| self.report(&e));
            tx.publish();
        }
        if let Some(rx) = receive {
            if self.mode == Mode::Source {
                moved += self.feed(memory, rx).unwrap_or_else(|e| self.report(&e));
            }
            rx.publish();
        }
        moved
    }

    fn report(&mut self, error: &Error) -> usize {
        log::warn!("loopback: {error}; the ring is left alone");
        self.stats.broken += 1;
        // Something has changed, so that whoever steps us looks at the rings.
        1
    }

    /// Prepares for sleep: asks for the kicks that matter. True: do not sleep, something has arrived.
    pub fn arm(&mut self, mut rings: Rings<'_>) -> bool {
        let Rings { receive, transmit, discard } = rings.whole();
        let waits_for_room = self.blocked && !discard && transmit.is_some();
        let mut awake = false;
        if let Some(tx) = transmit.filter(|_| !waits_for_room) {
            awake |= tx.kicks(true);
        }
        let generates = self.mode == Mode::Source && !self.hopeless;
        if let Some(rx) = receive.filter(|_| waits_for_room || generates) {
            awake |= rx.kicks(true);
        }
        awake
    }

    /// Asks not to be kicked: the rings are being polled.
    pub fn disarm(&mut self, mut rings: Rings<'_>) {
        let Rings { receive, transmit, .. } = rings.whole();
        for ring in [receive, transmit].into_iter().flatten() {
            let _ = ring.kicks(false);
        }
    }

    fn swallow(&mut self, memory: &impl Memory, tx: &mut Ring) -> Result<usize> {
        let mut moved = 0;
        self.blocked = false;
        while moved < BURST && self.take(memory, tx)? {
            self.stats.received += 1;
            self.stats.received_dropped += u64::from(self.sent[0].readable() <= self.header as u64);
            tx.push_used(&self.sent[0], 0);
            moved += 1;
        }
        Ok(moved)
    }

    fn echo(&mut self, memory: &impl Memory, mut rx: Option<&mut Ring>, tx: &mut Ring) -> Result<usize> {
        let mut moved = 0;
        self.blocked = false;
        while moved < BURST && self.take(memory, tx)? {
            let done = self.echo_one(memory, rx.as_deref_mut());
            if !matches!(done, Ok(true)) {
                self.wait(tx);
                self.blocked = true;
                done?;
                break;
            }
            self.stats.received += 1;
            tx.push_used(&self.sent[0], 0);
            moved += 1;
        }
        Ok(moved)
    }

    /// Brings the frame in hand back, or drops it; false when it must wait for room.
    fn echo_one(&mut self, memory: &impl Memory, rx: Option<&mut Ring>) -> Result<bool> {
        let bytes = self.sent[0].readable();
        let payload = bytes.saturating_sub(self.header as u64);
        if payload == 0 || payload > MAX_FRAME {
            self.stats.received_dropped += 1;
            return Ok(true);
        }
        let Some(rx) = rx else { return Ok(false) };
        match self.take_room(memory, rx, bytes)? {
            Room::Enough(n) => self.return_sent(memory, rx, n)?,
            Room::Later => return Ok(false),
            Room::Never => self.stats.received_dropped += 1,
        }
        Ok(true)
    }

    /// Takes receive buffers for `bytes`: one, or with MRG_RXBUF as many as it needs (5.1.6.3.2). None are kept when
    /// there are not enough.
    fn take_room(&mut self, memory: &impl Memory, rx: &mut Ring, bytes: u64) -> Result<Room> {
        let merge = self.features.contains(Features::MRG_RXBUF);
        let (mut n, mut room, mut slots) = (0, 0, 0);
        let refused = loop {
            if n == self.room.len() {
                self.room.push(Chain::default());
            }
            let chain = &mut self.room[n];
            if !rx.next(memory, chain)? {
                break Room::Later;
            }
            if chain.readable() > 0 || (merge && chain.writable() < self.header as u64) {
                return Err(rx.fail("a receive buffer that cannot be used"));
            }
            n += 1;
            room += chain.writable();
            slots += u32::from(chain.slots());
            if room >= bytes {
                return Ok(Room::Enough(n));
            }
            // The driver has not more than its whole ring to offer.
            if !merge || slots >= rx.size().into() {
                break Room::Never;
            }
        };
        for chain in self.room[..n].iter().rev() {
            rx.put_back(chain);
        }
        Ok(refused)
    }

    /// Copies the frame in hand into the first `n` buffers of `room`.
    fn return_sent(&mut self, memory: &impl Memory, rx: &mut Ring, n: usize) -> Result<()> {
        let mut from = Cursor::readable(&self.sent);
        let mut bytes = [0; HDR_LEN_HASH];
        let got = from.get(memory, &mut bytes[..self.header]);
        let sent = NetHdr::read_from_bytes(&bytes).unwrap_or_default();
        let mut start = [0; HASHED_BYTES];
        let payload = (self.sent[0].readable() as usize).saturating_sub(self.header);
        let start = &mut start[..payload.min(HASHED_BYTES)];
        if self.features.contains(Features::HASH_REPORT) {
            from.clone().get(memory, start);
        }
        let header = self.header_for(&sent, n, start);
        let mut into = Cursor::writable(&self.room[..n]);
        if got && into.put(memory, &header.as_bytes()[..self.header]) && into.put_all(memory, from) {
            rx.push_frame(&self.room[..n], (self.header + payload) as u32);
            self.stats.sent += 1;
            return Ok(());
        }
        Err(rx.fail("a frame could not be copied"))
    }

    fn header_for(&self, sent: &NetHdr, buffers: usize, start: &[u8]) -> NetHdr {
        let mut header = received_header(sent, self.features);
        if self.header >= HDR_LEN {
            // Always set, to 1 without MRG_RXBUF (5.1.6.4.1).
            header.num_buffers = u16::try_from(buffers).unwrap_or(u16::MAX);
        }
        if self.features.contains(Features::HASH_REPORT) {
            (header.hash_value, header.hash_report) = (hash(start), HASH_REPORT_IPV4);
        }
        header
    }

    /// Fills receive buffers with generated frames, numbered without a gap.
    fn feed(&mut self, memory: &impl Memory, rx: &mut Ring) -> Result<usize> {
        let mut moved = 0;
        let bytes = self.header + self.generated.len();
        while moved < BURST {
            let room = self.take_room(memory, rx, bytes as u64)?;
            self.hopeless = matches!(room, Room::Never);
            let Room::Enough(n) = room else {
                self.stats.sent_dropped += 1;
                break;
            };
            number(&mut self.generated, self.sequence);
            let header = self.header_for(&NetHdr::default(), n, &self.generated);
            let mut into = Cursor::writable(&self.room[..n]);
            if !into.put(memory, &header.as_bytes()[..self.header]) || !into.put(memory, &self.generated) {
                return Err(rx.fail("a frame could not be written"));
            }
            rx.push_frame(&self.room[..n], bytes as u32);
            self.sequence += 1;
            self.stats.sent += 1;
            moved += n;
        }
        Ok(moved)
    }
}
