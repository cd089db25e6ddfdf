//! Floor 2: memory that the device can touch, and the one door to it.

pub(crate) mod atomic;
pub mod dirty;
pub mod doorbell;
pub mod kick;
pub mod lanes;
pub mod map;
pub mod reach;
pub mod shared;
