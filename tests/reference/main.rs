//! Promise: a ring does what VIRTIO 2.7 and 2.8 say. Each sequence of operations is done to a ring and, slowly, to a
//! [`Reference`](reference::Reference) that was written from the text of the standard and shares nothing with `src/ring`
//! but its numbers; compared are what stands in the memory of the ring, what is handed out, and when a kick or a call is due.
//!
//! Short sequences are all run on small rings, long ones by chance on larger ones.

mod reference;

use std::collections::VecDeque;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use reference::{Chain, Reference};
use vuser::mem::lanes::Scalar;
use vuser::ring::packed::PackedRing;
use vuser::ring::split::SplitRing;
use vuser::ring::{Ask, Cookie, Ring, Segment, Used, need_event};
use vuser::spec::ring::{DESC_F_WRITE, QueueLayout};

/// What was negotiated.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The layout.
    pub packed: bool,
    /// Descriptors.
    pub size: u16,
    /// The device keeps the order, and may use batches.
    pub in_order: bool,
    /// Kicks and calls are asked for by places.
    pub event_idx: bool,
}

impl Shape {
    fn all(split: &'static [u16], packed: &'static [u16]) -> impl Iterator<Item = Self> {
        let sizes = split.iter().map(|size| (false, *size)).chain(packed.iter().map(|size| (true, *size)));
        sizes.flat_map(|(packed, size)| {
            (0..4).map(move |bits| Self { packed, size, in_order: bits & 1 != 0, event_idx: bits & 2 != 0 })
        })
    }

    /// Where the parts of its ring lie.
    pub fn layout(self) -> QueueLayout {
        if self.packed { QueueLayout::packed(self.size) } else { QueueLayout::split(self.size) }
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    /// A chain of so many descriptors.
    Offer(u16),
    Publish(Ask),
    /// The device uses the chain that is so many behind its oldest; in order, all up to it as a batch.
    Use(usize),
    Take,
    /// The device wants to be kicked for what is so many places behind the next it will take, or not at all.
    Wish(Option<u16>),
    Calls(bool),
}

/// Memory of a ring: a place of its own, as the model checker of Rust's memory likes it too.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Line(#[allow(dead_code, reason = "reached by address")] [u8; 64]);

/// Runs a sequence on a ring and its reference.
fn run(shape: Shape, ops: impl IntoIterator<Item = Op>) {
    let mut memory = vec![Line([0; 64]); shape.layout().bytes.div_ceil(64)];
    let base = memory.as_mut_ptr().cast::<u8>();
    let Shape { packed, size, in_order, event_idx } = shape;
    // SAFETY: zeroed memory of the layout's size, aligned, which outlives both and which nobody else uses.
    let reference = unsafe { Reference::new(shape, base) };
    // SAFETY: as above.
    unsafe {
        if packed {
            Both::new(PackedRing::new(Scalar, base, size, in_order, event_idx), reference, shape).run(ops);
        } else {
            Both::new(SplitRing::new(Scalar, base, size, in_order, event_idx), reference, shape).run(ops);
        }
    }
}

/// A ring, the device's side of it by the standard, and what must come of the sequence.
struct Both<R> {
    ring: R,
    reference: Reference,
    shape: Shape,
    offered: u64,
    free: u16,
    /// Offered and not seen by the device yet.
    coming: VecDeque<(u64, Vec<Segment>)>,
    /// What the device has: number, chain.
    has: Vec<(u64, Chain)>,
    /// Used and not taken: number, descriptors, what was said of it.
    back: VecDeque<(u64, u16, Used)>,
    /// Whether the driver wants to be called.
    calls: bool,
}

fn cookie(n: u64) -> Cookie {
    Cookie(n)
}

impl<R: Ring> Both<R> {
    fn new(mut ring: R, reference: Reference, shape: Shape) -> Self {
        ring.set_calls(false);
        let (coming, has, back) = (VecDeque::new(), Vec::new(), VecDeque::new());
        Self { ring, reference, shape, offered: 0, free: shape.size, coming, has, back, calls: false }
    }

    fn run(&mut self, ops: impl IntoIterator<Item = Op>) {
        for op in ops {
            match op {
                Op::Offer(n) => self.offer(n),
                Op::Publish(ask) => self.publish(ask),
                Op::Use(which) => self.use_one(which),
                Op::Take => self.take(),
                Op::Wish(place) => self.reference.wish(place),
                Op::Calls(on) => {
                    self.ring.set_calls(on);
                    self.calls = on;
                    self.reference.arm(on);
                }
            }
            self.agree();
        }
    }

    fn offer(&mut self, n: u16) {
        let segment = |k| Segment {
            addr: 0x1000 * (self.offered + 1) + u64::from(k),
            len: 100 + u32::from(k),
            flags: if (self.offered + u64::from(k)).is_multiple_of(2) { DESC_F_WRITE } else { 0 },
        };
        let chain: Vec<_> = (0..n).map(segment).collect();
        let fits = n > 0 && n <= self.free;
        assert_eq!(self.ring.offer(&chain, cookie(self.offered), fits), fits);
        if fits {
            self.coming.push_back((self.offered, chain));
            self.offered += 1;
            self.free -= n;
            self.reference.offered(n);
        }
    }

    fn publish(&mut self, ask: Ask) {
        let (may, must) = self.reference.kick_is_due();
        let kick = self.ring.publish(ask);
        assert!(!kick || may, "a kick that is not due");
        assert!(kick || !must, "no kick, though it is due");
        self.reference.asked(ask == Ask::Surely, kick);
        self.see(true);
    }

