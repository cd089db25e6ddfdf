//! Floor 4: the queues of a network device. [`rx`] has the receive burst, [`tx`] the transmit burst; each is there
//! once, whatever the ring's layout. [`path`] makes a queue for what was negotiated.

mod backlog;
mod checksum;
pub mod copy;
pub mod gate;
pub mod header;
mod kept;
pub mod lend;
pub mod path;
pub mod relay;
pub mod rx;
pub mod salvage;
pub mod send;
pub mod stats;
mod steps;
pub mod tap;
pub mod toeplitz;
pub mod tx;
pub mod vlan;

use crate::spec::net::{HDR_LEN, HDR_LEN_HASH, HDR_LEN_LEGACY};
use crate::spec::virtio::Features;

/// Shortest frame: an Ethernet header.
pub const SHORTEST_FRAME: u32 = 14;

/// How frames lie in buffers, by what was negotiated (VIRTIO 5.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// Bytes of the header in front of each frame.
    pub hdr_len: u16,
    /// A received frame may span buffers.
    pub mergeable: bool,
    /// The header must have a descriptor of its own (legacy, without ANY_LAYOUT).
    pub own_descriptor: bool,
}

impl Framing {
    /// What these features mean.
    pub fn new(features: Features) -> Self {
        let modern = features.contains(Features::VERSION_1);
        let mergeable = features.contains(Features::MRG_RXBUF);
        let hdr_len = if features.contains(Features::HASH_REPORT) {
            HDR_LEN_HASH
        } else if modern || mergeable {
            HDR_LEN
        } else {
            HDR_LEN_LEGACY
        };
        let own_descriptor = !modern && !features.contains(Features::ANY_LAYOUT);
        Self { hdr_len: hdr_len as u16, mergeable, own_descriptor }
    }
}
