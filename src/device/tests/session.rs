//! A scripted front-end against the whole device.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::driver::*;
use crate::device::{Loopback, Options, Stats};
use crate::spec::virtio::Features;
use crate::sys::eventfd::Bell;
use crate::sys::shm::SharedMemory;
use crate::sys::socket::{Deadline, Stream};

/// The three kinds of addresses differ: guest, front-end's user, and the device's own.
const GUEST: u64 = 0x10_0000;
const USER: u64 = 0x7f00_0000_0000;
const OFFSET: usize = 4096;
const SEND: usize = OFFSET + 2 * QUEUE;
const RECEIVE: usize = SEND + 0x10000;
const NEED_REPLY: u32 = 8;

struct Peer {
    stream: Stream,
    device: Loopback,
}

impl Peer {
    fn new(options: &str) -> Self {
        let (ours, theirs) = Stream::pair().unwrap();
        Self { stream: ours, device: Loopback::on_stream(theirs, Options::parse(options).unwrap()).unwrap() }
    }

    fn send(&self, request: u32, flags: u32, payload: &[u8], fds: &[RawFd]) {
        let mut bytes = Vec::new();
        [request, 1 | flags, payload.len() as u32].iter().for_each(|w| bytes.extend_from_slice(&w.to_ne_bytes()));
        bytes.extend_from_slice(payload);
        self.stream.send(&bytes, fds, Deadline::after(Duration::from_secs(2))).unwrap();
    }

    fn reply(&self, request: u32) -> Vec<u8> {
        let deadline = Deadline::after(Duration::from_secs(2));
        let mut header = [0; 12];
        self.stream.recv(&mut header, &mut Vec::new(), deadline).unwrap();
        let words: Vec<_> = header.chunks(4).map(|w| u32::from_ne_bytes(w.try_into().unwrap())).collect();
        assert_eq!((words[0], words[1]), (request, 5));
        let mut payload = vec![0; words[2] as usize];
        if !payload.is_empty() {
            self.stream.recv(&mut payload, &mut Vec::new(), deadline).unwrap();
        }
        payload
    }

    fn ask(&self, request: u32) -> u64 {
        self.send(request, 0, &[], &[]);
        u64::from_ne_bytes(self.reply(request).try_into().unwrap())
    }

    /// Sends with NEED_REPLY; whether it was acknowledged as done.
    fn told(&self, request: u32, payload: &[u8], fds: &[RawFd]) -> bool {
        self.send(request, NEED_REPLY, payload, fds);
        u64::from_ne_bytes(self.reply(request).try_into().unwrap()) == 0
    }

    fn tell(&self, request: u32, payload: &[u8], fds: &[RawFd]) {
        assert!(self.told(request, payload, fds), "request {request} was refused");
    }

    fn base(&self, index: u32) -> u32 {
        self.send(11, 0, &state(index, 0), &[]);
        let reply = self.reply(11);
        assert_eq!(reply[..4], index.to_ne_bytes());
        u32::from_ne_bytes(reply[4..8].try_into().unwrap())
    }

    /// Agrees on features; the protocol features are all that are offered.
    fn negotiate(&self, features: Features) {
        self.send(3, 0, &[], &[]);
        let offered = self.ask(1);
        assert_eq!(offered & features.bits() as u64, features.bits() as u64);
        let protocol = self.ask(15);
        self.send(16, 0, &protocol.to_ne_bytes(), &[]);
        self.tell(2, &((features.bits() as u64) | 1 << 30).to_ne_bytes(), &[]);
        self.tell(39, &11u64.to_ne_bytes(), &[]);
        assert_eq!(self.ask(40), 11);
    }

    /// Whether the device closes the connection soon.
    fn is_closed(&self) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(2) {
            if self.stream.is_closed() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }
}

fn state(index: u32, num: u32) -> Vec<u8> {
    [index.to_ne_bytes(), num.to_ne_bytes()].concat()
}

/// A pair of queues in memory that is shared over the socket.
struct Queues {
    memory: Arc<SharedMemory>,
    rx: RawDriver,
    tx: RawDriver,
    kicks: [Bell; 2],
    calls: [Bell; 2],
}

impl Queues {
    fn new(size: u16, packed: bool) -> Self {
        let memory = Arc::new(SharedMemory::new("test", 1 << 20, false).unwrap());
        // Offset OFFSET of the file is guest address GUEST.
        let driver = |at| RawDriver::new(memory.clone(), GUEST - OFFSET as u64, OFFSET + at, size, packed);
        let bells = || [Bell::new().unwrap(), Bell::new().unwrap()];
        Self { rx: driver(0), tx: driver(QUEUE), kicks: bells(), calls: bells(), memory }
    }

