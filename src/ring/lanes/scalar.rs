//! Plain words, for every CPU. Plain loops too: they are unrolled, where an iterator's closure may become a call.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::{DescWords, Lanes};
use crate::mem::shared::Shared;
use crate::ring::packed::{META_USED_MASK, used_pattern};
use crate::ring::{OfferStep, STEP};

/// One 64-bit word at a time.
#[derive(Debug)]
pub struct Scalar;

impl Lanes for Scalar {
    #[inline(always)]
    fn used_split(elements: [Shared<u64>; STEP], ids: [u16; STEP]) -> Option<[u32; STEP]> {
        let words = elements.map(|e| e.load(Relaxed));
        let mut miss = 0;
        for k in 0..STEP {
            miss |= words[k] as u32 ^ u32::from(ids[k]);
        }
        (miss == 0).then(|| words.map(|w| (w >> 32) as u32))
    }

    #[inline(always)]
    fn used_packed(words: DescWords, ids: [u16; STEP], flags: u16) -> Option<[u32; STEP]> {
        // The last one first: a device that writes in order has then written the others too, and one cold line
        // is asked for instead of the same line four times while it is being written.
        let last = words[2 * STEP - 1].load(Acquire);
        let metas = [words[1].load(Acquire), words[3].load(Acquire), words[5].load(Acquire), last];
        let mut miss = 0;
        for k in 0..STEP {
            miss |= (metas[k] ^ used_pattern(ids[k], flags)) & META_USED_MASK;
        }
        (miss == 0).then(|| metas.map(|m| m as u32))
    }

    #[inline(always)]
    fn offer_split(words: DescWords, step: &OfferStep) {
        for k in 0..STEP {
            words[2 * k].store(step.addrs[k], Relaxed);
            words[2 * k + 1].store(u64::from(step.lens[k]) | u64::from(step.flags) << 32, Relaxed);
        }
    }

    #[inline(always)]
    fn offer_packed(words: DescWords, ids: [u16; STEP], flags: u16, step: &OfferStep) {
        for k in 0..STEP {
            words[2 * k].store(step.addrs[k], Relaxed);
            let meta = u64::from(step.lens[k]) | u64::from(ids[k]) << 32 | u64::from(flags | step.flags) << 48;
            // [avail] pairs with the device's acquire of the flags.
            words[2 * k + 1].store(meta, Release);
        }
    }
}
