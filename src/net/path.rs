//! From what was negotiated to the queue that does it: one table of layouts and lanes.

use std::mem::MaybeUninit;
use std::sync::Arc;

use super::copy::{Frames, Places};
use super::lend::LentFrame;
use super::rx::{RxOptions, RxQueue};
use super::salvage::{RxSalvage, TxSalvage};
use super::stats::Board;
use super::toeplitz::Toeplitz;
use super::tx::{TxParts, TxQueue};
use crate::buf::MbufRef;
use crate::buf::source::Source;
use crate::mem::kick::Kick;
#[cfg(target_arch = "x86_64")]
use crate::mem::lanes::{Avx2, Avx512};
use crate::mem::lanes::{Scalar, Simd};
pub use crate::ring::Monitor;
use crate::ring::Ring;
use crate::ring::packed::PackedRing;
use crate::ring::split::SplitRing;
use crate::spec::ring::QueueLayout;
use crate::spec::virtio::Features;

/// What has become of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descriptor {
    /// The device has it.
    WithDevice = 0,
    /// The device is done with it.
    Done = 1,
    /// There is no buffer in it.
    Unused = 2,
}

/// A receive queue of any layout.
pub trait Rx: Send {
    /// See [`RxQueue::burst`].
    fn burst(&mut self, out: &mut [MaybeUninit<MbufRef>]) -> usize;
    /// See [`RxQueue::peek`].
    fn peek(&mut self, out: &mut [MaybeUninit<LentFrame>]) -> usize;
    /// See [`RxQueue::release`].
    fn release(&mut self, n: usize);
    /// See [`RxQueue::each_lent`].
    fn each_lent(&self, n: usize, see: &mut dyn FnMut(LentFrame));
    /// See [`RxQueue::copy_out`].
    ///
    /// # Safety
    /// As there.
    unsafe fn copy_out(&mut self, to: &mut Places<'_>) -> usize;
    /// The queue without a [tap](super::tap).
    fn bare(self: Box<Self>) -> Box<dyn Rx>;
    /// See [`RxQueue::refill`].
    fn refill(&mut self);
    /// See [`RxQueue::set_calls`].
    fn set_calls(&mut self, on: bool) -> bool;
    /// See [`Ring::used_count`].
    fn used_count(&self) -> u16;
    /// What has become of the descriptor `offset` places from the next one to be taken (receive) or to be offered
    /// (transmit).
    fn descriptor_status(&self, offset: u16) -> Descriptor;
    /// See [`Ring::monitor`].
    fn monitor(&self) -> Monitor;
    /// Position for SET_VRING_BASE.
    fn base(&self) -> u32;
    /// See [`Ring::untouched`].
    fn untouched(&self, base: u32) -> Option<u16>;
    /// See [`RxQueue::is_whole`].
    fn is_whole(&self) -> bool;
    /// See [`RxQueue::reclaim`].
    fn reclaim(&mut self);
    /// See [`RxQueue::salvage`].
    fn salvage(self: Box<Self>) -> RxSalvage;
    /// See [`RxQueue::set_hasher`].
    fn set_hasher(&mut self, hasher: Option<Arc<Toeplitz>>);
    /// See [`RxQueue::restore`].
    fn restore(&mut self, salvage: RxSalvage);
    /// See [`Ring::resume_base`].
    fn resume_base(&self) -> Option<u32>;
    /// See [`Ring::resume`].
    fn resume(&mut self);
}

/// A transmit queue of any layout.
pub trait Tx: Send {
    /// See [`TxQueue::burst`].
    fn burst(&mut self, packets: &[MbufRef]) -> usize;
    /// See [`TxQueue::copy_in`].
    ///
    /// # Safety
    /// As there.
    unsafe fn copy_in(&mut self, from: Frames<'_>) -> usize;
    /// The queue without a [tap](super::tap).
    fn bare(self: Box<Self>) -> Box<dyn Tx>;
    /// See [`TxQueue::done_cleanup`].
    fn done_cleanup(&mut self, most: usize) -> usize;
    /// See [`TxQueue::prepare`].
    fn prepare(&mut self, packets: &[MbufRef]) -> usize;
    /// See [`TxQueue::set_calls`].
    fn set_calls(&mut self, on: bool) -> bool;
    /// See [`Ring::used_count`].
    fn used_count(&self) -> u16;
    /// What has become of the descriptor `offset` places from the next one to be taken (receive) or to be offered
    /// (transmit).
    fn descriptor_status(&self, offset: u16) -> Descriptor;
    /// See [`Ring::monitor`].
    fn monitor(&self) -> Monitor;
    /// Position for SET_VRING_BASE.
    fn base(&self) -> u32;
    /// See [`Ring::untouched`].
    fn untouched(&self, base: u32) -> Option<u16>;
    /// See [`TxQueue::reclaim`].
    fn reclaim(&mut self);
    /// See [`TxQueue::salvage`].
    fn salvage(self: Box<Self>) -> TxSalvage;
    /// See [`TxQueue::restore`].
    fn restore(&mut self, salvage: TxSalvage, resend: bool);
    /// See [`Ring::resume_base`].
    fn resume_base(&self) -> Option<u32>;
    /// See [`Ring::resume`].
    fn resume(&mut self);
}

impl<R: Ring + Send + 'static> Rx for RxQueue<R> {
    fn burst(&mut self, out: &mut [MaybeUninit<MbufRef>]) -> usize {
        Self::burst(self, out)
    }

