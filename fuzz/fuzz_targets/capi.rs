//! The C face as a program calls it: whatever the header allows, in any order, and what it says is refused, on devices
//! whose back-end is built in, another of the program's, one that never comes, or one that answers what the input says.
//! Each call answers what the header says in that state; frames that were sent come back byte by byte, counters add up,
//! and when all has been given up no buffer and no descriptor is missing.
#![no_main]

#[path = "../answers.rs"]
mod answers;
#[path = "../calls.rs"]
mod calls;
#[path = "../capi/device.rs"]
mod device;
#[path = "../capi/frames.rs"]
mod frames;
#[path = "../capi/ledger.rs"]
mod ledger;
#[path = "../capi/memory.rs"]
mod memory;
#[path = "../capi/more.rs"]
mod more;
#[path = "../capi/packets.rs"]
mod packets;
#[path = "../capi/sized.rs"]
mod sized;
#[path = "../capi/source.rs"]
mod source;
#[path = "../tally.rs"]
mod tally;
#[path = "../capi/world.rs"]
mod world;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

use calls::{Bytes, descriptors};
use world::World;

/// What is left on disk goes.
fn end() -> u64 {
    let _ = std::fs::remove_dir_all(&*device::FOLDER);
    tally::counted()
}

fuzz_target!(init: { tally::at_exit(end); LazyLock::force(&memory::MEMORY); }, |bytes: &[u8]| {
    let before = descriptors();
    let mut world = World::default();
    world.live(&mut Bytes(bytes));
    world.end();
    assert_eq!(before, descriptors(), "descriptors are left");
});
