//! vuser: virtio-user as a library.

pub mod backend;
pub mod error;
pub mod mem;
pub mod spec;
pub mod sys;
