//! The driver's memory as the device sees it: translation of addresses, and all copies.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::dirty::Log;
use crate::error::{Error, Result};
use crate::spec::vhost_user::{MAX_REGIONS, MemRegion};
use crate::sys::shm::Mapping;

/// Where the driver's device addresses lie in this process.
///
/// # Safety
/// An address that [`local`](Self::local) returns stays mapped, readable and writable for the asked length as long
/// as `self` lives, and no Rust reference points into it.
pub unsafe trait Memory {
    /// The local address of `len` bytes at a device address; `None` when they are not all in one known region.
    fn local(&self, addr: u64, len: u64) -> Option<*mut u8>;

    /// Bytes were written there.
    fn written(&self, _addr: u64, _len: u64) {}

    /// Copies bytes out of the driver's memory; false when they are not all there.
    fn read(&self, addr: u64, bytes: &mut [u8]) -> bool {
        let Some(from) = self.local(addr, bytes.len() as u64) else { return bytes.is_empty() };
        // SAFETY: `local` vouches for the source, and the destination is a slice of that length.
        unsafe { copy(from, bytes.as_mut_ptr(), bytes.len()) };
        true
    }

    /// Copies bytes into the driver's memory; false when there is no such place.
    fn write(&self, addr: u64, bytes: &[u8]) -> bool {
        let Some(to) = self.local(addr, bytes.len() as u64) else { return bytes.is_empty() };
        // SAFETY: `local` vouches for the destination, and the source is a slice of that length.
        unsafe { copy(bytes.as_ptr(), to, bytes.len()) };
        self.written(addr, bytes.len() as u64);
        true
    }

    /// Copies from one place of the driver's memory to another; false when either is not there.
    fn carry(&self, from: u64, to: u64, len: u32) -> bool {
        let (Some(source), Some(target)) = (self.local(from, len.into()), self.local(to, len.into())) else {
            return len == 0;
        };
        // SAFETY: `local` vouches for both places.
        unsafe { copy(source, target, len as usize) };
        self.written(to, len.into());
        true
    }
}

/// The one copy of the device. The other process may write either side meanwhile: then the bytes copied are any
/// mixture of old and new, which is as good as any other frame; nothing is decided by reading them twice.
///
/// # Safety
/// `from` can be read and `to` written for `len` bytes. They may overlap: a driver can offer one buffer twice.
#[inline]
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller vouches for both ranges; `ptr::copy` allows them to overlap.
    unsafe { std::ptr::copy(from, to, len) };
}

// SAFETY: what the pointee says of an address holds as long as the pointer keeps it alive.
unsafe impl<M: Memory + ?Sized> Memory for std::sync::Arc<M> {
    fn local(&self, addr: u64, len: u64) -> Option<*mut u8> {
        (**self).local(addr, len)
    }

    fn written(&self, addr: u64, len: u64) {
        (**self).written(addr, len);
    }
}

/// Memory of this very process, at its own addresses: for a device that is stepped by hand.
#[derive(Debug, Default)]
pub struct Identity {
    ranges: Vec<(u64, u64)>,
}

impl Identity {
    /// Adds `len` bytes from `addr` on.
    ///
    /// # Safety
    /// They stay mapped, readable and writable as long as `self` lives, and no Rust reference points into them
    /// while a device is stepped.
    pub unsafe fn add(&mut self, addr: *mut u8, len: usize) {
        self.ranges.push((addr as u64, len as u64));
    }
}

// SAFETY: only ranges that `add` was promised are given out.
unsafe impl Memory for Identity {
    fn local(&self, addr: u64, len: u64) -> Option<*mut u8> {
        let inside = |&(start, size): &(u64, u64)| within(addr, len, start, size).is_some();
        self.ranges.iter().any(inside).then_some(addr as *mut u8)
    }
}

/// Offset of `addr` in a range, if `len` bytes from there lie inside.
fn within(addr: u64, len: u64, start: u64, size: u64) -> Option<u64> {
    let offset = addr.checked_sub(start)?;
    (offset <= size && len <= size - offset).then_some(offset)
}

#[derive(Debug)]
struct Region {
    guest: u64,
    user: u64,
    len: u64,
    /// Where the region begins in its mapping; the mapping reaches to its end.
    offset: usize,
    map: Mapping,
}

impl Region {
    fn at(&self, offset: u64) -> *mut u8 {
        self.map.addr().wrapping_add(self.offset + offset as usize)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let crossed = |a: u64, b: u64| a < b + other.len && b < a + self.len;
        crossed(self.guest, other.guest) || crossed(self.user, other.user)
    }
}

