//! `struct vuser_loopback`: the built-in back-end, for other processes.

use std::ffi::{c_char, c_int};
use std::path::PathBuf;

use super::error::{Sized0, control, fill, get, put, text};
use crate::device::{Loopback, Options};
use crate::error::Error;

/// A vhost-user back-end in a thread of this process, to try a front-end without a switch.
pub struct vuser_loopback(Loopback);

/// Starts a back-end that listens: "path=/tmp/s" and, if wanted, mode=echo|sink|source, queues, mac, mtu, and frame,
/// the length of frames that it makes. It serves one front-end after another until vuser_loopback_stop.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_loopback_start(args: *const c_char, loopback: *mut *mut vuser_loopback) -> c_int {
    control("vuser_loopback_start", || {
        // SAFETY: by the conventions.
        let args = unsafe { text(args, "args") }?;
        let (path, rest): (Vec<_>, Vec<_>) = args.split(',').partition(|option| option.starts_with("path="));
        let [path] = path[..] else {
            return Err(Error::invalid("give one path=, the socket to listen on"));
        };
        let path = PathBuf::from(path.trim_start_matches("path="));
        let made = Box::new(vuser_loopback(Loopback::listen(&path, Options::parse(&rest.join(","))?)?));
        let made = Box::into_raw(made);
        // SAFETY: by the conventions; on an error it is still ours.
        unsafe { put(loopback, "loopback", made).inspect_err(|_| drop(Box::from_raw(made))) }.map(|()| 0)
    })
}

/// Ends the back-end; its socket goes too. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_loopback_stop(loopback: *mut vuser_loopback) {
    if !loopback.is_null() {
        // SAFETY: made by `vuser_loopback_start`, and by the conventions not used any more.
        drop(unsafe { Box::from_raw(loopback) });
    }
}

/// What a back-end has counted.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct vuser_loopback_stats {
    /// sizeof(struct vuser_loopback_stats), to be set by the caller.
    pub size: usize,
    /// Frames that front-ends sent.
    pub received: u64,
    /// Frames that it gave to front-ends.
    pub sent: u64,
    /// Frames that it dropped.
    pub dropped: u64,
}

// SAFETY: integers, `size` first.
unsafe impl Sized0 for vuser_loopback_stats {
    fn size_mut(&mut self) -> &mut usize {
        &mut self.size
    }
}

/// The counters of a back-end; stats->size must be set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_loopback_get_stats(
    loopback: *const vuser_loopback,
    stats: *mut vuser_loopback_stats,
) -> c_int {
    control("vuser_loopback_get_stats", || {
        // SAFETY: by the conventions.
        let counted = unsafe { get(loopback, "loopback") }?.0.stats();
        let (received, sent, dropped) =
            (counted.received, counted.sent, counted.received_dropped + counted.sent_dropped);
        let all = vuser_loopback_stats { size: size_of::<vuser_loopback_stats>(), received, sent, dropped };
        // SAFETY: by the conventions.
        unsafe { fill(stats, "stats", all) }.map(|()| 0)
    })
}
