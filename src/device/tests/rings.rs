//! Rings of both layouts, one body for both wherever the standard says the same.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst, fence};

use super::driver::*;
use crate::device::memory::Identity;
use crate::device::ring::{Chain, Ring, Segment, Setup, area_bytes};
use crate::spec::virtio::Features;

const SPLIT: Features = Features::VERSION_1;
const PACKED: Features = Features::VERSION_1.union(Features::RING_PACKED);
/// Where test buffers begin.
const BUF: usize = QUEUE;

fn plain(_: &mut Setup) {}

fn layouts() -> [Features; 2] {
    [SPLIT, PACKED]
}

/// Takes all that is available, and hands it back with a length of its own.
fn use_all(memory: &Identity, ring: &mut Ring) -> Vec<(u16, u32)> {
    let mut used = Vec::new();
    let mut chain = Chain::default();
    while ring.next(memory, &mut chain).unwrap() {
        let len = chain.writable() as u32;
        ring.push_used(&chain, len);
        used.push((chain.id(), len));
    }
    ring.publish();
    used
}

fn collect_all(driver: &mut RawDriver) -> Vec<(u16, u32)> {
    std::iter::from_fn(|| driver.collect()).collect()
}

#[test]
fn buffers_go_around_rings_of_every_size() {
    for (features, size) in
        [(SPLIT, 1), (SPLIT, 2), (SPLIT, 8), (PACKED, 1), (PACKED, 2), (PACKED, 3), (PACKED, 7), (PACKED, 200)]
    {
        let (mut driver, memory, mut ring) = RawDriver::with_ring(size, features, plain);
        let mut chain = Chain::default();
        assert!(!ring.next(&memory, &mut chain).unwrap());
        for round in 0..5 * u32::from(size) {
            // As many as fit, in lists of one, two and three, so that lists lie across the end of the ring.
            let mut offered = Vec::new();
            let mut room = size;
            while room > 0 {
                let n = (round % 3 + 1).min(room.into()) as usize;
                let elements: Vec<Element> = (0..n).map(|k| (BUF + 64 * k, 10 + k as u32, k > 0)).collect();
                offered.push((driver.offer(&elements), (1..n as u32).map(|k| 10 + k).sum()));
                room -= n as u16;
            }
            assert_eq!(use_all(&memory, &mut ring), offered, "{features:?} {size} {round}");
            assert_eq!(collect_all(&mut driver), offered);
        }
    }
}

#[test]
fn the_split_index_wraps_at_16_bits() {
    let (mut driver, memory, _) = RawDriver::with_ring(4, SPLIT, plain);
    driver.start_split_at(65533);
    let mut setup = Setup::new(driver.areas(), 4, SPLIT);
    setup.base = 65533;
    // SAFETY: the driver keeps the memory.
    let mut ring = unsafe { Ring::new(&setup).unwrap() };
    for _ in 0..3 {
        let heads: Vec<_> = (0..4).map(|_| (driver.offer(&[(BUF, 8, false)]), 0)).collect();
        assert_eq!(use_all(&memory, &mut ring), heads);
        assert_eq!(collect_all(&mut driver), heads);
    }
    assert_eq!(ring.position(), (65533 + 12) & 0xffff);
}

#[test]
fn nothing_is_visible_before_it_is_published() {
    for features in layouts() {
        let (mut driver, memory, mut ring) = RawDriver::with_ring(4, features, plain);
        let ids = [driver.offer(&[(BUF, 8, true)]), driver.offer(&[(BUF, 8, true)])];
        let mut chain = Chain::default();
        for _ in 0..2 {
            assert!(ring.next(&memory, &mut chain).unwrap());
            ring.push_used(&chain, 5);
            assert_eq!(driver.collect(), None);
        }
        ring.publish();
        assert_eq!(collect_all(&mut driver), [(ids[0], 5), (ids[1], 5)]);
    }
}

