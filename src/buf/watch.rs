//! Who has which buffer of the pools, and whether somebody writes to free ones: in a library that watches its callers
//! ([`WATCHED`]) alone.
//!
//! A packet with several owners is left alone: they may each send it and give it up.

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::RwLock;

use super::mbuf::{Mbuf, MbufRef};
use crate::sys::caller::{PATIENCE, WATCHED, stuck, wrong};

/// What a free buffer is filled with.
const FREE_BYTE: u8 = 0xdb;
/// What stands between buffers.
const ZONE_BYTE: u8 = 0xfd;
/// Segments of a packet that are looked at.
const SEGMENTS: usize = 1 << 16;

const FREE: u8 = 0;
const APPLICATION: u8 = 1;
const QUEUE: u8 = 2;

/// The buffers of one pool: where each is, and whose.
#[derive(Debug)]
pub(super) struct Watch {
    marks: Box<[AtomicU8]>,
    first: usize,
    /// The process that made the pool: what is in buffers is a forked child's, too, but what is free is not.
    process: u32,
}

/// All pools: descriptors from, to, and the pool's watch. A pool takes itself out before it goes.
static POOLS: RwLock<Vec<(usize, usize, usize)>> = RwLock::new(Vec::new());

impl Watch {
    /// Of so many descriptors from there on.
    pub(super) fn new(first: *const Mbuf, count: usize) -> Box<Self> {
        let count = if WATCHED { count } else { 0 };
        let marks: Box<[AtomicU8]> = std::iter::repeat_with(|| AtomicU8::new(FREE)).take(count).collect();
        let watch =
            Box::new(Self { marks, first: first as usize, process: if WATCHED { std::process::id() } else { 0 } });
        if WATCHED {
            let end = watch.first + count * size_of::<Mbuf>();
            POOLS.try_write_for(PATIENCE).unwrap_or_else(|| stuck()).push((
                watch.first,
                end,
                std::ptr::from_ref(&*watch) as usize,
            ));
        }
        watch
    }

    /// Whether this is the process that made the pool.
    pub(super) fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }

    fn set(&self, m: MbufRef, mark: u8) {
        let index = (m.as_ptr() as usize).wrapping_sub(self.first) / size_of::<Mbuf>();
        if let Some(place) = self.marks.get(index) {
            place.store(mark, Ordering::Relaxed);
        }
    }

    /// The application gets buffers of this pool.
    #[inline(always)]
    pub(super) fn handed_out(&self, m: MbufRef) {
        if WATCHED {
            self.set(m, APPLICATION);
        }
    }

    /// A buffer is free from now on.
    #[inline(always)]
    pub(super) fn is_free(&self, m: MbufRef) {
        if WATCHED {
            self.set(m, FREE);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !WATCHED {
            return;
        }
        POOLS.try_write_for(PATIENCE).unwrap_or_else(|| stuck()).retain(|(first, ..)| *first != self.first);
        let out = self.marks.iter().filter(|mark| mark.load(Ordering::Relaxed) == APPLICATION).count();
        if out > 0 && self.is_ours() {
            wrong(format_args!(
                "vuser_pool_free: {out} of the pool's buffers were not given back; free all packets before their pool"
            ));
        }
    }
}

/// What the mark of a packet's segment is; none if it is of no pool of ours.
fn mark<T>(m: *const Mbuf, see: impl FnOnce(&AtomicU8) -> T) -> Option<T> {
    let (pools, at) = (POOLS.try_read_for(PATIENCE).unwrap_or_else(|| stuck()), m as usize);
    let &(first, _, watch) = pools.iter().find(|(first, end, _)| (*first..*end).contains(&at))?;
    if (at - first) % size_of::<Mbuf>() != 0 {
        return None;
    }
    // SAFETY: a pool takes its watch out of the list, for which it waits for us, before the watch goes.
    let watch = unsafe { &*(watch as *const Watch) };
    watch.marks.get((at - first) / size_of::<Mbuf>()).map(see)
}

