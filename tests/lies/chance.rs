//! Random devices against a model.
//!
//! `VUSER_LIES_STEPS` is the number of steps a test takes, `VUSER_LIES_SEED` the first seed.

use crate::model::{Receiver, Sender, lying, shape};
use crate::rig::{Chance, Shape, about};

/// Steps of one life of a queue.
const LIFE: u64 = 200;

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

#[test]
fn a_receive_queue_follows_any_device() {
    lives(|shape, chance| {
        let mut rx = Receiver::new(shape);
        (0..LIFE / 2 + chance.below(LIFE as usize) as u64).for_each(|_| rx.step(chance));
        rx.drain(chance);
        lying(rx.rig, rx.kept, LIFE / 4, chance);
    });
}

#[test]
fn a_transmit_queue_follows_any_device() {
    lives(|shape, chance| {
        let mut tx = Sender::new(shape);
        (0..LIFE / 2 + chance.below(LIFE as usize) as u64).for_each(|_| tx.step(chance));
        tx.drain(chance);
        lying(tx.rig, Vec::new(), LIFE / 4, chance);
    });
}
