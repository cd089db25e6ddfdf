//! Memory that can be given to another process: a sealed memfd, mapped.

use std::ffi::c_void;
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::statfs::{HUGETLBFS_MAGIC, fstatfs};

use crate::error::{Error, Result};

/// Size of an ordinary huge page.
pub const HUGE_PAGE: usize = 2 << 20;
const PAGE: usize = 4096;

/// A mapping of a file, unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    addr: NonNull<c_void>,
    len: usize,
}

// SAFETY: a mapping is a range of addresses; whoever reads or writes through them answers for that.
unsafe impl Send for Mapping {}
// SAFETY: as above; no method gives access to the contents.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of a file from `offset`, shared, readable and writable.
    pub fn new(fd: BorrowedFd<'_>, offset: u64, len: usize) -> Result<Self> {
        Self::with(fd, offset, len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)
    }

    /// The same, but only to be written: the kernel gives doorbells of devices no other way.
    pub fn write_only(fd: BorrowedFd<'_>, offset: u64, len: usize) -> Result<Self> {
        Self::with(fd, offset, len, ProtFlags::PROT_WRITE)
    }

    fn with(fd: BorrowedFd<'_>, offset: u64, len: usize, access: ProtFlags) -> Result<Self> {
        let size = NonZeroUsize::new(len).ok_or_else(|| Error::invalid("cannot map zero bytes"))?;
        let offset = i64::try_from(offset).map_err(|_| Error::invalid("offset of a mapping is too large"))?;
        // SAFETY: a new mapping at an address that the kernel chooses touches nothing that exists.
        let addr = unsafe { mmap(None, size, access, MapFlags::MAP_SHARED, fd, offset) }
            .map_err(|e| Error::sys(e, format!("cannot map {len} bytes of shared memory")))?;
        Ok(Self { addr, len })
    }

    /// Address of the first byte.
    pub fn addr(&self) -> *mut u8 {
        self.addr.as_ptr().cast()
    }

    /// Bytes mapped.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: there is no empty mapping.
    pub fn is_empty(&self) -> bool {
        false
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: we made this mapping and nobody unmaps it but us; users of its addresses hold the owner alive.
        let _ = unsafe { munmap(self.addr, self.len) };
    }
}

/// Whether access to the first `len` bytes of somebody else's file can't be made SIGBUS by whoever has the file: it is long
/// enough, sealed against shrinking and of ordinary pages, or it is a device, which has no length. In huge pages a hole can
/// be punched that there is no page for, and less than one of them can't be unmapped.
pub fn stays_as_long(fd: BorrowedFd<'_>, len: u64) -> bool {
    let Ok(file) = nix::sys::stat::fstat(fd) else { return false };
    match file.st_mode & nix::libc::S_IFMT {
        nix::libc::S_IFCHR => true,
        nix::libc::S_IFREG => {
            let seals = fcntl(fd, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_retain);
            let huge = fstatfs(fd).is_ok_and(|s| s.filesystem_type() == HUGETLBFS_MAGIC);
            !huge
                && seals.is_ok_and(|s| s.contains(SealFlag::F_SEAL_SHRINK))
                && u64::try_from(file.st_size).is_ok_and(|size| size >= len)
        }
        _ => false,
    }
}

/// Zeroed memory of our own that a back-end can map, and that it can neither shrink nor grow.
#[derive(Debug)]
pub struct SharedMemory {
    fd: OwnedFd,
    map: Mapping,
    huge: bool,
}

impl SharedMemory {
    /// At least `len` bytes. With `huge`, in 2 MiB pages when the system has enough of them free.
    pub fn new(name: &str, len: usize, huge: bool) -> Result<Self> {
        if huge {
            match Self::create(name, len.next_multiple_of(HUGE_PAGE), true) {
                Ok(memory) => return Ok(memory),
                Err(e) => log::info!("{name}: no huge pages for {len} bytes ({e}); using ordinary pages"),
            }
        }
        Self::create(name, len.next_multiple_of(PAGE), false)
    }

    fn create(name: &str, len: usize, huge: bool) -> Result<Self> {
        let failed = |what| move |e: Errno| Error::sys(e, format!("cannot {what} {len} bytes of shared memory"));
        let mut flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        if huge {
            flags |= MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_2MB;
        }
        let fd = memfd_create(name, flags).map_err(failed("create"))?;
        let file = File::from(fd);
        file.set_len(len as u64).map_err(|e| failed("size")(Errno::try_from(e).unwrap_or(Errno::EIO)))?;
        let fd = OwnedFd::from(file);
        // A peer that could truncate the file would kill us by SIGBUS at the next access. Holes it can still punch; in
        // ordinary pages they read as zeros, in huge pages the reservation below is what keeps a page for them.
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).map_err(failed("seal"))?;
        if huge {
            // Reserves the pages now: a fault without a free huge page would be SIGBUS.
            nix::fcntl::fallocate(&fd, nix::fcntl::FallocateFlags::empty(), 0, len as i64)
                .map_err(failed("reserve"))?;
        }
        let map = Mapping::new(fd.as_fd(), 0, len)?;
        Ok(Self { fd, map, huge })
    }

    /// Address of the first byte.
    pub fn addr(&self) -> *mut u8 {
        self.map.addr()
    }

    /// Bytes mapped, a multiple of the page size.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Never: there is no empty memory.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Whether it lies in huge pages.
    pub fn is_huge(&self) -> bool {
        self.huge
    }
}

impl AsFd for SharedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_peer_cannot_truncate_what_we_share() {
        let memory = SharedMemory::new("test", 5000, false).unwrap();
        assert_eq!(memory.len(), 8192);
        let file = File::from(memory.as_fd().try_clone_to_owned().unwrap());
        assert!(file.set_len(0).is_err());
        assert!(file.set_len(1 << 20).is_err());
        assert!(memory.as_fd().as_raw_fd() > 2);
        assert!(stays_as_long(memory.as_fd(), 8192) && !stays_as_long(memory.as_fd(), 8193));
        let loose = memfd_create("test", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        nix::unistd::ftruncate(&loose, 8192).unwrap();
        assert!(!stays_as_long(loose.as_fd(), 4096));
    }

    #[test]
    fn huge_pages_are_a_wish() {
        // Whether or not this machine has huge pages, memory comes.
        let memory = SharedMemory::new("test", 1, true).unwrap();
        assert_eq!(memory.len() % if memory.is_huge() { HUGE_PAGE } else { PAGE }, 0);
    }
}
