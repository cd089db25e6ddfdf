//! In place of `src/sys`: what queues need of the system, without a system.

#[path = "../../../src/sys/caller.rs"]
pub mod caller;
#[path = "../../../src/sys/clock.rs"]
pub mod clock;
pub mod eventfd;
pub mod poll;
pub mod shm;