    fn table(&self) -> Vec<u8> {
        let size = (self.memory.len() - OFFSET) as u64;
        let mut bytes = [1u32.to_ne_bytes(), [0; 4]].concat();
        [GUEST, size, USER, OFFSET as u64].iter().for_each(|w| bytes.extend_from_slice(&w.to_ne_bytes()));
        bytes
    }

    fn addr(&self, index: u32) -> Vec<u8> {
        let at = USER + u64::from(index) * QUEUE as u64;
        let mut bytes = [index.to_ne_bytes(), [0; 4]].concat();
        let places = [at + DESC as u64, at + DEVICE as u64, at + DRIVER as u64, 0];
        places.iter().for_each(|w| bytes.extend_from_slice(&w.to_ne_bytes()));
        bytes
    }

    fn set_up(&self, peer: &Peer) {
        self.configure(peer);
        (0..2).for_each(|index| peer.tell(18, &state(index, 1), &[]));
        peer.tell(39, &15u64.to_ne_bytes(), &[]);
    }

    /// All but SET_VRING_ENABLE and DRIVER_OK.
    fn configure(&self, peer: &Peer) {
        peer.tell(5, &self.table(), &[self.memory.as_fd().as_raw_fd()]);
        let base = if self.rx.packed { 0x8000 } else { 0 };
        for index in 0..2 {
            peer.tell(8, &state(index, self.rx.size.into()), &[]);
            peer.tell(10, &state(index, base), &[]);
            peer.tell(9, &self.addr(index), &[]);
            self.set_bells(peer, index);
        }
    }

    fn set_bells(&self, peer: &Peer, index: u32) {
        let number = u64::from(index).to_ne_bytes();
        peer.tell(13, &number, &[self.calls[index as usize].as_raw_fd()]);
        peer.tell(12, &number, &[self.kicks[index as usize].as_raw_fd()]);
    }

    /// Collects a frame that was received, sleeping until the device calls, and the one that was sent for it.
    fn wait_for_call(&mut self, event_idx: bool) {
        loop {
            if self.rx.collect().is_some() {
                break;
            }
            self.rx.ask_call(event_idx);
            if self.rx.collect().is_some() {
                break;
            }
            assert!(self.calls[0].wait(Duration::from_secs(5)), "a call was lost");
            self.calls[0].take();
        }
        soon(|| self.tx.collect());
    }

    /// Sends a frame and waits for it to come back in the only receive buffer.
    fn echo(&mut self, n: u8) {
        let frame: Vec<u8> = (0..100).map(|k| k ^ n).collect();
        self.rx.put(SEND, &[0; 12]);
        self.rx.put(SEND + 12, &frame);
        let (buffer, sent) = (self.rx.offer(&[(RECEIVE, 2048, true)]), self.tx.offer(&[(SEND, 112, false)]));
        self.kicks.iter().for_each(|k| assert!(k.ring()));
        assert_eq!(soon(|| self.rx.collect()), (buffer, 112));
        assert_eq!(soon(|| self.tx.collect()), (sent, 0));
        assert_eq!(self.rx.get(RECEIVE, 112), [vec![0; 10], vec![1, 0], frame].concat());
    }
}

fn soon<T>(mut f: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = f() {
            return found;
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "nothing happened");
        std::thread::yield_now();
    }
}

const FEATURES: Features = Features::VERSION_1.union(Features::MRG_RXBUF);

#[test]
fn frames_come_back_over_the_whole_protocol() {
    for (packed, extra) in [
        (false, Features::empty()),
        (false, Features::EVENT_IDX),
        (true, Features::RING_PACKED),
        (true, Features::RING_PACKED.union(Features::EVENT_IDX)),
    ] {
        let peer = Peer::new("");
        peer.negotiate(FEATURES | extra);
        let mut queues = Queues::new(if packed { 7 } else { 8 }, packed);
        queues.set_up(&peer);
        for n in 0..40 {
            queues.echo(n);
            if n % 20 == 0 {
                // Long enough to fall asleep: the kick must wake it.
                std::thread::sleep(Duration::from_millis(3));
            }
        }
        // A call comes after what it is about.
        assert!(queues.calls.iter().all(|call| call.wait(Duration::from_secs(5))));
        // It counts a moment later, too.
        let all = |stats: &Stats| stats.sent == 40 && stats.received == 40 && stats.kicks > 0 && stats.calls > 0;
        let stats = soon(|| Some(peer.device.stats()).filter(all));
        assert!(stats.broken == 0, "{stats:?}");
    }
}

