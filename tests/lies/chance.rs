//! Random devices against a model. As long as the device is honest, everything is known beforehand: which frames
//! come, in which order and of which length, and which buffers must not be handed out. From its first lie on, what
//! remains is what no lie may break.
//!
//! `VUSER_LIES_STEPS` is the number of steps a test takes, `VUSER_LIES_SEED` the first seed.

use std::collections::{HashMap, VecDeque};

use vuser::buf::MbufRef;
use vuser::spec::virtio::Features;

use crate::rig::{Chance, HDR, Lent, ROOM, Rig, Shape, about, header, scribble};

/// Steps of one life of a queue.
const LIFE: u64 = 200;
const BUFFERS: u32 = 150;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// Runs lives of queues until the steps are used up.
fn lives(live: impl Fn(Shape, &mut Chance)) {
    let (first, steps) = (setting("VUSER_LIES_SEED", 1), setting("VUSER_LIES_STEPS", 100_000));
    for seed in first..first + steps.div_ceil(LIFE) {
        let mut chance = Chance::new(seed);
        let shape = shape(&mut chance);
        about(format_args!("VUSER_LIES_SEED={seed}, {shape:?}"), || live(shape, &mut chance));
    }
}

fn shape(chance: &mut Chance) -> Shape {
    let shape = Shape::all(1).nth(chance.below(Shape::all(1).count())).unwrap();
    let (split, packed) = ([1, 2, 4, 8, 16, 32, 64, 128], [1, 2, 3, 5, 7, 16, 33, 100]);
    Shape { size: if shape.packed() { packed } else { split }[chance.below(8)], ..shape }
}

/// A used element that says anything.
fn lie(rig: &mut Rig, chance: &mut Chance) {
    let size = usize::from(rig.hand.shape().size);
    let id = match chance.below(4) {
        0 => chance.below(size) as u32,
        1 => chance.below(2 * size) as u32,
        2 => chance.next() as u32,
        _ => rig.hand.lent.get(chance.below(size)).map_or(0, |l| l.id.into()),
    };
    let len = match chance.below(3) {
        0 => chance.below(2 * ROOM as usize) as u32,
        1 => chance.next() as u32,
        _ => HDR + 60,
    };
    let slots = 1 + chance.below(3.min(size)) as u16;
    match chance.below(6) {
        0..3 => rig.hand.push(id, len, slots),
        3 => rig.hand.element(rig.hand.next_used + chance.below(size) as u64, id, len),
        4 if rig.hand.shape().packed() => {
            let at = rig.hand.next_used + chance.below(size) as u64;
            rig.hand.packed_element(at, id as u16, len, chance.next() as u16);
        }
        4 => rig.hand.used_idx((rig.hand.next_used as u16).wrapping_add(chance.below(2 * size) as u16)),
        _ => {
            let area = rig.hand.areas()[chance.below(4)];
            let (at, value) = (chance.below(area.1), chance.next() as u8);
            scribble(area, at, |_| value);
        }
    }
    if chance.one_in(2) {
        rig.hand.publish();
    }
}

/// What may be negotiated with the next device: the size stays.
fn next_shape(chance: &mut Chance, now: Shape) -> Shape {
    let packed = now.packed() && !now.size.is_power_of_two();
    loop {
        let next = Shape { size: now.size, ..shape(chance) };
        if next.packed() || !packed {
            return next;
        }
    }
}

/// From the first lie on; the application keeps some frames.
fn lying(mut rig: Rig, kept: &[MbufRef], chance: &mut Chance) {
    for _ in 0..LIFE / 4 {
        (0..chance.below(3)).for_each(|_| lie(&mut rig, chance));
        if !rig.is_rx() {
            rig.send_new(chance.below(9), 1 + chance.below(4));
        }
        rig.turn();
    }
    if rig.board.is_broken() {
        rig.hand.lent.clear();
        rig.stays_broken();
    }
    if chance.one_in(2) {
        return rig.end();
    }
    // The next device is honest, and finds a queue that is whole.
    kept.iter().for_each(|m| rig.free(*m));
    let shape = next_shape(chance, rig.hand.shape());
    rig.reconnect(Shape { size: shape.size.max(8), ..shape }, chance.one_in(2));
    while rig.is_rx() && rig.turn() > 0 {}
    rig.hand.look();
    if !rig.is_rx() {
        rig.hand.serve(rig.hand.lent.len());
        rig.cleanup();
    }
    rig.honest_again();
    rig.end();
}

/// A frame that the device has received: number, bytes.
type Frame = (u32, u32);
/// The number of what is left of a frame that was given back in part.
const REST: u32 = u32::MAX;

/// The honest device of a receive queue.
struct Receiver {
    rig: Rig,
    expected: VecDeque<Frame>,
    /// Frames that the application keeps for a while.
    kept: Vec<MbufRef>,
}

