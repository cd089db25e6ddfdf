//! Structs that begin with their own size, in memory of exactly that size: of the right one, of an older or newer
//! program's, of none that can be.

use std::alloc::{Layout, alloc, dealloc};
use std::ffi::c_int;

use super::calls::Bytes;

/// What memory holds that nobody has written to.
const BLANK: u8 = 0xa5;
/// Sizes that the library believes.
const BELIEVED: std::ops::RangeInclusive<usize> = 8..=1 << 16;

/// Memory of the program's.
struct Memory(*mut u8, Layout);

impl Memory {
    fn new(size: usize) -> Self {
        let layout = Layout::from_size_align(size, 8).expect("it is small");
        // SAFETY: at least eight bytes.
        let memory = unsafe { alloc(layout) };
        // SAFETY: as many bytes as that.
        unsafe { memory.write_bytes(BLANK, size) };
        Self(memory, layout)
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: allocated and written in `new`.
        unsafe { std::slice::from_raw_parts_mut(self.0, self.1.size()) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.0, self.1) };
    }
}

/// A size that a program sets, and whether it can be.
fn size(script: &mut Bytes, right: usize) -> (usize, bool) {
    let size = match script.byte() {
        0 => 0,
        1 => 7,
        2 => 8,
        3 => usize::from(script.byte()) % right,
        4 => right + usize::from(script.byte()),
        5 => 1 << 16,
        6 => (1 << 16) + 1,
        7 => usize::MAX,
        _ => right,
    };
    (size, BELIEVED.contains(&size))
}

fn memory(size: usize, believed: bool) -> Memory {
    let mut memory = Memory::new(if believed { size } else { 8 });
    memory.bytes()[..8].copy_from_slice(&size.to_ne_bytes());
    memory
}

/// Gives a call a struct to fill, or NULL. What it must return then, if that is known, and what it has written.
pub fn filled<T: Copy>(script: &mut Bytes, call: impl FnOnce(*mut T) -> c_int) -> (c_int, Option<T>) {
    let right = size_of::<T>();
    if script.byte() == 0 {
        let result = call(std::ptr::null_mut());
        assert!(result < 0, "NULL was filled");
        return (result, None);
    }
    let (size, believed) = size(script, right);
    let mut memory = memory(size, believed);
    let before = memory.bytes().to_vec();
    let result = call(memory.0.cast());
    if result < 0 || !believed {
        assert!(result < 0 && before == memory.bytes(), "size {size}: {result}, and the struct was written to");
        return (result, None);
    }
    let (head, tail) = memory.bytes().split_at(size.min(right));
    assert!(head[..8] == before[..8] && tail.iter().all(|b| *b == BLANK), "size {size}: bytes that nobody knows");
    // SAFETY: a struct of integers, all of whose bytes were written.
    (result, (size >= right).then(|| unsafe { memory.0.cast::<T>().read() }))
}

/// Gives a call a struct to read, and tells it how many bytes of that count: none, if its size can't be.
pub fn given<T: Copy>(script: &mut Bytes, value: &T, call: impl FnOnce(*const T, usize) -> c_int) -> c_int {
    let right = size_of::<T>();
    let (size, believed) = size(script, right);
    let memory = memory(size, believed);
    let len = memory.1.size().min(right);
    // SAFETY: the struct has no more bytes than are copied, and the memory has as many.
    unsafe { std::ptr::copy_nonoverlapping(std::ptr::from_ref(value).cast::<u8>().add(8), memory.0.add(8), len - 8) };
    let result = call(memory.0.cast(), if believed { size.min(right) } else { 0 });
    assert!(believed || result == -libc::EINVAL, "size {size} was believed");
    result
}
