//! How the lies about a ring are told: to any ring whose areas are at hand, without a socket.

use std::time::Duration;

use vuser::device::memory::Memory;
use vuser::spec::ring::{DESC_F_AVAIL, DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_USED};

use crate::data::{Ahead, Area, Buffers, Flags, Id, Len, What};
use crate::packed::{BOTH, Packed};
use crate::ring::{Hand, Lent};
use crate::split::Split;

/// A buffer that is to be used next, with the bytes that were written into it.
pub struct Done {
    pub lent: Lent,
    pub len: u32,
}

/// How long the driver can look at what is half a lie before it becomes true.
const WHILE: Duration = Duration::from_millis(20);
/// How long "late" is: longer than any poll of a driver's.
const LATE: Duration = Duration::from_millis(200);

/// Numbers that anybody can have again (xorshift).
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

fn honest(hand: &mut Hand, batch: &[Done]) {
    batch.iter().for_each(|done| hand.push(done.lent.id.into(), done.len, done.lent.slots));
}

/// What a lie about a ring needs.
pub struct Scene<'a> {
    pub hand: &'a mut Hand,
    pub memory: &'a dyn Memory,
    /// Buffers that the driver shall see used, and will, but for the lie.
    pub batch: &'a mut Vec<Done>,
    /// Ids that were used before, oldest first.
    pub recent: &'a [u16],
    pub chance: &'a mut Chance,
}

impl Scene<'_> {
    /// Tells the lie, and shows the rest of the batch. False if it cannot be told now, and nothing was shown.
    pub fn tell(&mut self, what: What) -> bool {
        match what {
            What::Id(id) => return self.id(id),
            What::Len(len) => self.len(len),
            What::Order => {
                if self.batch.len() < 2 {
                    return false;
                }
                self.batch.reverse();
            }
            What::Ahead(ahead) => return self.ahead(ahead),
            What::Flags(flags) => return self.flags(flags),
            What::Buffers(buffers) => {
                let number = match buffers {
                    Buffers::Zero => 0,
                    Buffers::OneMore => 2,
                    Buffers::RingAndOne => self.hand.place().size + 1,
                    Buffers::Max => u16::MAX,
                };
                self.header(0, 10, &number.to_le_bytes());
            }
            What::Header => {
                for n in 0..self.batch.len() {
                    let garbage = [self.chance.next(), self.chance.next()].map(u64::to_le_bytes).concat();
                    self.header(n, 0, &garbage[..10]);
                }
            }
            What::Checksum(start, offset) => {
                let words = [start.to_le_bytes(), offset.to_le_bytes()].concat();
                self.header(0, 0, &[1]);
                self.header(0, 6, &words);
            }
            What::Gso(kind, size) => {
                self.header(0, 1, &[kind]);
                self.header(0, 4, &size.to_le_bytes());
            }
            What::Late => std::thread::sleep(LATE),
            What::Random(area) => self.scribble(area, false),
            What::Flip(area) => self.scribble(area, true),
            What::EventWords => {
                for _ in 0..1000 {
                    self.hand.kick_words(self.chance.next() as u16, self.chance.next() as u16);
                }
            }
            // All others are about more than a ring.
            _ => return false,
        }
        self.show();
        true
    }

    fn show(&mut self) {
        honest(self.hand, self.batch);
        self.hand.publish();
    }

    /// Writes into the header of a frame that was received.
    fn header(&mut self, n: usize, at: u64, bytes: &[u8]) {
        if let Some(part) = self.batch[n].lent.parts.iter().find(|p| p.write) {
            self.memory.write(part.addr + at, bytes);
        }
    }

    fn len(&mut self, len: Len) {
        let done = &mut self.batch[0];
        let room = done.lent.room(true).max(done.lent.room(false));
        done.len = match len {
            Len::Exactly(n) => n,
            Len::Over(n) => room + n,
            Len::More(n) => (done.len + n).min(room),
        };
    }

    fn id(&mut self, id: Id) -> bool {
        let size = u32::from(self.hand.place().size);
        let (right, slots) = (u32::from(self.batch[0].lent.id), self.batch[0].lent.slots);
        let mine: Vec<u16> = self.batch.iter().map(|done| done.lent.id).collect();
        let lent: Vec<u16> = self.hand.lent().iter().map(|lent| lent.id).chain(mine).collect();
        let len = self.batch[0].len;
        let told = match id {
            Id::Size => size,
            Id::Far => 0x4000 + size,
            Id::Max => 0xffff,
            Id::High => right | 0x1_0000,
            Id::Free => match (0..size).rev().find(|id| !lent.contains(&(*id as u16))) {
                Some(free) => free,
                None => return false,
            },
            Id::TwiceLater => match self.recent.iter().find(|id| !lent.contains(id)) {
                Some(old) => (*old).into(),
                None => return false,
            },
            Id::Twice => {
                self.hand.push(right, len, slots);
                right
            }
            Id::Other => {
                let spare = if self.batch.len() > 1 { self.batch.pop().map(|done| done.lent) } else { None };
                let Some(other) = spare.or_else(|| self.hand.lent().pop_back()) else { return false };
                let mine = std::mem::replace(&mut self.batch[0].lent, other);
                self.hand.lent().push_back(mine);
                self.show();
                return true;
            }
        };
        self.hand.push(told, len, slots);
        let rest = &self.batch[1..];
        honest(self.hand, rest);
        self.hand.publish();
        true
    }

    fn ahead(&mut self, ahead: Ahead) -> bool {
        let Hand::Split(Split { lent, place, .. }) = &*self.hand else { return false };
        let by = match ahead {
            Ahead::One => 1,
            Ahead::InFlight => lent.len() as u16 + 1,
            Ahead::Ring => place.size,
            Ahead::Half => 0x8000,
        };
        honest(self.hand, self.batch);
        let Hand::Split(split) = &mut *self.hand else { return false };
        split.next_used = split.next_used.wrapping_add(by);
        split.publish();
        true
    }

    fn flags(&mut self, flags: Flags) -> bool {
        let Hand::Packed(packed) = &*self.hand else { return false };
        let Done { lent, len } = &self.batch[0];
        match flags {
            Flags::Wrap => {
                packed.element(0, lent.id, *len, packed.used_flags(0) ^ BOTH);
                std::thread::sleep(WHILE);
            }
            Flags::Skip => {
                let Some(next) = self.batch.get(1) else { return false };
                let behind = u64::from(lent.slots);
                packed.element(behind, next.lent.id, next.len, packed.used_flags(behind));
                std::thread::sleep(WHILE);
            }
            Flags::Foreign => return self.foreign(),
            Flags::All => {
                if self.batch.len() < 2 {
                    return false;
                }
                let all = |n| packed.element(n, lent.id, *len, packed.used_flags(n));
                // The first of them last: all are seen at once.
                (0..u64::from(packed.place.size)).rev().for_each(all);
                return true;
            }
            Flags::Random => {
                for n in 0..u64::from(packed.place.size) {
                    packed.element(n, lent.id, *len, self.chance.next() as u16);
                }
                return true;
            }
        }
        self.show();
        true
    }

    fn foreign(&mut self) -> bool {
        let Hand::Packed(packed) = &mut *self.hand else { return false };
        for done in &*self.batch {
            let foreign = !(DESC_F_AVAIL | DESC_F_USED) | DESC_F_NEXT | DESC_F_INDIRECT;
            packed.element(0, done.lent.id, done.len, packed.used_flags(0) | foreign);
            packed.next_used += u64::from(done.lent.slots);
        }
        true
    }

    fn scribble(&mut self, area: Area, flip: bool) {
        let [table, driver, device] = self.hand.areas();
        let packed = matches!(self.hand, Hand::Packed(Packed { .. }));
        let areas = match area {
            Area::Used if packed => vec![table, device],
            Area::Used => vec![device],
            Area::Driver => vec![driver],
            Area::Table => vec![table],
            Area::Rings | Area::All => vec![table, driver, device],
        };
        areas.into_iter().for_each(|area| scribble(area, self.chance, flip));
    }
}