    fn peek(&mut self, out: &mut [MaybeUninit<LentFrame>]) -> usize {
        Self::peek(self, out)
    }

    fn release(&mut self, n: usize) {
        Self::release(self, n);
    }

    fn each_lent(&self, n: usize, see: &mut dyn FnMut(LentFrame)) {
        Self::each_lent(self, n, see);
    }

    unsafe fn copy_out(&mut self, to: &mut Places<'_>) -> usize {
        // SAFETY: passed on.
        unsafe { Self::copy_out(self, to) }
    }

    fn bare(self: Box<Self>) -> Box<dyn Rx> {
        self
    }

    fn refill(&mut self) {
        Self::refill(self);
    }

    fn is_whole(&self) -> bool {
        Self::is_whole(self)
    }

    fn set_calls(&mut self, on: bool) -> bool {
        Self::set_calls(self, on)
    }

    fn used_count(&self) -> u16 {
        self.ring().used_count()
    }

    fn descriptor_status(&self, offset: u16) -> Descriptor {
        match self.ring().is_used(offset) {
            Some(true) => Descriptor::Done,
            Some(false) => Descriptor::WithDevice,
            None => Descriptor::Unused,
        }
    }

    fn monitor(&self) -> Monitor {
        self.ring().monitor()
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

    fn salvage(self: Box<Self>) -> RxSalvage {
        Self::salvage(*self)
    }

    fn set_hasher(&mut self, hasher: Option<Arc<Toeplitz>>) {
        Self::set_hasher(self, hasher);
    }

    fn restore(&mut self, salvage: RxSalvage) {
        Self::restore(self, salvage);
    }

    fn resume_base(&self) -> Option<u32> {
        self.ring().resume_base()
    }

    fn resume(&mut self) {
        self.ring_mut().resume();
    }
}

impl<R: Ring + Send + 'static> Tx for TxQueue<R> {
    fn burst(&mut self, packets: &[MbufRef]) -> usize {
        Self::burst(self, packets)
    }

    unsafe fn copy_in(&mut self, from: Frames<'_>) -> usize {
        // SAFETY: passed on.
        unsafe { Self::copy_in(self, from) }
    }

    fn bare(self: Box<Self>) -> Box<dyn Tx> {
        self
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

    fn used_count(&self) -> u16 {
        self.ring().used_count()
    }

    fn descriptor_status(&self, offset: u16) -> Descriptor {
        let lent = offset.checked_sub(self.ring().ledger().free());
        match lent.and_then(|offset| self.ring().is_used(offset)) {
            Some(false) => Descriptor::WithDevice,
            _ => Descriptor::Done,
        }
    }

    fn monitor(&self) -> Monitor {
        self.ring().monitor()
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

    fn salvage(self: Box<Self>) -> TxSalvage {
        Self::salvage(*self)
    }

    fn restore(&mut self, salvage: TxSalvage, resend: bool) {
        Self::restore(self, salvage, resend);
    }

    fn resume_base(&self) -> Option<u32> {
        self.ring().resume_base()
    }

    fn resume(&mut self) {
        self.ring_mut().resume();
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
pub fn name(features: Features, simd: Simd) -> &'static str {
    match (features.contains(Features::RING_PACKED), simd.available()) {
        (false, Simd::Avx512) => "split avx512",
        (false, Simd::Avx2) => "split avx2",
        (false, _) => "split scalar",
        (true, Simd::Avx512) => "packed avx512",
        (true, Simd::Avx2) => "packed avx2",
        (true, _) => "packed scalar",
    }
}

/// The widest lanes up to the place's.
macro_rules! in_lanes {
    ($simd:expr, |$lanes:ident| $make:expr) => {{
        #[cfg(target_arch = "x86_64")]
        {
            if $simd >= Simd::Avx512
                && let Some($lanes) = Avx512::detect()
            {
                return $make;
            }
            if $simd >= Simd::Avx2
                && let Some($lanes) = Avx2::detect()
            {
                return $make;
            }
        }
        let $lanes = Scalar;
        $make
    }};
}

macro_rules! with_ring {
    ($features:expr, $place:expr, $lanes:expr, |$ring:ident| $make:expr) => {{
        let (features, place, lanes): (Features, RingPlace, _) = ($features, $place, $lanes);
        let (in_order, event) = (features.contains(Features::IN_ORDER), features.contains(Features::EVENT_IDX));
        if features.contains(Features::RING_PACKED) {
            // SAFETY: passed on from the caller.
            let mut $ring = unsafe { PackedRing::new(lanes, place.base, place.size, in_order, event) };
            $ring.set_calls(false);
            Box::new($make)
        } else {
            // SAFETY: as above.
            let mut $ring = unsafe { SplitRing::new(lanes, place.base, place.size, in_order, event) };
            $ring.set_calls(false);
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
    kick: Arc<Kick>,
) -> Box<dyn Rx> {
    in_lanes!(place.simd, |lanes| with_ring!(features, place, lanes, |ring| RxQueue::new(
        ring, source, features, options, board, kick
    )))
}

/// A transmit queue for what was negotiated, calls off.
///
/// # Safety
/// As [`rx`].
pub unsafe fn tx(place: RingPlace, parts: TxParts) -> Box<dyn Tx> {
    in_lanes!(place.simd, |lanes| with_ring!(parts.features, place, lanes, |ring| TxQueue::new(ring, parts)))
}