#[test]
fn no_wake_up_is_lost_when_both_sides_sleep() {
    for (packed, event_idx) in [(false, false), (false, true), (true, false), (true, true)] {
        // A device that falls asleep at once, and a driver that kicks and waits by the rules alone.
        let peer = Peer::new("spin_us=0");
        let mut features = FEATURES;
        features.set(Features::RING_PACKED, packed);
        features.set(Features::EVENT_IDX, event_idx);
        peer.negotiate(features);
        let mut queues = Queues::new(4, packed);
        queues.set_up(&peer);
        let mut kicks = 0;
        for n in 0..1500 {
            for k in 0..1 + n % 3 {
                queues.rx.offer(&[(RECEIVE + 256 * k, 256, true)]);
            }
            let before = queues.tx.offered;
            (0..1 + n % 3).for_each(|_| assert!(queues.tx.offer(&[(SEND, 112, false)]) < 4));
            if queues.tx.wants_kick(event_idx, before) {
                kicks += 1;
                assert!(queues.kicks[1].ring());
            }
            for _ in 0..1 + n % 3 {
                queues.wait_for_call(event_idx);
            }
        }
        assert!(kicks > 0);
    }
}

#[test]
fn a_ring_stops_where_it_stands_and_goes_on_from_there() {
    for packed in [false, true] {
        let peer = Peer::new("");
        peer.negotiate(FEATURES | if packed { Features::RING_PACKED } else { Features::empty() });
        let mut queues = Queues::new(8, packed);
        queues.set_up(&peer);
        (0..11).for_each(|n| queues.echo(n));
        // Slot 3 of the second lap, whose counter is 0; both halves alike.
        let expected = if packed { 0x0003_0003 } else { 11 };
        assert_eq!((peer.base(0), peer.base(1)), (expected, expected));
        // It is stopped: nothing is taken.
        queues.tx.offer(&[(SEND, 112, false)]);
        std::thread::sleep(Duration::from_millis(2));
        assert!(queues.tx.collect().is_none());
        for index in 0..2 {
            peer.tell(10, &state(index, expected), &[]);
            queues.set_bells(&peer, index);
        }
        queues.rx.offer(&[(RECEIVE, 2048, true)]);
        assert!(queues.kicks[0].ring());
        assert!(soon(|| queues.tx.collect()).1 == 0 && soon(|| queues.rx.collect()).1 == 112);
        queues.echo(0);
        // New memory under a running ring, here the same again.
        peer.tell(5, &queues.table(), &[queues.memory.as_fd().as_raw_fd()]);
        queues.echo(1);
    }
}

#[test]
fn rings_wait_for_driver_ok_and_for_enabling() {
    let peer = Peer::new("");
    peer.negotiate(FEATURES);
    let mut queues = Queues::new(8, false);
    queues.configure(&peer);
    let sent = queues.tx.offer(&[(SEND, 112, false)]);
    let buffer = queues.rx.offer(&[(RECEIVE, 2048, true)]);
    let kick = |queues: &Queues| queues.kicks.iter().for_each(|k| assert!(k.ring()));
    let quiet = |ring: &mut RawDriver| {
        std::thread::sleep(Duration::from_millis(2));
        assert!(ring.collect().is_none());
    };
    kick(&queues);
    quiet(&mut queues.tx);
    // Live but disabled: what is sent is thrown away, and nothing is received.
    peer.tell(39, &15u64.to_ne_bytes(), &[]);
    assert_eq!(soon(|| queues.tx.collect()), (sent, 0));
    quiet(&mut queues.rx);
    // A receive ring that is not enabled holds the transmit ring up.
    peer.tell(18, &state(1, 1), &[]);
    let sent = queues.tx.offer(&[(SEND, 112, false)]);
    kick(&queues);
    quiet(&mut queues.tx);
    peer.tell(18, &state(0, 1), &[]);
    assert_eq!((soon(|| queues.tx.collect()), soon(|| queues.rx.collect())), ((sent, 0), (buffer, 112)));
}

#[test]
fn what_is_offered_can_be_chosen() {
    let peer = Peer::new("version_1=0,packed=0,protocol_features=0,queues=3");
    let features = Features::from_bits_retain(peer.ask(1).into());
    assert!(!features.intersects(Features::VERSION_1 | Features::RING_PACKED | Features::PROTOCOL_FEATURES));
    // Without bit 30 there are no protocol features to ask for.
    peer.send(15, 0, &[], &[]);
    assert!(peer.is_closed());

    let peer = Peer::new("queues=3,protocol=1,mtu=9000");
    assert_eq!((peer.ask(15), peer.ask(17)), (1, 3));
    let peer = Peer::new("queues=3,queue_num=2");
    assert_eq!(peer.ask(17), 2);
}

