//! A queue of the driver's over memory of this process, and the other end of it in our hands: no device, no thread,
//! no socket. What a device would write is written here, word by word, at the places that the standard gives.

#![allow(dead_code, reason = "each test binary uses its own part of the rig")]

mod chance;
mod hand;
mod loans;
mod more;

use std::collections::{HashSet, VecDeque};
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::time::{Duration, Instant};

use vuser::buf::MbufRef;
use vuser::buf::pool::{Cache, Pool, PoolConfig};
use vuser::buf::source::Source;
use vuser::mem::kick::Kick;
use vuser::mem::map::{MemoryMap, Region};
use vuser::mem::reach::MapCell;
use vuser::net::path::{self, RingPlace, Rx, Tx};
use vuser::net::rx::RxOptions;
use vuser::net::send::{EXTRA, Extras};
use vuser::net::stats::Board;
use vuser::net::tx::TxParts;
use vuser::ring::Lie;
use vuser::sys::shm::SharedMemory;

pub use chance::Chance;
pub use hand::{Hand, Lent, Shape, header};

/// Bytes of the header in front of a frame: all shapes have VERSION_1.
pub const HDR: u32 = 12;
/// Bytes of a buffer that are offered for receiving: for the header, which is at the end of the headroom, and the frame.
pub const ROOM: u32 = 512;
const HEADROOM: u16 = 128;
const DATA_SIZE: u16 = HEADROOM + (ROOM - HDR) as u16;
/// All bursts of one rig together. Far above what they need, far below what a loop without end takes.
const TIME: Duration = Duration::from_secs(5);

/// What becomes of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Survive,
    /// It is broken, for this reason, and stays so.
    Contain(Lie),
}

enum End {
    Rx(Box<dyn Rx>),
    Tx(Box<dyn Tx>),
}

/// A queue and all that is around it.
pub struct Rig {
    pub hand: Hand,
    end: End,
    pub pool: Arc<Pool>,
    pub board: Arc<Board>,
    pub kick: Arc<Kick>,
    /// What the application has: descriptors' addresses.
    held: HashSet<usize>,
    /// Of each buffer that was lent last and not given back, whether its frame goes on behind it.
    goes_on: VecDeque<bool>,
    /// What comes next is what is left of a frame whose first buffers were given back: it may be shorter than any frame.
    torn: bool,
    spent: Duration,
    /// Turns so far.
    turns: u32,
    count: u32,
    // Last: the memory goes after what uses it.
    _memory: Arc<SharedMemory>,
}

impl Rig {
    fn new(shape: Shape, count: u32, receive: bool) -> Self {
        let pool = Pool::new(PoolConfig { count, data_size: DATA_SIZE, headroom: HEADROOM, huge: false }).unwrap();
        let (board, kick) = (Arc::new(Board::default()), Arc::new(Kick::new().unwrap()));
        let (hand, end, memory) = Self::connect(shape, receive, &pool, &board, &kick);
        let (held, goes_on, spent) = (HashSet::new(), VecDeque::new(), Duration::ZERO);
        Self { hand, end, pool, board, kick, held, goes_on, torn: false, spent, turns: 0, count, _memory: memory }
    }

    /// A queue over fresh memory, and the other end of it.
    fn connect(
        shape: Shape,
        receive: bool,
        pool: &Arc<Pool>,
        board: &Arc<Board>,
        kick: &Arc<Kick>,
    ) -> (Hand, End, Arc<SharedMemory>) {
        let layout = shape.layout();
        let bytes = layout.bytes + usize::from(shape.size) * EXTRA;
        let memory = Arc::new(SharedMemory::new("lies", bytes, false).unwrap());
        let mut map = MemoryMap::default();
        map.add(Region::ours(memory.clone())).unwrap();
        map.add(Region::ours(pool.memory().clone())).unwrap();
        let source = Source::Pool(Cache::new(pool.clone()));
        let place = RingPlace { base: memory.addr(), size: shape.size, simd: shape.simd };
        // SAFETY: zeroed pages of the ring's and the extras' size, which the rig keeps until the queue is gone.
        let end = unsafe {
            if receive {
                End::Rx(path::rx(place, source, shape.features, RxOptions::default(), board.clone(), kick.clone()))
            } else {
                let extras = Extras::new(memory.addr().add(layout.bytes));
                let (board, kick, features) = (board.clone(), kick.clone(), shape.features);
                End::Tx(path::tx(
                    place,
                    TxParts {
                        source,
                        features,
                        extras,
                        map: Arc::new(MapCell::new(&map)),
                        board,
                        kick,
                        sort: true,
                        shift: 0,
                    },
                ))
            }
        };
        (Hand::new(memory.addr(), bytes, shape), end, memory)
    }

