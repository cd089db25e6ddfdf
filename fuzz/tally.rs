//! What a process has done in all, told at its end.

use std::sync::OnceLock;

static COUNT: OnceLock<fn() -> u64> = OnceLock::new();

extern "C" fn tell() {
    if let Some(count) = COUNT.get() {
        eprintln!("steps: {}", count());
    }
}

/// Prints `steps: ` and what `count` says then, when the process ends well.
pub fn at_exit(count: fn() -> u64) {
    if COUNT.set(count).is_ok() {
        // SAFETY: a function without arguments, which is there until the end.
        unsafe { libc::atexit(tell) };
    }
}