#[test]
fn a_legacy_front_end_needs_no_enabling() {
    let peer = Peer::new("protocol_features=0,version_1=0");
    let mut queues = Queues::new(8, false);
    peer.send(3, 0, &[], &[]);
    peer.send(2, 0, &Features::MRG_RXBUF.bits().to_ne_bytes()[..8], &[]);
    peer.send(5, 0, &queues.table(), &[queues.memory.as_fd().as_raw_fd()]);
    for index in 0..2u32 {
        peer.send(8, 0, &state(index, 8), &[]);
        peer.send(9, 0, &queues.addr(index), &[]);
        peer.send(12, 0, &u64::from(index).to_ne_bytes(), &[queues.kicks[index as usize].as_raw_fd()]);
    }
    queues.echo(1);
}

#[test]
fn the_configuration_space_can_be_read_and_not_written() {
    let peer = Peer::new("queues=2,mac=02:00:00:00:00:2a,mtu=9000");
    peer.negotiate(FEATURES);
    let access = |offset: u32, size: u32, flags: u32| {
        [offset, size, flags].iter().flat_map(|w| w.to_ne_bytes()).chain(vec![7; size as usize]).collect::<Vec<u8>>()
    };
    peer.send(24, 0, &access(0, 12, 0), &[]);
    let reply = peer.reply(24);
    assert_eq!(reply[..12], access(0, 12, 0)[..12]);
    assert_eq!(reply[12..], [2, 0, 0, 0, 0, 0x2a, 1, 0, 2, 0, 0x28, 0x23]);
    peer.send(24, 0, &access(250, 7, 0), &[]);
    assert_eq!(peer.reply(24), [0; 0]);
    assert!(!peer.told(25, &access(0, 6, 0), &[]) && !peer.told(25, &access(20, 8, 1), &[]));
    peer.tell(25, &access(0, 6, 1), &[]);
    peer.send(24, 0, &access(0, 7, 0), &[]);
    assert_eq!(peer.reply(24)[12..], [7, 7, 7, 7, 7, 7, 1]);
}

#[test]
fn what_cannot_be_done_is_refused_and_the_session_goes_on() {
    let peer = Peer::new("packed=0");
    peer.negotiate(FEATURES);
    let queues = Queues::new(8, false);
    assert!(!peer.told(2, &(1u64 << 34).to_ne_bytes(), &[]), "a feature that was not offered");
    assert!(!peer.told(16, &(1u64 << 6).to_ne_bytes(), &[]), "a protocol feature that was not offered");
    assert!(
        !peer.told(8, &state(2, 8), &[]) && !peer.told(8, &state(0, 0), &[]) && !peer.told(8, &state(0, 65536), &[])
    );
    assert!(!peer.told(18, &state(0, 2), &[]) && !peer.told(18, &state(9, 1), &[]));
    assert!(!peer.told(99, &[], &[]), "an unknown request");
    // Memory shorter than its file, and then a ring outside the memory.
    let mut table = queues.table();
    table[8 + 8 + 4] = 1;
    assert!(!peer.told(5, &table, &[queues.memory.as_fd().as_raw_fd()]));
    peer.tell(5, &queues.table(), &[queues.memory.as_fd().as_raw_fd()]);
    let mut addr = queues.addr(0);
    addr[8 + 5] = 1;
    peer.tell(8, &state(0, 8), &[]);
    peer.tell(9, &addr, &[]);
    assert!(!peer.told(12, &0u64.to_ne_bytes(), &[queues.kicks[0].as_raw_fd()]));
    queues.set_up(&peer);
    // A running ring has a size and a position.
    assert!(!peer.told(8, &state(0, 4), &[]) && !peer.told(10, &state(0, 4), &[]));
    assert!(!peer.told(2, &(1u64 << 32).to_ne_bytes(), &[]), "other features while rings run");
    peer.tell(3, &[], &[]);
    peer.tell(4, &[], &[]);
    assert_eq!(peer.ask(40), 15);
}

