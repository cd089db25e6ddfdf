//! vuser: virtio-user as a library. A process that loads it drives a virtio-net device whose other half, the
//! back-end, lives elsewhere: in a vhost-user switch or in another process.
//!
//! # The map
//!
//! Imports go down only:
//!
//! | floor | module | what it is |
//! |---|---|---|
//! | 6 | [`capi`] | the C face, `include/vuser.h`: the only symbols of the library |
//! | 5 | [`dev`] | a device, from connecting to closing |
//! | 4 | [`net`] | queues of frames: **the receive burst is [`net::rx`], the transmit burst [`net::tx`]** |
//! | 4 | [`backend`] | ways to reach a device |
//! | 4 | [`device`] | the built-in device, the other side: `path=loopback` |
//! | 3 | [`ring`] | virtqueues, the driver's side: split and packed, and the ledger of what is lent |
//! | 3 | [`buf`] | packet buffers |
//! | 2 | [`mem`] | memory that the device can touch, and the one door to it |
//! | 1 | [`sys`] | the operating system |
//! | 0 | [`spec`] | the standards as data |
//!
//! To read it, begin with [`net::rx`], follow its calls into [`ring`], and then see in [`dev`] how it all comes up.
//! `docs/architecture.md` has the pictures.
//!
//! # Rust users
//!
//! The supported face of this release is the C one. The modules are public for tests, benchmarks and the curious; handles
//! of packets ([`buf::MbufRef`]) are raw: whoever holds one answers for using it only while it is his.

pub mod backend;
pub mod buf;
pub mod capi;
pub mod dev;
pub mod device;
pub mod error;
pub mod mem;
pub mod net;
pub mod ring;
pub mod spec;
pub mod sys;