impl Receiver {
    /// Writes a frame over some of the buffers that are lent, and uses them.
    fn frame(&mut self, chance: &mut Chance) {
        let hand = &mut self.rig.hand;
        let parts =
            if hand.shape().mergeable() && chance.one_in(3) { 1 + chance.below(hand.lent.len().min(9)) } else { 1 };
        let seq = hand.seq;
        hand.seq += 1;
        let mut bytes = 0;
        for k in 0..parts {
            let at = if hand.shape().in_order() { 0 } else { chance.below(hand.lent.len().min(8)) };
            let lent = hand.lent.remove(at).unwrap();
            let len = if k + 1 < parts { ROOM } else { HDR + 20 + chance.below((ROOM - HDR - 19) as usize) as u32 };
            if k == 0 {
                hand.fill(&lent, header(parts as u16), seq, 0);
            }
            hand.push(lent.id.into(), len, lent.slots);
            bytes += len;
        }
        self.expected.push_back((seq, bytes - HDR));
    }

    /// Uses some buffers by naming the last only: all others are full.
    fn batch(&mut self, chance: &mut Chance) {
        let hand = &mut self.rig.hand;
        let n = 1 + chance.below(hand.lent.len());
        for k in 0..n {
            let bytes = if k + 1 < n { ROOM - HDR } else { 100 };
            hand.fill(&hand.lent[k], header(1), hand.seq, bytes);
            self.expected.push_back((hand.seq, bytes));
            hand.seq += 1;
        }
        hand.push_batch(n, HDR + 100);
    }

    fn device(&mut self, chance: &mut Chance) {
        self.rig.hand.look();
        for _ in 0..chance.below(12) {
            if self.rig.hand.lent.is_empty() {
                break;
            }
            if self.rig.hand.shape().in_order() && chance.one_in(3) {
                self.batch(chance);
            } else {
                self.frame(chance);
            }
        }
        self.rig.hand.publish();
    }

    /// The next frame has come.
    fn comes(&mut self, seq: u32, bytes: u32) {
        let frame = self.expected.pop_front();
        assert!(frame == Some((seq, bytes)) || frame == Some((REST, bytes)), "{seq}, {bytes} came, not {frame:?}");
    }

    /// Looks at what is lent, and gives some of it back.
    fn borrow(&mut self, chance: &mut Chance) {
        let loans = self.rig.peek([1, 2, 3, 4, 5, 7, 8, 33, 128][chance.below(9)]);
        for (loan, expected) in loans.iter().zip(&self.expected) {
            assert!([loan.seq(), REST].contains(&expected.0), "{} is lent, not {expected:?}", loan.seq());
            assert!(loan.bytes() == expected.1 || (!loan.whole && loan.bytes() < expected.1));
        }
        assert!(loans.len() <= self.expected.len());
        let mut left = chance.below(1 + loans.iter().map(|loan| loan.parts.len()).sum::<usize>());
        let n = left;
        for loan in &loans {
            let parts = left.min(loan.parts.len());
            let bytes: u32 = loan.parts[..parts].iter().map(|part| part.len).sum();
            if parts == loan.parts.len() && loan.whole {
                self.expected.pop_front();
            } else if parts > 0 {
                let rest = self.expected[0].1 - bytes;
                self.expected[0] = (REST, rest);
            }
            left -= parts;
        }
        // In one piece or in two.
        let first = if chance.one_in(2) { chance.below(n + 1) } else { n };
        self.rig.release(first);
        self.rig.release(n - first);
    }

    fn application(&mut self, chance: &mut Chance) {
        match chance.below(5) {
            0 | 1 => self.borrow(chance),
            2 => {
                let (most, size) = (1 + chance.below(99), chance.below(20_000));
                for frame in self.rig.copy(most, size) {
                    self.comes(u32::from_le_bytes(frame[..4].try_into().unwrap()), frame.len() as u32);
                }
            }
            _ => {
                for m in self.rig.receive([0, 1, 2, 3, 4, 5, 7, 8, 33][chance.below(9)]) {
                    // SAFETY: the first four bytes of a frame of twenty or more.
                    self.comes(unsafe { m.data().cast::<u32>().read_unaligned() }, m.pkt_len());
                    self.kept.push(m);
                }
            }
        }
        while self.kept.len() > 60 || (!self.kept.is_empty() && chance.one_in(2)) {
            self.rig.free(self.kept.swap_remove(chance.below(self.kept.len())));
        }
    }

