//! A transmit queue of a device that is honest.

use std::collections::{HashMap, VecDeque};

use vuser::buf::MbufRef;
use vuser::spec::virtio::Features;

use super::{BUFFERS, Frame, next_shape};
use crate::rig::{Chance, HDR, Lent, Rig, Shape};

/// The honest device of a transmit queue.
pub struct Sender {
    pub rig: Rig,
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
    pub fn new(shape: Shape) -> Self {
        Self { rig: Rig::tx(shape, BUFFERS), sent: VecDeque::new(), lent: HashMap::new(), seq: 0 }
    }

    /// The device or the application does something, or another device comes.
    pub fn step(&mut self, chance: &mut Chance) {
        match chance.below(5) {
            _ if chance.one_in(40) => self.reconnect(chance),
            0 | 1 => {
                self.device(chance);
                assert_eq!(self.rig.resume_base(), Some(self.rig.hand.base()));
            }
            2 | 3 => self.application(chance),
            _ => {
                self.rig.cleanup();
            }
        }
        assert_eq!(self.rig.board.lie(), None, "an honest device was called a liar");
    }

    /// All that was sent arrives, and all that was used comes back.
    pub fn drain(&mut self, chance: &mut Chance) {
        self.device(chance);
        self.rig.hand.serve(self.rig.hand.lent.len());
        self.rig.cleanup();
        assert_eq!(self.sent.len() + self.rig.held(), 0);
        assert_eq!(self.rig.pool.available(), BUFFERS as usize);
    }

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
