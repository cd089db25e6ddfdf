//! Floor 3: virtqueues, the driver's side.
//!
//! A ring is a few verbs, each for a step of [`STEP`] buffers or for one chain: *offer* buffers to the device,
//! *publish* them, *poll* for what it has used, *take* that back. [`split`] and [`packed`] are two layouts of the
//! same verbs; [`ledger`] is what we believe. A step of [`STEP`] buffers is computed in [`lanes`](crate::mem::lanes).

pub mod ledger;
pub mod packed;
mod run;
pub mod split;

use ledger::Ledger;
use run::Run;

use crate::mem::lanes::Lanes;
pub use crate::mem::lanes::STEP;

/// What the owner of a buffer wants back with it: a word, which means nothing to the ring. Of a pointer it is the address,
/// exposed by the owner, who makes a pointer of it again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Cookie(pub u64);

impl Cookie {
    /// The words of a step.
    #[inline(always)]
    pub fn words(step: &[Self; STEP]) -> &[u64; STEP] {
        // SAFETY: each is a word, and no more.
        unsafe { &*std::ptr::from_ref(step).cast() }
    }
}

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

/// The driver's side of one virtqueue.
pub trait Ring {
    /// What steps are computed with.
    type Lanes: Lanes;

    /// The lanes.
    fn lanes(&self) -> Self::Lanes;

    /// What is lent, and under which id.
    fn ledger(&self) -> &Ledger;

    /// Offers single buffers of one descriptor each by steps of [`STEP`], `most` at most, with these descriptor flags
    /// (`DESC_F_WRITE` or 0), and as plain ones (see [`ledger`]); how many. Ends also where a step does not fit:
    /// too few free slots, the end of the ring, ids out of order.
    fn offer_steps(&mut self, most: usize, flags: u16, from: &mut impl Offers<Quad<Self>>) -> usize;

    /// Offers one chain of one or more segments. False when the free slots are too few.
    fn offer(&mut self, chain: &[Segment], cookie: Cookie, plain: bool) -> bool;

    /// Makes all that was offered visible. True when the device wants a kick for it.
    fn publish(&mut self, ask: Ask) -> bool;

    /// Looks how far the device is. Once a burst, before anything is taken.
    fn poll(&mut self) -> Result<(), Lie>;

    /// Takes the oldest buffers by steps of [`STEP`], `most` at most, as long as all four are plain, of one slot each,
    /// used, in order, and accepted; how many. With `Lengths::Wanted` (receive) whoever asks has never offered
    /// anything but plain chains of one slot. With `Lengths::Ignored` (transmit) what is given as the bytes used means
    /// nothing, and steps are taken also where an in-order device does not say it.
    fn take_steps(&mut self, most: usize, lengths: Lengths, to: &mut impl Takes<Quad<Self>>) -> usize;

    /// Looks at the oldest buffers as [`take_steps`](Self::take_steps) takes them, with their lengths, from so many slots
    /// after the oldest on; none is taken.
    fn look_steps(&self, behind: u16, most: usize, to: &mut impl Takes<Quad<Self>>) -> usize;

    /// What the device says of the chain at a place. Out of order, the chain it means is brought there first.
    fn used_at(&mut self, place: &mut Place) -> Result<Option<Used>, Lie>;

    /// Looks at the next used chain as [`take`](Self::take) takes it, which is the one at this place afterwards, and goes on
    /// behind it.
    fn look(&mut self, place: &mut Place) -> Result<Option<(Cookie, Used)>, Lie> {
        let Some(used) = self.used_at(place)? else { return Ok(None) };
        let ledger = self.ledger();
        let slot = ledger.after(ledger.tail(), place.slots);
        place.pass(ledger.span(slot));
        Ok(ledger.cookie(slot).map(|cookie| (cookie, used)))
    }

    /// Where looking begins: at the oldest chain.
    fn first_place(&self) -> Place;

    /// Offers the `n` oldest buffers, which were looked at without a batch, to the device again, under the ids that they
    /// had. False where they can't simply stay in their slots: some slot is free, or a batch is being taken. For whoever has
    /// never offered anything but plain chains of one slot.
    fn renew(&mut self, n: u16, flags: u16, from: &mut impl Renews<Quad<Self>>) -> bool;

    /// Takes one used chain, whichever it is: afterwards it is the one that was the oldest in the ledger.
    fn take(&mut self) -> Result<Option<(Cookie, Used, bool)>, Lie>;

    /// Takes the oldest chain whether it is used or not. Only for a device that has stopped.
    fn surrender(&mut self) -> Option<(Cookie, bool)>;

    /// Whether something is used, without taking it.
    fn has_used(&self) -> bool;

    /// Descriptors that are used and not taken, as far as can be seen without taking them.
    fn used_count(&self) -> u16;

    /// Whether the slot `offset` after the oldest lent one is used, not taking it; none when it is not lent.
    fn is_used(&self, offset: u16) -> Option<bool>;

    /// What to watch for the next used buffer.
    fn monitor(&self) -> Monitor;

    /// Asks the device to call when it has used the next buffer, or not to.
    fn set_calls(&mut self, on: bool);

