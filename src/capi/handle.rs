//! Handles of C, and who is in a queue: looked at in a library that watches its callers ([`WATCHED`]) alone.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::thread::ThreadId;

use parking_lot::{Mutex, MutexGuard};

use super::dev::vuser_dev;
use super::error::get;
use super::queue::vuser_queue;
use crate::dev::port::Port;
use crate::error::Result;
use crate::sys::caller::{PATIENCE, WATCHED, stuck, wrong};

/// What the sentences call a device, a pool, a queue, a capture.
pub(super) const DEV: &str = "dev";
pub(super) const POOL: &str = "pool";
pub(super) const QUEUE: &str = "queue";
pub(super) const CAPTURE: &str = "capture";

/// A handle that exists.
struct Life {
    kind: &'static str,
    /// Of a queue: its device, and whether packets of another allocator may come.
    parent: usize,
    foreign: bool,
    process: u32,
    /// The call that a thread is in.
    inside: Option<(&'static str, ThreadId)>,
}

/// By address, what exists.
static LIVES: Mutex<BTreeMap<usize, Life>> = Mutex::new(BTreeMap::new());

fn lives() -> MutexGuard<'static, BTreeMap<usize, Life>> {
    LIVES.try_lock_for(PATIENCE).unwrap_or_else(|| stuck())
}

/// A handle of this kind exists from now on.
pub(super) fn born<T>(handle: *const T, kind: &'static str) {
    if WATCHED {
        let life = Life { kind, parent: 0, foreign: false, process: std::process::id(), inside: None };
        lives().insert(handle as usize, life);
    }
}

/// A queue has been set up, as long as its device exists.
pub(super) fn queue_born(queue: *const vuser_queue, dev: *const vuser_dev, foreign: bool) {
    if WATCHED {
        let (parent, process) = (dev as usize, std::process::id());
        let mut all = lives();
        match all.get_mut(&(queue as usize)) {
            // Set up again; another thread may be in it.
            Some(life) if (life.kind, life.parent) == (QUEUE, parent) => life.foreign = foreign,
            _ => {
                let life = Life { kind: QUEUE, parent, foreign, process, inside: None };
                all.insert(queue as usize, life);
            }
        }
    }
}

/// Whether packets of another allocator may be sent through it.
pub(super) fn is_foreign(queue: *const vuser_queue) -> bool {
    lives().get(&(queue as usize)).is_some_and(|life| life.foreign)
}

/// It does not any more, as soon as this call is over, nor does what belongs to it.
pub(super) fn gone<T>(handle: *const T, kind: &'static str, call: &str) {
    if WATCHED {
        exists(handle, kind, call);
        let (mut all, at) = (lives(), handle as usize);
        let busy = all.values().filter(|life| life.parent == at).find_map(|life| life.inside);
        if let Some((other, _)) = busy {
            drop(all);
            wrong(format_args!("{call}: {other} is using a queue of the {kind}; let its thread end first"));
        }
        all.retain(|address, life| *address != at && life.parent != at);
    }
}

/// What a handle points to, or an error where it is NULL.
///
/// # Safety
/// The handle is NULL or, by the conventions, exists; a build that watches looks.
pub(super) unsafe fn living<'a, T>(handle: *const T, kind: &'static str, call: &str) -> Result<&'a T> {
    if WATCHED && !handle.is_null() {
        exists(handle, kind, call);
    }
    // SAFETY: passed on.
    unsafe { get(handle, kind) }
}

/// Ends the program unless this handle exists.
pub(super) fn exists<T>(handle: *const T, kind: &str, call: &str) {
    let known = lives().get(&(handle as usize)).is_some_and(|life| life.kind == kind);
    if !known {
        no_handle(handle, kind, call);
    }
}

fn no_handle<T>(handle: *const T, kind: &str, call: &str) -> ! {
    if handle.is_null() {
        wrong(format_args!("{call}: the {kind} is NULL; look at what the call returned that made it"));
    }
    wrong(format_args!(
        "{call}: {handle:p} is no {kind} that exists; was it given up before? Forget handles when you give them up"
    ))
}

/// A queue that a thread is in as long as this lives, as the only one.
pub(super) struct Used<'a>(&'a Port);

impl Deref for Used<'_> {
    type Target = Port;

    #[inline(always)]
    fn deref(&self) -> &Port {
        self.0
    }
}

impl Drop for Used<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if WATCHED && let Some(life) = lives().get_mut(&(std::ptr::from_ref(self.0) as usize)) {
            life.inside = None;
        }
    }
}

/// The queue of a call that only one thread at a time may be in.
///
/// # Safety
/// By the conventions it exists; a build that watches looks.
#[inline(always)]
pub(super) unsafe fn used<'a>(queue: *mut vuser_queue, call: &'static str) -> Used<'a> {
    if WATCHED {
        enter(queue, call);
    }
    // SAFETY: passed on.
    Used(unsafe { &*queue.cast::<Port>() })
}

/// The same for a control call, which takes NULL for an error.
///
/// # Safety
/// The queue is NULL or as above.
pub(super) unsafe fn alone<'a>(queue: *mut vuser_queue, call: &'static str) -> Result<Used<'a>> {
    // SAFETY: passed on.
    unsafe {
        get(queue, QUEUE)?;
        Ok(used(queue, call))
    }
}

fn enter(queue: *mut vuser_queue, call: &'static str) {
    let (me, process) = (std::thread::current().id(), std::process::id());
    let mut all = lives();
    let (before, child) = match all.get_mut(&(queue as usize)) {
        Some(life) if life.kind == QUEUE => (life.inside.replace((call, me)), life.process != process),
        _ => {
            drop(all);
            no_handle(queue, QUEUE, call);
        }
    };
    drop(all);
    if child {
        wrong(format_args!("{call}: the queue is of the process that this one was forked from; only that may use it"));
    }
    match before {
        Some((other, thread)) if thread == me => wrong(format_args!(
            "{call}: this thread is in {other} of the same queue; leave signal handlers and callbacks first"
        )),
        Some((other, _)) => wrong(format_args!(
            "{call}: another thread is in {other} of the same queue; one thread at a time uses a queue, give each its own or a lock"
        )),
        None => {}
    }
}

/// As many pointers as the caller says are there.
#[inline(always)]
pub(super) fn there<T>(array: *const T, n: u16, call: &str) {
    if WATCHED && n > 0 && array.is_null() {
        wrong(format_args!("{call}: the array for {n} packets is NULL"));
    }
}
