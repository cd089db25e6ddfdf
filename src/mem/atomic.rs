//! What the one door is made of, and the fence beside it. `tests/models` compiles doors, lanes and rings over a file of
//! its own in place of this one, with the atomics of a model checker.

pub use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, fence};
