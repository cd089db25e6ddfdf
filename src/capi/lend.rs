//! `struct vuser_frame`: frames lent in place.

use std::ffi::c_void;
use std::mem::{MaybeUninit, offset_of};

use super::handle::{there, used};
use super::queue::vuser_queue;
use crate::net::lend::{self, LentFrame};

/// vuser_frame.flags: the frame goes on in the next one of the row.
pub const VUSER_FRAME_MORE: u32 = 1 << 0;
/// vuser_frame.flags: its checksum field holds only the pseudo-header's sum, but the data are good (rx_csum).
pub const VUSER_FRAME_NEEDS_CSUM: u32 = 1 << 1;
/// vuser_frame.flags: the device has seen that its checksum is right (rx_csum).
pub const VUSER_FRAME_CSUM_GOOD: u32 = 1 << 2;
/// vuser_frame.flags: it is several segments of one flow, longer than what a wire takes (lro, rx_uso).
pub const VUSER_FRAME_LARGE: u32 = 1 << 3;

/// A received frame, or a buffer's part of one, lent in place.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct vuser_frame {
    /// Its first byte.
    pub data: *const c_void,
    /// Bytes here.
    pub len: u32,
    /// What is to be said of it, VUSER_FRAME_*, with its first part; 0: an ordinary frame, and all of it is here.
    pub flags: u32,
}

const _: () = assert!(
    size_of::<vuser_frame>() == size_of::<LentFrame>()
        && offset_of!(vuser_frame, len) == offset_of!(LentFrame, len)
        && offset_of!(vuser_frame, flags) == offset_of!(LentFrame, flags)
);
const _: () = assert!(
    VUSER_FRAME_MORE == lend::MORE
        && VUSER_FRAME_NEEDS_CSUM == lend::NEEDS_CSUM
        && VUSER_FRAME_CSUM_GOOD == lend::CSUM_GOOD
        && VUSER_FRAME_LARGE == lend::LARGE
);

/// Lends what is to be received next, in place, and returns in how many buffers: up to n of them are told, in order,
/// and stay the queue's. Nothing is allocated, copied or freed. Frames are told in whole; only one of more than n buffers
/// is told in parts. What was lent before and not given back is told again, with what has come since.
///
/// The data are to be read only, and until they are given back. They are memory that the back-end can write: it is not to
/// touch them any more, but one that does changes them under the reader, so that what is checked and then used is
/// to be copied first. VLAN tags are left in, no hashes are computed.
///
/// A burst receives what is lent as well; what was lent before must not be looked at after one. Where the device is stopped or
/// reset, or another back-end comes, by another thread meanwhile, the memory stays mapped as long as its pool, but its buffers
/// may be in use for other things; a frame that was not given back then is told again, or counted as lost.
///
/// Never waits. 0 also when the device is stopped or the queue is broken: see vuser_queue_status.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_rx_peek(queue: *mut vuser_queue, frames: *mut vuser_frame, n: u16) -> u16 {
    if n == 0 {
        return 0;
    }
    there(frames, n, "vuser_rx_peek");
    // SAFETY: by the conventions, which are the law of queues.
    unsafe {
        let out = std::slice::from_raw_parts_mut(frames.cast::<MaybeUninit<LentFrame>>(), usize::from(n));
        used(queue, "vuser_rx_peek").rx_peek(out) as u16
    }
}

/// Gives the first n buffers that are lent back to the device, which receives into them again: they are posted by the same
/// descriptors, without going through any pool. Their frames count as received. Where so many are not lent any more, because
/// of a burst or a reset, no others are given back. If n ends inside of a frame, the next peek, or burst, begins with what
/// is left of it, however short that is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_rx_release(queue: *mut vuser_queue, n: u16) {
    // SAFETY: by the conventions, which are the law of queues.
    unsafe { used(queue, "vuser_rx_release").rx_release(usize::from(n)) }
}
