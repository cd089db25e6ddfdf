//! Floor 0: the standards as data. Constants and wire structs, no logic, no I/O.
//!
//! Section numbers refer to VIRTIO 1.3 and to the vhost-user document of QEMU.

pub mod net;
pub mod pcapng;
pub mod ring;
pub mod vhost;
pub mod vhost_user;
pub mod virtio;
