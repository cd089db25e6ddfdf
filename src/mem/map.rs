//! The table of memory that the device is told of.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::sys::shm::SharedMemory;

/// What a region is made of; holding it keeps the memory and its descriptor alive.
#[derive(Clone, Debug)]
enum Backing {
    Ours(Arc<SharedMemory>),
    Application(Arc<OwnedFd>),
}

/// A run of our address space that the device may access.
///
/// Device addresses are our own addresses: no translation is needed on either side of a burst.
#[derive(Clone, Debug)]
pub struct Region {
    addr: u64,
    len: u64,
    offset: u64,
    backing: Backing,
}

impl Region {
    /// All of a shared memory of ours.
    pub fn ours(memory: Arc<SharedMemory>) -> Self {
        Self { addr: memory.addr() as u64, len: memory.len() as u64, offset: 0, backing: Backing::Ours(memory) }
    }

    /// Memory of the application: `len` bytes of a file from `offset`, mapped at `addr`.
    pub fn application(fd: OwnedFd, offset: u64, len: u64, addr: u64) -> Result<Self> {
        if len == 0 || addr == 0 || addr.checked_add(len).is_none() || offset.checked_add(len).is_none() {
            return Err(Error::invalid(format!("memory of {len} bytes at {addr:#x}, offset {offset:#x}, cannot be")));
        }
        let file = nix::sys::stat::fstat(&fd).map_err(|e| Error::sys(e, "cannot look at the memory's file"))?;
        let size = u64::try_from(file.st_size).unwrap_or(0);
        if size < offset + len {
            let message = format!(
                "the memory cannot be shared: its file has {size} bytes, {} are needed (pass the descriptor of the \
                 memfd or hugetlbfs file that is mapped at {addr:#x}; anonymous memory has none)",
                offset + len
            );
            return Err(Error::new(Errno::EBADF, message));
        }
        Ok(Self { addr, len, offset, backing: Backing::Application(Arc::new(fd)) })
    }

    /// Our address of the first byte.
    pub fn addr(&self) -> u64 {
        self.addr
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.len
    }

    /// Where it begins in its file.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.addr < other.addr + other.len && other.addr < self.addr + self.len
    }
}

impl AsFd for Region {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.backing {
            Backing::Ours(memory) => memory.as_fd(),
            Backing::Application(fd) => fd.as_fd(),
        }
    }
}

/// All memory that a device is told of. Regions do not overlap.
#[derive(Clone, Debug, Default)]
pub struct MemoryMap {
    regions: Vec<Region>,
}

impl MemoryMap {
    /// Adds a region. One of the same bounds that is there already gives way: memory can be at a place only once.
    pub fn add(&mut self, region: Region) -> Result<()> {
        if let Some(r) = self.regions.iter_mut().find(|r| (r.addr, r.len) == (region.addr, region.len)) {
            *r = region;
            return Ok(());
        }
        if let Some(other) = self.regions.iter().find(|r| r.overlaps(&region)) {
            let message = format!(
                "memory at {:#x}, {} bytes, overlaps memory at {:#x}, {} bytes, that is registered already",
                region.addr, region.len, other.addr, other.len
            );
            return Err(Error::new(Errno::EEXIST, message));
        }
        self.regions.push(region);
        Ok(())
    }

    /// Takes the region that begins at `addr` away.
    pub fn remove(&mut self, addr: u64) -> Option<Region> {
        let at = self.regions.iter().position(|r| r.addr == addr)?;
        Some(self.regions.remove(at))
    }

    /// The regions, in the order they were added.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Whether the device can reach all of these bytes, in one region.
    pub fn contains(&self, addr: u64, len: u64) -> bool {
        self.regions.iter().any(|r| addr >= r.addr && len <= r.len && addr - r.addr <= r.len - len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(len: usize) -> Region {
        Region::ours(Arc::new(SharedMemory::new("test", len, false).unwrap()))
    }

    #[test]
    fn only_what_was_added_is_reachable() {
        let mut map = MemoryMap::default();
        let r = region(4096);
        map.add(r.clone()).unwrap();
        map.add(r.clone()).unwrap();
        assert_eq!(map.regions().len(), 1);
        assert!(map.contains(r.addr(), 4096) && map.contains(r.addr() + 4095, 1));
        assert!(!map.contains(r.addr(), 4097) && !map.contains(r.addr() - 1, 1) && !map.contains(u64::MAX, 2));
        assert!(map.remove(r.addr()).is_some() && !map.contains(r.addr(), 1));
    }

    #[test]
    fn memory_that_cannot_be_shared_is_refused_with_the_reason() {
        let r = region(4096);
        let fd = || r.as_fd().try_clone_to_owned().unwrap();
        assert!(Region::application(fd(), 0, 4096, 0x10_0000).is_ok());
        let error = Region::application(fd(), 4096, 4096, 0x10_0000).unwrap_err();
        assert!(error.errno() == Errno::EBADF && error.to_string().contains("cannot be shared"));
        assert!(Region::application(fd(), 0, 0, 0x10_0000).is_err());
        assert!(Region::application(fd(), 0, u64::MAX, 0x10_0000).is_err());
    }
}
