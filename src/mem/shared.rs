//! The one door to memory that the other side writes at any time.
//!
//! Such memory never has a Rust reference: the compiler may assume that what a reference points to stays as it
//! is. It is read and written in whole values, once each, and a value read is a copy that the other side cannot
//! change any more: read, check, use.

use std::sync::atomic::Ordering;

use super::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

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

impl Shared<u64> {
    /// Sets bits of the value.
    pub fn set_bits(self, mask: u64) {
        // SAFETY: as in `load`.
        unsafe { AtomicU64::from_ptr(self.0) }.fetch_or(mask, Ordering::AcqRel);
    }

    /// Clears bits of the value; those of them that were set.
    pub fn take_bits(self, mask: u64) -> u64 {
        // SAFETY: as in `load`.
        unsafe { AtomicU64::from_ptr(self.0) }.fetch_and(!mask, Ordering::AcqRel) & mask
    }
}

whole_values! {
    u8, AtomicU8;
    u16, AtomicU16;
    u32, AtomicU32;
    u64, AtomicU64;
}

/// A row of values in shared memory. Every access is checked against its length, which is ours.
#[derive(Debug, Clone, Copy)]
pub struct Row<T> {
    first: Shared<T>,
    len: usize,
}

impl<T> Row<T> {
    /// The `len` values from `ptr` on.
    ///
    /// # Safety
    /// As [`Shared::new`], for all `len` values.
    pub const unsafe fn new(ptr: *mut T, len: usize) -> Self {
        // SAFETY: the caller's promise is the one that `Shared::new` asks for.
        Self { first: unsafe { Shared::new(ptr) }, len }
    }

    /// The place at an index.
    #[inline(always)]
    pub fn get(self, i: usize) -> Option<Shared<T>> {
        // SAFETY: inside the row.
        (i < self.len).then(|| unsafe { self.first.at(i) })
    }

    /// `N` places in a row from an index; none when the row ends before.
    #[inline(always)]
    pub fn window<const N: usize>(self, i: usize) -> Option<[Shared<T>; N]> {
        // SAFETY: all N are inside the row.
        (i + N <= self.len).then(|| std::array::from_fn(|k| unsafe { self.first.at(i + k) }))
    }

    /// Where values in a row from an index on begin, for vector code, which reads and writes several at once, each whole.
    ///
    /// # Safety
    /// The row does not end before the index; what is behind its end must not be touched.
    #[inline(always)]
    pub unsafe fn from(self, i: usize) -> *mut T {
        // SAFETY: inside the row, or one behind it.
        unsafe { self.first.at(i) }.0
    }

    /// Address of the first value.
    pub fn addr(self) -> u64 {
        self.first.addr()
    }
}

/// A value without alignment, to be read and written where a frame happens to lie.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Unaligned<T>(T);

/// Reads plain data from a frame or its header, once, whatever its alignment.
///
/// # Safety
/// All bytes of `T` at `addr` are mapped.
#[inline(always)]
pub unsafe fn peek<T: zerocopy::FromBytes + Copy>(addr: *const u8) -> T {
    // SAFETY: mapped, by the caller; any bytes are a `T`; volatile, since the other side may write meanwhile.
    unsafe { addr.cast::<Unaligned<T>>().read_volatile() }.0
}

/// Writes plain data to a frame or its header, whatever its alignment.
///
/// # Safety
/// All bytes of `T` at `addr` are mapped, and the driver may write them.
#[inline(always)]
pub unsafe fn poke<T: zerocopy::IntoBytes + Copy>(addr: *mut u8, value: T) {
    // SAFETY: mapped, by the caller.
    unsafe { addr.cast::<Unaligned<T>>().write_volatile(Unaligned(value)) }
}
