//! Version, sizes, log.

use std::ffi::{CString, c_char, c_int, c_void};

use parking_lot::RwLock;

use super::error::{control, put};
use crate::buf::Mbuf;
use crate::error::Error;

/// The version of the library, "0.1.0" for example.
#[unsafe(no_mangle)]
pub extern "C" fn vuser_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// A struct of this header and how large the library believes it is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct vuser_abi_entry {
    /// Its name, "vuser_config" for example.
    pub name: *const c_char,
    /// Its sizeof.
    pub size: usize,
}

// SAFETY: the name is a constant.
unsafe impl Sync for vuser_abi_entry {}

macro_rules! sizes {
    ($($name:literal: $type:ty,)*) => {
        [$(vuser_abi_entry { name: concat!($name, "\0").as_ptr().cast(), size: size_of::<$type>() },)*]
    };
}

static SIZES: [vuser_abi_entry; 16] = sizes! {
    "vuser_config": super::config::vuser_config,
    "vuser_dev_info": super::dev::vuser_dev_info,
    "vuser_event": super::event::vuser_event,
    "vuser_feature": super::feature::vuser_feature,
    "vuser_mbuf": Mbuf,
    "vuser_pool_config": super::pool::vuser_pool_config,
    "vuser_mbuf_source": super::queue::vuser_mbuf_source,
    "vuser_queue_stats": super::queue::vuser_queue_stats,
    "vuser_monitor": super::queue::vuser_monitor,
    "vuser_rss": super::rss::vuser_rss,
    "vuser_rss_limits": super::rss::vuser_rss_limits,
    "vuser_capture_config": super::capture::vuser_capture_config,
    "vuser_capture_stats": super::capture::vuser_capture_stats,
    "vuser_frame": super::lend::vuser_frame,
    "vuser_loopback_stats": super::loopback::vuser_loopback_stats,
    "vuser_abi_entry": vuser_abi_entry,
};

/// The sizes of all structs of this header, for bindings of other languages to compare with theirs. *count entries.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_abi(count: *mut usize) -> *const vuser_abi_entry {
    // SAFETY: by the conventions.
    control("vuser_abi", || unsafe { put(count, "count", SIZES.len()) }.map(|()| 0));
    SIZES.as_ptr()
}

/// Receives a line of the log. Level: 1 error, 2 warning, 3 what happened, 4 each message to the back-end, 5 more.
/// Called from whatever thread has something to say, and must not call back into the library.
pub type vuser_log_fn = Option<unsafe extern "C" fn(level: c_int, message: *const c_char, ctx: *mut c_void)>;

struct Sink {
    function: unsafe extern "C" fn(c_int, *const c_char, *mut c_void),
    ctx: *mut c_void,
}

// SAFETY: whoever set the sink says that it may be called from any thread.
unsafe impl Send for Sink {}
// SAFETY: as above.
unsafe impl Sync for Sink {}

static SINK: RwLock<Option<Sink>> = RwLock::new(None);

struct ToSink;

impl log::Log for ToSink {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if let Some(sink) = &*SINK.read() {
            let line = CString::new(record.args().to_string().replace('\0', " ")).unwrap_or_default();
            // SAFETY: set by `vuser_set_log` as a function for this, with its context.
            unsafe { (sink.function)(record.level() as c_int, line.as_ptr(), sink.ctx) };
        }
    }

    fn flush(&self) {}
}

/// Sends the log, up to a level, to a function of the caller's; level 0 or NULL switches it off, which is the default.
/// When it returns, the function set before is not running and will not be called any more.
#[unsafe(no_mangle)]
pub extern "C" fn vuser_set_log(level: c_int, function: vuser_log_fn, ctx: *mut c_void) -> c_int {
    control("vuser_set_log", || {
        let filter = match level {
            0 => log::LevelFilter::Off,
            1 => log::LevelFilter::Error,
            2 => log::LevelFilter::Warn,
            3 => log::LevelFilter::Info,
            4 => log::LevelFilter::Debug,
            5 => log::LevelFilter::Trace,
            _ => return Err(Error::invalid(format!("level {level} is not one of 0 to 5"))),
        };
        // An application in Rust may have set a logger of its own: then it keeps it.
        let _ = log::set_logger(&ToSink);
        log::set_max_level(if function.is_some() { filter } else { log::LevelFilter::Off });
        *SINK.write() = function.map(|function| Sink { function, ctx });
        Ok(0)
    })
}