    /// The device is gone as it is, and another one comes, for which this was negotiated.
    pub fn reconnect(&mut self, shape: Shape, resend: bool) {
        step();
        let (hand, end, memory) = Self::connect(shape, self.is_rx(), &self.pool, &self.board, &self.kick);
        let (seq, former) = (self.hand.seq, std::mem::replace(&mut self.end, end));
        match (former, &mut self.end) {
            (End::Rx(former), End::Rx(rx)) => rx.restore(former.salvage()),
            (End::Tx(former), End::Tx(tx)) => tx.restore(former.salvage(), resend),
            _ => unreachable!("the side stays the same"),
        }
        self.hand = hand;
        self.hand.seq = seq;
        self._memory = memory;
    }

    /// Where another device would go on with this ring; see `Ring::resume_base`.
    pub fn resume_base(&self) -> Option<u32> {
        match &self.end {
            End::Rx(rx) => rx.resume_base(),
            End::Tx(tx) => tx.resume_base(),
        }
    }

    /// Another device goes on with this ring.
    pub fn resume(&mut self) {
        match &mut self.end {
            End::Rx(rx) => rx.resume(),
            End::Tx(tx) => tx.resume(),
        }
    }

    /// A receive queue that has lent all it can: its whole ring, or `count` buffers.
    pub fn rx(shape: Shape, count: u32) -> Self {
        let mut rig = Self::new(shape, count, true);
        for _ in 0..1 + usize::from(shape.size) / 32 {
            assert!(rig.receive(4).is_empty());
        }
        rig.hand.look();
        rig
    }

    /// A transmit queue that has sent nothing.
    pub fn tx(shape: Shape, count: u32) -> Self {
        Self::new(shape, count, false)
    }

    pub fn is_rx(&self) -> bool {
        matches!(self.end, End::Rx(_))
    }

    /// A receive burst; what it gave is checked, and the application's.
    pub fn receive(&mut self, most: usize) -> Vec<MbufRef> {
        let End::Rx(rx) = &mut self.end else { panic!("not a receive queue") };
        let mut out = vec![MaybeUninit::uninit(); most];
        let begin = Instant::now();
        let n = rx.burst(&mut out);
        self.spend(begin);
        assert!(n <= most);
        // SAFETY: the burst has written as many.
        let frames: Vec<MbufRef> = out[..n].iter().map(|m| unsafe { m.assume_init() }).collect();
        for m in &frames {
            self.check(*m);
            self.torn = false;
        }
        frames
    }

    /// A received frame lies in its buffers, adds up, and nobody else has them.
    fn check(&mut self, m: MbufRef) {
        let (mut sum, mut segments) = (0, 0);
        for s in m.segments() {
            assert!(self.held.insert(s.as_ptr() as usize), "a buffer was handed out twice");
            assert!(
                u32::from(s.data_off()) + u32::from(s.data_len()) <= u32::from(s.buf_len()),
                "data outside of a buffer"
            );
            assert_eq!((s.buf_len(), s.pool()), (DATA_SIZE, self.pool.id()));
            sum += u32::from(s.data_len());
            segments += 1;
            assert!(
                segments <= usize::from(self.hand.shape().size),
                "a frame of more segments than the ring has buffers"
            );
        }
        assert_eq!((m.pkt_len(), usize::from(m.nb_segs())), (sum, segments));
        assert!(m.pkt_len() >= 14 || self.torn, "a runt was handed out");
    }