/// Random bytes, or bits flipped, at some places of an area.
pub fn scribble((area, bytes): (*mut u8, usize), chance: &mut Chance, flip: bool) {
    for _ in 0..bytes.div_ceil(64).clamp(4, 4096) {
        let (at, value) = (chance.below(bytes), chance.next() as u8);
        // SAFETY: inside the area, which the caller has mapped; who else writes it uses whole values, too.
        unsafe {
            let place = area.add(at);
            place.write_volatile(if flip { place.read_volatile() ^ 1 << (value % 8) } else { value });
        }
    }
}

/// Bytes that a buffer has for the device, or from it, read or written from the beginning on.
pub fn read(memory: &dyn Memory, lent: &Lent) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for part in lent.parts.iter().filter(|p| !p.write) {
        let from = bytes.len();
        if part.len > 1 << 20 {
            return None;
        }
        bytes.resize(from + part.len as usize, 0);
        if !memory.read(part.addr, &mut bytes[from..]) {
            return None;
        }
    }
    Some(bytes)
}

/// Writes as much as fits; how much it was. None: a part lies outside the memory.
pub fn write(memory: &dyn Memory, lent: &Lent, mut bytes: &[u8]) -> Option<u32> {
    let mut written = 0;
    for part in lent.parts.iter().filter(|p| p.write) {
        let (now, rest) = bytes.split_at(bytes.len().min(part.len as usize));
        if !memory.write(part.addr, now) {
            return None;
        }
        written += now.len() as u32;
        bytes = rest;
    }
    Some(written)
}
