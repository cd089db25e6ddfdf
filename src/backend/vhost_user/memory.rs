//! Memory in the words of vhost-user: the table as a whole, and single regions of it.
//!
//! Guest addresses are our own addresses less a shift, which is zero where nobody asked for compact ones: then the two
//! that a region has are one.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use zerocopy::IntoBytes;

use super::wire::{Message, Wire};
use crate::error::Result;
use crate::mem::map::{MemoryMap, Region};
use crate::spec::vhost_user::{MAX_REGIONS, MemRegion, MemRegionMessage, MemTable, Request};

fn described(region: &Region, shift: u64) -> MemRegion {
    let (addr, size, mmap_offset) = (region.addr(), region.size(), region.offset());
    MemRegion { guest_addr: addr.wrapping_sub(shift), size, user_addr: addr, mmap_offset }
}

fn in_words(region: &Region) -> String {
    format!("{:#x} bytes at {:#x}, offset {:#x}", region.size(), region.addr(), region.offset())
}

/// Tells all regions there are, [`MAX_REGIONS`] at most.
pub(super) fn set_table(wire: &mut Wire, regions: &[Region], shift: u64) -> Result<()> {
    let mut table = MemTable { count: regions.len().min(MAX_REGIONS) as u32, ..MemTable::default() };
    let mut words = Vec::new();
    for (to, from) in table.regions.iter_mut().zip(regions) {
        *to = described(from, shift);
        words.push(in_words(from));
    }
    let fds: Vec<_> = regions.iter().map(|r| r.as_fd().as_raw_fd()).collect();
    let used = std::mem::offset_of!(MemTable, regions) + words.len() * size_of::<MemRegion>();
    let payload = table.as_bytes().get(..used).unwrap_or_default();
    wire.tell(&Message::new(Request::SET_MEM_TABLE).payload(payload, words.join("; ")).fds(&fds))
}

/// Tells one region more.
pub(super) fn add(wire: &mut Wire, region: &Region, shift: u64) -> Result<()> {
    let message = MemRegionMessage { padding: 0, region: described(region, shift) };
    let fds = [region.as_fd().as_raw_fd()];
    wire.tell(&Message::new(Request::ADD_MEM_REG).payload(message.as_bytes(), in_words(region)).fds(&fds))
}

/// Takes one region back.
fn remove(wire: &mut Wire, region: &Region, shift: u64) -> Result<()> {
    let message = MemRegionMessage { padding: 0, region: described(region, shift) };
    wire.tell(&Message::new(Request::REM_MEM_REG).payload(message.as_bytes(), in_words(region)))
}

/// Tells what has changed, and takes it back if not all of it can be.
pub(super) fn change(wire: &mut Wire, from: &MemoryMap, to: &MemoryMap) -> Result<()> {
    let shift = to.shift();
    // What goes makes room for what comes.
    let steps: Vec<_> = from.without(to).map(|r| (r, false)).chain(to.without(from).map(|r| (r, true))).collect();
    let step = |wire: &mut Wire, region: &Region, comes: bool| match comes {
        true => add(wire, region, shift),
        false => remove(wire, region, shift),
    };
    for (done, &(region, comes)) in steps.iter().enumerate() {
        let Err(e) = step(wire, region, comes) else { continue };
        for &(region, came) in steps.iter().take(done).rev() {
            match step(wire, region, !came) {
                // The connection was given up: the first error says why.
                Err(undo) if undo.errno() == Errno::ENOTCONN => return Err(e),
                result => result?,
            }
        }
        return Err(e);
    }
    Ok(())
}
