//! Everything that wraps around: ring indices past 2^16, packed laps of any size, chains across the end, and the
//! arithmetic of notifications.

use vuser::mem::lanes::{Avx2, Avx512, Lanes, Scalar};
use vuser::ring::packed::PackedRing;
use vuser::ring::split::SplitRing;
use vuser::ring::{Ask, Cookie, Lengths, OfferStep, Offers, Ring, STEP, Segment, Takes, Used, UsedStep, need_event};
use vuser::spec::ring::{DESC_F_AVAIL, DESC_F_NEXT, DESC_F_USED, DESC_F_WRITE, QueueLayout};
use vuser::sys::shm::SharedMemory;

/// The least of a device: takes what is available and uses it, in order, by the offsets of the standard.
struct Device {
    base: *mut u8,
    layout: QueueLayout,
    size: u16,
    packed: bool,
    next: u16,
    wrap: bool,
    done: u16,
}

impl Device {
    fn word<T: Copy>(&self, at: usize) -> T {
        // SAFETY: inside the ring's memory, which this thread alone uses.
        unsafe { self.base.add(at).cast::<T>().read_volatile() }
    }

    fn put<T>(&self, at: usize, value: T) {
        // SAFETY: as above.
        unsafe { self.base.add(at).cast::<T>().write_volatile(value) };
    }

    /// Uses one chain, if there is one; the bytes it had.
    fn use_one(&mut self) -> Option<u32> {
        if self.packed { self.use_packed() } else { self.use_split() }
    }

    fn use_split(&mut self) -> Option<u32> {
        if self.word::<u16>(self.layout.driver + 2) == self.done {
            return None;
        }
        let slot = usize::from(self.done % self.size);
        let head = self.word::<u16>(self.layout.driver + 4 + 2 * slot);
        let (mut at, mut bytes) = (head, 0);
        loop {
            let desc = self.layout.desc + 16 * usize::from(at);
            bytes += self.word::<u32>(desc + 8);
            if self.word::<u16>(desc + 12) & DESC_F_NEXT == 0 {
                break;
            }
            at = self.word(desc + 14);
        }
        self.put(self.layout.device + 4 + 8 * slot, u32::from(head));
        self.put(self.layout.device + 8 + 8 * slot, bytes);
        self.done = self.done.wrapping_add(1);
        self.put(self.layout.device + 2, self.done);
        Some(bytes)
    }

    fn use_packed(&mut self) -> Option<u32> {
        let (first, lap) = (self.next, self.wrap);
        let (mut bytes, mut id);
        bytes = 0;
        loop {
            let desc = self.layout.desc + 16 * usize::from(self.next);
            let flags = self.word::<u16>(desc + 14);
            let available = if self.wrap { DESC_F_AVAIL } else { DESC_F_USED };
            if flags & (DESC_F_AVAIL | DESC_F_USED) != available {
                assert_eq!(self.next, first, "a chain ends in the middle");
                return None;
            }
            bytes += self.word::<u32>(desc + 8);
            id = self.word::<u16>(desc + 12);
            self.next += 1;
            if self.next == self.size {
                (self.next, self.wrap) = (0, !self.wrap);
            }
            if flags & DESC_F_NEXT == 0 {
                break;
            }
        }
        let desc = self.layout.desc + 16 * usize::from(first);
        self.put(desc + 8, bytes);
        self.put(desc + 12, id);
        self.put(desc + 14, if lap { DESC_F_AVAIL | DESC_F_USED } else { 0 });
        Some(bytes)
    }
}

fn cookie(n: u64) -> Cookie {
    Cookie(n)
}

/// Chains of changing lengths go around until `chains` of them are back, in order and with their own lengths.
fn go_around(mut ring: impl Ring, mut device: Device, chains: u64, longest: u64) {
    let (mut offered, mut back) = (0u64, 0u64);
    let len = |n: u64| 100 + (n % 1000) as u32;
    while back < chains {
        loop {
            let span = 1 + offered % longest.min(u64::from(device.size));
            let mut chain = vec![Segment { addr: 0x1000, len: 0, flags: 0 }; span as usize];
            chain[0].len = len(offered);
            if !ring.offer(&chain, cookie(offered), true) {
                break;
            }
            offered += 1;
        }
        assert!(!ring.offer(&[], cookie(offered), true), "nothing is no chain");
        ring.publish(Ask::Surely);
        while let Some(bytes) = device.use_one() {
            assert!((100..1100).contains(&bytes));
        }
        ring.poll().unwrap();
        while let Some((c, used, plain)) = ring.take().unwrap() {
            assert_eq!((c, used, plain), (cookie(back), Used::Bytes(len(back)), true));
            back += 1;
        }
        assert_eq!(ring.ledger().lent(), 0);
    }
}

fn with_ring(packed: bool, size: u16, run: impl Fn(&dyn Fn(*mut u8) -> Device, *mut u8)) {
    let layout = if packed { QueueLayout::packed(size) } else { QueueLayout::split(size) };
    let memory = SharedMemory::new("wrap", layout.bytes, false).unwrap();
    let device = |base| Device { base, layout, size, packed, next: 0, wrap: true, done: 0 };
    run(&device, memory.addr());
}

#[test]
fn split_indices_go_past_65536_and_chains_past_the_end() {
    for size in [1u16, 2, 4, 64, 256, 32768] {
        with_ring(false, size, |device, base| {
            // SAFETY: the memory is mapped, of the layout's size, and only this ring's and this device's.
            let ring = unsafe { SplitRing::new(Scalar, base, size, false, true) };
            go_around(ring, device(base), 140_000, if size > 4 { 5 } else { 1 });
        });
    }
}

