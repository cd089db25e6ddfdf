//! What not every back-end can be told.

use std::ffi::{c_int, c_void};

use super::dev::{vuser_dev, with};
use super::error::get;
use crate::error::{Error, Result};

/// Chooses the MTU: what vuser_dev_get_info says from then on, told to back-ends that want to know (vhost-user with NET_MTU;
/// the interface of the kernel), now and whenever one comes. Frames are not measured. -EINVAL: it is below 68, or above what
/// the device has; -EREMOTEIO: the back-end refused it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_set_mtu(dev: *mut vuser_dev, mtu: u16) -> c_int {
    // SAFETY: by the conventions.
    unsafe { with("vuser_dev_set_mtu", dev, |d| d.set_mtu(mtu).map(|()| 0)) }
}

/// Has the back-end tell the network that the device's MAC address is here now (vhost-user: SEND_RARP), as after a move or
/// when VUSER_EVENT_ANNOUNCE asks for it. -ENOTSUP: it can't; send a gratuitous ARP yourself; -ENOTCONN: there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_announce(dev: *mut vuser_dev) -> c_int {
    // SAFETY: by the conventions.
    unsafe { with("vuser_dev_announce", dev, |d| d.announce().map(|()| 0)) }
}

/// Has the back-end note which memory it writes, page by page, until vuser_dirty_log_stop: for whoever copies that memory
/// elsewhere while the device runs. It goes on when the device is stopped and started, and when a back-end comes back.
/// -ENOTSUP: the back-end keeps no log; -EALREADY: it keeps one; -ENOTCONN: there is no back-end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dirty_log_start(dev: *mut vuser_dev) -> c_int {
    // SAFETY: by the conventions.
    unsafe { with("vuser_dirty_log_start", dev, |d| d.start_log().map(|()| 0)) }
}

/// Says which pages of 4096 bytes of a range of memory the back-end has written since this was last asked: `bits` gets a
/// bit for each page that the range touches, the first one in bit 0 of bits[0], and `size` bytes of it are written. How many
/// were written to, INT_MAX at most. What is read is forgotten by the log: copy after reading, and read again.
/// -ENODATA: no log is kept; -EINVAL: `bits` is too small.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dirty_log_read(
    dev: *mut vuser_dev,
    addr: *const c_void,
    len: usize,
    bits: *mut u8,
    size: usize,
) -> c_int {
    // SAFETY: by the conventions.
    unsafe {
        with("vuser_dirty_log_read", dev, |d| {
            let count = d.read_log(addr as u64, len as u64, bytes(bits, size)?)?;
            Ok(c_int::try_from(count).unwrap_or(c_int::MAX))
        })
    }
}

/// # Safety
/// The pointer is NULL, or to that many bytes that nobody else uses.
unsafe fn bytes<'a>(bits: *mut u8, size: usize) -> Result<&'a mut [u8]> {
    // SAFETY: passed on; looked at for NULL only.
    unsafe { get(bits.cast_const(), "bits") }?;
    if isize::try_from(size).is_err() {
        return Err(Error::invalid(format!("{size} bytes cannot be")));
    }
    // SAFETY: passed on.
    Ok(unsafe { std::slice::from_raw_parts_mut(bits, size) })
}

/// Ends vuser_dirty_log_start. No error without a log.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dirty_log_stop(dev: *mut vuser_dev) -> c_int {
    // SAFETY: by the conventions.
    unsafe { with("vuser_dirty_log_stop", dev, |d| d.stop_log().map(|()| 0)) }
}
