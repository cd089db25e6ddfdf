//! Frames through a pair of rings, stepped by hand.

use std::sync::Arc;

use super::driver::*;
use crate::device::frame::{SEQUENCE_AT, hash};
use crate::device::memory::Identity;
use crate::device::net::{Mode, Pair, Rings};
use crate::device::ring::{Ring, Setup};
use crate::spec::virtio::Features;
use crate::sys::shm::SharedMemory;

const BASE: Features = Features::VERSION_1;
const MRG: Features = Features::VERSION_1.union(Features::MRG_RXBUF);
/// Where frames to send and receive buffers begin.
const SEND: usize = 2 * QUEUE;
const RECEIVE: usize = 2 * QUEUE + 0x20000;

/// A pair of queues of 8, driven by hand on both sides.
struct Bench {
    pair: Pair,
    memory: Identity,
    rx: RawDriver,
    tx: RawDriver,
    rx_ring: Ring,
    tx_ring: Ring,
}

impl Bench {
    fn new(mode: Mode, features: Features) -> Self {
        let shared = Arc::new(SharedMemory::new("test", 1 << 20, false).unwrap());
        let queue = |at| {
            let packed = features.contains(Features::RING_PACKED);
            let driver = RawDriver::new(shared.clone(), shared.addr() as u64, at, 8, packed);
            // SAFETY: the drivers keep the memory, and only raw accesses are made to it.
            let ring = unsafe { Ring::new(&Setup::new(driver.areas(), 8, features)).unwrap() };
            (driver, ring)
        };
        let ((rx, rx_ring), (tx, tx_ring)) = (queue(0), queue(QUEUE));
        let mut memory = Identity::default();
        // SAFETY: as above.
        unsafe { memory.add(shared.addr(), shared.len()) };
        Self { pair: Pair::new(mode, features, [2, 0, 0, 0, 0, 1], 64), memory, rx, tx, rx_ring, tx_ring }
    }

    fn rings(&mut self) -> (&mut Pair, &Identity, Rings<'_>) {
        let rings = Rings { receive: Some(&mut self.rx_ring), transmit: Some(&mut self.tx_ring), discard: false };
        (&mut self.pair, &self.memory, rings)
    }

    fn step(&mut self) -> usize {
        let (pair, memory, rings) = self.rings();
        pair.step(memory, rings)
    }

    fn arm(&mut self) -> bool {
        let (pair, _, rings) = self.rings();
        pair.arm(rings)
    }

    /// Sends a header and a payload in two elements; `n` keeps frames apart.
    fn send(&mut self, n: usize, header: &[u8], payload: &[u8]) -> u16 {
        let at = SEND + 0x2000 * n;
        self.tx.put(at, header);
        self.tx.put(at + 64, payload);
        self.tx.offer(&[(at, header.len() as u32, false), (at + 64, payload.len() as u32, false)])
    }

    /// Offers receive buffer `n`.
    fn offer(&mut self, n: usize, len: u32) -> u16 {
        self.rx.offer(&[(RECEIVE + 0x2000 * n, len, true)])
    }

    fn received(&self, n: usize, len: usize) -> Vec<u8> {
        self.rx.get(RECEIVE + 0x2000 * n, len)
    }
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + 1) as u8).collect()
}

fn layouts(features: Features) -> [Features; 2] {
    [features, features | Features::RING_PACKED]
}

#[test]
fn an_echo_comes_back_unchanged() {
    // (features, header length, header received)
    let cases = [
        (Features::empty(), 10, vec![0; 10]),
        (BASE, 12, [vec![0; 10], vec![1, 0]].concat()),
        (Features::MRG_RXBUF, 12, [vec![0; 10], vec![1, 0]].concat()),
    ];
    for (features, len, header) in cases.into_iter().flat_map(|(f, n, h)| layouts(f).map(|f| (f, n, h.clone()))) {
        let mut bench = Bench::new(Mode::Echo, features);
        for n in 0..20 {
            let buffer = bench.offer(0, 2048);
            let frame = payload(60 + n);
            let sent = bench.send(0, &vec![0; len], &frame);
            assert_eq!(bench.step(), 1);
            assert_eq!(bench.rx.collect(), Some((buffer, (len + frame.len()) as u32)), "{features:?}");
            assert_eq!(bench.received(0, len + frame.len()), [header.clone(), frame].concat());
            assert_eq!(bench.tx.collect(), Some((sent, 0)));
        }
        assert_eq!((bench.pair.stats().received, bench.pair.stats().sent), (20, 20));
    }
}

