//! A queue of the library's, and a device that does what the fuzzer says: at first, for as long as the input has it, an
//! honest one, which the models of `tests/lies` follow frame by frame; then one that writes anything anywhere.
#![no_main]

#[path = "../../tests/lies/model/mod.rs"]
mod model;
#[path = "../../tests/lies/rig/mod.rs"]
mod rig;
#[path = "../tally.rs"]
mod tally;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

use model::{Receiver, Sender, lying, shape};
use rig::Chance;

/// Turns of a device that lies.
const TURNS: u64 = 4096;
/// Turns behind the end of each input, by chance: for long runs, of which the fuzzer's own work would be the most.
static MORE: LazyLock<u64> =
    LazyLock::new(|| std::env::var("VUSER_FUZZ_MORE").map_or(0, |n| n.parse().expect("VUSER_FUZZ_MORE is a number")));

fuzz_target!(init: tally::at_exit(rig::steps), |bytes: &[u8]| {
    let chance = &mut Chance::script(bytes, *MORE);
    let (shape, receive, honest) = (shape(chance), chance.one_in(2), chance.below(256));
    if receive {
        let mut rx = Receiver::new(shape);
        for _ in 0..honest {
            if chance.is_over() {
                break;
            }
            rx.step(chance);
        }
        rx.drain(chance);
        lying(rx.rig, rx.kept, TURNS, chance);
    } else {
        let mut tx = Sender::new(shape);
        for _ in 0..honest {
            if chance.is_over() {
                break;
            }
            tx.step(chance);
        }
        tx.drain(chance);
        lying(tx.rig, Vec::new(), TURNS, chance);
    }
});
