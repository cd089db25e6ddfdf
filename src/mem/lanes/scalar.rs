//! Plain words, for every CPU. Plain loops too: they are unrolled, where an iterator's closure may become a call.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::{Job, Lanes, STEP};
use crate::mem::atomic::AtomicU64;
use crate::mem::shared::peek;

/// One 64-bit word at a time.
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

type Quad = [u64; STEP];

#[inline(always)]
fn each(f: impl Fn(usize) -> u64) -> Quad {
    let mut words = [0; STEP];
    for (k, word) in words.iter_mut().enumerate() {
        *word = f(k);
    }
    words
}

/// # Safety
/// As [`Lanes::load`], aligned.
#[inline(always)]
unsafe fn word<'a>(at: *const u64) -> &'a AtomicU64 {
    // SAFETY: mapped and aligned; an atomic allows any other writer.
    unsafe { AtomicU64::from_ptr(at.cast_mut()) }
}

impl Lanes for Scalar {
    type Quad = Quad;

    #[inline(always)]
    fn run<J: Job>(self, job: J) -> J::Output {
        job.run()
    }

    #[inline(always)]
    fn splat(self, word: u64) -> Quad {
        [word; STEP]
    }

    #[inline(always)]
    fn and(self, a: Quad, b: Quad) -> Quad {
        each(|k| a[k] & b[k])
    }

    #[inline(always)]
    fn or(self, a: Quad, b: Quad) -> Quad {
        each(|k| a[k] | b[k])
    }

    #[inline(always)]
    fn xor(self, a: Quad, b: Quad) -> Quad {
        each(|k| a[k] ^ b[k])
    }

    #[inline(always)]
    fn add(self, a: Quad, b: Quad) -> Quad {
        each(|k| a[k].wrapping_add(b[k]))
    }

    #[inline(always)]
    fn sub(self, a: Quad, b: Quad) -> Quad {
        each(|k| a[k].wrapping_sub(b[k]))
    }

    #[inline(always)]
    fn mul(self, a: Quad, by: u32) -> Quad {
        each(|k| a[k].wrapping_mul(by.into()))
    }

    #[inline(always)]
    fn shl<const N: i32>(self, a: Quad) -> Quad {
        each(|k| a[k] << N)
    }

    #[inline(always)]
    fn shr<const N: i32>(self, a: Quad) -> Quad {
        each(|k| a[k] >> N)
    }

    #[inline(always)]
    fn any(self, a: Quad) -> bool {
        a[0] | a[1] | a[2] | a[3] != 0
    }

    #[inline(always)]
    fn any_above(self, a: Quad, bound: u32) -> bool {
        a[0].max(a[1]).max(a[2].max(a[3])) > bound.into()
    }

    #[inline(always)]
    fn swap_halves(self, a: Quad) -> Quad {
        each(|k| a[k].rotate_left(32))
    }

    #[inline(always)]
    fn array(self, a: Quad) -> [u64; STEP] {
        a
    }

    #[inline(always)]
    fn quad(self, a: &[u64; STEP]) -> Quad {
        *a
    }

    #[inline(always)]
    fn widen(self, a: &[u16; STEP]) -> Quad {
        each(|k| a[k].into())
    }

    #[inline(always)]
    fn transpose(self, rows: [Quad; STEP]) -> [Quad; STEP] {
        std::array::from_fn(|column| each(|row| rows[row][column]))
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u64) -> Quad {
        // SAFETY: passed on.
        each(|k| unsafe { word(from.add(k)) }.load(Relaxed))
    }

    #[inline(always)]
    unsafe fn load_seconds(self, from: *const u64) -> Quad {
        // The last one first: a device that writes in order has then written the others too, and one cold line
        // is asked for instead of the same line four times while it is being written.
        // SAFETY: passed on.
        let last = unsafe { word(from.add(7)) }.load(Acquire);
        let second = |k| {
            // SAFETY: passed on.
            unsafe { word(from.add(2 * k + 1)) }.load(Acquire)
        };
        each(|k| if k == 3 { last } else { second(k) })
    }

    #[inline(always)]
    unsafe fn load_pairs(self, a: *const u8, b: *const u8) -> Quad {
        // SAFETY: passed on.
        unsafe { [peek(a), peek(a.add(8)), peek(b), peek(b.add(8))] }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u64, a: Quad) {
        // SAFETY: passed on.
        unsafe { to.cast::<Quad>().write(a) };
    }

    #[inline(always)]
    unsafe fn store_with_lengths(self, to: [*mut u64; STEP], first: Quad, lens: Quad) {
        for k in 0..STEP {
            // SAFETY: passed on.
            unsafe { self.store(to[k], [first[0], first[1], first[2] | lens[k] << 32, first[3] | lens[k]]) };
        }
    }

    #[inline(always)]
    unsafe fn store_pairs(self, to: *mut u64, firsts: Quad, seconds: Quad) {
        for k in 0..STEP {
            // SAFETY: passed on.
            unsafe {
                word(to.add(2 * k)).store(firsts[k], Relaxed);
                word(to.add(2 * k + 1)).store(seconds[k], Release);
            }
        }
    }
}
