//! Promise: what the queues do with memory is allowed by Rust's rules for memory, in all lanes that are plain words, and
//! whatever the device writes.
//!
//! Miri checks that, and can't run what `src/sys` asks the kernel for. So the floors above it are compiled here over a floor of
//! the test's own ([`sys`]), and meet the devices of `tests/lies`. By hand, with `make miri`: elsewhere there is nothing here.
#![cfg(miri)]
#![allow(
    dead_code,
    unused_imports,
    missing_docs,
    reason = "the library's files are here as they are, and not all of them is used"
)]

extern crate self as vuser;

#[path = "../../src/buf/mod.rs"]
pub mod buf;
#[path = "../../src/error.rs"]
pub mod error;
#[path = "../../src/mem/mod.rs"]
pub mod mem;
#[path = "../../src/net/mod.rs"]
pub mod net;
#[path = "../../src/ring/mod.rs"]
pub mod ring;
#[path = "../../src/spec/mod.rs"]
pub mod spec;
pub mod sys;

#[path = "../lies/chance.rs"]
mod chance;
#[path = "../lies/headers.rs"]
mod headers;
#[path = "../lies/ids.rs"]
mod ids;
#[path = "../lies/lengths.rs"]
mod lengths;
#[path = "../lies/model/mod.rs"]
mod model;
#[path = "../lies/places.rs"]
mod places;
#[path = "../lies/resume.rs"]
mod resume;
#[path = "../lies/rig/mod.rs"]
mod rig;
