//! Promise: what is handed over through a ring is whole, and nobody sleeps while there is something to do, on every CPU
//! that the memory model of C++ and Rust allows, not only on this one.
//!
//! `src/ring`, and the doors and lanes of `src/mem` (the scalar ones), are compiled here over the atomics of loom, which runs
//! all interleavings and lets loads see every value that they may. The other side is a device of the test's own
//! ([`device`]). Each model is run with the driver as it is, and with twins of it that have lost a release, an acquire or
//! the fences ([`mem::atomic::Twin`]), at which the model must find what goes wrong: otherwise it could not find anything.
//!
//! The pairs are named in the comments of `src/ring`: `[avail]` and `[used]` in [`handing`], `[kick]` and `[call]` in
//! [`waking`].

#![allow(dead_code, unused_imports, reason = "the library's files are here as they are, and not all of them is used")]

mod device;
mod handing;
mod mem;
#[path = "../../src/ring/mod.rs"]
mod ring;
mod waking;

pub use vuser::spec;

use device::Shape;
use mem::atomic::{Twin, become_twin, forget};
use mem::lanes::Scalar;
use ring::packed::PackedRing;
use ring::split::SplitRing;

/// Runs a model with this driver over all interleavings of two threads.
fn explore(twin: Twin, model: impl Fn() + Send + Sync + 'static) {
    loom::model(move || {
        become_twin(twin);
        forget();
        model();
        forget();
    });
}

/// The driver's ring in the memory of a shape, for one body for both layouts.
macro_rules! with_ring {
    ($shape:expr, |$ring:ident| $body:expr) => {{
        let crate::Shape { packed, size, event_idx } = $shape;
        $shape.lay_out();
        let base = $shape.base();
        if packed {
            // SAFETY: all places are there, and nobody follows the addresses.
            let mut $ring = unsafe { crate::PackedRing::new(crate::Scalar, base, size, false, event_idx) };
            $body
        } else {
            // SAFETY: as above.
            let mut $ring = unsafe { crate::SplitRing::new(crate::Scalar, base, size, false, event_idx) };
            $body
        }
    }};
}
use with_ring;