#[test]
fn wishes_of_the_sender_reach_only_who_agreed() {
    // NEEDS_CSUM, TCPv4, hdr_len 54, gso_size 1448, csum_start 34, csum_offset 16, and a num_buffers that is a lie.
    let sent = [1, 1, 54, 0, 0xa8, 5, 34, 0, 16, 0, 9, 9];
    for (agreed, expected) in [
        (Features::empty(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]),
        (Features::GUEST_CSUM, [1, 0, 54, 0, 0, 0, 34, 0, 16, 0, 1, 0]),
        (Features::GUEST_CSUM | Features::GUEST_TSO4, [1, 1, 54, 0, 0xa8, 5, 34, 0, 16, 0, 1, 0]),
    ] {
        let mut bench = Bench::new(Mode::Echo, BASE | agreed);
        bench.offer(0, 2048);
        bench.send(0, &sent, &payload(100));
        bench.step();
        assert_eq!(bench.received(0, 12), expected);
    }
}

#[test]
fn a_hash_is_reported_where_it_is_wanted() {
    let mut bench = Bench::new(Mode::Echo, BASE | Features::HASH_REPORT);
    bench.offer(0, 2048);
    bench.send(0, &[0; 20], &payload(100));
    bench.step();
    assert_eq!(bench.rx.collect().map(|u| u.1), Some(120));
    let expected = [vec![0; 10], vec![1, 0], hash(&payload(64)).to_le_bytes().to_vec(), vec![1, 0, 0, 0]].concat();
    assert_eq!(bench.received(0, 20), expected);
}

#[test]
fn a_frame_spreads_over_buffers_that_are_filled_to_the_end() {
    for features in layouts(MRG) {
        let mut bench = Bench::new(Mode::Echo, features);
        let ids = [bench.offer(0, 100), bench.offer(1, 50), bench.offer(2, 100), bench.offer(3, 100)];
        let frame = payload(200 - 12);
        bench.send(0, &[0; 12], &frame);
        bench.step();
        assert_eq!(bench.rx.collect(), Some((ids[0], 100)));
        assert_eq!(bench.rx.collect(), Some((ids[1], 50)));
        assert_eq!(bench.rx.collect(), Some((ids[2], 50)));
        assert_eq!(bench.rx.collect(), None);
        let all = [bench.received(0, 100), bench.received(1, 50), bench.received(2, 50)].concat();
        assert_eq!(all, [vec![0; 10], vec![3, 0], frame].concat());
    }
}

#[test]
fn a_frame_waits_until_there_is_room() {
    for features in layouts(MRG | Features::EVENT_IDX) {
        let mut bench = Bench::new(Mode::Echo, features);
        let sent = [bench.send(0, &[0; 12], &payload(188)), bench.send(1, &[0; 12], &payload(60))];
        assert_eq!((bench.step(), bench.rx.collect(), bench.tx.collect()), (0, None, None));
        assert!(!bench.arm());
        // Half of what it needs: news, but not enough, and after that no news any more.
        bench.offer(0, 100);
        assert!(bench.arm());
        assert_eq!(bench.step(), 0);
        assert!(!bench.arm());
        bench.offer(1, 100);
        bench.offer(2, 100);
        assert!(bench.arm());
        assert_eq!(bench.step(), 2);
        assert_eq!(bench.tx.collect().map(|u| u.0), Some(sent[0]));
        assert_eq!(bench.tx.collect().map(|u| u.0), Some(sent[1]));
        assert_eq!(std::iter::from_fn(|| bench.rx.collect()).map(|u| u.1).collect::<Vec<_>>(), [100, 100, 72]);
        assert_eq!(bench.step(), 0);
        assert!(!bench.arm());
        assert_eq!((bench.pair.stats().received_dropped, bench.pair.stats().sent), (0, 2));
    }
}

