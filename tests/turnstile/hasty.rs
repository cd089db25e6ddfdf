//! Without the fences around sleep.

#[path = "../../src/sys/turnstile.rs"]
pub mod turnstile;

pub mod asymmetric {
    pub use crate::fenced::asymmetric::{AtomicBool, Ordering, heavy, light};

    pub fn fence(_: Ordering) {}
}