    /// The application gives a packet up.
    pub fn free(&mut self, m: MbufRef) {
        m.segments().for_each(|s| assert!(self.held.remove(&(s.as_ptr() as usize))));
        // SAFETY: a packet of a living pool that the application has.
        unsafe { Pool::free(m) };
    }

    /// A packet of the application's, of as many segments; none when the pool is dry.
    pub fn packet(&mut self, segments: usize, bytes: u16) -> Option<MbufRef> {
        let mut parts = vec![None; segments];
        self.pool.get_bulk(&mut parts).ok()?;
        let parts: Vec<MbufRef> = parts.into_iter().flatten().collect();
        for (k, m) in parts.iter().enumerate() {
            assert!(self.held.insert(m.as_ptr() as usize), "the pool gave a buffer that the application has");
            assert!(m.next().is_none() && m.nb_segs() == 1 && m.refcnt().load(Relaxed) == 1 && m.ol_flags() == 0);
            m.set_data_len(bytes);
            m.set_next(parts.get(k + 1).copied());
        }
        parts[0].set_pkt_len(u32::from(bytes) * segments as u32);
        parts[0].set_nb_segs(segments as u16);
        Some(parts[0])
    }

    /// A transmit burst; how many packets were taken. The others are the application's still.
    pub fn send(&mut self, packets: &[MbufRef]) -> usize {
        // Once a packet is taken its links are the queue's business: remember what it is made of.
        let parts: Vec<Vec<usize>> =
            packets.iter().map(|m| m.segments().map(|s| s.as_ptr() as usize).collect()).collect();
        let End::Tx(tx) = &mut self.end else { panic!("not a transmit queue") };
        let begin = Instant::now();
        let n = tx.burst(packets);
        self.spend(begin);
        assert!(n <= packets.len());
        parts[..n].iter().flatten().for_each(|s| assert!(self.held.remove(s)));
        n
    }

    /// Sends `n` packets of as many segments each; those that do not fit are freed. How many were taken.
    pub fn send_new(&mut self, n: usize, segments: usize) -> usize {
        let packets: Vec<MbufRef> = (0..n).map_while(|_| self.packet(segments, 60)).collect();
        let taken = self.send(&packets);
        packets[taken..].iter().for_each(|m| self.free(*m));
        taken
    }

    /// Collects what the device has sent.
    pub fn cleanup(&mut self) -> usize {
        let End::Tx(tx) = &mut self.end else { panic!("not a transmit queue") };
        let begin = Instant::now();
        let n = tx.done_cleanup(usize::MAX);
        self.spend(begin);
        n
    }

    pub fn set_calls(&mut self, on: bool) -> bool {
        match &mut self.end {
            End::Rx(rx) => rx.set_calls(on),
            End::Tx(tx) => tx.set_calls(on),
        }
    }

    /// Buffers that the application has.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Lets the queue look at what the device wrote: a burst, whose frames are given up at once, or one that borrows or
    /// copies. How many came.
    pub fn turn(&mut self) -> usize {
        if !self.is_rx() {
            return self.cleanup();
        }
        self.turns += 1;
        match self.turns % 5 {
            1 => self.borrow_turn(),
            3 => self.copy(64, 1 << 20).len(),
            _ => {
                let frames = self.receive(64);
                frames.iter().for_each(|m| self.free(*m));
                frames.len()
            }
        }
    }

    /// Whether the device was woken since the last time.
    pub fn kicked(&self) -> bool {
        self.kick.bell().take()
    }

    /// Checks the fate of a queue whose device has lied, ends it and counts the buffers.
    pub fn verdict(mut self, fate: Fate) {
        match fate {
            Fate::Survive => {
                assert_eq!(self.board.lie(), None);
                self.honest_again();
            }
            Fate::Contain(lie) => {
                assert_eq!(self.board.lie(), Some(lie));
                self.stays_broken();
            }
        }
        self.end();
    }