#[test]
fn the_first_used_descriptor_of_a_packed_batch_comes_last() {
    const LAPS: u32 = 200;
    // Long enough for the other thread to look in the middle.
    const SIZE: u16 = 1024;
    let (mut driver, memory, mut ring) = RawDriver::with_ring(SIZE, PACKED, plain);
    let shared = driver.memory.clone();
    // Only the device changes USED, from lap to lap.
    let used_bit = |slot: usize| {
        // SAFETY: the flags of a descriptor of the ring, whose memory is held.
        unsafe { shared.addr().add(16 * slot + 14).cast::<u16>().read_volatile() >> 15 }
    };
    let (seen, half) = (&AtomicU32::new(0), &AtomicU32::new(0));
    std::thread::scope(|s| {
        s.spawn(move || {
            for lap in 0..LAPS {
                let bit = if lap % 2 == 0 { 1 } else { 0 };
                while used_bit(0) != bit {
                    std::hint::spin_loop();
                }
                fence(SeqCst);
                half.fetch_add((used_bit(usize::from(SIZE) - 1) != bit).into(), SeqCst);
                seen.store(lap + 1, SeqCst);
            }
        });
        for lap in 0..LAPS {
            driver.offer_many(SIZE.into(), (BUF, 8, false));
            assert_eq!(use_all(&memory, &mut ring).len(), SIZE.into());
            while seen.load(SeqCst) != lap + 1 {
                std::thread::yield_now();
            }
            assert_eq!(collect_all(&mut driver).len(), SIZE.into());
        }
    });
    assert_eq!(half.load(SeqCst), 0);
}

#[test]
fn elements_are_read_as_they_were_written() {
    for features in layouts() {
        let (mut driver, memory, mut ring) = RawDriver::with_ring(8, features, plain);
        let id = driver.offer(&[(BUF, 12, false), (BUF + 12, 0, false), (BUF + 100, 60, false), (BUF + 200, 1, true)]);
        let mut chain = Chain::default();
        assert!(ring.next(&memory, &mut chain).unwrap());
        let segment = |at, len, writable| Segment { addr: driver.addr(at), len, writable };
        // Empty elements take a slot, but are not there.
        let expected = [segment(BUF, 12, false), segment(BUF + 100, 60, false), segment(BUF + 200, 1, true)];
        assert_eq!(chain.segments(), expected);
        assert_eq!((chain.id(), chain.slots(), chain.readable(), chain.writable()), (id, 4, 72, 1));
    }
}

#[test]
fn indirect_tables_are_followed() {
    for features in layouts().map(|f| f | Features::INDIRECT_DESC) {
        let (mut driver, memory, mut ring) = RawDriver::with_ring(4, features, plain);
        let mut chain = Chain::default();
        for (table, n) in [(BUF, 1), (BUF + 8, 2), (BUF + 3, 4)] {
            let elements: Vec<Element> = (0..n).map(|k| (BUF + 256, 20 + k, k > 1)).collect();
            let id = driver.offer_indirect(table, &elements);
            assert!(ring.next(&memory, &mut chain).unwrap());
            assert_eq!((chain.id(), chain.slots(), chain.segments().len()), (id, 1, n as usize));
            assert!(chain.segments().iter().zip(20..).all(|(s, len)| s.len == len && s.writable == (len > 21)));
            ring.push_used(&chain, 0);
            ring.publish();
            assert_eq!(driver.collect(), Some((id, 0)));
        }
        // WRITE means nothing in the descriptor that refers to a table (2.7.5.3.2, 2.8.7).
        driver.put_desc(BUF, driver.addr(BUF + 64), 9, if driver.packed { 0 } else { WRITE }, 0);
        if driver.packed {
            driver.put16(BUF + 14, WRITE);
        }
        driver.offer_raw(&[(driver.addr(BUF), 16, INDIRECT | WRITE)]);
        assert!(ring.next(&memory, &mut chain).unwrap());
        assert_eq!((chain.readable(), chain.writable()), (0, 9));
    }
}

#[test]
fn a_split_chain_may_end_in_an_indirect_table() {
    let (mut driver, memory, mut ring) = RawDriver::with_ring(4, SPLIT | Features::INDIRECT_DESC, plain);
    driver.put_desc(BUF, driver.addr(BUF + 64), 9, WRITE, 0);
    driver.offer_raw(&[(driver.addr(BUF + 80), 3, 0), (driver.addr(BUF), 16, INDIRECT)]);
    let mut chain = Chain::default();
    assert!(ring.next(&memory, &mut chain).unwrap());
    assert_eq!((chain.slots(), chain.readable(), chain.writable()), (2, 3, 9));
}

