//! AVX2: four words in a register.

use std::arch::x86_64::*;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::compiler_fence;

use super::{Job, Lanes, STEP};

/// A CPU with AVX2.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// The lanes, if the CPU has them.
    pub fn detect() -> Option<Self> {
        let has =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2");
        has.then_some(Self(()))
    }

    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn enabled<J: Job>(job: J) -> J::Output {
        job.run()
    }
}

// SAFETY of all blocks in this file: a value of `Avx2` exists only where `detect` has seen that the CPU has AVX2;
// what memory is touched is passed on from the caller.
impl Lanes for Avx2 {
    type Quad = __m256i;

    #[inline(always)]
    fn run<J: Job>(self, job: J) -> J::Output {
        // SAFETY: detected.
        unsafe { Self::enabled(job) }
    }

    #[inline(always)]
    fn splat(self, word: u64) -> __m256i {
        // SAFETY: detected.
        unsafe { _mm256_set1_epi64x(word as i64) }
    }

    #[inline(always)]
    fn and(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: detected.
        unsafe { _mm256_and_si256(a, b) }
    }

    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: detected.
        unsafe { _mm256_or_si256(a, b) }
    }

    #[inline(always)]
    fn xor(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: detected.
        unsafe { _mm256_xor_si256(a, b) }
    }

    #[inline(always)]
    fn add(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: detected.
        unsafe { _mm256_add_epi64(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: detected.
        unsafe { _mm256_sub_epi64(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m256i, by: u32) -> __m256i {
        // Halves: there is no product of 64 bits.
        // SAFETY: detected.
        unsafe {
            let by = _mm256_set1_epi64x(by.into());
            let high = _mm256_mul_epu32(_mm256_srli_epi64::<32>(a), by);
            _mm256_add_epi64(_mm256_mul_epu32(a, by), _mm256_slli_epi64::<32>(high))
        }
    }

    #[inline(always)]
    fn shl<const N: i32>(self, a: __m256i) -> __m256i {
        // SAFETY: detected.
        unsafe { _mm256_slli_epi64::<N>(a) }
    }

    #[inline(always)]
    fn shr<const N: i32>(self, a: __m256i) -> __m256i {
        // SAFETY: detected.
        unsafe { _mm256_srli_epi64::<N>(a) }
    }

    #[inline(always)]
    fn any(self, a: __m256i) -> bool {
        // SAFETY: detected.
        unsafe { _mm256_testz_si256(a, a) == 0 }
    }

    #[inline(always)]
    fn any_above(self, a: __m256i, bound: u32) -> bool {
        // SAFETY: detected.
        unsafe {
            // A word above the bound has the sign bit, or the bound less it has: comparisons here know only signs.
            let above = _mm256_or_si256(a, _mm256_sub_epi64(_mm256_set1_epi64x(bound.into()), a));
            _mm256_movemask_pd(_mm256_castsi256_pd(above)) != 0
        }
    }

    #[inline(always)]
    fn swap_halves(self, a: __m256i) -> __m256i {
        // SAFETY: detected.
        unsafe { _mm256_shuffle_epi32::<0b10_11_00_01>(a) }
    }

    #[inline(always)]
    fn array(self, a: __m256i) -> [u64; STEP] {
        // SAFETY: as many bytes, and any are words.
        unsafe { std::mem::transmute(a) }
    }

    #[inline(always)]
    fn quad(self, a: &[u64; STEP]) -> __m256i {
        // SAFETY: as many bytes.
        unsafe { _mm256_loadu_si256(a.as_ptr().cast()) }
    }

    #[inline(always)]
    fn widen(self, a: &[u16; STEP]) -> __m256i {
        // SAFETY: detected; eight bytes.
        unsafe { _mm256_cvtepu16_epi64(_mm_loadl_epi64(a.as_ptr().cast())) }
    }

    #[inline(always)]
    fn transpose(self, [a, b, c, d]: [__m256i; STEP]) -> [__m256i; STEP] {
        // SAFETY: detected.
        unsafe {
            let (even_ab, odd_ab) = (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
            let (even_cd, odd_cd) = (_mm256_unpacklo_epi64(c, d), _mm256_unpackhi_epi64(c, d));
            [
                _mm256_permute2x128_si256::<0x20>(even_ab, even_cd),
                _mm256_permute2x128_si256::<0x20>(odd_ab, odd_cd),
                _mm256_permute2x128_si256::<0x31>(even_ab, even_cd),
                _mm256_permute2x128_si256::<0x31>(odd_ab, odd_cd),
            ]
        }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u64) -> __m256i {
        // SAFETY: passed on; volatile, since a device may write meanwhile.
        unsafe { from.cast::<Unaligned>().read_volatile().0 }
    }

    #[inline(always)]
    unsafe fn load_seconds(self, from: *const u64) -> __m256i {
        // SAFETY: passed on.
        let seconds = unsafe {
            let (high, low) = (self.load(from.add(4)), self.load(from));
            _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_unpackhi_epi64(low, high))
        };
        // This architecture does not move loads before earlier loads; the compiler must not either.
        compiler_fence(Acquire);
        seconds
    }

    #[inline(always)]
    unsafe fn load_pairs(self, a: *const u8, b: *const u8) -> __m256i {
        // SAFETY: passed on.
        unsafe {
            let (a, b) = (a.cast::<UnalignedPair>().read_volatile().0, b.cast::<UnalignedPair>().read_volatile().0);
            _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(a), b)
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u64, a: __m256i) {
        // SAFETY: passed on.
        unsafe { _mm256_storeu_si256(to.cast(), a) };
    }

    #[inline(always)]
    unsafe fn store_with_lengths(self, to: [*mut u64; STEP], first: __m256i, lens: __m256i) {
        for (k, to) in to.into_iter().enumerate() {
            // SAFETY: passed on.
            unsafe {
                let everywhere = _mm256_permutevar8x32_epi32(lens, _mm256_set1_epi32(2 * k as i32));
                self.store(to, _mm256_blend_epi32::<0b0110_0000>(first, everywhere));
            }
        }
    }

    #[inline(always)]
    unsafe fn store_pairs(self, to: *mut u64, firsts: __m256i, seconds: __m256i) {
        // This architecture keeps stores in order; the compiler must too.
        compiler_fence(Release);
        // SAFETY: passed on. A CPU with AVX writes an aligned 16 bytes at once, so that no pair is there in part.
        unsafe {
            let (even, odd) = (_mm256_unpacklo_epi64(firsts, seconds), _mm256_unpackhi_epi64(firsts, seconds));
            let low = _mm256_permute2x128_si256::<0x20>(even, odd);
            let high = _mm256_permute2x128_si256::<0x31>(even, odd);
            _mm256_storeu_si256(to.cast(), low);
            _mm256_storeu_si256(to.add(4).cast(), high);
        }
    }
}

/// 32 bytes, where they lie.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Unaligned(__m256i);

/// 16 bytes, where they lie.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct UnalignedPair(__m128i);
