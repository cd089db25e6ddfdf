//! Errors as C sees them: a negative number, and a sentence kept for the thread.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;

use crate::error::{Error, Result};

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// The sentence of the last error of a control call in this thread: what was wrong and, where there is a cure, what
/// to do. Never NULL; valid until the next control call of this thread that fails. Empty when nothing has failed.
#[unsafe(no_mangle)]
pub extern "C" fn vuser_last_error() -> *const c_char {
    LAST.with_borrow(|last| last.as_ptr())
}

fn remember(sentence: &str) {
    let text = CString::new(sentence.replace('\0', " ")).unwrap_or_default();
    LAST.with_borrow_mut(|last| *last = text);
}

/// Runs a control call: its result becomes a number and a sentence, and a panic, which is a bug of ours, an error.
pub(super) fn control(name: &str, call: impl FnOnce() -> Result<c_int>) -> c_int {
    let result = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        Err(Error::new(Errno::ENOTRECOVERABLE, "a bug in this library; only uninit and free are safe now"))
    });
    result.unwrap_or_else(|e| {
        remember(&format!("{name}: {e}"));
        -(e.errno() as c_int)
    })
}

/// Remembers the error of a call that returns a pointer.
pub(super) fn failed(name: &str, e: &Error) {
    remember(&format!("{name}: {e}"));
}

/// What `ptr` points to, or an error that names the argument.
///
/// # Safety
/// The pointer is NULL or valid for `'a`.
pub(super) unsafe fn get<'a, T>(ptr: *const T, argument: &str) -> Result<&'a T> {
    // SAFETY: by the conventions.
    unsafe { ptr.as_ref() }.ok_or_else(|| Error::invalid(format!("{argument} is NULL")))
}

/// A place to write a result to, or an error that names the argument.
///
/// # Safety
/// The pointer is NULL or valid for writes.
pub(super) unsafe fn put<T>(ptr: *mut T, argument: &str, value: T) -> Result<()> {
    if ptr.is_null() {
        return Err(Error::invalid(format!("{argument} is NULL")));
    }
    // SAFETY: by the conventions; what was there is not dropped, since C may not have set it.
    unsafe { ptr.write(value) };
    Ok(())
}

/// A string of the caller's.
///
/// # Safety
/// The pointer is NULL or a string that ends with a zero byte.
pub(super) unsafe fn text<'a>(ptr: *const c_char, argument: &str) -> Result<&'a str> {
    // SAFETY: by the conventions.
    let text = unsafe { CStr::from_ptr(get(ptr, argument)?) };
    text.to_str().map_err(|_| Error::invalid(format!("{argument} is not UTF-8")))
}

/// A text for C, cut off where there is no room for more.
pub(super) fn words<const N: usize>(text: &str) -> [c_char; N] {
    let mut words = [0; N];
    words.iter_mut().zip(text.bytes().take(N.saturating_sub(1))).for_each(|(to, from)| *to = from as c_char);
    words
}

/// Plain structs that begin with their own size, so that they can grow.
///
/// # Implementation safety
/// `#[repr(C)]`, first field `size: usize`, integers and arrays of them only: any bytes are a value.
pub(super) unsafe trait Sized0: Copy {
    fn size_mut(&mut self) -> &mut usize;
}

/// Reads a struct of the caller's into one of ours: what an older caller's lacks keeps the value it has here.
///
/// # Safety
/// The pointer is NULL or points to as many bytes as its `size` says.
pub(super) unsafe fn read<T: Sized0>(ptr: *const T, argument: &str, mut value: T) -> Result<T> {
    // SAFETY: by the conventions at least the size is there.
    let size = unsafe { get(ptr.cast::<usize>(), argument)?.to_owned() };
    if size < size_of::<usize>() || size > 1 << 16 {
        let right = size_of::<T>();
        return Err(Error::invalid(format!("{argument}->size is {size}; set it to sizeof, {right} here")));
    }
    // SAFETY: the caller's struct has `size` bytes, ours has its own; any bytes are a value.
    unsafe { std::ptr::copy_nonoverlapping(ptr.cast::<u8>(), (&raw mut value).cast::<u8>(), size.min(size_of::<T>())) };
    *value.size_mut() = size_of::<T>();
    Ok(value)
}

/// Writes a struct into one of the caller's, as much of it as both know; what only a newer caller knows stays as it is.
///
/// # Safety
/// As [`read`], and the bytes may be written.
pub(super) unsafe fn fill<T: Sized0>(ptr: *mut T, argument: &str, mut value: T) -> Result<()> {
    // SAFETY: passed on.
    let known = unsafe { get(ptr.cast::<usize>(), argument)?.to_owned() };
    if known < size_of::<usize>() || known > 1 << 16 {
        let right = size_of::<T>();
        return Err(Error::invalid(format!("{argument}->size is {known}; set it to sizeof, {right} here")));
    }
    *value.size_mut() = known;
    // SAFETY: as in `read`, the other way round.
    unsafe {
        std::ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), ptr.cast::<u8>(), known.min(size_of::<T>()))
    };
    Ok(())
}