    /// The device goes away, perhaps in the middle of a frame, and another one comes.
    fn reconnect(&mut self, chance: &mut Chance) {
        self.rig.hand.look();
        let (hand, lost) = (&mut self.rig.hand, self.rig.board.counters.lost.get());
        let torn = hand.shape().mergeable() && hand.lent.len() > 1 && chance.one_in(2);
        if torn {
            let lent = hand.lent.pop_front().unwrap();
            hand.fill(&lent, header(2), 0, 0);
            hand.push(lent.id.into(), ROOM, lent.slots);
            hand.publish();
            if chance.one_in(2) {
                self.application(chance);
            }
        }
        let shape = next_shape(chance, self.rig.hand.shape());
        self.rig.reconnect(shape, true);
        assert_eq!(self.rig.board.counters.lost.get(), lost + u64::from(torn));
        if !self.expected.is_empty() {
            assert!(self.rig.set_calls(true), "frames of the former device are there, and the queue would sleep");
            self.rig.set_calls(false);
        }
        self.rig.hand.look();
        assert!(!self.rig.hand.lent.is_empty() || self.rig.pool.is_empty(), "the new device has no buffers");
    }

    /// Nothing more is used: what was, must come, and a queue that asks for calls must know of it.
    fn drain(&mut self, chance: &mut Chance) {
        while !self.expected.is_empty() {
            assert!(self.rig.set_calls(true), "{} frames are there, and the queue would sleep", self.expected.len());
            let before = self.expected.len();
            // Frames of many buffers may need buffers again for their end; those were used above.
            (0..3).for_each(|_| self.application(chance));
            self.rig.set_calls(false);
            assert!(self.expected.len() <= before);
        }
        assert_eq!(self.rig.receive(8).len(), 0);
    }
}

#[test]
fn a_receive_queue_follows_any_device() {
    lives(|shape, chance| {
        let mut rx = Receiver { rig: Rig::rx(shape, BUFFERS), expected: VecDeque::new(), kept: Vec::new() };
        for _ in 0..LIFE / 2 + chance.below(LIFE as usize) as u64 {
            if chance.one_in(40) {
                rx.reconnect(chance);
            } else if chance.one_in(2) {
                rx.device(chance);
                assert_eq!(rx.rig.resume_base(), Some(rx.rig.hand.base()));
            } else {
                rx.application(chance);
            }
            assert_eq!(rx.rig.board.lie(), None, "an honest device was called a liar");
        }
        rx.drain(chance);
        lying(rx.rig, &rx.kept, chance);
    });
}

/// The honest device of a transmit queue.
struct Sender {
    rig: Rig,
    /// Packets sent and not yet seen by the device: number, bytes.
    sent: VecDeque<Frame>,
    /// For each buffer, how many chains that the device has not used yet point into it.
    lent: HashMap<usize, usize>,
    seq: u32,
}

/// Number and bytes of the frame that a packet carries.
fn frame(lent: &Lent) -> Frame {
    let len: u32 = lent.parts.iter().map(|(_, len)| len).sum();
    // The frame begins behind the header, in the same element or in the next.
    let (addr, first) = lent.parts[0];
    let place = if first > HDR { addr + u64::from(HDR) } else { lent.parts[1].0 };
    // SAFETY: at least four bytes of a packet that we have.
    let seq = unsafe { (place as *const u32).read_unaligned() };
    (seq, len - HDR)
}

impl Sender {
    /// The buffer that an address lies in, if it is one of the pool's.
    fn buffer(&self, addr: u64) -> Option<usize> {
        let (memory, stride) = (self.rig.pool.memory(), self.rig.pool.linear().0 * 128);
        let offset = addr.checked_sub(memory.addr() as u64).filter(|offset| *offset < memory.len() as u64)?;
        Some((offset / u64::from(stride)) as usize)
    }

    fn count(&mut self, lent: &Lent, by: isize) {
        let mut buffers: Vec<usize> = lent.parts.iter().filter_map(|(addr, _)| self.buffer(*addr)).collect();
        buffers.dedup();
        for b in buffers {
            let n = self.lent.entry(b).or_default();
            *n = n.checked_add_signed(by).unwrap();
        }
    }

    fn packet(&mut self, chance: &mut Chance) -> Option<MbufRef> {
        let segments = if chance.one_in(3) { 2 + chance.below(5) } else { 1 };
        let bytes = 20 + chance.below(300) as u16;
        let m = self.rig.packet(segments, bytes)?;
        for s in m.segments() {
            let buffer = self.buffer(s.data() as u64).unwrap();
            assert_eq!(self.lent.get(&buffer).copied().unwrap_or(0), 0, "a buffer that the device has was handed out");
        }
        // SAFETY: twenty bytes at least.
        unsafe { m.data().cast::<u32>().write_unaligned(self.seq) };
        if chance.one_in(8) {
            // No room for the header: it goes into the extras.
            m.set_data_off(4);
            // SAFETY: as above, further in front.
            unsafe { m.data().cast::<u32>().write_unaligned(self.seq) };
        }
        self.seq += 1;
        Some(m)
    }

