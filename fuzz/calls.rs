//! Calls of the C face, for the targets that make them.
#![allow(dead_code, reason = "no target makes all of them")]

use std::ffi::{CStr, c_int};
use std::sync::LazyLock;

use vuser::capi::config::{vuser_config, vuser_config_init, vuser_config_parse};
use vuser::capi::error::vuser_last_error;
use vuser::capi::pool::{vuser_pool, vuser_pool_available, vuser_pool_config, vuser_pool_create};

/// What an input has still to say.
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next one, 0 behind the end.
    pub fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    /// The next ones, at most `n`.
    pub fn some(&mut self, n: usize) -> &'a [u8] {
        let (some, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        some
    }

    pub fn word(&mut self) -> u64 {
        self.some(8).iter().fold(0, |word, b| word << 8 | u64::from(*b))
    }
}

/// What a control call has returned; an error has a number and a sentence.
pub fn ok(result: c_int) -> c_int {
    if result < 0 {
        // SAFETY: text, which is there until the next call.
        let sentence = unsafe { CStr::from_ptr(vuser_last_error()) }.to_string_lossy();
        assert!(result > -4096 && !sentence.is_empty(), "{result} {sentence}");
        assert!(result != -(nix::errno::Errno::ENOTRECOVERABLE as c_int), "{sentence}");
    }
    result
}

/// With VUSER_FUZZ_TRACE=1 control calls are told, to see what an input does.
static TRACE: LazyLock<bool> = LazyLock::new(|| std::env::var_os("VUSER_FUZZ_TRACE").is_some());

/// What a call has returned; an error has a number, and a sentence that names the call.
pub fn told(name: &str, result: c_int) -> c_int {
    super::tally::count(1);
    if *TRACE {
        // SAFETY: text, which is there until the next call.
        let sentence = unsafe { CStr::from_ptr(vuser_last_error()) }.to_string_lossy();
        eprintln!("{name}: {result} {}", if result < 0 { &sentence } else { "" });
    }
    if ok(result) < 0 {
        // SAFETY: text, which is there until the next call.
        let sentence = unsafe { CStr::from_ptr(vuser_last_error()) }.to_str().expect("it is text");
        let cause = sentence.strip_prefix(name).and_then(|rest| rest.strip_prefix(": "));
        assert!(cause.is_some_and(|cause| cause.len() > 3), "{name}: {result} {sentence}");
    }
    result
}

/// Makes a control call, whose arguments are as the header wants them, or wrong as it allows.
#[allow(unused_macros, reason = "no target makes all of them")]
macro_rules! call {
    ($call:ident($($argument:expr),* $(,)?)) => {{
            #[allow(unused_unsafe, reason = "a few calls have no pointers")]
            // SAFETY: by whoever writes the arguments: pointers are NULL or valid, handles live.
            let result = unsafe { $call($($argument),*) };
            $crate::calls::told(stringify!($call), result)
    }};
}
#[allow(unused_imports, reason = "no target makes all of them")]
pub(crate) use call;

/// The call has returned what it must.
#[track_caller]
pub fn is(result: c_int, right: c_int) {
    // SAFETY: text, which is there until the next call.
    let sentence = || unsafe { CStr::from_ptr(vuser_last_error()) }.to_string_lossy();
    assert!(result == right, "{result} where {right} is right; the last error: {}", sentence());
}

/// The call has returned one of these, or no error.
#[track_caller]
pub fn is_among(result: c_int, errors: &[c_int]) {
    if result < 0 {
        is(result, errors.iter().map(|e| -e).find(|e| *e == result).unwrap_or(0));
    }
}

/// A configuration of this text.
pub fn config(text: &CStr) -> vuser_config {
    // SAFETY: integers and arrays of them.
    let mut config: vuser_config = unsafe { std::mem::zeroed() };
    // SAFETY: a struct, its size, and text with a zero at its end.
    unsafe {
        assert_eq!(vuser_config_init(&raw mut config, size_of::<vuser_config>()), 0);
        assert_eq!(vuser_config_parse(&raw mut config, text.as_ptr()), 0, "{text:?}");
    }
    config
}

/// A pool of so many buffers.
pub struct Pool(pub *mut vuser_pool, u32);

// SAFETY: any thread may use a pool.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    pub fn new(count: u32) -> Self {
        let (size, mut pool) = (size_of::<vuser_pool_config>(), std::ptr::null_mut());
        let config = vuser_pool_config { size, count, data_size: 0, headroom: 0, no_huge: 1 };
        // SAFETY: a struct with its size, and room for a pointer.
        assert_eq!(unsafe { vuser_pool_create(&raw const config, &raw mut pool) }, 0);
        Self(pool, count)
    }

    /// All buffers are back.
    pub fn is_whole(&self) {
        // SAFETY: the pool is never given up.
        assert_eq!(unsafe { vuser_pool_available(self.0) }, self.1, "buffers are missing");
    }
}

/// How many descriptors the process has open.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("there is /proc").count()
}