#[test]
fn malformed_messages_end_the_session() {
    let bell = Bell::new().unwrap();
    type Case = (u32, u32, &'static [u8], usize);
    let cases: [Case; 9] = [
        (1, 2, &[], 0),                        // Version 3.
        (1, 4, &[], 0),                        // A reply.
        (2, 0, &[0; 4], 0),                    // Too short.
        (12, 0, &[0; 8], 0),                   // No descriptor, and no word of that.
        (13, 0, &[0; 8], 2),                   // Two.
        (1, 0, &[], 1),                        // One that nobody wants.
        (5, 0, &[1, 0, 0, 0], 0),              // Half a table.
        (11, 0, &[9, 0, 0, 0, 0, 0, 0, 0], 0), // Position of a ring that is not there.
        (2, 0, &[0xff; 8], 0),                 // Refused, and not acknowledged.
    ];
    for (n, (request, flags, payload, fds)) in cases.into_iter().enumerate() {
        let peer = Peer::new("");
        peer.send(request, flags, payload, &vec![bell.as_raw_fd(); fds]);
        assert!(peer.is_closed(), "case {n}");
        soon(|| peer.device.is_over().then_some(()));
    }
    let peer = Peer::new("");
    peer.stream.send(&[0xff; 12], &[], Deadline::after(Duration::from_secs(1))).unwrap();
    assert!(peer.is_closed());
}

#[test]
fn a_reset_forgets_the_rings() {
    for zero_status in [false, true] {
        let peer = Peer::new("");
        for _ in 0..2 {
            peer.negotiate(FEATURES);
            let mut queues = Queues::new(8, false);
            queues.set_up(&peer);
            queues.echo(1);
            if zero_status {
                peer.tell(39, &0u64.to_ne_bytes(), &[]);
            } else {
                peer.tell(34, &[], &[]);
            }
            assert_eq!((peer.ask(40), peer.base(0), peer.base(1)), (0, 0, 0));
        }
    }
}

#[test]
fn a_broken_ring_is_reported_and_the_device_lives() {
    let peer = Peer::new("");
    peer.negotiate(FEATURES);
    let mut queues = Queues::new(8, false);
    let err = Bell::new().unwrap();
    peer.tell(14, &1u64.to_ne_bytes(), &[err.as_raw_fd()]);
    queues.set_up(&peer);
    queues.tx.make_available(17);
    assert!(queues.kicks[1].ring());
    soon(|| (peer.ask(40) == 15 | 0x40).then_some(()));
    assert!(err.take());
    assert_eq!(peer.device.stats().broken, 1);
    peer.tell(39, &0u64.to_ne_bytes(), &[]);
    peer.negotiate(FEATURES);
    let mut queues = Queues::new(8, false);
    queues.set_up(&peer);
    queues.echo(3);
}

#[test]
fn a_ring_without_kicks_is_polled_and_a_dead_one_does_not_hang() {
    let peer = Peer::new("spin_us=0");
    peer.negotiate(FEATURES);
    let mut queues = Queues::new(8, false);
    queues.set_up(&peer);
    for index in 0..2u64 {
        peer.tell(12, &(index | 1 << 8).to_ne_bytes(), &[]);
    }
    queues.echo(1);
    // The read end of a pipe nobody writes to any more.
    let (reader, writer): (OwnedFd, OwnedFd) = nix::unistd::pipe().unwrap();
    drop(writer);
    peer.tell(12, &1u64.to_ne_bytes(), &[reader.as_raw_fd()]);
    queues.echo(2);
}

#[test]
fn dropping_the_device_ends_the_session_at_once() {
    for options in ["", "mode=source"] {
        let peer = Peer::new(options);
        peer.negotiate(FEATURES);
        let queues = Queues::new(8, false);
        queues.set_up(&peer);
        let begin = Instant::now();
        drop(peer.device);
        assert!(begin.elapsed() < Duration::from_millis(500));
        assert!(peer.stream.is_closed());
    }
}

#[test]
fn a_listener_serves_one_peer_after_the_other() {
    let path = std::env::temp_dir().join(format!("vuser-device-{}", std::process::id()));
    let device = Loopback::listen(&path, Options::default()).unwrap();
    for n in 1..=2 {
        let stream = Stream::connect(&path, Deadline::after(Duration::from_secs(2))).unwrap();
        let (_, unused) = Stream::pair().unwrap();
        let peer = Peer { stream, device: Loopback::on_stream(unused, Options::default()).unwrap() };
        peer.negotiate(FEATURES);
        let mut queues = Queues::new(8, false);
        queues.set_up(&peer);
        queues.echo(n);
        soon(|| (device.stats().sent == n.into()).then_some(()));
    }
    drop(device);
    assert!(!path.exists());
}
