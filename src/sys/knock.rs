//! A ring of an eventfd that never waits.
//!
//! A `write` to an eventfd waits when its counter is full, unless O_NONBLOCK is set; and both belong to the other side as much as
//! to us. What the kernel itself adds to a counter never waits. So the kernel is asked for something that is done at once, and to
//! ring the bell when it is: a request of io_submit(2) with IOCB_FLAG_RESFD, whether the eventfd can be read or written, of
//! which one is always true.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;

/// linux/aio_abi.h: IOCB_CMD_POLL, of Linux 4.18.
const POLL: u16 = 5;
const RING_AT_END: u32 = 1;
/// What the head of the kernel's list of done requests begins with.
const MAGIC: u32 = 0xa10a_10a1;

/// linux/aio_abi.h: struct iocb.
#[repr(C)]
#[derive(Default)]
struct Request {
    data: u64,
    #[cfg(target_endian = "little")]
    key: u32,
    flags_of_rw: u32,
    #[cfg(target_endian = "big")]
    key: u32,
    operation: u16,
    priority: i16,
    file: u32,
    events: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    bell: u32,
}

/// The head of the list of done requests: fs/aio.c, struct aio_ring. Programs have depended on it for as long as it is there.
#[repr(C)]
struct Done {
    id: u32,
    size: u32,
    head: AtomicU32,
    tail: AtomicU32,
    magic: u32,
}

/// A context of io_setup(2), which the process keeps to its end: it takes long to give one back, and it belongs to no queue.
struct Context(NonNull<Done>);

// SAFETY: of what it points at only the two atomics are used after it was made, and the kernel lets any thread submit.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

static CONTEXT: OnceLock<Result<Context, Errno>> = OnceLock::new();

/// Gets ready, before there is a hurry.
pub fn prepare() {
    if let Err(e) = CONTEXT.get_or_init(Context::new) {
        log::debug!("io_setup: {e}: a back-end that tries can make a kick wait for it");
    }
}

/// Adds one to an eventfd's counter, or leaves it full. An error: this process cannot do it that way, for example because it is
/// a child of the one that could, or a seccomp filter forbids it.
pub fn knock(bell: BorrowedFd<'_>) -> Result<(), Errno> {
    let Some(Ok(context)) = CONTEXT.get() else { return Err(Errno::ENOSYS) };
    match context.submit(bell) {
        // The list of what is done is full: other threads have filled it since.
        Err(Errno::EAGAIN) => context.submit(bell),
        result => result,
    }
}

impl Context {
    fn new() -> Result<Self, Errno> {
        const AT_ONCE: libc::c_long = 64;
        let mut context: libc::c_ulong = 0;
        // SAFETY: a value of the call's type that lives as long as the call, to be written.
        Errno::result(unsafe { libc::syscall(libc::SYS_io_setup, AT_ONCE, &raw mut context) })?;
        let done = NonNull::new(context as *mut Done).ok_or(Errno::ENOSYS)?;
        // SAFETY: a context's number is the address of its list, which stays mapped.
        match unsafe { (*done.as_ptr()).magic } {
            MAGIC => Ok(Self(done)),
            _ => Err(Errno::ENOSYS),
        }
    }

    fn submit(&self, bell: BorrowedFd<'_>) -> Result<(), Errno> {
        let file = bell.as_raw_fd() as u32;
        let events = (libc::POLLIN | libc::POLLOUT) as u64;
        let request = Request { operation: POLL, file, events, flags: RING_AT_END, bell: file, ..Request::default() };
        let list = [&raw const request];
        // SAFETY: one request that lives as long as the call; it is done when the call returns, and touches no memory of ours.
        let result = Errno::result(unsafe { libc::syscall(libc::SYS_io_submit, self.0.as_ptr(), 1, list.as_ptr()) });
        // In a child of fork it is an error, and the list is the parent's, in pages that both have.
        if let Ok(_) | Err(Errno::EAGAIN) = result {
            // SAFETY: the list stays mapped.
            let done = unsafe { self.0.as_ref() };
            // Nobody wants to know what came of it. Threads may take turns here in any order: at worst the list looks fuller than
            // it is.
            done.head.store(done.tail.load(Ordering::Acquire), Ordering::Release);
        }
        result.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::atomic::Ordering::Relaxed;

    use nix::sys::eventfd::EventFd;
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;

    #[test]
    fn a_child_of_fork_leaves_the_list_of_its_parent_alone() {
        let (context, bell) = (Context::new().unwrap(), EventFd::new().unwrap());
        context.submit(bell.as_fd()).unwrap();
        // SAFETY: the list stays mapped.
        let done = unsafe { context.0.as_ref() };
        assert_eq!((done.head.load(Relaxed), done.tail.load(Relaxed)), (1, 1));
        // As if the parent had not come to that yet.
        done.head.store(0, Relaxed);
        // SAFETY: the child does nothing but system calls.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let refused = context.submit(bell.as_fd()).is_err();
                // SAFETY: it ends the child, without anything of the parent's.
                unsafe { libc::_exit(i32::from(!refused)) }
            }
            ForkResult::Parent { child } => assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0))),
        }
        assert_eq!((done.head.load(Relaxed), bell.read()), (0, Ok(1)));
    }
}
