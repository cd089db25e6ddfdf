//! Floor 3: virtqueues, the driver's side.
//!
//! A ring is a few verbs, each for a step of [`STEP`] buffers or for one chain: *offer* buffers to the device,
//! *publish* them, *poll* for what it has used, *take* that back. [`split`] and [`packed`] are two layouts of the
//! same verbs; [`lanes`] is how a step is carried out; [`ledger`] is what we believe.

pub mod lanes;
pub mod ledger;
pub mod packed;
mod run;
pub mod split;

use std::ffi::c_void;

use ledger::Ledger;

/// Buffers that a step offers or takes at once.
pub const STEP: usize = 4;

/// What the owner of a buffer wants back with it. The ring carries it and never looks behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Cookie(pub *mut c_void);

/// One descriptor's worth of a chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Device address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// `DESC_F_WRITE`, `DESC_F_INDIRECT`; the ring adds the rest.
    pub flags: u16,
}

/// How much of a chain the device used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Used {
    /// It says so many bytes were written.
    Bytes(u32),
    /// All of it: skipped by an in-order device, which names only the last buffer of a batch (VIRTIO 2.7.9, 2.8.7).
    Whole,
}

/// A number from the device that cannot be true. The queue is broken until it is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lie {
    /// Split: the used index is ahead of all that was offered.
    #[error("the device's used index is ahead of all that was offered to it")]
    UsedIndex,
    /// An id that is not lent.
    #[error("the device used a buffer that it does not have")]
    UsedId,
    /// With IN_ORDER: a batch that ends beyond what was used.
    #[error("the device used buffers out of the order it agreed to")]
    Order,
    /// More bytes than the buffer has.
    #[error("the device says it wrote more than the buffer holds")]
    Length,
    /// A merged frame of no buffers, or of more than the ring has.
    #[error("the device announced a frame of an impossible number of buffers")]
    NumBuffers,
}

/// A place to watch without touching the ring: nothing more has been used as long as the value there, masked, is
/// (`while_equal`), or is not, this one.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "named in the sentence above")]
pub struct Monitor {
    pub addr: *const u16,
    pub mask: u16,
    pub value: u16,
    pub while_equal: bool,
}

/// The driver's side of one virtqueue.
pub trait Ring {
    /// What is lent, and under which id.
    fn ledger(&self) -> &Ledger;

    /// Offers [`STEP`] single buffers, each of one descriptor. False, and nothing done, where the step does not fit:
    /// too few free slots, the end of the ring, or ids out of order.
    fn offer_step(&mut self, step: &OfferStep) -> bool;

    /// Offers one chain of one or more segments. False when the free slots are too few.
    fn offer(&mut self, chain: &[Segment], cookie: Cookie, plain: bool) -> bool;

    /// Makes all that was offered visible. True when the device wants a kick for it.
    fn publish(&mut self) -> bool;

    /// Looks how far the device is. Once a burst, before anything is taken.
    fn poll(&mut self) -> Result<(), Lie>;

    /// The bytes used of the [`STEP`] oldest buffers, if all of them are used, in order and of one slot each.
    /// Looks only: [`consume_step`](Self::consume_step) takes them.
    fn used_step(&self) -> Option<[u32; STEP]>;

    /// Takes the step that [`used_step`](Self::used_step) showed.
    fn consume_step(&mut self);

    /// Takes the [`STEP`] oldest buffers whose used bytes do not matter (transmit). False: nothing taken.
    fn take_step(&mut self) -> bool;

    /// Takes one used chain, whichever it is: afterwards it is the one that was the oldest in the ledger.
    fn take(&mut self) -> Result<Option<(Cookie, Used, bool)>, Lie>;

    /// Takes the oldest chain whether it is used or not. Only for a device that has stopped.
    fn surrender(&mut self) -> Option<(Cookie, bool)>;

    /// Whether something is used, without taking it.
    fn has_used(&self) -> bool;

    /// Slots that the device has used and nobody has taken.
    fn used_count(&self) -> u16;

    /// Whether the slot so many places behind the oldest that is lent is used.
    fn is_used(&self, n: u16) -> bool;

    /// What to watch for the next that is used.
    fn monitor(&self) -> Monitor;

    /// Asks the device to call when it has used the next buffer, or not to.
    fn set_calls(&mut self, on: bool);

    /// The position for SET_VRING_BASE: where the device is to begin.
    fn base(&self) -> u32;

    /// Chains that the device had not begun, if it stopped at this base. None when it cannot have stopped there.
    fn untouched(&self, base: u32) -> Option<u16>;
}

/// [`STEP`] buffers to be offered.
#[derive(Clone, Copy, Debug)]
pub struct OfferStep {
    /// Device addresses.
    pub addrs: [u64; STEP],
    /// Bytes.
    pub lens: [u32; STEP],
    /// `DESC_F_WRITE` or 0.
    pub flags: u16,
    /// What comes back with them.
    pub cookies: [Cookie; STEP],
    /// The owner's mark, see [`ledger`].
    pub plain: bool,
}

/// The rule by which both sides decide on a notification (2.7.7.1, 2.7.10): has `event` been passed on the way
/// from `old` to `new`?
#[inline(always)]
pub fn need_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
