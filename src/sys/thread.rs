//! Threads of the library's own.

use nix::errno::Errno;

use crate::error::{Error, Result};

/// Bytes of a thread's stack. Said here, since the language would else look for it in the environment.
const STACK: usize = 2 << 20;

/// Starts a thread that no signal of the application's comes to. It ends with the closure.
pub fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>> {
    // A thread begins with the mask of the one that makes it.
    let before = block_signals();
    let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(run);
    set_mask(&before);
    thread.map_err(|e| {
        let errno = e.raw_os_error().map_or(Errno::EAGAIN, Errno::from_raw);
        Error::sys(errno, format!("cannot start the thread {name} (is the limit on processes reached? see ulimit -u)"))
    })
}

fn block_signals() -> libc::sigset_t {
    // SAFETY: both sets are plain data of ours, the first of which is filled in before it is used.
    unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        before
    }
}

fn set_mask(mask: &libc::sigset_t) {
    // SAFETY: a set that lives as long as the call, to be read.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) };
}
