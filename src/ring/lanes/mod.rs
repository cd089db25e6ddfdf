//! How a step of four is carried out: one implementation per instruction set, chosen when the queue starts.
//!
//! All of them get places that the ring has checked, and plain values from the ledger.

mod scalar;

pub use scalar::Scalar;

use super::{OfferStep, STEP};
use crate::mem::shared::Shared;

/// The widest lanes that may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Simd {
    /// Whatever this CPU has.
    #[default]
    Auto,
    /// None.
    Scalar,
    /// 256 bits.
    Avx2,
    /// 512 bits.
    Avx512,
}

impl Simd {
    /// All choices, by name.
    pub const NAMES: [(&str, Self); 4] =
        [("auto", Self::Auto), ("scalar", Self::Scalar), ("avx2", Self::Avx2), ("avx512", Self::Avx512)];
}

/// The words of [`STEP`] descriptors in a row: address, then the rest.
pub type DescWords = [Shared<u64>; 2 * STEP];

/// The four operations on shared memory that a step consists of.
pub trait Lanes: Send {
    /// Split: the lengths of four used elements, if their ids are these.
    fn used_split(elements: [Shared<u64>; STEP], ids: [u16; STEP]) -> Option<[u32; STEP]>;

    /// Packed: the lengths of four descriptors, if all are used in this lap (`flags` of 2.8.1) and have these ids.
    fn used_packed(words: DescWords, ids: [u16; STEP], flags: u16) -> Option<[u32; STEP]>;

    /// Split: writes four descriptors.
    fn offer_split(words: DescWords, step: &OfferStep);

    /// Packed: writes four descriptors and makes them available in order.
    fn offer_packed(words: DescWords, ids: [u16; STEP], flags: u16, step: &OfferStep);
}
