//! A back-end goes and comes: nothing is lost on the way that can be kept, and nobody waits for ever.

mod carry;
mod life;
#[path = "../vhost_user/peer.rs"]
#[allow(dead_code, reason = "these tests use a part")]
mod peer;
mod refuse;
mod rig;
mod server;
mod trouble;
