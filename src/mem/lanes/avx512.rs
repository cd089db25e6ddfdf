//! AVX-512 on the same four words: the compiler has better instructions for what [`Avx2`] says, and a line of a ring
//! is one store.

use std::arch::x86_64::*;
use std::sync::atomic::Ordering::Release;
use std::sync::atomic::compiler_fence;

use super::{Avx2, Job, Lanes, STEP};

/// A CPU with AVX-512F, VL, BW and DQ.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(Avx2, &'static Places);

impl Avx512 {
    /// The lanes, if the CPU has them.
    pub fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq");
        Avx2::detect().filter(|_| has).map(|avx2| Self(avx2, &PLACES))
    }

    #[target_feature(enable = "avx2,bmi1,bmi2,avx512f,avx512vl,avx512bw,avx512dq")]
    fn enabled<J: Job>(job: J) -> J::Output {
        job.run()
    }
}

macro_rules! as_avx2 {
    ($($name:ident($($a:ident: $t:ty),*) -> $r:ty;)*) => {$(
        #[inline(always)]
        fn $name(self, $($a: $t),*) -> $r {
            self.0.$name($($a),*)
        }
    )*};
}

/// For registers that are put together of two: from where each part comes, of the second where the upper bit is set.
///
/// Lanes carry a pointer to it, since a compiler that knows the numbers makes up to five instructions of one.
#[derive(Debug)]
#[repr(C, align(64))]
struct Places {
    /// The beginnings of two descriptors, with the first two lengths.
    first_two: [u32; 16],
    /// With the last two.
    last_two: [u32; 16],
    /// A word of either in turn.
    in_turn: [u64; 8],
}

const B: u32 = 16;
static PLACES: Places = Places {
    first_two: [0, 1, 2, 3, 4, B, B, 7, 8, 9, 10, 11, 12, B + 2, B + 2, 15],
    last_two: [0, 1, 2, 3, 4, B + 4, B + 4, 7, 8, 9, 10, 11, 12, B + 6, B + 6, 15],
    in_turn: [0, 8, 1, 9, 2, 10, 3, 11],
};

/// # Safety
/// See [`Lanes::run`]; `T` has 64 bytes.
#[inline(always)]
unsafe fn load<T>(places: &'static T) -> __m512i {
    // SAFETY: any 64 bytes are a value.
    unsafe { _mm512_loadu_si512(std::ptr::from_ref(places).cast()) }
}

impl Lanes for Avx512 {
    type Quad = __m256i;

    #[inline(always)]
    fn run<J: Job>(self, job: J) -> J::Output {
        // SAFETY: a value of this type exists only where `detect` has seen the CPU's features.
        unsafe { Self::enabled(job) }
    }

    as_avx2! {
        splat(word: u64) -> __m256i;
        and(a: __m256i, b: __m256i) -> __m256i;
        or(a: __m256i, b: __m256i) -> __m256i;
        xor(a: __m256i, b: __m256i) -> __m256i;
        add(a: __m256i, b: __m256i) -> __m256i;
        sub(a: __m256i, b: __m256i) -> __m256i;
        any(a: __m256i) -> bool;
        swap_halves(a: __m256i) -> __m256i;
        array(a: __m256i) -> [u64; STEP];
        quad(a: &[u64; STEP]) -> __m256i;
        widen(a: &[u16; STEP]) -> __m256i;
        transpose(rows: [__m256i; STEP]) -> [__m256i; STEP];
    }

    #[inline(always)]
    fn mul(self, a: __m256i, by: u32) -> __m256i {
        // SAFETY: see `run`.
        unsafe { _mm256_mullo_epi64(a, _mm256_set1_epi64x(by.into())) }
    }

    #[inline(always)]
    fn shl<const N: i32>(self, a: __m256i) -> __m256i {
        self.0.shl::<N>(a)
    }

    #[inline(always)]
    fn shr<const N: i32>(self, a: __m256i) -> __m256i {
        self.0.shr::<N>(a)
    }

    #[inline(always)]
    fn any_above(self, a: __m256i, bound: u32) -> bool {
        // SAFETY: see `run`.
        unsafe { _mm256_cmpgt_epu64_mask(a, _mm256_set1_epi64x(bound.into())) != 0 }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u64) -> __m256i {
        // SAFETY: passed on.
        unsafe { self.0.load(from) }
    }

    #[inline(always)]
    unsafe fn load_seconds(self, from: *const u64) -> __m256i {
        // SAFETY: passed on.
        unsafe { self.0.load_seconds(from) }
    }

    #[inline(always)]
    unsafe fn load_pairs(self, a: *const u8, b: *const u8) -> __m256i {
        // SAFETY: passed on.
        unsafe { self.0.load_pairs(a, b) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u64, a: __m256i) {
        // SAFETY: passed on.
        unsafe { self.0.store(to, a) };
    }

    #[inline(always)]
    unsafe fn store_with_lengths(self, [a, b, c, d]: [*mut u64; STEP], first: __m256i, lens: __m256i) {
        // SAFETY: passed on.
        unsafe {
            let (firsts, lens) = (_mm512_broadcast_i64x4(first), _mm512_castsi256_si512(lens));
            let low = _mm512_permutex2var_epi32(firsts, load(&self.1.first_two), lens);
            let high = _mm512_permutex2var_epi32(firsts, load(&self.1.last_two), lens);
            self.store(a, _mm512_castsi512_si256(low));
            self.store(b, _mm512_extracti64x4_epi64::<1>(low));
            self.store(c, _mm512_castsi512_si256(high));
            self.store(d, _mm512_extracti64x4_epi64::<1>(high));
        }
    }

    #[inline(always)]
    unsafe fn store_pairs(self, to: *mut u64, firsts: __m256i, seconds: __m256i) {
        // As with AVX2.
        compiler_fence(Release);
        // SAFETY: passed on. Aligned 16 bytes are written at once, so that no pair is there in part.
        unsafe {
            let (firsts, seconds) = (_mm512_castsi256_si512(firsts), _mm512_castsi256_si512(seconds));
            let both = _mm512_permutex2var_epi64(firsts, load(&self.1.in_turn), seconds);
            _mm512_storeu_si512(to.cast(), both);
        }
    }
}
