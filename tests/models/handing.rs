//! Publish and take: descriptors, and the frames behind them, go to the device and come back. A frame is an ordinary cell, of
//! which loom finds every access that is not ordered after the other side's.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::device::{Device, Shape};
use crate::mem::atomic::Twin;
use crate::mem::lanes::Lanes;
use crate::ring::{Ask, Cookie, Lengths, OfferStep, Offers, Ring, STEP, Segment, Takes, Used, UsedStep};
use crate::{explore, with_ring};

/// Frames; a device address is an index.
struct Frames(Vec<UnsafeCell<u32>>);

// SAFETY: what a ring promises, and what is to be found out here.
unsafe impl Sync for Frames {}
// SAFETY: as above.
unsafe impl Send for Frames {}

impl Frames {
    fn new(n: usize) -> Arc<Self> {
        Arc::new(Self((0..n).map(|_| UnsafeCell::new(0)).collect()))
    }

    fn add(&self, at: u64) -> u32 {
        // SAFETY: loom fails where this is not exclusive.
        self.0[at as usize].with_mut(|frame| unsafe {
            *frame += 1;
            *frame
        })
    }
}

/// Uses so many chains, each frame of which the driver has written, and writes them itself.
fn device(mut device: Device, frames: &Frames, chains: usize) {
    for _ in 0..chains {
        let (id, chain) = loop {
            match device.take() {
                Some(chain) => break chain,
                None => thread::yield_now(),
            }
        };
        for &(addr, len) in &chain {
            assert_eq!(len, 100 + addr as u32, "a descriptor that is not whole");
            assert_eq!(frames.add(addr) % 3, 2, "a frame that is not the driver's last");
        }
        device.put(id, 7, chain.len() as u16);
    }
}

/// So many frames, which the driver has written.
fn chain(frames: &Frames, n: usize) -> Vec<Segment> {
    let segment = |addr| {
        assert_eq!(frames.add(addr) % 3, 1);
        Segment { addr, len: 100 + addr as u32, flags: 0 }
    };
    (0..n as u64).map(segment).collect()
}

/// A chain as long as the ring, so often.
fn chains(twin: Twin, shape: Shape, rounds: usize) {
    explore(twin, move || {
        let frames = Frames::new(shape.size.into());
        with_ring!(shape, |ring| {
            let (far, end) = (frames.clone(), Device::new(shape));
            let far = thread::spawn(move || device(end, &far, rounds));
            for _ in 0..rounds {
                let chain = chain(&frames, shape.size.into());
                assert!(ring.offer(&chain, Cookie::default(), true));
                ring.publish(Ask::Soon);
                let (_, used, _) = loop {
                    ring.poll().unwrap();
                    match ring.take().unwrap() {
                        Some(taken) => break taken,
                        None => thread::yield_now(),
                    }
                };
                assert_eq!(used, Used::Bytes(7), "a used element that is not whole");
                chain.iter().for_each(|s| assert_eq!(frames.add(s.addr) % 3, 0));
            }
            far.join().unwrap();
        });
    });
}

/// A step of buffers.
struct Step<'a, L>(L, &'a Frames);

impl<L: Lanes> Offers<L::Quad> for Step<'_, L> {
    unsafe fn step(&mut self, _: usize) -> Option<OfferStep<L::Quad>> {
        let chain = chain(self.1, STEP);
        let words = |word: fn(&Segment) -> u64| self.0.quad(&std::array::from_fn(|k| word(&chain[k])));
        Some(OfferStep { addrs: words(|s| s.addr), lens: words(|s| s.len.into()), cookies: self.0.splat(0) })
    }
}

impl<L: Lanes> Takes<L::Quad> for Step<'_, L> {
    unsafe fn step(&mut self, _: usize, used: UsedStep<'_, L::Quad>) -> bool {
        if self.0.any_above(used.lens, u32::MAX) {
            return false;
        }
        assert_eq!(self.0.array(used.lens), [7; STEP], "a used element that is not whole");
        (0..STEP as u64).for_each(|addr| assert_eq!(self.1.add(addr) % 3, 0));
        true
    }
}

/// A step of four buffers there and back.
fn steps(twin: Twin, packed: bool) {
    explore(twin, move || {
        let shape = Shape { packed, size: STEP as u16, event_idx: true };
        let frames = Frames::new(STEP);
        with_ring!(shape, |ring| {
            let (far, end) = (frames.clone(), Device::new(shape));
            let far = thread::spawn(move || device(end, &far, STEP));
            let mut step = Step(ring.lanes(), &frames);
            assert_eq!(ring.offer_steps(STEP, 0, &mut step), STEP);
            ring.publish(Ask::Soon);
            loop {
                ring.poll().unwrap();
                if ring.take_steps(STEP, Lengths::Wanted, &mut step) > 0 {
                    break;
                }
                thread::yield_now();
            }
            far.join().unwrap();
        });
    });
}

/// Chains of one and of two, on a ring that is around after each.
fn all_chains(twin: Twin, packed: bool) {
    for (size, rounds) in [(1, 2), (2, 1)] {
        chains(twin, Shape { packed, size, event_idx: false }, rounds);
    }
}

#[test]
fn chains_are_handed_over_whole() {
    all_chains(Twin::Whole, false);
    all_chains(Twin::Whole, true);
}

#[test]
fn steps_are_handed_over_whole() {
    steps(Twin::Whole, false);
    steps(Twin::Whole, true);
}

/// One test for each twin and layout: the model must find what it has lost.
macro_rules! twins {
    ($($name:ident: $found:literal, $run:ident, $twin:ident, $packed:literal;)*) => {$(
        #[test]
        #[should_panic(expected = $found)]
        fn $name() {
            $run(Twin::$twin, $packed);
        }
    )*};
}

twins! {
    a_split_ring_without_release_is_found_out: "a descriptor that is not whole", all_chains, Unreleased, false;
    a_split_ring_without_acquire_is_found_out: "Causality violation", all_chains, Unacquired, false;
    a_packed_ring_without_release_is_found_out: "Causality violation", all_chains, Unreleased, true;
    a_packed_ring_without_acquire_is_found_out: "Causality violation", all_chains, Unacquired, true;
    a_split_step_without_release_is_found_out: "a descriptor that is not whole", steps, Unreleased, false;
    a_split_step_without_acquire_is_found_out: "Causality violation", steps, Unacquired, false;
    a_packed_step_without_release_is_found_out: "Causality violation", steps, Unreleased, true;
    a_packed_step_without_acquire_is_found_out: "Causality violation", steps, Unacquired, true;
}