#[test]
fn what_is_put_back_comes_again_and_wakes_nobody() {
    for features in layouts().map(|f| f | Features::EVENT_IDX) {
        let size = if features == SPLIT | Features::EVENT_IDX { 4 } else { 5 };
        let (mut driver, memory, mut ring) = RawDriver::with_ring(size, features, plain);
        for _ in 0..7 {
            let ids = [driver.offer(&[(BUF, 8, true), (BUF, 8, true)]), driver.offer(&[(BUF, 8, true)])];
            let (mut a, mut b, mut none) = (Chain::default(), Chain::default(), Chain::default());
            let before = ring.position();
            assert!(ring.next(&memory, &mut a).unwrap() && ring.next(&memory, &mut b).unwrap());
            assert!(ring.kicks(true), "nobody has looked behind the two");
            assert!(!ring.next(&memory, &mut none).unwrap());
            ring.put_back(&b);
            ring.put_back(&a);
            assert_eq!(ring.position(), before);
            // The two are known: only what comes behind them is news.
            assert!(!ring.kicks(true));
            let third = driver.offer(&[(BUF, 8, true)]);
            assert!(ring.kicks(true));
            assert!(!ring.kicks(false));
            let used = use_all(&memory, &mut ring);
            assert_eq!(used, [(ids[0], 16), (ids[1], 8), (third, 8)]);
            assert_eq!(collect_all(&mut driver), used);
        }
    }
}

#[test]
fn kicks_are_asked_for_at_the_next_place() {
    let event = Features::EVENT_IDX;
    let (mut driver, memory, mut ring) = RawDriver::with_ring(4, SPLIT, plain);
    assert!(!ring.kicks(false) && driver.get16(DEVICE) == 1);
    assert!(ring.kicks(true), "nobody has looked yet");
    use_all(&memory, &mut ring);
    assert!(!ring.kicks(true) && driver.get16(DEVICE) == 0);
    driver.offer(&[(BUF, 1, false)]);
    assert!(ring.kicks(true));

    let (mut driver, memory, mut ring) = RawDriver::with_ring(4, SPLIT | event, plain);
    driver.offer_many(3, (BUF, 1, false));
    use_all(&memory, &mut ring);
    assert!(!ring.next(&memory, &mut Chain::default()).unwrap() && !ring.kicks(true));
    // Behind 4 elements of 8 bytes; the flags stay zero (2.7.10.2).
    assert_eq!((driver.get16(DEVICE + 4 + 32), driver.get16(DEVICE)), (3, 0));
    assert!(!ring.kicks(false));
    assert_eq!((driver.get16(DEVICE + 4 + 32), driver.get16(DEVICE)), (2, 0));

    let (mut driver, memory, mut ring) = RawDriver::with_ring(3, PACKED | event, plain);
    driver.offer_many(3, (BUF, 1, false));
    use_all(&memory, &mut ring);
    assert!(!ring.kicks(true));
    // Slot 0 in the second lap, whose counter is 0; DESC.
    assert_eq!((driver.get16(DEVICE), driver.get16(DEVICE + 2)), (0, 2));
    driver.collect();
    driver.offer(&[(BUF, 1, false)]);
    assert!(ring.kicks(true) && !ring.kicks(false) && driver.get16(DEVICE + 2) == 1);

    let (_driver, memory, mut ring) = RawDriver::with_ring(3, PACKED, plain);
    use_all(&memory, &mut ring);
    assert!(!ring.kicks(true) && _driver.get16(DEVICE + 2) == 0);
}

