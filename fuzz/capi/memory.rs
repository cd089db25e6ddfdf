//! Memory of the program's, in a file that a device can be given.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::LazyLock;

use vuser::sys::shm::SharedMemory;

/// The memory, and descriptors of its file and of one that is empty.
pub struct Memory {
    pub addr: *mut u8,
    pub fd: i32,
    pub empty: i32,
    _memory: SharedMemory,
}

// SAFETY: it is only ever told of.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

/// Eight pages.
pub static MEMORY: LazyLock<Memory> = LazyLock::new(|| {
    let memory = SharedMemory::new("vuser-fuzz", 8 * 4096, false).expect("there is memory");
    let (addr, fd) = (memory.addr(), memory.as_fd().as_raw_fd());
    // SAFETY: a name without anything else.
    let empty = unsafe { libc::memfd_create(c"vuser-fuzz-empty".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(empty > 0);
    Memory { addr, fd, empty, _memory: memory }
});