/// Regions that are taken where single ones come and go.
pub const SLOTS: usize = 32;

/// All memory that the front-end shares, mapped. A change makes another table, so that rings can stay where they are.
///
/// The files must keep their size: access to a part that was cut off later is SIGBUS. Front-ends seal them.
#[derive(Debug, Default)]
pub struct Table {
    regions: Vec<Arc<Region>>,
    /// Where it is noted what is written, while that is wanted.
    log: Option<Arc<Log>>,
}

impl Table {
    /// Maps the regions, each from its own file descriptor.
    pub fn new(regions: &[MemRegion], fds: Vec<OwnedFd>) -> Result<Self> {
        if regions.is_empty() || regions.len() > MAX_REGIONS || regions.len() != fds.len() {
            let message = format!("memory table has {} regions and {} descriptors", regions.len(), fds.len());
            return Err(Error::protocol(message));
        }
        regions.iter().zip(fds).try_fold(Self::default(), |table, (region, fd)| table.with(region, &fd))
    }

    /// This table and one region more (ADD_MEM_REG).
    pub fn with(&self, region: &MemRegion, fd: &OwnedFd) -> Result<Self> {
        let region = map(region, fd)?;
        if self.regions.len() == SLOTS {
            return Err(Error::protocol(format!("there are {SLOTS} memory regions already")));
        }
        if self.regions.iter().any(|r| r.overlaps(&region)) {
            return Err(Error::protocol(format!("memory regions overlap at {:#x}", region.guest)));
        }
        let regions = self.regions.iter().cloned().chain([Arc::new(region)]).collect();
        Ok(Self { regions, log: self.log.clone() })
    }

    /// This table and one region less (REM_MEM_REG), which is known by its addresses and its size.
    pub fn without(&self, region: &MemRegion) -> Result<Self> {
        let is_it = |r: &Region| (r.guest, r.user, r.len) == (region.guest_addr, region.user_addr, region.size);
        let regions: Vec<_> = self.regions.iter().filter(|r| !is_it(r)).cloned().collect();
        if regions.len() == self.regions.len() {
            return Err(Error::protocol(format!("there is no memory region at {:#x} to take away", region.guest_addr)));
        }
        Ok(Self { regions, log: self.log.clone() })
    }

    /// The same memory, of which writes are noted, or not any more.
    #[must_use]
    pub fn logged(&self, log: Option<Arc<Log>>) -> Self {
        Self { regions: self.regions.clone(), log }
    }

    /// Notes that bytes were written.
    pub(super) fn note(&self, addr: u64, len: u64) {
        if let Some(log) = &self.log {
            log.note(addr, len);
        }
    }

    /// The local address of `len` bytes at an address of the front-end's process (as in SET_VRING_ADDR).
    pub fn local_of_user(&self, addr: u64, len: u64) -> Option<*mut u8> {
        self.regions.iter().find_map(|r| within(addr, len, r.user, r.len).map(|offset| r.at(offset)))
    }
}

// SAFETY: the mappings live in the table, `within` keeps each range inside one of them, and only raw copies and
// doors are made from them.
unsafe impl Memory for Table {
    #[inline]
    fn local(&self, addr: u64, len: u64) -> Option<*mut u8> {
        self.regions.iter().find_map(|r| within(addr, len, r.guest, r.len).map(|offset| r.at(offset)))
    }

    fn written(&self, addr: u64, len: u64) {
        self.note(addr, len);
    }
}