#[test]
fn calls_are_made_as_the_driver_wishes() {
    let event = Features::EVENT_IDX;
    let step = |driver: &mut RawDriver, memory: &Identity, ring: &mut Ring| {
        driver.offer(&[(BUF, 1, false)]);
        use_all(memory, ring);
        driver.collect();
        ring.should_call()
    };
    let (mut driver, memory, mut ring) = RawDriver::with_ring(4, SPLIT, plain);
    assert!(!ring.should_call(), "nothing was used");
    assert!(step(&mut driver, &memory, &mut ring) && !ring.should_call());
    driver.put16(DRIVER, 1);
    assert!(!step(&mut driver, &memory, &mut ring));

    let (mut driver, memory, mut ring) = RawDriver::with_ring(4, SPLIT | event, plain);
    // Behind 4 entries of 2 bytes; the flags do not count (2.7.7.2).
    driver.put16(DRIVER + 4 + 8, 2);
    driver.put16(DRIVER, 1);
    let calls: Vec<_> = (0..6).map(|_| step(&mut driver, &memory, &mut ring)).collect();
    assert_eq!(calls, [false, false, true, false, false, false]);

    let (mut driver, memory, mut ring) = RawDriver::with_ring(3, PACKED | event, plain);
    // Slot 1 with counter 0: in the second lap.
    driver.put16(DRIVER, 1);
    driver.put16(DRIVER + 2, 2);
    let calls: Vec<_> = (0..9).map(|_| step(&mut driver, &memory, &mut ring)).collect();
    assert_eq!(calls, [false, false, false, false, true, false, false, false, false]);
    driver.put16(DRIVER + 2, 1);
    assert!((0..6).all(|_| !step(&mut driver, &memory, &mut ring)));
    driver.put16(DRIVER + 2, 0);
    assert!((0..6).all(|_| step(&mut driver, &memory, &mut ring)));
}

/// The ring breaks, and stays broken.
fn assert_broken(ring: &mut Ring, memory: &Identity, what: &str) {
    let mut chain = Chain::default();
    let error = ring.next(memory, &mut chain).unwrap_err();
    assert!(error.to_string().contains(what), "{error} lacks {what}");
    assert!(ring.is_broken() && ring.next(memory, &mut chain).is_err());
}

#[test]
fn lies_about_buffers_break_either_ring() {
    let ok = |driver: &RawDriver| driver.addr(BUF);
    type Lie = fn(&RawDriver) -> Vec<(u64, u32, u16)>;
    let lies: [(&str, Lie); 6] = [
        ("outside the shared memory", |_| vec![(16, 1, 0)]),
        ("outside the shared memory", |d| vec![(d.addr(0), 1 << 21, 0)]),
        ("outside the shared memory", |_| vec![(u64::MAX, 2, 0)]),
        ("follows a writable one", |d| vec![(d.addr(BUF), 1, WRITE), (d.addr(BUF), 1, 0)]),
        ("indirect", |d| vec![(d.addr(BUF), 16, INDIRECT)]),
        ("indirect", |d| vec![(d.addr(BUF), 16, INDIRECT), (d.addr(BUF), 1, 0)]),
    ];
    for features in layouts() {
        for (what, lie) in lies {
            let (mut driver, memory, mut ring) = RawDriver::with_ring(4, features, plain);
            driver.offer_raw(&lie(&driver));
            assert_broken(&mut ring, &memory, what);
        }
        let indirect = features | Features::INDIRECT_DESC;
        for (what, len) in [("table of 0", 0), ("table of 17", 17), ("outside", 1 << 24)] {
            let (mut driver, memory, mut ring) = RawDriver::with_ring(4, indirect, plain);
            driver.offer_raw(&[(ok(&driver), len, INDIRECT)]);
            assert_broken(&mut ring, &memory, what);
        }
        let (mut driver, memory, mut ring) = RawDriver::with_ring(4, indirect, plain);
        driver.offer_indirect(BUF, &[(BUF, 1, false); 5]);
        assert_broken(&mut ring, &memory, if driver.packed { "elements" } else { "without end" });
    }
}

