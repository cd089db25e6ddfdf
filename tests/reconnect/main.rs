//! A back-end goes and comes: nothing is lost on the way that can be kept, and nobody waits for ever.

mod life;
mod rig;
#[path = "../support/mod.rs"]
mod support;
