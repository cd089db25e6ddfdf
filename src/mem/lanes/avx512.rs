//! AVX-512 on the same four words: the compiler has better instructions for what [`Avx2`] says, and a line of a ring
//! is one store.

use std::arch::x86_64::*;
use std::sync::atomic::Ordering::Release;
use std::sync::atomic::compiler_fence;

use super::{Avx2, Job, Lanes, STEP};

/// A CPU with AVX-512F, VL, BW and DQ.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(Avx2);

impl Avx512 {
    /// The lanes, if the CPU has them.
    pub fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq");
        Avx2::detect().filter(|_| has).map(Self)
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
    fn with_length<const K: usize>(self, into: __m256i, lens: __m256i) -> __m256i {
        self.0.with_length::<K>(into, lens)
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
    unsafe fn store_pairs(self, to: *mut u64, firsts: __m256i, seconds: __m256i) {
        // As with AVX2.
        compiler_fence(Release);
        // SAFETY: passed on. Aligned 16 bytes are written at once, so that no pair is there in part.
        unsafe {
            let in_turn = _mm512_set_epi64(11, 3, 10, 2, 9, 1, 8, 0);
            let both =
                _mm512_permutex2var_epi64(_mm512_castsi256_si512(firsts), in_turn, _mm512_castsi256_si512(seconds));
            _mm512_storeu_si512(to.cast(), both);
        }
    }
}
