//! Four 64-bit words side by side: what a step of a ring, or of a burst, computes with.
//!
//! One implementation per instruction set, chosen when a queue starts. The code above is written once, over this
//! trait, and compiled for each: [`Lanes::run`] enters it with the instruction set switched on, and everything below
//! that call is inlined into it.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use scalar::Scalar;

/// Words side by side, and so the buffers of a step.
pub const STEP: usize = 4;

/// The largest multiple of [`STEP`] up to a number.
#[inline(always)]
pub const fn whole_steps(n: usize) -> usize {
    n / STEP * STEP
}

/// Four of a row, from the `n`th on.
///
/// # Safety
/// The row has so many.
#[inline(always)]
pub unsafe fn step_at<T>(row: &[T], n: usize) -> &[T; STEP] {
    // SAFETY: inside the row, by the caller.
    unsafe { &*row.as_ptr().add(n).cast() }
}

/// The widest lanes that may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Simd {
    /// Plain words, on every CPU.
    Scalar,
    /// AVX2: four words in a register.
    Avx2,
    /// AVX-512VL/BW/DQ: the same with better instructions, and a line of a ring in one store.
    Avx512,
    /// The widest that the CPU has.
    #[default]
    Auto,
}

impl Simd {
    /// All lanes, by name.
    pub const NAMES: [(&str, Self); 4] =
        [("auto", Self::Auto), ("scalar", Self::Scalar), ("avx2", Self::Avx2), ("avx512", Self::Avx512)];

    /// The widest lanes up to this that the CPU has.
    pub fn available(self) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if self >= Self::Avx512 && Avx512::detect().is_some() {
                return Self::Avx512;
            }
            if self >= Self::Avx2 && Avx2::detect().is_some() {
                return Self::Avx2;
            }
        }
        Self::Scalar
    }

    /// All lanes that the CPU has.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Scalar, Self::Avx2, Self::Avx512].into_iter().filter(|simd| simd.available() == *simd)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, simd)| *simd == self).map_or("auto", |(name, _)| name)
    }
}

/// Work that is compiled for an instruction set.
pub trait Job {
    /// What comes of it.
    type Output;
    /// Does it. To be inlined always, into [`Lanes::run`].
    fn run(self) -> Self::Output;
}

/// Four 64-bit words, computed with at once. A value of an implementing type exists only where the CPU can do it.
#[allow(missing_docs, reason = "the operations are named as what they are")]
pub trait Lanes: Copy + Send + std::fmt::Debug + 'static {
    /// The four words.
    type Quad: Copy;

    /// Does a job with the instruction set switched on.
    fn run<J: Job>(self, job: J) -> J::Output;

    fn splat(self, word: u64) -> Self::Quad;
    fn and(self, a: Self::Quad, b: Self::Quad) -> Self::Quad;
    fn or(self, a: Self::Quad, b: Self::Quad) -> Self::Quad;
    fn xor(self, a: Self::Quad, b: Self::Quad) -> Self::Quad;
    /// Modulo 2^64, as `sub` and `mul`.
    fn add(self, a: Self::Quad, b: Self::Quad) -> Self::Quad;
    fn sub(self, a: Self::Quad, b: Self::Quad) -> Self::Quad;
    /// Times a number below 2^32.
    fn mul(self, a: Self::Quad, by: u32) -> Self::Quad;
    fn shl<const N: i32>(self, a: Self::Quad) -> Self::Quad;
    fn shr<const N: i32>(self, a: Self::Quad) -> Self::Quad;
    /// Whether any bit is set.
    fn any(self, a: Self::Quad) -> bool;
    /// Whether any word is above a bound, as numbers without a sign.
    fn any_above(self, a: Self::Quad, bound: u32) -> bool;
    /// Each with its halves exchanged.
    fn swap_halves(self, a: Self::Quad) -> Self::Quad;
    fn array(self, a: Self::Quad) -> [u64; STEP];
    fn quad(self, a: &[u64; STEP]) -> Self::Quad;
    fn widen(self, a: &[u16; STEP]) -> Self::Quad;
    /// Columns of four rows.
    fn transpose(self, rows: [Self::Quad; STEP]) -> [Self::Quad; STEP];

    /// Four words.
    ///
    /// # Safety
    /// They are mapped. If the device can write there, any words may come of it, each read once.
    unsafe fn load(self, from: *const u64) -> Self::Quad;
    /// The second words of four pairs, each read once, before anything that is read later ([used] in `packed`).
    ///
    /// # Safety
    /// As [`load`](Self::load), for eight words.
    unsafe fn load_seconds(self, from: *const u64) -> Self::Quad;
    /// Two words from each of two places.
    ///
    /// # Safety
    /// As [`load`](Self::load); no alignment is needed.
    unsafe fn load_pairs(self, a: *const u8, b: *const u8) -> Self::Quad;
    /// Writes four words.
    ///
    /// # Safety
    /// They are mapped, and ours to write.
    unsafe fn store(self, to: *mut u64, a: Self::Quad);
    /// Writes `first` to each of four places, with a word of `lens`, which is below 2^16, put in as the two lengths of a
    /// packet's descriptor: the upper half of the third word, and the lower half of the fourth, which are zero in `first`.
    ///
    /// # Safety
    /// As [`store`](Self::store), for four words at each place.
    unsafe fn store_with_lengths(self, to: [*mut u64; STEP], first: Self::Quad, lens: Self::Quad);
    /// Writes four pairs of words in turn; the second of each is never there before its first, and not before what was
    /// written earlier ([avail] in `packed`).
    ///
    /// # Safety
    /// As [`store`](Self::store), for eight words. Aligned to 16 bytes where somebody else reads them meanwhile.
    unsafe fn store_pairs(self, to: *mut u64, firsts: Self::Quad, seconds: Self::Quad);
}
