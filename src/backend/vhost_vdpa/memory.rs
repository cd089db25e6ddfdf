//! Memory in the words of vhost-vdpa: a table of addresses, which is changed by batches.
//!
//! Device addresses are our own addresses, as everywhere.

use nix::errno::Errno;

use super::calls::Calls;
use crate::error::{Error, Result};
use crate::mem::map::{MemoryMap, Region};
use crate::sys::vdpa::{AddressRange, Change};
use crate::sys::vhost::Vhost;

/// Regions that the kernel takes: the default of vhost_vdpa's parameter max_iotlb_entries.
pub(super) const MAX_REGIONS: usize = 2048;

/// A region as the table has it: address and bytes.
type Entry = (u64, u64);

/// What the device was told of.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Kept, because the kernel keeps the pages of memory that has gone, too, and so that it can be told again.
    map: MemoryMap,
}

impl Table {
    /// Tells the device of all memory of a map, and of no other any more. On an error the former holds.
    pub(super) fn replace(&mut self, calls: &Calls, batch: bool, range: AddressRange, map: &MemoryMap) -> Result<()> {
        for region in map.regions() {
            check(region, range, calls.name())?;
        }
        let goes = self.map.without(map).map(entry).collect();
        let comes = map.without(&self.map).map(entry).collect();
        change(calls, batch, goes, comes)?;
        self.map = map.clone();
        Ok(())
    }

    /// The device has forgotten all that it was told, as a reset without IOTLB_PERSIST makes it do; the kernel's own table
    /// has not.
    pub(super) fn forget(&mut self, calls: &Calls, batch: bool) -> Result<()> {
        let gone = std::mem::take(&mut self.map);
        change(calls, batch, gone.regions().iter().map(entry).collect(), Vec::new())
    }
}

fn entry(region: &Region) -> Entry {
    (region.addr(), region.size())
}

/// Whether the device can be given these addresses.
fn check(region: &Region, range: AddressRange, name: &str) -> Result<()> {
    let (first, last) = (region.addr(), region.addr() + (region.size() - 1));
    if range.first <= first && last <= range.last {
        return Ok(());
    }
    let sentence = format!(
        "{name}: memory at {first:#x} to {last:#x} is out of the device's reach, which is {:#x} to {:#x}: map it at other \
         addresses (memory of the application's), or use a device whose IOMMU has no such limit",
        range.first, range.last
    );
    Err(Error::new(Errno::ERANGE, sentence))
}

/// Changes the table, and takes the change back if not all of it can be made.
fn change(calls: &Calls, batch: bool, goes: Vec<Entry>, comes: Vec<Entry>) -> Result<()> {
    if goes.is_empty() && comes.is_empty() {
        return Ok(());
    }
    let what = format!("VHOST_IOTLB_MSG_V2 ({} regions go, {} come)", goes.len(), comes.len());
    let done = calls.call(&what, move |device| {
        let mark = |change| if batch { device.change_addresses(change, 0, 0, 0) } else { Ok(()) };
        mark(Change::BatchBegin)?;
        let result = apply(device, &goes, &comes);
        // The device learns of the table here, and so of what it was before when it could not be changed.
        mark(Change::BatchEnd).and(result)
    });
    done.map_err(|e| match e.errno() {
        // The kernel says EFAULT to whatever goes wrong with such a message.
        Errno::ENOMEM | Errno::EFAULT => {
            e.context("the memory can't be pinned or mapped: raise the limit on locked memory (ulimit -l)")
        }
        Errno::EEXIST => e.context("the kernel has such memory in its table already"),
        _ => e,
    })
}

fn apply(device: &Vhost, goes: &[Entry], comes: &[Entry]) -> nix::Result<()> {
    let remove = |&(addr, len): &Entry| device.change_addresses(Change::Invalidate, addr, addr, len);
    let add = |&(addr, len): &Entry| device.change_addresses(Change::Update, addr, addr, len);
    goes.iter().try_for_each(remove)?;
    for (done, entry) in comes.iter().enumerate() {
        let Err(e) = add(entry) else { continue };
        comes.iter().take(done).try_for_each(remove)?;
        goes.iter().try_for_each(add)?;
        return Err(e);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sys::shm::SharedMemory;

    #[test]
    fn memory_out_of_the_devices_reach_is_refused_with_both_bounds() {
        let region = Region::ours(Arc::new(SharedMemory::new("test", 8192, false).unwrap()));
        let (first, last) = (region.addr(), region.addr() + 8191);
        let within = |first, last| check(&region, AddressRange { first, last }, "a device");
        within(first, last).unwrap();
        within(0, u64::MAX).unwrap();
        for (first, last) in [(first + 1, u64::MAX), (0, last - 1), (0, 4095)] {
            let error = within(first, last).unwrap_err();
            assert!(
                error.errno() == Errno::ERANGE && error.to_string().contains(&format!("{first:#x} to {last:#x}")),
                "{error}"
            );
        }
    }
}
