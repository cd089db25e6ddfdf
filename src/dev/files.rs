//! How many files a device needs.

use super::config::{Config, Way};
use crate::error::Result;
use crate::sys::limits::room_for;

/// Of the device itself: its socket, what it watches, what it watches with, memory.
const DEVICE: u64 = 16;

/// Fails early, and in words, where it would otherwise fail in the middle of a start, or at the other end.
pub(super) fn there_is_room(config: &Config) -> Result<()> {
    // A bell each way for each ring, and with some ways one for errors. The built-in device is in this process, too; a
    // pair of vhost-net's has a file there and a tap.
    let pair = match config.way() {
        Way::VhostVdpa => 4,
        Way::VhostUser => 6,
        Way::VhostKernel => 8,
        Way::Loopback => 12,
    };
    let pairs = config.queues;
    let many = if pairs == 1 { "" } else { "s" };
    room_for(DEVICE + pair * u64::from(pairs), format_args!("a device with {pairs} queue pair{many}"))
}