    /// The position for SET_VRING_BASE: where the device is to begin.
    fn base(&self) -> u32;

    /// The position for SET_VRING_BASE of a ring that stays as it is, when a device takes it up that knows what its
    /// predecessor had not finished (INFLIGHT): behind what is marked as used, whether it was taken or not. None when the
    /// predecessor has lied.
    fn resume_base(&self) -> Option<u32>;

    /// A device takes the ring up anew: what its predecessor wanted to be told is forgotten, and the new one wants
    /// everything.
    fn resume(&mut self);

    /// Chains that the device had not begun, if it stopped at this base. None when it cannot have stopped there.
    fn untouched(&self, base: u32) -> Option<u16>;
}

/// Four words, in the lanes of a ring.
pub type Quad<R> = <<R as Ring>::Lanes as Lanes>::Quad;

/// Where steps that are offered come from. A trait and not a closure, because its function must be inlined always:
/// only inside of [`Lanes::run`] is it compiled for the lanes.
pub trait Offers<Q> {
    /// The next four buffers, or none.
    ///
    /// # Safety
    /// It is called for the first, the fifth, ... buffer in turn: `n` = 0, [`STEP`], ...; all four are among those that were
    /// asked for.
    unsafe fn step(&mut self, n: usize) -> Option<OfferStep<Q>>;
}

/// Where steps that are taken go to; see [`Offers`].
pub trait Takes<Q> {
    /// Accepts four buffers, or not: then nothing of them is taken.
    ///
    /// # Safety
    /// As [`Offers::step`].
    unsafe fn step(&mut self, n: usize, used: UsedStep<'_, Q>) -> bool;
}

/// What buffers that stay in the ring are offered with again; see [`Offers`].
pub trait Renews<Q> {
    /// Addresses and bytes of four; none where that can't be said of four at once.
    fn step(&mut self, cookies: &[Cookie; STEP]) -> Option<(Q, Q)>;

    /// Of one.
    fn one(&mut self, cookie: Cookie) -> Segment;
}

/// How far a look at used chains has come.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Slots behind the oldest chain's first.
    slots: u16,
    /// Chains.
    chains: u16,
    /// The batch that is being looked at.
    run: Run,
}

impl Place {
    fn first(run: Run) -> Self {
        Self { slots: 0, chains: 0, run }
    }

    /// So many chains of one slot further on.
    #[inline(always)]
    pub fn skip(&mut self, chains: usize) {
        self.slots += chains as u16;
        self.chains += chains as u16;
    }

    fn pass(&mut self, span: u16) {
        self.slots += span;
        self.chains += 1;
    }

    /// Slots behind the oldest chain's first.
    #[inline(always)]
    pub fn slots(&self) -> u16 {
        self.slots
    }

    /// Whether it is inside of a batch, or has been.
    pub fn in_batch(&self) -> bool {
        self.run.is_on()
    }
}

/// [`STEP`] buffers to be offered.
#[derive(Clone, Copy, Debug)]
pub struct OfferStep<Q> {
    /// Device addresses.
    pub addrs: Q,
    /// Bytes of each, below 2^32.
    pub lens: Q,
    /// What comes back with them: [`Cookie`]s.
    pub cookies: Q,
}

/// [`STEP`] buffers that may be taken.
#[derive(Clone, Copy, Debug)]
pub struct UsedStep<'a, Q> {
    /// What they were lent with.
    pub cookies: &'a [Cookie; STEP],
    /// Bytes used of each; above 2^32 where it is not used, or is not the next in order. Then the step must not be accepted.
    pub lens: Q,
}

/// How surely to ask whether the device wants a kick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Behind a full fence: if the device has gone to sleep without seeing what was published, it is known now.
    Surely,
    /// With a look, which may be too early. What was published since the last sure answer stays in question, and there is
    /// a sure one at the latest when that is half the ring. For whoever asks surely once nothing comes from the device
    /// any more.
    Soon,
}

impl Ask {
    /// After so many frames from the device. One that has just given some is awake. If it goes to sleep for want of buffers,
    /// there will be a burst that gets nothing, and asks surely for all that was published since.
    #[inline(always)]
    #[must_use]
    pub fn after(frames: usize) -> Self {
        if frames == 0 { Self::Surely } else { Self::Soon }
    }
}

/// Whether the bytes used matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lengths {
    /// They do (receive).
    Wanted,
    /// They do not (transmit).
    Ignored,
}

/// Shared memory to be watched (UMWAIT): nothing more is used as long as the masked word at `addr` equals `value`, or,
/// the other way round, as long as it does not.
#[derive(Clone, Copy, Debug)]
pub struct Monitor {
    /// The word.
    pub addr: u64,
    /// The bits that count.
    pub mask: u16,
    /// What they are compared with.
    pub value: u16,
    /// Whether equality means that nothing has changed.
    pub while_equal: bool,
}

/// The rule by which both sides decide on a notification (2.7.7.1, 2.7.10): has `event` been passed on the way
/// from `old` to `new`?
#[inline(always)]
pub fn need_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