#[test]
fn lies_about_indices_break_a_split_ring() {
    type Lie = fn(&mut RawDriver);
    let lies: [(&str, Lie); 7] = [
        ("outside the table", |d| d.make_available(4)),
        ("index went", |d| d.put16(DRIVER + 2, 5)),
        ("more than 4", |d| {
            d.put_ring_desc(0, d.addr(BUF), 1, NEXT, 0);
            d.make_available(0);
        }),
        ("outside the table", |d| {
            d.put_ring_desc(0, d.addr(BUF), 1, NEXT, 4);
            d.make_available(0);
        }),
        ("outside the indirect table", |d| {
            d.put_desc(BUF, d.addr(BUF), 1, NEXT, 1);
            d.offer_raw(&[(d.addr(BUF), 16, INDIRECT)]);
        }),
        ("without end", |d| {
            d.put_desc(BUF, d.addr(BUF), 1, NEXT, 0);
            d.offer_raw(&[(d.addr(BUF), 32, INDIRECT)]);
        }),
        ("inside an indirect", |d| {
            d.put_desc(BUF, d.addr(BUF), 16, INDIRECT, 0);
            d.offer_raw(&[(d.addr(BUF), 16, INDIRECT)]);
        }),
    ];
    for (what, lie) in lies {
        let (mut driver, memory, mut ring) = RawDriver::with_ring(4, SPLIT | Features::INDIRECT_DESC, plain);
        lie(&mut driver);
        assert_broken(&mut ring, &memory, what);
    }
}

#[test]
fn lies_about_lists_break_a_packed_ring() {
    let (driver, memory, mut ring) = RawDriver::with_ring(3, PACKED, plain);
    driver.put_ring_desc(0, driver.addr(BUF), 1, 0, NEXT | 1 << 7);
    assert_broken(&mut ring, &memory, "not available");

    // Available all around, in the second lap with the other bits: more than the ring has.
    let (driver, memory, mut ring) = RawDriver::with_ring(3, PACKED, plain);
    (0..3).for_each(|n| driver.put_ring_desc(n, driver.addr(BUF), 1, 0, NEXT | 1 << 7));
    assert_broken(&mut ring, &memory, "more than 3");
}

#[test]
fn impossible_queues_are_refused() {
    let (driver, _, _) = RawDriver::with_ring(4, SPLIT, plain);
    let refused = |size, features, change: fn(&mut Setup)| {
        let mut setup = Setup::new(driver.areas(), size, features);
        change(&mut setup);
        // SAFETY: the memory has room for small queues, and larger ones are refused.
        unsafe { Ring::new(&setup).is_err() }
    };
    assert!(refused(0, SPLIT, plain) && refused(3, SPLIT, plain) && refused(0, PACKED, plain));
    assert!(refused(32769, PACKED, plain) && refused(65535, SPLIT, plain));
    assert!(refused(4, SPLIT, |s| s.areas.desc = s.areas.desc.wrapping_add(8)));
    assert!(refused(4, PACKED, |s| s.areas.driver = s.areas.driver.wrapping_add(2)));
    assert!(refused(4, SPLIT, |s| s.areas.device = std::ptr::null_mut()));
    assert!(refused(4, PACKED, |s| s.base = 4) && refused(4, PACKED, |s| s.base = 0x8004_8000));
    assert!(!refused(3, PACKED, plain) && !refused(4, SPLIT, |s| s.areas.driver = s.areas.driver.wrapping_add(2)));
    assert_eq!(area_bytes(4, SPLIT), (64, 12, 36));
    assert_eq!(area_bytes(4, SPLIT | Features::EVENT_IDX), (64, 14, 38));
    assert_eq!(area_bytes(3, PACKED), (48, 4, 4));
}

#[test]
fn a_ring_goes_on_where_it_stood() {
    for features in layouts() {
        let (mut driver, memory, mut ring) = RawDriver::with_ring(4, features, plain);
        for n in 0..11 {
            let id = driver.offer(&[(BUF, 8, true)]);
            assert_eq!(use_all(&memory, &mut ring), [(id, 8)]);
            assert_eq!(driver.collect(), Some((id, 8)));
            let position = ring.position();
            let lap = if (n + 1) / 4 % 2 == 0 { 0x8000 } else { 0 };
            let packed = ((n + 1) % 4) | lap;
            assert_eq!(position, if driver.packed { packed | packed << 16 } else { n + 1 });
            let mut setup = Setup::new(driver.areas(), 4, features);
            // Some front-ends know of the low half only.
            setup.base = if n % 2 == 0 { position } else { position & 0xffff };
            // SAFETY: the driver keeps the memory; the ring before is not used any more.
            ring = unsafe { Ring::new(&setup).unwrap() };
        }
    }
}

