//! What a process has done in all, told at its end.
#![allow(dead_code, reason = "the models of a ring count for themselves")]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

static TOLD: OnceLock<fn() -> u64> = OnceLock::new();
static COUNT: AtomicU64 = AtomicU64::new(0);

extern "C" fn tell() {
    if let Some(count) = TOLD.get() {
        eprintln!("steps: {}", count());
    }
}

/// Prints `steps: ` and what `count` says then, when the process ends well.
pub fn at_exit(count: fn() -> u64) {
    if TOLD.set(count).is_ok() {
        // SAFETY: a function without arguments, which is there until the end.
        unsafe { libc::atexit(tell) };
    }
}

/// So many steps more.
pub fn count(steps: u64) {
    COUNT.fetch_add(steps, Ordering::Relaxed);
}

/// The steps that were counted here.
pub fn counted() -> u64 {
    COUNT.load(Ordering::Relaxed)
}
