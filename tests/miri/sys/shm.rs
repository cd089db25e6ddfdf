//! Memory of this process in place of shared memory.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;

use crate::error::{Error, Result};

pub const HUGE_PAGE: usize = 2 << 20;
const PAGE: usize = 4096;

#[derive(Debug)]
pub struct Mapping {
    addr: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a mapping is a range of addresses; whoever reads or writes through them answers for that.
unsafe impl Send for Mapping {}
// SAFETY: as above; no method gives access to the contents.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn of(len: usize) -> Self {
        let layout = Layout::from_size_align(len, PAGE).expect("a layout");
        assert!(len > 0);
        // SAFETY: not of zero size.
        let addr = NonNull::new(unsafe { alloc_zeroed(layout) }).expect("memory");
        Self { addr, layout }
    }

    pub fn write_only(fd: BorrowedFd<'_>, _offset: u64, _len: usize) -> Result<Self> {
        Err(Error::invalid(format!("{fd:?} is none")))
    }

    pub fn addr(&self) -> *mut u8 {
        self.addr.as_ptr()
    }

    pub fn len(&self) -> usize {
        self.layout.size()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.addr.as_ptr(), self.layout) };
    }
}

pub fn stays_as_long(_fd: BorrowedFd<'_>, _len: u64) -> bool {
    false
}

#[derive(Debug)]
pub struct SharedMemory(Mapping);

impl SharedMemory {
    pub fn new(_name: &str, len: usize, _huge: bool) -> Result<Self> {
        Ok(Self(Mapping::of(len.next_multiple_of(PAGE))))
    }

    pub fn addr(&self) -> *mut u8 {
        self.0.addr()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_huge(&self) -> bool {
        false
    }
}

impl AsFd for SharedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        unreachable!("memory without a descriptor")
    }
}
