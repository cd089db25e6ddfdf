//! `struct vuser_capture`: copies of frames, in a pcapng file.

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use super::dev::{vuser_dev, with};
use super::error::{Sized0, control, fill, get, put, read, words};
use super::handle::{CAPTURE, born, gone, living};
use crate::dev::capture::{Capture, Options, Stats, Target};
use crate::error::{Error, Result};

/// A capture under way. Its calls may come from any thread.
pub struct vuser_capture {
    capture: Capture,
}

/// What is to be captured, and where to. Zeroed but for size and path, it captures all of each frame.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct vuser_capture_config {
    /// sizeof(struct vuser_capture_config).
    pub size: usize,
    /// The file, made or emptied, or a named pipe that has a reader (wireshark -k -i PIPE). Empty: fd is meant.
    pub path: [c_char; 256],
    /// With an empty path: a descriptor above 0 to be written to from where it stands, a file, pipe or socket. It is duplicated. With
    /// a path: 0 or -1.
    pub fd: i32,
    /// Bytes that are kept of each frame; 0: all.
    pub snaplen: u32,
    /// Frames of 1518 bytes of each queue for which there is room until they are written, at least; 0: 4096, or
    /// 65536 in all if there are more than 16 queues. The memory is taken at once.
    pub frames: u32,
    /// Zero.
    pub reserved: u32,
    /// Bytes of the file; what would go beyond is dropped. 0: no limit.
    pub max_bytes: u64,
}

/// What has come of a capture.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct vuser_capture_stats {
    /// sizeof(struct vuser_capture_stats), to be set by the caller.
    pub size: usize,
    /// Frames that were copied out of bursts.
    pub captured: u64,
    /// Frames that are missing: there was no room for a copy, or none in the file.
    pub dropped: u64,
    /// Bytes that were kept of the frames that were copied.
    pub bytes: u64,
    /// Frames in the file.
    pub written: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// 0, or what ended the capture, a negative errno.
    pub error: i32,
    /// 1: the file has as many bytes as it may have.
    pub full: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// What ended the capture, as a sentence; else empty.
    pub why: [c_char; 128],
}

// SAFETY: integers and arrays of them, `size` first.
unsafe impl Sized0 for vuser_capture_config {
    fn size_mut(&mut self) -> &mut usize {
        &mut self.size
    }
}

// SAFETY: integers and arrays of them, `size` first.
unsafe impl Sized0 for vuser_capture_stats {
    fn size_mut(&mut self) -> &mut usize {
        &mut self.size
    }
}

const EMPTY: vuser_capture_config = vuser_capture_config {
    size: size_of::<vuser_capture_config>(),
    path: [0; 256],
    fd: -1,
    snaplen: 0,
    frames: 0,
    reserved: 0,
    max_bytes: 0,
};

/// # Safety
/// The descriptor stays open as long as the target is used.
unsafe fn target(config: &vuser_capture_config) -> Result<Target<'_>> {
    let bytes = config.path.map(|c| c as u8);
    let path = CStr::from_bytes_until_nul(&bytes).map_err(|_| Error::invalid("path does not end"))?;
    match (path.is_empty(), config.fd) {
        (false, ..=0) => Ok(Target::Path(OsStr::from_bytes(path.to_bytes()).into())),
        (false, _) => Err(Error::invalid("path and fd are both given; with a path, fd is -1")),
        (true, ..=0) => Err(Error::invalid("neither path nor fd is given")),
        // SAFETY: by the caller.
        (true, fd) => Ok(Target::Fd(unsafe { BorrowedFd::borrow_raw(fd) })),
    }
}

fn from_stats(stats: &Stats) -> vuser_capture_stats {
    vuser_capture_stats {
        size: size_of::<vuser_capture_stats>(),
        captured: stats.captured,
        dropped: stats.dropped,
        bytes: stats.bytes,
        written: stats.written,
        file_bytes: stats.file_bytes,
        error: stats.error.as_ref().map_or(0, |e| -(e.errno() as i32)),
        full: stats.is_full.into(),
        reserved: [0; 3],
        why: stats.error.as_ref().map_or([0; 128], |e| words(&e.to_string())),
    }
}

/// Captures the frames of all queues that are set up, from now on, whether the device is started or not: those that are received
/// as they are handed out, those that are sent as they were given, as soon as they are taken (also one that turns out not to be
/// possible to send). Bursts copy them and never wait; a thread of the library's writes them, in the order of their times as long as
/// it keeps up, and what it cannot write in time is dropped and counted. The file is pcapng: an interface for each queue, named rx0, tx0, rx1, ..., with
/// nanoseconds, directions, and statistics at its end. Without a capture, bursts do nothing for one. It goes on with another
/// back-end; packets that are sent to that once more are not captured again. *capture is to be given up by vuser_capture_stop.
/// -EBUSY: there is a capture of this device; -EINVAL: no queue is set up, or the configuration can't be; errors of opening and
/// writing the file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_capture_start(
    dev: *mut vuser_dev,
    config: *const vuser_capture_config,
    capture: *mut *mut vuser_capture,
) -> c_int {
    // SAFETY: by the conventions.
    unsafe {
        with("vuser_capture_start", dev, |d| {
            let config = read(config, "config", EMPTY)?;
            get(capture, "capture")?;
            let (snaplen, frames, max_bytes) = (config.snaplen, config.frames, config.max_bytes);
            let started = d.start_capture(target(&config)?, Options { snaplen, frames, max_bytes })?;
            let made = Box::into_raw(Box::new(vuser_capture { capture: started }));
            put(capture, CAPTURE, made)?;
            born(made, CAPTURE);
            Ok(0)
        })
    }
}

/// What has come of a capture so far; stats->size must be set. -ECHILD: in a child that was forked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_capture_get_stats(
    capture: *const vuser_capture,
    stats: *mut vuser_capture_stats,
) -> c_int {
    control("vuser_capture_get_stats", || {
        // SAFETY: by the conventions.
        let capture = unsafe { &living(capture, CAPTURE, "vuser_capture_get_stats")?.capture };
        capture.is_ours()?;
        // SAFETY: as above.
        unsafe { fill(stats, "stats", from_stats(&capture.stats())) }.map(|()| 0)
    })
}

/// Stops a capture, before or after vuser_dev_uninit, and gives it up whatever is returned: 0 when all that was captured is in the
/// file, or when that is full. Else what ended it; the file ends with a whole frame then, unless it is a pipe or a socket. What is
/// still to be written is waited for, 5 s at most: -ETIMEDOUT. NULL is allowed. -ECHILD: in a child that was forked; the capture is
/// the parent's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_capture_stop(capture: *mut vuser_capture) -> c_int {
    control("vuser_capture_stop", || {
        if capture.is_null() {
            return Ok(0);
        }
        gone(capture, CAPTURE, "vuser_capture_stop");
        // SAFETY: made by `vuser_capture_start`, and by the conventions not used any more.
        unsafe { Box::from_raw(capture) }.capture.stop().map(|()| 0)
    })
}