/// Ends the program unless a packet is the application's, which gave it to a call of this name. `foreign`: packets of other
/// allocators may come as well.
pub fn is_callers(m: *mut Mbuf, foreign: bool, call: &str) {
    let mut at = m;
    for _ in 0..SEGMENTS {
        let why = match mark(at, |mark| mark.load(Ordering::Relaxed)) {
            _ if at.is_null() => "NULL; give only packets",
            None if foreign => return,
            None => "of no pool that exists; give it to the allocator that it is of, and before its pool is given up",
            Some(FREE) => "free, or of a ring; it was given up before, after which it must not be used",
            Some(QUEUE) => "under way in a queue; after it was sent it is the queue's, which gives it up",
            Some(_) => {
                // SAFETY: a descriptor of a pool that exists, and the caller's.
                match unsafe { (*at).next } {
                    next if next.is_null() => return,
                    next => at = next,
                }
                continue;
            }
        };
        wrong(format_args!("{call}: the packet at {at:p} is {why}"));
    }
    wrong(format_args!("{call}: the segments of the packet at {m:p} go round in a circle; let the last have no next"))
}

fn set_all(m: MbufRef, to: u8) {
    for segment in m.segments().take(SEGMENTS) {
        // Who has another reference may use it again.
        if segment.refcnt().load(Ordering::Relaxed) == 1 {
            mark(segment.as_ptr(), |mark| mark.store(to, Ordering::Relaxed));
        }
    }
}

/// A packet that the application has is the queue's from now on, by a call of this name. One by one, so that one that is
/// there twice is met; and before it is the device's, since it may come back at once.
pub fn sent(m: *mut Mbuf, foreign: bool, call: &str) {
    is_callers(m, foreign, call);
    if let Some(m) = NonNull::new(m) {
        // SAFETY: valid, and the caller's.
        set_all(unsafe { MbufRef::new(m) }, QUEUE);
    }
}

/// A packet is the application's from now on.
pub fn to_application(m: MbufRef) {
    set_all(m, APPLICATION);
}

/// The first n places hold packets that are the application's from now on; n again.
///
/// # Safety
/// They do.
#[inline(always)]
pub unsafe fn received(places: &[MaybeUninit<MbufRef>], n: usize) -> usize {
    if WATCHED {
        // SAFETY: passed on.
        places.iter().take(n).for_each(|m| to_application(unsafe { m.assume_init() }));
    }
    n
}

/// Packets from the n-th on that were to be [`sent`] are the application's, as they were before.
#[inline(always)]
pub fn not_taken(packets: &[MbufRef], n: usize) {
    if WATCHED {
        packets.iter().skip(n).for_each(|m| to_application(*m));
    }
}

/// Bytes between buffers, in a watched build.
pub(super) const ZONE: usize = if WATCHED { 128 } else { 0 };

/// Fills a buffer that has become free, of so many bytes with the zone behind it.
///
/// # Safety
/// They are mapped, and nobody's but ours.
pub(super) unsafe fn poison(at: *mut u8, len: usize) {
    // SAFETY: passed on.
    unsafe {
        zone_was_left_alone(at, len);
        std::ptr::write_bytes(at, FREE_BYTE, len);
        std::ptr::write_bytes(at.wrapping_add(len), ZONE_BYTE, ZONE);
    }
}

/// The same for a buffer of which nothing is known yet.
///
/// # Safety
/// As [`poison`].
pub(super) unsafe fn poison_first(at: *mut u8, len: usize) {
    // SAFETY: passed on.
    unsafe { std::ptr::write_bytes(at.wrapping_add(len), ZONE_BYTE, ZONE) };
    // SAFETY: passed on.
    unsafe { poison(at, len) };
}

/// Looks whether a free buffer is as it was left.
///
/// # Safety
/// As [`poison`].
pub(super) unsafe fn was_left_alone(at: *const u8, len: usize) {
    // SAFETY: passed on.
    unsafe {
        if let Some(place) = another(at, len, FREE_BYTE) {
            wrong(format_args!(
                "somebody has written to the free buffer at {at:p}, at {place:p}: this program, which must not use a packet any \
                 more that it gave up, or the back-end"
            ));
        }
        zone_was_left_alone(at, len);
    }
}

/// # Safety
/// As [`poison`].
unsafe fn zone_was_left_alone(at: *const u8, len: usize) {
    // SAFETY: passed on.
    if let Some(place) = unsafe { another(at.wrapping_add(len), ZONE, ZONE_BYTE) } {
        wrong(format_args!(
            "somebody has written behind the end of the buffer at {at:p}, at {place:p}: this program, whose data must end \
             within buf_len, or the back-end"
        ));
    }
}

/// Where the first byte is that is another.
///
/// # Safety
/// As [`poison`].
unsafe fn another(at: *const u8, len: usize, byte: u8) -> Option<*const u8> {
    let places = (0..len).map(|i| at.wrapping_add(i));
    // SAFETY: passed on. Volatile, since the back-end may write here at any time.
    places.into_iter().find(|place| unsafe { place.read_volatile() } != byte)
}