    /// The device is honest from now on: the queue serves as if nothing had been.
    pub fn honest_again(&mut self) {
        for _ in 0..3 {
            if self.is_rx() {
                self.hand.serve(5);
                assert_eq!(self.turn(), 5);
            } else {
                assert!(self.send_new(5, 1) == 5);
                self.hand.look();
                self.hand.serve(self.hand.lent.len());
                assert!(self.cleanup() >= 5);
            }
            assert_eq!(self.board.lie(), None);
        }
    }

    /// Whatever the device does now, the queue does nothing.
    pub fn stays_broken(&mut self) {
        assert!(self.board.is_broken());
        for _ in 0..3 {
            if let Some(lent) = self.hand.lent.pop_front() {
                self.hand.push(lent.id.into(), HDR + 60, lent.slots);
                self.hand.publish();
            }
            let before = self.board.lie();
            if self.is_rx() {
                assert!(self.receive(8).is_empty());
                assert!(self.peek(8).is_empty() && self.copy(8, 4096).is_empty());
                self.release(8);
            } else {
                assert_eq!((self.send_new(3, 1), self.cleanup()), (0, 0));
            }
            assert_eq!(self.board.lie(), before);
        }
    }

    /// The device has stopped: every buffer is back, once.
    pub fn end(mut self) {
        let begin = Instant::now();
        match &mut self.end {
            End::Rx(rx) => rx.reclaim(),
            End::Tx(tx) => tx.reclaim(),
        }
        self.spend(begin);
        assert_eq!(
            self.pool.available() + self.held.len(),
            self.count as usize,
            "buffers are missing, or there are too many"
        );
        let mut rest = vec![None; self.pool.available()];
        self.pool.get_bulk(&mut rest).unwrap();
        for m in rest.iter().flatten() {
            assert!(self.held.insert(m.as_ptr() as usize), "a buffer came back twice");
            assert!(m.next().is_none() && m.refcnt().load(Relaxed) == 1, "a buffer came back with another behind it");
        }
        assert_eq!(self.held.len(), self.count as usize);
        assert!(self.spent < TIME, "{:?} in bursts", self.spent);
    }

    /// The queue was at work since then, once.
    fn spend(&mut self, begin: Instant) {
        step();
        self.spent += begin.elapsed();
    }

    /// Time in bursts so far.
    pub fn spent(&self) -> Duration {
        self.spent
    }
}

/// What was done to rings by drivers and devices, one by one, in this process.
static STEPS: AtomicU64 = AtomicU64::new(0);

/// A driver has done something, or a device has written something. With many threads some are not counted.
fn step() {
    STEPS.store(steps() + 1, Relaxed);
}

/// Steps of this process so far.
pub fn steps() -> u64 {
    STEPS.load(Relaxed)
}

/// Writes a byte of memory that the other side may be using.
pub fn scribble((base, bytes): (*mut u8, usize), at: usize, with: impl Fn(u8) -> u8) {
    assert!(at < bytes);
    step();
    // SAFETY: the callers' areas are mapped as long as the rig lives; an atomic allows any other writer.
    let byte = unsafe { AtomicU8::from_ptr(base.add(at)) };
    byte.store(with(byte.load(Relaxed)), Relaxed);
}

/// Says which shape it was when a test fails.
struct Note(String);

impl Drop for Note {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was {}", self.0);
        }
    }
}

/// Runs a body and says what it was about if it fails.
pub fn about<T>(what: impl std::fmt::Display, body: impl FnOnce() -> T) -> T {
    let _note = Note(what.to_string());
    body()
}

/// Runs a body for each shape of this size.
pub fn each(size: u16, mut body: impl FnMut(Shape)) {
    Shape::all(size).for_each(|shape| about(format_args!("{shape:?}"), || body(shape)));
}

/// Runs a body for a receive and for a transmit queue of each shape: 32 slots, of which 20 are lent.
pub fn both(mut body: impl FnMut(Rig)) {
    each(32, |shape| {
        about("receive", || body(Rig::rx(shape, 20)));
        let mut tx = Rig::tx(shape, 64);
        assert_eq!(tx.send_new(20, 1), 20);
        tx.hand.look();
        about("transmit", || body(tx));
    });
}
