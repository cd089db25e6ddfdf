//! Kick and call: who goes to sleep says so, fences, and looks once more; who has published fences, and looks whether the other
//! side sleeps. One of them sees the other's write, or nobody would ever wake it.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering::SeqCst};
use loom::thread;

use crate::device::{Device, Shape};
use crate::mem::atomic::Twin;
use crate::ring::{Ask, Cookie, Ring, Segment};
use crate::{explore, with_ring};

/// All ways to say that one sleeps.
fn shapes(packed: bool, size: u16) -> impl Iterator<Item = Shape> {
    [false, true].into_iter().map(move |event_idx| Shape { packed, size, event_idx })
}

fn offer(ring: &mut impl Ring) {
    assert!(ring.offer(&[Segment::default()], Cookie::default(), true));
}

/// The driver publishes while the device goes to sleep.
fn kicks(twin: Twin, packed: bool) {
    shapes(packed, 2).for_each(|shape| {
        explore(twin, move || {
            with_ring!(shape, |ring| {
                let device = Device::new(shape);
                device.wish(false);
                let far = thread::spawn(move || device.sleep());
                offer(&mut ring);
                let kicked = ring.publish(Ask::Surely);
                let asleep = far.join().unwrap();
                assert!(!asleep || kicked, "the device sleeps, and is not kicked");
            });
        });
    });
}

/// The device uses a buffer while the driver goes to sleep.
fn calls(twin: Twin, packed: bool) {
    shapes(packed, 2).for_each(|shape| {
        explore(twin, move || {
            with_ring!(shape, |ring| {
                ring.set_calls(false);
                offer(&mut ring);
                ring.publish(Ask::Surely);
                let mut device = Device::new(shape);
                let far = thread::spawn(move || {
                    let (id, chain) = device.take().expect("a chain");
                    device.put(id, 0, chain.len() as u16);
                    device.should_call()
                });
                ring.set_calls(true);
                let asleep = !ring.has_used();
                let called = far.join().unwrap();
                assert!(!asleep || called, "the driver sleeps, and is not called");
            });
        });
    });
}

/// Receive bursts, by the rule for asking that queues have: the device gives a frame, wants another buffer, and sleeps.
fn bursts(twin: Twin, packed: bool, rule: fn(usize) -> Ask) {
    // The second slot, and more, so that a look that was too soon is not more than half the ring.
    shapes(packed, 4).for_each(|shape| {
        explore(twin, move || {
            with_ring!(shape, |ring| {
                offer(&mut ring);
                ring.publish(Ask::Surely);
                let mut device = Device::new(shape);
                device.wish(false);
                let far = thread::spawn(move || {
                    let (id, chain) = device.take().expect("a chain");
                    device.put(id, 0, chain.len() as u16);
                    (device.sleep(), device)
                });
                let (mut kicked, mut frames) = (false, 0);
                // As in an application's loop: it goes on, and ends here with a burst that gets nothing.
                loop {
                    ring.poll().unwrap();
                    let got = usize::from(ring.take().unwrap().is_some());
                    (0..got).for_each(|_| offer(&mut ring));
                    kicked |= ring.publish(rule(got));
                    frames += got;
                    match (got, frames) {
                        // Whoever yields goes on when the other thread has ended: nothing is left to be found out.
                        (0, 0) => thread::yield_now(),
                        (0, _) => break,
                        _ => {}
                    }
                }
                let (asleep, device) = far.join().unwrap();
                assert!(!asleep || kicked || !device.is_available(), "the device sleeps, and is not kicked");
            });
        });
    });
}

#[test]
fn who_sleeps_is_kicked() {
    kicks(Twin::Whole, false);
    kicks(Twin::Whole, true);
}

#[test]
fn who_sleeps_is_called() {
    calls(Twin::Whole, false);
    calls(Twin::Whole, true);
}

#[test]
fn bursts_that_look_too_soon_ask_surely_in_the_end() {
    bursts(Twin::Whole, false, Ask::after);
    bursts(Twin::Whole, true, Ask::after);
}

/// One test for each model and layout: it must find who is not woken.
macro_rules! twins {
    ($($name:ident: $side:literal, $run:expr;)*) => {$(
        #[test]
        #[should_panic(expected = $side)]
        fn $name() {
            $run;
        }
    )*};
}

twins! {
    a_split_kick_without_its_fence_is_found_out: "the device sleeps", kicks(Twin::Unfenced, false);
    a_packed_kick_without_its_fence_is_found_out: "the device sleeps", kicks(Twin::Unfenced, true);
    a_split_call_without_its_fence_is_found_out: "the driver sleeps", calls(Twin::Unfenced, false);
    a_packed_call_without_its_fence_is_found_out: "the driver sleeps", calls(Twin::Unfenced, true);
    split_bursts_that_only_look_are_found_out: "the device sleeps", bursts(Twin::Whole, false, |_| Ask::Soon);
    packed_bursts_that_only_look_are_found_out: "the device sleeps", bursts(Twin::Whole, true, |_| Ask::Soon);
    split_bursts_without_their_fence_are_found_out: "the device sleeps", bursts(Twin::Unfenced, false, Ask::after);
    packed_bursts_without_their_fence_are_found_out: "the device sleeps", bursts(Twin::Unfenced, true, Ask::after);
}
