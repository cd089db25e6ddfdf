//! From what was negotiated to the queue that does it: one table of layouts and lanes.

use std::mem::MaybeUninit;
use std::sync::Arc;

use super::rx::{RxOptions, RxQueue};
use super::stats::Board;
use super::tx::{TxParts, TxQueue};
use crate::buf::MbufRef;
use crate::buf::source::Source;
pub use crate::ring::Monitor;
use crate::ring::Ring;
use crate::ring::lanes::{Scalar, Simd};
use crate::ring::packed::PackedRing;
use crate::ring::split::SplitRing;
use crate::spec::ring::QueueLayout;
use crate::spec::virtio::Features;
use crate::sys::eventfd::Bell;

/// A receive queue of any layout.
pub trait Rx: Send {
    /// See [`RxQueue::burst`].
    fn burst(&mut self, out: &mut [MaybeUninit<MbufRef>]) -> usize;
    /// See [`RxQueue::refill`].
    fn refill(&mut self);
    /// See [`RxQueue::set_calls`].
    fn set_calls(&mut self, on: bool) -> bool;
    /// Position for SET_VRING_BASE.
    fn base(&self) -> u32;
    /// See [`Ring::untouched`].
    fn untouched(&self, base: u32) -> Option<u16>;
    /// See [`RxQueue::reclaim`].
    fn reclaim(&mut self);
    /// Descriptors that the device has used and the queue has not taken.
    fn used_count(&self) -> u16;
    /// The descriptor so many places from the next to be taken: 0 with the device, 1 done, 2 not in use.
    fn descriptor_status(&self, offset: u16) -> u8;
    /// Where to look for the next that the device uses.
    fn monitor(&self) -> Monitor;
}

/// A transmit queue of any layout.
pub trait Tx: Send {
    /// See [`TxQueue::burst`].
    fn burst(&mut self, packets: &[MbufRef]) -> usize;
    /// See [`TxQueue::done_cleanup`].
    fn done_cleanup(&mut self, most: usize) -> usize;
    /// See [`TxQueue::prepare`].
    fn prepare(&mut self, packets: &[MbufRef]) -> usize;
    /// See [`TxQueue::set_calls`].
    fn set_calls(&mut self, on: bool) -> bool;
    /// Position for SET_VRING_BASE.
    fn base(&self) -> u32;
    /// See [`Ring::untouched`].
    fn untouched(&self, base: u32) -> Option<u16>;
    /// See [`TxQueue::reclaim`].
    fn reclaim(&mut self);
    /// Descriptors that the device has used and the queue has not taken.
    fn used_count(&self) -> u16;
    /// The descriptor so many places from the next to be sent: 0 with the device, 1 done, 2 not in use.
    fn descriptor_status(&self, offset: u16) -> u8;
    /// Where to look for the next that the device uses.
    fn monitor(&self) -> Monitor;
}

impl<R: Ring + Send> Rx for RxQueue<R> {
    fn burst(&mut self, out: &mut [MaybeUninit<MbufRef>]) -> usize {
        Self::burst(self, out)
    }

    fn refill(&mut self) {
        Self::refill(self);
    }

    fn set_calls(&mut self, on: bool) -> bool {
        Self::set_calls(self, on)
    }

    fn base(&self) -> u32 {
        self.ring().base()
    }

    fn untouched(&self, base: u32) -> Option<u16> {
        self.ring().untouched(base)
    }

    fn reclaim(&mut self) {
        Self::reclaim(self);
    }

    fn used_count(&self) -> u16 {
        self.ring().used_count()
    }

    fn descriptor_status(&self, offset: u16) -> u8 {
        if offset < self.ring().ledger().lent() { self.ring().is_used(offset).into() } else { 2 }
    }

    fn monitor(&self) -> Monitor {
        self.ring().monitor()
    }
}

impl<R: Ring + Send> Tx for TxQueue<R> {
    fn burst(&mut self, packets: &[MbufRef]) -> usize {
        Self::burst(self, packets)
    }

    fn done_cleanup(&mut self, most: usize) -> usize {
        Self::done_cleanup(self, most)
    }

    fn prepare(&mut self, packets: &[MbufRef]) -> usize {
        Self::prepare(self, packets)
    }

    fn set_calls(&mut self, on: bool) -> bool {
        Self::set_calls(self, on)
    }

    fn base(&self) -> u32 {
        self.ring().base()
    }

    fn untouched(&self, base: u32) -> Option<u16> {
        self.ring().untouched(base)
    }

    fn reclaim(&mut self) {
        Self::reclaim(self);
    }

    fn used_count(&self) -> u16 {
        self.ring().used_count()
    }

    fn descriptor_status(&self, offset: u16) -> u8 {
        let ledger = self.ring().ledger();
        match offset.checked_sub(ledger.free()) {
            Some(lent) => self.ring().is_used(lent).into(),
            None => 2,
        }
    }

    fn monitor(&self) -> Monitor {
        self.ring().monitor()
    }
}

/// Where the ring of a queue lies.
#[derive(Clone, Copy, Debug)]
pub struct RingPlace {
    /// Zeroed memory, aligned to 64, of [`layout`]'s size.
    pub base: *mut u8,
    /// Slots.
    pub size: u16,
    /// The widest lanes that may be used.
    pub simd: Simd,
}

/// The parts of a ring of this size, by the negotiated layout.
pub fn layout(features: Features, size: u16) -> QueueLayout {
    if features.contains(Features::RING_PACKED) { QueueLayout::packed(size) } else { QueueLayout::split(size) }
}

/// Name of the path: layout and lanes.
pub fn name(features: Features) -> &'static str {
    if features.contains(Features::RING_PACKED) { "packed scalar" } else { "split scalar" }
}

macro_rules! with_ring {
    ($features:expr, $place:expr, |$ring:ident| $make:expr) => {{
        let (features, place): (Features, RingPlace) = ($features, $place);
        let (in_order, event) = (features.contains(Features::IN_ORDER), features.contains(Features::EVENT_IDX));
        if features.contains(Features::RING_PACKED) {
            // SAFETY: passed on from the caller.
            let $ring = unsafe { PackedRing::<Scalar>::new(place.base, place.size, in_order, event) };
            Box::new($make)
        } else {
            // SAFETY: as above.
            let $ring = unsafe { SplitRing::<Scalar>::new(place.base, place.size, in_order, event) };
            Box::new($make)
        }
    }};
}

/// A receive queue for what was negotiated, calls off.
///
/// # Safety
/// The place is mapped as long as the queue lives, and nobody uses it but the queue and the device.
pub unsafe fn rx(
    place: RingPlace,
    source: Source,
    features: Features,
    options: RxOptions,
    board: Arc<Board>,
    kick: Arc<Bell>,
) -> Box<dyn Rx> {
    let mut queue: Box<dyn Rx> =
        with_ring!(features, place, |ring| RxQueue::new(ring, source, features, options, board, kick));
    queue.set_calls(false);
    queue
}

/// A transmit queue for what was negotiated, calls off.
///
/// # Safety
/// As [`rx`].
pub unsafe fn tx(place: RingPlace, parts: TxParts) -> Box<dyn Tx> {
    let mut queue: Box<dyn Tx> = with_ring!(parts.features, place, |ring| TxQueue::new(ring, parts));
    queue.set_calls(false);
    queue
}
