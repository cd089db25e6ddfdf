//! Bursts that copy, for programs and languages that keep no packets.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use super::handle::used;
use super::queue::vuser_queue;
use crate::net::copy::{Frames, Places};

/// Receives up to n frames by copying them into the caller's memory, one behind the other from data on, at most size
/// bytes (what is above 4 GiB is not used), and returns how many. offsets[i] says where the i-th frame begins and
/// lengths[i] how many bytes it has; both have n places. A frame that does not fit any more stays the next to be
/// received; 65550 bytes are enough for any, and a longer one is dropped and counted when there are so many. VLAN tags
/// stay in frames. A checksum that the device left to be done (rx_csum) is finished in the copy, so that every frame is right
/// by itself. Never waits. 0 also when the device is stopped or the queue is broken: see
/// vuser_queue_status. It may take turns with vuser_rx_burst.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_rx_burst_copy(
    queue: *mut vuser_queue,
    data: *mut c_void,
    size: usize,
    offsets: *mut u32,
    lengths: *mut u32,
    n: u16,
) -> u16 {
    // SAFETY: by the conventions, which are the law of queues.
    unsafe { used(queue, "vuser_rx_burst_copy").rx_copy(&mut places(data, size, offsets, lengths, n)) as u16 }
}

/// Sends up to n frames by copying them out of the caller's memory: the i-th begins offsets[i] bytes behind data and
/// has lengths[i] bytes. Returns how many were taken, from the first on; the caller may try again with the others
/// while vuser_queue_status is 0. A frame that can't be sent at all counts as taken, and is counted in the statistics:
/// as bad_packet if it does not lie within size bytes from data on, or is longer than 65550. The memory is the caller's again at once: the
/// queue copies into buffers of the pool that it was set up with, and counts in no_buffer when there is none. Never waits. It may take turns with vuser_tx_burst.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_tx_burst_copy(
    queue: *mut vuser_queue,
    data: *const c_void,
    size: usize,
    offsets: *const u32,
    lengths: *const u32,
    n: u16,
) -> u16 {
    // SAFETY: as above.
    unsafe { used(queue, "vuser_tx_burst_copy").tx_copy(frames(data, size, offsets, lengths, n)) as u16 }
}

/// # Safety
/// The rows have n places, or n is 0.
unsafe fn places<'a>(data: *mut c_void, size: usize, offsets: *mut u32, lengths: *mut u32, n: u16) -> Places<'a> {
    let row = |first: *mut u32| match n {
        0 => &mut [][..],
        // SAFETY: passed on.
        n => unsafe { std::slice::from_raw_parts_mut(first.cast::<MaybeUninit<u32>>(), usize::from(n)) },
    };
    Places { data: data.cast(), size: size.min(u32::MAX as usize), offsets: row(offsets), lengths: row(lengths) }
}

/// # Safety
/// The rows have n numbers, or n is 0.
unsafe fn frames<'a>(data: *const c_void, size: usize, offsets: *const u32, lengths: *const u32, n: u16) -> Frames<'a> {
    let row = |first: *const u32| match n {
        0 => &[][..],
        // SAFETY: passed on.
        n => unsafe { std::slice::from_raw_parts(first, usize::from(n)) },
    };
    Frames { data: data.cast(), size, offsets: row(offsets), lengths: row(lengths) }
}
