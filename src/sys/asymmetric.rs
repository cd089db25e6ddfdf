//! A fence between two threads of which one is in a hurry: it pays nothing, and the other pays for both.
//!
//! [`light`] only keeps the compiler from moving things. [`heavy`] makes the kernel run a full fence on every CPU that is
//! running a thread of this process, wherever that thread is. Together they order what a full fence on each side would.

use std::sync::OnceLock;
use std::sync::atomic::compiler_fence;

use nix::errno::Errno;

use crate::error::Error;

pub use std::sync::atomic::{AtomicBool, Ordering, fence};

use Ordering::SeqCst;

/// The side that is in a hurry.
#[inline(always)]
pub fn light() {
    compiler_fence(SeqCst);
}

/// The side that pays: some microseconds.
pub fn heavy() -> Result<(), Error> {
    let command = prepare()?;
    fence(SeqCst);
    match membarrier(command) {
        // A process that another one became by fork or exec has to say again that it will ask for this.
        Err(Errno::EPERM) => register().and_then(|()| membarrier(command)),
        result => result,
    }
    .map_err(unavailable)
}

/// Tells the kernel that this process will ask for heavy fences: once, and before there is a hurry.
pub fn prepare() -> Result<libc::c_int, Error> {
    static COMMAND: OnceLock<Result<libc::c_int, Errno>> = OnceLock::new();
    let choose = || match register() {
        Ok(()) => Ok(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED),
        // Before Linux 4.14 there is only the fence of all processes, which takes milliseconds.
        Err(_) => membarrier(libc::MEMBARRIER_CMD_GLOBAL).map(|()| libc::MEMBARRIER_CMD_GLOBAL),
    };
    COMMAND.get_or_init(choose).map_err(unavailable)
}

fn register() -> Result<(), Errno> {
    membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
}

fn membarrier(command: libc::c_int) -> Result<(), Errno> {
    // SAFETY: these commands have neither flags nor memory of ours.
    Errno::result(unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) }).map(drop)
}

fn unavailable(e: Errno) -> Error {
    let why = "the kernel refuses membarrier(2), by which queues are paused without a cost to bursts: it needs \
               CONFIG_MEMBARRIER, and a seccomp filter must let it through";
    Error::sys(e, why)
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_kernel_has_it() {
        assert_eq!(super::prepare().unwrap(), libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED);
        super::heavy().unwrap();
    }
}