#[test]
fn frames_that_can_never_fit_are_dropped() {
    let mut bench = Bench::new(Mode::Echo, BASE);
    let buffer = bench.offer(0, 100);
    bench.send(0, &[0; 12], &payload(89));
    // Without MRG_RXBUF one buffer must do: the small frame behind finds it untouched.
    bench.send(1, &[0; 12], &payload(88));
    assert_eq!(bench.step(), 2);
    assert_eq!((bench.rx.collect(), bench.rx.collect()), (Some((buffer, 100)), None));
    // Not longer than its header.
    bench.send(0, &[0; 12], &[]);
    bench.tx.offer(&[(SEND, 5, false)]);
    assert_eq!(bench.step(), 2);
    assert_eq!((bench.pair.stats().received, bench.pair.stats().received_dropped), (4, 3));

    // With it, the whole ring is too small.
    let mut bench = Bench::new(Mode::Echo, MRG);
    (0..8).for_each(|n| assert_eq!(bench.offer(n, 20), n as u16));
    bench.send(0, &[0; 12], &payload(149));
    assert_eq!((bench.step(), bench.pair.stats().received_dropped), (1, 1));
    bench.send(1, &[0; 12], &payload(148));
    assert_eq!((bench.step(), bench.pair.stats().sent), (1, 1));
    assert_eq!(std::iter::from_fn(|| bench.rx.collect()).count(), 8);
}

#[test]
fn a_disabled_transmit_ring_is_emptied_and_a_disabled_receive_ring_left_alone() {
    let mut bench = Bench::new(Mode::Echo, BASE);
    bench.offer(0, 2048);
    bench.send(0, &[0; 12], &payload(60));
    let (pair, memory, rings) = bench.rings();
    assert_eq!(pair.step(memory, Rings { receive: None, ..rings }), 0);
    let (pair, memory, rings) = bench.rings();
    assert_eq!(pair.step(memory, Rings { discard: true, ..rings }), 1);
    assert!(bench.tx.collect().is_some() && bench.rx.collect().is_none());
}

#[test]
fn a_broken_ring_is_left_alone_and_the_frame_in_hand_stays() {
    let mut bench = Bench::new(Mode::Echo, BASE);
    bench.send(0, &[0; 12], &payload(60));
    bench.rx.offer_raw(&[(8, 2048, WRITE)]);
    assert_eq!(bench.step(), 1);
    assert!(bench.rx_ring.is_broken() && !bench.tx_ring.is_broken());
    assert_eq!((bench.step(), bench.arm(), bench.tx.collect()), (0, false, None));
    assert_eq!(bench.pair.stats().broken, 1);
    // A receive buffer that cannot be written.
    let mut bench = Bench::new(Mode::Echo, BASE);
    bench.send(0, &[0; 12], &payload(60));
    bench.rx.offer(&[(RECEIVE, 2048, false)]);
    bench.step();
    assert!(bench.rx_ring.is_broken());
}

#[test]
fn a_sink_swallows_everything() {
    let mut bench = Bench::new(Mode::Sink, BASE);
    (0..4).for_each(|n| assert_eq!(bench.send(n, &[0; 12], &payload(60)), 2 * n as u16));
    assert_eq!((bench.step(), bench.step(), bench.arm()), (4, 0, false));
    assert_eq!((bench.pair.stats().received, bench.pair.stats().sent), (4, 0));
}

#[test]
fn a_source_numbers_its_frames_without_a_gap() {
    for features in layouts(BASE).into_iter().chain(layouts(MRG)) {
        let mut bench = Bench::new(Mode::Source, features);
        for round in 0..5 {
            for n in 0..8 {
                bench.offer(n, 128);
            }
            assert_eq!(bench.step(), 8);
            for n in 0..8 {
                assert_eq!(bench.rx.collect().map(|u| u.1), Some(76));
                let sequence = bench.received(n, 76).split_off(12 + SEQUENCE_AT)[..8].to_vec();
                assert_eq!(sequence, (round * 8 + n as u64).to_be_bytes());
            }
            assert!(!bench.arm());
        }
        assert_eq!((bench.pair.stats().sent, bench.pair.stats().sent_dropped), (40, 5));
    }
    // Buffers that never fit do not keep the device awake.
    let mut bench = Bench::new(Mode::Source, BASE);
    bench.offer(0, 30);
    assert_eq!((bench.step(), bench.arm()), (0, false));
}
