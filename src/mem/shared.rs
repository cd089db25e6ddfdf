//! The one door to memory that the other side writes at any time.
//!
//! Such memory never has a Rust reference: the compiler may assume that what a reference points to stays as it
//! is. It is read and written in whole values, once each, and a value read is a copy that the other side cannot
//! change any more: read, check, use.

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// A place in shared memory, aligned for `T`, or the first of a row of them.
#[derive(Debug)]
pub struct Shared<T>(*mut T);

impl<T> Clone for Shared<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: the door itself is an address; all access through it is atomic.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// A door to the values from `ptr` on.
    ///
    /// # Safety
    /// `ptr` is aligned for `T`, and all places reached through this door by [`at`](Self::at) lie in one mapping
    /// that outlives it. The memory is accessed by doors (and by the other side) only.
    #[inline(always)]
    pub const unsafe fn new(ptr: *mut T) -> Self {
        Self(ptr)
    }

    /// The place `n` values further on.
    ///
    /// # Safety
    /// It is one of the places that the promise made in [`new`](Self::new) covers.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn at(self, n: usize) -> Self {
        // SAFETY: the caller keeps the place inside the mapping.
        Self(unsafe { self.0.add(n) })
    }

    /// The address, to be told to the device.
    #[inline(always)]
    pub fn addr(self) -> u64 {
        self.0 as u64
    }
}

macro_rules! whole_values {
    ($($int:ty, $atomic:ty;)*) => {$(
        impl Shared<$int> {
            /// Reads the value once.
            #[inline(always)]
            pub fn load(self, order: Ordering) -> $int {
                // SAFETY: `new` promised an aligned, mapped place; atomics allow any other writer.
                unsafe { <$atomic>::from_ptr(self.0) }.load(order)
            }

            /// Writes the value.
            #[inline(always)]
            pub fn store(self, value: $int, order: Ordering) {
                // SAFETY: as in `load`.
                unsafe { <$atomic>::from_ptr(self.0) }.store(value, order);
            }
        }
    )*};
}

whole_values! {
    u16, AtomicU16;
    u32, AtomicU32;
    u64, AtomicU64;
}
