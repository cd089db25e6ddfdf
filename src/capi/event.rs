//! `struct vuser_event`: what happens to a device without being asked for.

use std::ffi::{c_char, c_int, c_uint};
use std::os::fd::AsRawFd;

use super::dev::vuser_dev;
use super::error::{Sized0, control, fill, get, words};
use super::handle::{DEV, living};
use crate::dev::events::{Event, Kind};
use crate::error::{Error, Result};

/// Event: frames can come and go.
pub const VUSER_EVENT_LINK_UP: u32 = 1;
/// Event: frames can't come and go any more; the text says why.
pub const VUSER_EVENT_LINK_DOWN: u32 = 2;
/// Event: the back-end has gone and come back, or another has come in its place; the text says which.
pub const VUSER_EVENT_RECONNECTED: u32 = 3;
/// Event: a back-end was sent away; the text says why.
pub const VUSER_EVENT_REFUSED: u32 = 4;
/// Event: the configuration of the device is another: MAC, MTU, speed; see vuser_dev_get_info. The text says what. When
/// a back-end comes back with a smaller MTU, the device goes on with that one: this tells it before the link is up again.
pub const VUSER_EVENT_CONFIG: u32 = 5;
/// Event: the back-end has found a ring that it can't go on with: `number` is 2 x pair for receive, 2 x pair + 1 for
/// transmit.
pub const VUSER_EVENT_QUEUE_ERROR: u32 = 6;
/// Event: the device can go on only after a reset. Unless reconnect=0 it is reset and goes on, as with another back-end;
/// otherwise stop it and start it.
pub const VUSER_EVENT_NEEDS_RESET: u32 = 7;
/// Event: the device asks that its address be announced to the network.
pub const VUSER_EVENT_ANNOUNCE: u32 = 8;
/// Event: events were lost, because nobody took them: `number` of them.
pub const VUSER_EVENT_LOST: u32 = 9;

/// What has happened to a device without being asked for.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct vuser_event {
    /// sizeof(struct vuser_event), to be set by the caller.
    pub size: usize,
    /// What has happened, VUSER_EVENT_*.
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
    /// A ring or how many, as the kind says; else 0.
    pub number: u64,
    /// A sentence, may be empty.
    pub text: [c_char; 256],
}

// SAFETY: integers and arrays of them, `size` first.
unsafe impl Sized0 for vuser_event {
    fn size_mut(&mut self) -> &mut usize {
        &mut self.size
    }
}

impl vuser_event {
    fn of(event: &Event) -> Self {
        let kind = match event.kind {
            Kind::LinkUp => VUSER_EVENT_LINK_UP,
            Kind::LinkDown => VUSER_EVENT_LINK_DOWN,
            Kind::Reconnected => VUSER_EVENT_RECONNECTED,
            Kind::Refused => VUSER_EVENT_REFUSED,
            Kind::Config => VUSER_EVENT_CONFIG,
            Kind::QueueError => VUSER_EVENT_QUEUE_ERROR,
            Kind::NeedsReset => VUSER_EVENT_NEEDS_RESET,
            Kind::Announce => VUSER_EVENT_ANNOUNCE,
            Kind::Lost => VUSER_EVENT_LOST,
        };
        Self { size: size_of::<Self>(), kind, reserved: 0, number: event.number, text: words(&event.text) }
    }
}

/// A descriptor that is readable when vuser_dev_process has something to do or to tell. It stays the library's, and must
/// not be read from; it is the same as long as the device lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_fd(dev: *const vuser_dev) -> c_int {
    // SAFETY: by the conventions.
    control("vuser_dev_fd", || Ok(unsafe { living(dev, DEV, "vuser_dev_fd") }?.handle.fd().as_raw_fd()))
}

/// Hands out what has happened, the oldest first: how many events were written, n at most, to `events`, of which the first
/// has its size set. n 0 and events NULL are allowed.
///
/// With events=manual it first does what a thread of the library's does otherwise: it notices a back-end that has gone,
/// looks for it, takes one that has come, and goes on with it. It never waits for one to come; each exchange with one that
/// has come takes timeout_ms at most. It is to be called when vuser_dev_fd is readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_process(dev: *mut vuser_dev, events: *mut vuser_event, n: c_uint) -> c_int {
    control("vuser_dev_process", || {
        // SAFETY: by the conventions.
        let (handle, stride) = unsafe { (&living(dev, DEV, "vuser_dev_process")?.handle, stride(events, n)?) };
        handle.is_ours()?;
        let taken = handle.process(n.min(1 << 16) as usize);
        for (at, event) in taken.iter().enumerate() {
            let place = events.wrapping_byte_add(at * stride);
            // SAFETY: the caller's array has n structs of that size, and no more than n were taken.
            unsafe {
                place.cast::<usize>().write(stride);
                fill(place, "events", vuser_event::of(event))?;
            }
        }
        Ok(taken.len() as c_int)
    })
}

/// Size of the caller's structs.
unsafe fn stride(events: *const vuser_event, n: c_uint) -> Result<usize> {
    if n == 0 {
        return Ok(0);
    }
    // SAFETY: by the conventions at least the size is there.
    let size = unsafe { *get(events.cast::<usize>(), "events")? };
    let known = std::mem::offset_of!(vuser_event, text);
    if !(known..1 << 16).contains(&size) || !size.is_multiple_of(align_of::<vuser_event>()) {
        let right = size_of::<vuser_event>();
        return Err(Error::invalid(format!("events->size is {size}; set it to sizeof, {right} here")));
    }
    Ok(size)
}
