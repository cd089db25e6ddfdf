//! Random bytes and flipped bits over all that is shared, between bursts and during them.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use crate::model::{areas, damage};
use crate::rig::{Chance, Rig, Shape, each};

/// What an application does, and a device that is honest where it can be.
fn life(rig: &mut Rig, chance: &mut Chance) {
    if rig.is_rx() {
        rig.turn();
    } else {
        rig.send_new(chance.below(8), 1 + chance.below(4));
        rig.turn();
    }
    rig.set_calls(chance.one_in(3));
}

fn rig(shape: Shape, receive: bool) -> Rig {
    if receive { Rig::rx(shape, 70) } else { Rig::tx(shape, 70) }
}

#[test]
fn scribbling_between_bursts_loses_no_buffer() {
    each(32, |shape| {
        for seed in 0..12 {
            for receive in [true, false] {
                for area in 0..5 {
                    let (mut rig, mut chance) = (rig(shape, receive), Chance::new(seed));
                    let mut position = 0;
                    for _ in 0..20 {
                        // The device goes on as if it saw nothing, so that something is used at all.
                        for _ in 0..chance.below(6) {
                            rig.hand.element(position, position as u32 % 32, 100);
                            position += 1;
                        }
                        rig.hand.used_idx(position as u16);
                        let area = areas(&rig)[area];
                        (0..chance.below(4)).for_each(|_| damage(area, &mut chance));
                        life(&mut rig, &mut chance);
                    }
                    rig.end();
                }
            }
        }
    });
}

/// An address that another thread may scribble at.
struct Places(Vec<(*mut u8, usize)>);

// SAFETY: the places are written by atomics only.
unsafe impl Sync for Places {}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

impl Places {
    /// Scribbles until it is told to stop. Mostly where the driver looks: at the used positions.
    fn haunt(&self, stop: &AtomicBool, seed: u64) {
        let mut chance = Chance::new(seed);
        while !stop.load(Relaxed) {
            let area = self.0[chance.below(self.0.len())];
            damage(area, &mut chance);
        }
    }
}

#[test]
fn scribbling_during_bursts_loses_no_buffer() {
    each(32, |shape| {
        for (seed, receive) in [(1, true), (2, false), (3, true), (4, false)] {
            for round in 0..4 {
                let (mut rig, mut chance) = (rig(shape, receive), Chance::new(seed));
                let (places, stop) = (Places(areas(&rig)), AtomicBool::new(false));
                std::thread::scope(|s| {
                    s.spawn(|| places.haunt(&stop, seed + 100 * round));
                    // Also when this thread panics: the scope waits for the other.
                    let _end = End(&stop);
                    for position in 0..200 {
                        rig.hand.element(position, position as u32 % 32, 100);
                        rig.hand.used_idx(position as u16 + 1);
                        life(&mut rig, &mut chance);
                        if rig.board.is_broken() {
                            break;
                        }
                    }
                });
                rig.end();
            }
        }
    });
}
