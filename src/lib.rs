//! vuser: virtio-user as a library.

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