#[test]
fn in_order_batches_tell_only_the_last() {
    for features in layouts().map(|f| f | Features::IN_ORDER) {
        let (mut driver, memory, mut ring) = RawDriver::with_ring(8, features, |s| s.batch_used = true);
        for _ in 0..9 {
            // Two transmitted buffers, then three that can be written: filled, half filled, filled.
            let sent = [driver.offer(&[(BUF, 1, false), (BUF, 1, false)]), driver.offer(&[(BUF, 1, false)])];
            let got: Vec<_> = (0..3).map(|_| driver.offer(&[(BUF, 8, true)])).collect();
            let mut chain = Chain::default();
            for len in [0, 0, 8, 4, 8] {
                assert!(ring.next(&memory, &mut chain).unwrap());
                ring.push_used(&chain, len);
            }
            ring.publish();
            let before = driver.collected;
            // One for the first four, of which the last is not full; one for the fifth.
            assert_eq!(driver.collect(), Some((got[1], 4)));
            // The driver skips the batch: four buffers, five slots.
            driver.collected = before + if driver.packed { 5 } else { 4 };
            assert_eq!(driver.collect(), Some((got[2], 8)));
            driver.forget(&[sent[0], sent[1], got[0]]);
            assert_eq!(driver.collect(), None);
        }
    }
}

#[test]
fn a_strict_device_wants_ring_order() {
    let features = SPLIT | Features::IN_ORDER;
    let (mut driver, memory, mut ring) = RawDriver::with_ring(4, features, |s| s.strict = true);
    for _ in 0..3 {
        driver.offer(&[(BUF, 1, false), (BUF, 1, false)]);
        driver.offer(&[(BUF, 1, false)]);
        let mut chain = Chain::default();
        assert!(ring.next(&memory, &mut chain).unwrap());
        ring.put_back(&chain);
        assert_eq!(use_all(&memory, &mut ring).len(), 2);
    }
    driver.next_desc = (driver.next_desc + 1) % 4;
    driver.offer(&[(BUF, 1, false)]);
    assert_broken(&mut ring, &memory, "out of order");
}

#[test]
fn a_shuffled_ring_hands_everything_back_once_and_not_far_away() {
    for features in layouts() {
        let (mut driver, memory, mut ring) = RawDriver::with_ring(64, features, |s| s.shuffle = 3);
        let mut moved = 0;
        for _ in 0..10 {
            let offered: Vec<_> = (0..64).map(|n| driver.offer(&[(BUF, n, true)])).collect();
            use_all(&memory, &mut ring);
            let collected: Vec<_> = collect_all(&mut driver).into_iter().map(|(id, len)| (id, len as usize)).collect();
            assert_eq!(collected.len(), 64);
            for (place, &(id, len)) in collected.iter().enumerate() {
                assert_eq!(offered[len], id);
                assert!(place.abs_diff(len) <= 3);
                moved += usize::from(place != len);
            }
        }
        assert!(moved > 300);
    }
}

#[test]
fn the_buffers_of_a_frame_stay_together_when_shuffled() {
    let (mut driver, memory, mut ring) = RawDriver::with_ring(64, SPLIT, |s| s.shuffle = 7);
    driver.offer_many(64, (BUF, 10, true));
    let mut chains = [Chain::default(), Chain::default()];
    for _ in 0..32 {
        assert!(chains.iter_mut().all(|c| ring.next(&memory, c).unwrap()));
        ring.push_frame(&chains, 13);
    }
    ring.publish();
    let used = collect_all(&mut driver);
    assert!(used.chunks(2).all(|pair| pair[0].1 == 10 && pair[1] == (pair[0].0 + 1, 3)));
    assert!(used.windows(2).any(|pair| pair[1].0 < pair[0].0));
}