#[test]
fn packed_laps_of_any_size_keep_their_wrap_counters() {
    for size in [1u16, 2, 3, 5, 7, 255, 256, 1000, 32768] {
        with_ring(true, size, |device, base| {
            // SAFETY: as above.
            let ring = unsafe { PackedRing::new(Scalar, base, size, false, true) };
            // Chains as long as the whole ring, too, where it is small.
            go_around(ring, device(base), 70_000, 7);
        });
    }
}

/// Buffers by steps: numbered, of changing lengths.
struct Numbered<L>(L, u64);

fn length(n: u64) -> u64 {
    64 + n % 1000
}

impl<L: Lanes> Offers<L::Quad> for Numbered<L> {
    unsafe fn step(&mut self, _: usize) -> Option<OfferStep<L::Quad>> {
        let numbers: [u64; STEP] = std::array::from_fn(|k| self.1 + k as u64);
        self.1 += STEP as u64;
        let cookies = self.0.quad(&numbers.map(|n| cookie(n).0));
        Some(OfferStep { addrs: self.0.splat(0x1000), lens: self.0.quad(&numbers.map(length)), cookies })
    }
}

impl<L: Lanes> Takes<L::Quad> for Numbered<L> {
    unsafe fn step(&mut self, _: usize, used: UsedStep<'_, L::Quad>) -> bool {
        if self.0.any_above(used.lens, u32::MAX) {
            return false;
        }
        let numbers: [u64; STEP] = std::array::from_fn(|k| self.1 + k as u64);
        assert_eq!(self.0.array(used.lens), numbers.map(length));
        assert_eq!(*used.cookies, numbers.map(cookie));
        self.1 += STEP as u64;
        true
    }
}

/// Steps of four, which must give way at the end of a ring whose size is no multiple of four.
fn step_around(mut ring: impl Ring, mut device: Device) {
    let lanes = ring.lanes();
    let (mut offered, mut back, mut steps) = (0u64, 0u64, 0);
    while back < 150_000 {
        loop {
            let taken = ring.offer_steps(37, DESC_F_WRITE, &mut Numbered(lanes, offered));
            if taken > 0 {
                offered += taken as u64;
                continue;
            }
            let len = length(offered) as u32;
            if !ring.offer(&[Segment { addr: 0x1000, len, flags: DESC_F_WRITE }], cookie(offered), true) {
                break;
            }
            offered += 1;
        }
        ring.publish(Ask::Surely);
        while device.use_one().is_some() {}
        ring.poll().unwrap();
        loop {
            let taken = ring.take_steps(30, Lengths::Wanted, &mut Numbered(lanes, back));
            if taken > 0 {
                (back, steps) = (back + taken as u64, steps + taken / STEP);
            } else if let Some((c, ..)) = ring.take().unwrap() {
                assert_eq!(c, cookie(back));
                back += 1;
            } else {
                break;
            }
        }
    }
    assert_eq!(offered, back);
    assert!(steps > 0 || ring.ledger().size() < STEP as u16);
}

fn steps_on(lanes: impl Lanes) {
    for size in [1u16, 4, 6, 7, 255, 256] {
        with_ring(true, size, |device, base| {
            // SAFETY: as above.
            step_around(unsafe { PackedRing::new(lanes, base, size, true, false) }, device(base));
        });
    }
    for size in [2u16, 4, 256] {
        with_ring(false, size, |device, base| {
            // SAFETY: as above.
            step_around(unsafe { SplitRing::new(lanes, base, size, true, false) }, device(base));
        });
    }
}

#[test]
fn steps_of_four_give_way_at_the_end_of_any_ring_on_all_lanes() {
    steps_on(Scalar);
    let _ = Avx2::detect().map(steps_on);
    let _ = Avx512::detect().map(steps_on);
}

#[test]
fn a_notification_is_due_when_the_event_lies_on_the_way() {
    // By definition: some index i of old, old + 1, ..., new - 1 equals the event.
    for old in [0u16, 1, 5, 255, 32767, 65_530, 65_535] {
        for steps in 0u16..40 {
            let new = old.wrapping_add(steps);
            for event in (0..60).map(|d| old.wrapping_sub(10).wrapping_add(d)).chain([0, 32768, 65_535]) {
                let due = (0..steps).any(|k| old.wrapping_add(k) == event);
                assert_eq!(need_event(event, new, old), due, "event {event}, from {old} to {new}");
            }
        }
    }
}

/// The device sleeps at each position in turn, by the event structure, and must be woken when, and only when, the
/// driver passes it.
#[test]
fn a_packed_device_that_sleeps_at_a_slot_is_woken_when_it_is_passed() {
    for size in [3u16, 8, 255] {
        with_ring(true, size, |device, base| {
            // SAFETY: as above.
            let mut ring = unsafe { PackedRing::new(Scalar, base, size, true, true) };
            let mut device = device(base);
            for n in 0..4 * u64::from(size) {
                // It sleeps until the descriptor after the next is available.
                let ahead = u16::try_from(n % 2).unwrap();
                let at = device.next + ahead;
                let (slot, wrap) = if at >= size { (at - size, !device.wrap) } else { (at, device.wrap) };
                let off_wrap = slot | u16::from(wrap) << 15;
                device.put(device.layout.device, u32::from(off_wrap) | 2 << 16);
                assert!(ring.offer(&[Segment { addr: 0x1000, len: 64, flags: 0 }], cookie(n), true));
                assert_eq!(ring.publish(Ask::Surely), ahead == 0, "size {size}, round {n}");
                assert!(device.use_one().is_some());
                assert!(ring.take().unwrap().is_some());
            }
        });
    }
}
