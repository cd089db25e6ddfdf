//! Devices that do anything, and models of what must come of it. As long as a device is honest, everything is known
//! beforehand: which frames come, in which order and of which length, and which buffers must not be handed out. From
//! its first lie on, what remains is what no lie may break.
//!
//! What is done is drawn from a [`Chance`]: a seed (`tests/lies/chance.rs`), or the bytes of a fuzzer (`fuzz/`).

mod receiver;
mod sender;

use vuser::buf::MbufRef;

use crate::rig::{Chance, HDR, ROOM, Rig, Shape, scribble};

pub use receiver::Receiver;
pub use sender::Sender;

/// Buffers of a pool.
pub const BUFFERS: u32 = 150;

/// A frame on its way: number, bytes.
type Frame = (u32, u32);

/// Any shape.
pub fn shape(chance: &mut Chance) -> Shape {
    let shape = Shape::of(chance.below(Shape::KINDS), 1).lanes(chance.below(8));
    let (split, packed) = ([1, 2, 4, 8, 16, 32, 64, 128], [1, 2, 3, 5, 7, 16, 33, 100]);
    Shape { size: if shape.packed() { packed } else { split }[chance.below(8)], ..shape }
}

/// Where a device may scribble: a part of the ring, all of it with the extras, or the frames.
pub fn areas(rig: &Rig) -> Vec<(*mut u8, usize)> {
    let mut areas = rig.hand.areas().to_vec();
    areas.push((rig.pool.memory().addr(), rig.pool.memory().len()));
    areas
}

/// Writes a byte, flips a bit, or writes over a few or many bytes.
pub fn damage(area: (*mut u8, usize), chance: &mut Chance) {
    let (at, value) = (chance.below(area.1), chance.below(256) as u8);
    match chance.below(4) {
        0 => scribble(area, at, |_| value),
        1 => scribble(area, at, |old| old ^ 1 << (value % 8)),
        2 => (at..area.1.min(at + 16)).for_each(|at| scribble(area, at, |old| old ^ value)),
        _ => (at..area.1.min(at + 64)).for_each(|at| scribble(area, at, |_| value)),
    }
}

/// What may be negotiated with the next device: the size stays.
pub fn next_shape(chance: &mut Chance, now: Shape) -> Shape {
    let packed = now.packed() && !now.size.is_power_of_two();
    loop {
        let next = Shape { size: now.size, ..shape(chance) };
        if next.packed() || !packed {
            return next;
        }
    }
}

/// A used element that says anything.
fn lie(rig: &mut Rig, chance: &mut Chance) {
    let size = usize::from(rig.hand.shape().size);
    let offered = rig.hand.offered();
    let id = match chance.below(5) {
        0 => chance.below(size) as u32,
        1 => chance.below(2 * size) as u32,
        2 => chance.next() as u32,
        3 => rig.hand.lent.get(chance.below(size)).map_or(0, |l| l.id.into()),
        _ => offered.0.into(),
    };
    let len = match chance.below(3) {
        0 => chance.below(2 * ROOM as usize) as u32,
        1 => chance.next() as u32,
        _ => HDR + 60,
    };
    let slots = 1 + chance.below(3.min(size)) as u16;
    match chance.below(8) {
        0..3 => rig.hand.push(id, len, slots),
        3 => rig.hand.element(rig.hand.next_used + chance.below(size) as u64, id, len),
        4 if rig.hand.shape().packed() => {
            let at = rig.hand.next_used + chance.below(size) as u64;
            rig.hand.packed_element(at, id as u16, len, chance.below(1 << 16) as u16);
        }
        4 => rig.hand.used_idx((rig.hand.next_used as u16).wrapping_add(chance.below(2 * size) as u16)),
        5 => {
            let area = areas(rig)[chance.below(5)];
            damage(area, chance);
        }
        // No lie.
        _ => rig.hand.push(offered.0.into(), HDR + 60, offered.1),
    }
    if chance.one_in(2) {
        rig.hand.publish();
    }
}

/// What an application does while a device lies: it may keep some frames.
fn application(rig: &mut Rig, kept: &mut Vec<MbufRef>, chance: &mut Chance) {
    match chance.below(8) {
        0 => _ = rig.set_calls(chance.one_in(2)),
        1 => rig.probe(chance.below(1 << 16) as u16),
        2 if rig.is_rx() => {
            let lent = rig.peek(1 + chance.below(64));
            let parts = lent.iter().map(|loan| loan.parts.len()).sum::<usize>();
            rig.release(chance.below(parts + 2));
        }
        2 => _ = rig.send_copies(chance.below(40), 14 + chance.below(1 << 10)),
        3 if rig.is_rx() => kept.extend(rig.receive(1 + chance.below(16))),
        _ => {
            if !rig.is_rx() {
                rig.send_new(chance.below(9), 1 + chance.below(4));
            }
            rig.turn();
        }
    }
    while kept.len() > 20 || (!kept.is_empty() && chance.one_in(3)) {
        rig.free(kept.swap_remove(chance.below(kept.len())));
    }
}

/// From the first lie on, for so many turns; the application has some frames.
pub fn lying(mut rig: Rig, mut kept: Vec<MbufRef>, turns: u64, chance: &mut Chance) {
    for _ in 0..turns {
        if chance.is_over() {
            break;
        }
        (0..chance.below(3)).for_each(|_| lie(&mut rig, chance));
        application(&mut rig, &mut kept, chance);
        if chance.one_in(64) {
            // The next one lies, too.
            rig.reconnect(next_shape(chance, rig.hand.shape()), chance.one_in(2));
        }
    }
    if rig.board.is_broken() {
        rig.hand.lent.clear();
        rig.stays_broken();
    }
    if chance.one_in(2) {
        return rig.end();
    }
    // The next device is honest, and finds a queue that is whole.
    kept.into_iter().for_each(|m| rig.free(m));
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