/// Maps one region. The whole file up to the region's end is mapped: an offset need not suit the page size.
fn map(region: &MemRegion, fd: &OwnedFd) -> Result<Region> {
    let MemRegion { guest_addr, size, user_addr, mmap_offset } = *region;
    let bad = |what: &str| Error::protocol(format!("memory region of {size} bytes at {guest_addr:#x}: {what}"));
    let end = mmap_offset.checked_add(size).ok_or_else(|| bad("offset overflows"))?;
    if size == 0 || guest_addr.checked_add(size).is_none() || user_addr.checked_add(size).is_none() {
        return Err(bad("impossible bounds"));
    }
    let file = nix::sys::stat::fstat(fd).map_err(|e| Error::sys(e, "cannot look at a memory region's file"))?;
    // Access beyond the end of the file would be SIGBUS.
    if u64::try_from(file.st_size).unwrap_or(0) < end {
        return Err(bad("its file is shorter"));
    }
    let page = u64::try_from(file.st_blksize).ok().filter(|p| p.is_power_of_two()).unwrap_or(4096);
    let len =
        end.checked_next_multiple_of(page).and_then(|n| usize::try_from(n).ok()).ok_or_else(|| bad("too large"))?;
    let map = Mapping::new(fd.as_fd(), 0, len)?;
    Ok(Region { guest: guest_addr, user: user_addr, len: size, offset: mmap_offset as usize, map })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::shm::SharedMemory;

    fn fd(memory: &SharedMemory) -> OwnedFd {
        memory.as_fd().try_clone_to_owned().unwrap()
    }

    fn region(guest_addr: u64, user_addr: u64, size: u64, mmap_offset: u64) -> MemRegion {
        MemRegion { guest_addr, size, user_addr, mmap_offset }
    }

    #[test]
    fn guest_and_user_addresses_are_translated_apart() {
        let memory = SharedMemory::new("test", 3 * 4096, false).unwrap();
        let regions = [region(0x1000, 0x70_0000, 4096, 0), region(0, 0x50_0000, 4096, 4096 + 8)];
        let table = Table::new(&regions, vec![fd(&memory), fd(&memory)]).unwrap();
        assert!(table.write(0x1000, b"hello") && table.write(2, b"you"));
        let mut bytes = [0; 3];
        // The second region begins in the middle of a page of its file.
        // SAFETY: the offset lies inside the memory, and nobody writes it now.
        unsafe { std::ptr::copy_nonoverlapping(memory.addr().add(4096 + 8 + 2), bytes.as_mut_ptr(), 3) };
        assert_eq!(&bytes, b"you");
        assert!(table.carry(2, 0x1000, 3) && table.read(0x1000, &mut bytes) && &bytes == b"you");
        assert_eq!(table.local_of_user(0x70_0001, 1), table.local(0x1001, 1));
        assert!(table.local_of_user(0x1000, 1).is_none() && table.local(0x70_0000, 1).is_none());
    }

    #[test]
    fn nothing_outside_the_table_is_reached() {
        let memory = SharedMemory::new("test", 4096, false).unwrap();
        let table = Table::new(&[region(0x1000, 0x1000, 4096, 0)], vec![fd(&memory)]).unwrap();
        assert!(table.local(0x1000, 4096).is_some() && table.local(0x1fff, 1).is_some());
        for (addr, len) in [(0xfff, 2), (0x1001, 4096), (0x2000, 1), (0, u64::MAX), (u64::MAX, 2)] {
            assert!(table.local(addr, len).is_none(), "{addr:#x} {len}");
        }
        assert!(!table.carry(0x1000, 0x1fff, 2) && !table.write(0x1fff, b"xx"));
    }

    #[test]
    fn impossible_tables_are_refused() {
        let memory = SharedMemory::new("test", 8192, false).unwrap();
        let refused =
            |regions: &[MemRegion], n: usize| Table::new(regions, (0..n).map(|_| fd(&memory)).collect()).is_err();
        assert!(refused(&[], 0) && refused(&[region(0, 0, 4096, 0)], 0) && refused(&[region(0, 0, 4096, 0)], 2));
        assert!(refused(&[region(0, 0, 8192, 1)], 1) && refused(&[region(0, 0, 0, 0)], 1));
        assert!(refused(&[region(u64::MAX, 0, 2, 0)], 1) && refused(&[region(0, 0, 4096, u64::MAX)], 1));
        assert!(refused(&[region(0, 0, 4096, 0), region(4095, 1 << 20, 4096, 4096)], 2));
    }

    #[test]
    fn regions_come_and_go() {
        let memory = SharedMemory::new("test", 8192, false).unwrap();
        let (one, two) = (region(0x1000, 0x1000, 4096, 0), region(0x9000, 0x9000, 4096, 4096));
        let table = Table::new(&[one], vec![fd(&memory)]).unwrap().with(&two, &fd(&memory)).unwrap();
        assert!(table.local(0x1000, 4096).is_some() && table.local(0x9000, 4096).is_some());
        assert!(table.with(&region(0x1800, 0x1_0000, 4096, 0), &fd(&memory)).is_err());
        // The offset does not matter, all else does.
        let less = table.without(&region(0x1000, 0x1000, 4096, 4096)).unwrap();
        assert!(less.local(0x1000, 1).is_none() && less.local(0x9000, 1) == table.local(0x9000, 1));
        assert!(less.without(&one).is_err() && table.without(&region(0x1000, 0x1000, 8192, 0)).is_err());
        let mut full = Table::default();
        for n in 0..SLOTS as u64 {
            full = full.with(&region(n << 12, n << 12, 4096, 0), &fd(&memory)).unwrap();
        }
        assert!(full.with(&region(1 << 30, 1 << 30, 4096, 0), &fd(&memory)).is_err());
    }
}