    fn application(&mut self, chance: &mut Chance) {
        let packets: Vec<MbufRef> = (0..chance.below(12)).map_while(|_| self.packet(chance)).collect();
        // A packet that is longer than the ring is refused and freed: it never reaches the device.
        let size = usize::from(self.rig.hand.shape().size);
        let table = self.rig.hand.shape().has(Features::INDIRECT_DESC);
        let known: Vec<_> = packets
            .iter()
            .map(|m| {
                let descriptors = usize::from(m.nb_segs()) + usize::from(m.data_off() < 12);
                (m.pkt_len(), table || descriptors <= size)
            })
            .collect();
        let first = self.seq - packets.len() as u32;
        let n = self.rig.send(&packets);
        let taken = known[..n].iter().enumerate().filter(|(_, (_, fits))| *fits);
        self.sent.extend(taken.map(|(k, (len, _))| (first + k as u32, *len)));
        packets[n..].iter().for_each(|m| self.rig.free(*m));
    }

    /// The device looks at what was sent.
    fn look(&mut self) {
        let known = self.rig.hand.lent.len();
        self.rig.hand.look();
        for k in known..self.rig.hand.lent.len() {
            let lent = self.rig.hand.lent[k].clone();
            assert_eq!(Some(frame(&lent)), self.sent.pop_front());
            self.count(&lent, 1);
        }
    }

    /// The device goes away, and another one comes.
    fn reconnect(&mut self, chance: &mut Chance) {
        self.look();
        assert!(self.sent.is_empty());
        let (resend, shape) = (!chance.one_in(4), next_shape(chance, self.rig.hand.shape()));
        let left = std::mem::take(&mut self.rig.hand.lent);
        self.lent.clear();
        // What has no indirect table any more may need more slots than there are.
        let mut free = usize::from(shape.size);
        for lent in &left {
            let table = shape.has(Features::INDIRECT_DESC) && lent.parts.len() > 1;
            let slots = if table { 1 } else { lent.parts.len() };
            if resend && slots <= free {
                free -= slots;
                self.sent.push_back(frame(lent));
            }
        }
        let before = self.rig.board.counters.snapshot();
        self.rig.reconnect(shape, resend);
        let stats = self.rig.board.counters.snapshot() - before;
        let (sent, all) = (self.sent.len() as u64, left.len() as u64);
        assert_eq!((stats.tx_resent, stats.tx_dropped_on_reconnect), (sent, all - sent));
        assert_eq!((stats.packets, stats.bytes, stats.lost, stats.too_many_segments), (0, 0, 0, 0));
        self.look();
        assert!(self.sent.is_empty(), "not all was sent once more");
    }

    fn device(&mut self, chance: &mut Chance) {
        self.look();
        for _ in 0..chance.below(12) {
            let (lent, in_order) = (self.rig.hand.lent.len(), self.rig.hand.shape().in_order());
            if lent == 0 {
                break;
            }
            let n = if in_order && chance.one_in(2) { 1 + chance.below(lent) } else { 1 };
            let at = if in_order { 0 } else { chance.below(lent) };
            let used: Vec<Lent> = self.rig.hand.lent.range(at..at + n).cloned().collect();
            used.iter().for_each(|lent| self.count(lent, -1));
            self.rig.hand.lent.rotate_left(at);
            self.rig.hand.push_batch(n, chance.next() as u32);
            let left = self.rig.hand.lent.len();
            self.rig.hand.lent.rotate_right(at.min(left));
        }
        self.rig.hand.publish();
    }
}

#[test]
fn a_transmit_queue_follows_any_device() {
    lives(|shape, chance| {
        let rig = Rig::tx(shape, BUFFERS);
        let mut tx = Sender { rig, sent: VecDeque::new(), lent: HashMap::new(), seq: 0 };
        for _ in 0..LIFE / 2 + chance.below(LIFE as usize) as u64 {
            match chance.below(5) {
                _ if chance.one_in(40) => tx.reconnect(chance),
                0 | 1 => {
                    tx.device(chance);
                    assert_eq!(tx.rig.resume_base(), Some(tx.rig.hand.base()));
                }
                2 | 3 => tx.application(chance),
                _ => {
                    tx.rig.cleanup();
                }
            }
            assert_eq!(tx.rig.board.lie(), None, "an honest device was called a liar");
        }
        // All that was sent arrives, and all that was used comes back.
        tx.device(chance);
        tx.rig.hand.serve(tx.rig.hand.lent.len());
        tx.rig.cleanup();
        assert_eq!(tx.sent.len() + tx.rig.held(), 0);
        assert_eq!(tx.rig.pool.available(), BUFFERS as usize);
        lying(tx.rig, &[], chance);
    });
}