    /// The device finds what was offered, as it was offered, and no more.
    fn see(&mut self, published: bool) {
        while let Some(chain) = self.reference.next() {
            let (number, segments) = self.coming.pop_front().expect("only what was offered");
            assert_eq!(chain.segments, segments, "chain {number}");
            assert!(self.has.iter().all(|(_, other)| other.id != chain.id), "an id twice");
            self.has.push((number, chain));
        }
        assert!(!published || self.coming.is_empty(), "published, and not there");
    }

    fn use_one(&mut self, which: usize) {
        self.see(false);
        if self.has.is_empty() {
            return;
        }
        let which = which % self.has.len();
        let len = 5 + which as u32;
        let first = if self.shape.in_order { 0 } else { which };
        let batch: Vec<_> = self.has.drain(first..=which).collect();
        let last = batch.len() - 1;
        let (id, slots) = (batch[last].1.id, batch.iter().map(|(_, c)| c.segments.len() as u16).sum());
        self.reference.put(id, len, slots, batch.len() as u16);
        for (k, (number, chain)) in batch.into_iter().enumerate() {
            let used = if k == last { Used::Bytes(len) } else { Used::Whole };
            self.back.push_back((number, chain.segments.len() as u16, used));
        }
        // The next after the driver has asked, and has taken all there was, is told of; none while it wants none.
        let called = self.reference.should_call();
        assert!(self.calls || !called, "a call that nobody wants");
        if self.reference.is_awaited() {
            assert!(called, "no call, though it is wanted");
        }
    }

    fn take(&mut self) {
        self.ring.poll().unwrap();
        match (self.ring.take().unwrap(), self.back.pop_front()) {
            (None, None) => {}
            (Some((c, used, plain)), Some((number, span, said))) => {
                assert_eq!((c, used, plain), (cookie(number), said, true));
                self.free += span;
                self.reference.taken(span);
            }
            (got, due) => panic!("the ring says {got:?}, the reference {due:?}"),
        }
    }

    /// What can be asked at any time.
    fn agree(&mut self) {
        assert_eq!(self.ring.ledger().free(), self.free);
        assert_eq!(self.ring.has_used(), !self.back.is_empty());
        self.reference.check_own_words();
    }
}

fn all_ops() -> [Op; 9] {
    use Op::*;
    let (surely, soon) = (Publish(Ask::Surely), Publish(Ask::Soon));
    [Offer(1), Offer(2), surely, soon, Use(0), Use(1), Take, Wish(Some(0)), Calls(true)]
}

/// All sequences of this length.
#[test]
fn all_short_sequences_on_small_rings() {
    let (ops, length) = (all_ops(), if cfg!(miri) { 1 } else { 5 });
    for shape in Shape::all(&[1, 2, 4], &[1, 2, 3, 4]) {
        for number in 0..ops.len().pow(length) {
            let nth = |k| ops[number / ops.len().pow(k) % ops.len()];
            // Something to use and to take first, and all that is left at the end.
            let begin = [Op::Offer(1), Op::Publish(Ask::Surely)];
            let end = [Op::Publish(Ask::Surely), Op::Use(0), Op::Take, Op::Use(0), Op::Take];
            run(shape, begin.into_iter().chain((0..length).map(nth)).chain(end));
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0u16..6).prop_map(Op::Offer),
        2 => any::<bool>().prop_map(|sure| Op::Publish(if sure { Ask::Surely } else { Ask::Soon })),
        4 => (0usize..8).prop_map(Op::Use),
        5 => Just(Op::Take),
        1 => proptest::option::of(0u16..5).prop_map(Op::Wish),
        1 => any::<bool>().prop_map(Op::Calls),
    ]
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn long_sequences_by_chance() {
    let (cases, most) = (60, 400);
    for shape in Shape::all(&[1, 2, 4, 8, 16, 256], &[1, 2, 3, 5, 7, 8, 255, 256]) {
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        let result = TestRunner::new(config).run(&prop::collection::vec(op(), most / 2..most), |ops| {
            run(shape, ops);
            Ok(())
        });
        result.unwrap_or_else(|e| panic!("{shape:?}: {e}"));
    }
}

/// For ever around, so that indices of 16 bits and wrap counters begin again.
#[test]
fn indices_go_around_in_step_with_the_reference() {
    for shape in Shape::all(&[2, 8], &[1, 3, 8]) {
        let round = [Op::Offer(1), Op::Wish(Some(0)), Op::Publish(Ask::Soon), Op::Calls(true), Op::Use(0), Op::Take];
        let rounds = if cfg!(miri) { 20 } else { 66_000 };
        run(shape, std::iter::repeat_n(round, rounds).flatten());
    }
}

/// All 2^32 pairs of distances; the rule knows nothing but these (2.7.7.1): is the event among the indices on the way?
#[test]
#[cfg_attr(miri, ignore = "too long")]
fn the_rule_of_notifications_is_the_definition_for_all_distances() {
    let new = 0x1234_u16;
    for way in 0..=u16::MAX {
        let wrong = (0..=u16::MAX).filter(|&back| {
            let due = back != 0 && back <= way;
            need_event(new.wrapping_sub(back), new, new.wrapping_sub(way)) != due
        });
        assert_eq!(wrong.count(), 0, "way {way}");
    }
}
