//! Packet buffers in memory that can be shared.
//!
//! The data of all buffers lie in one sealed memfd that the device is given. Their descriptors, and the list of the
//! free ones, lie in private memory: whatever the device writes, it cannot move our pointers.
//!
//! Free buffers form a lock-free stack of bunches. A bunch is up to [`BUNCH`] buffers, kept in the record of its
//! first, so that getting or giving 64 buffers costs four steps on the stack. Queues keep a [`Cache`] in front.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arrayvec::ArrayVec;
use nix::errno::Errno;

use super::mbuf::{HEADROOM, Mbuf, MbufRef, flags, rearm};
use super::watch::{self, Watch};
use crate::error::{Error, Result};
use crate::sys::caller::WATCHED;
use crate::sys::shm::SharedMemory;

/// Buffers in a bunch: the first, and 15 others that fill two lines with the rest of its record.
const BUNCH: usize = 16;
const NIL: u32 = u32::MAX;
/// Data areas begin at multiples of this, and an odd number of them apart, so that frames spread over the cache.
const STRIDE: usize = 128;

/// What a pool is made of.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// Buffers.
    pub count: u32,
    /// Bytes of each, headroom and frame.
    pub data_size: u16,
    /// Bytes in front of a received frame; the device's header takes the last of them for a while.
    pub headroom: u16,
    /// Use huge pages when there are enough of them.
    pub huge: bool,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self { count: 8192, data_size: 2048 + HEADROOM, headroom: HEADROOM, huge: true }
    }
}

/// The record of a bunch on the stack, at the index of its first buffer.
#[repr(align(128))]
#[derive(Debug)]
struct Bunch {
    below: AtomicU32,
    others: AtomicU32,
    /// Whoever has the bunch has these, and nobody else reads them.
    rest: UnsafeCell<[MaybeUninit<MbufRef>; BUNCH - 1]>,
}

impl Bunch {
    const fn new() -> Self {
        Self {
            below: AtomicU32::new(NIL),
            others: AtomicU32::new(0),
            rest: UnsafeCell::new([const { MaybeUninit::uninit() }; BUNCH - 1]),
        }
    }
}

/// A limit on memory is the application's affair: it is told, not aborted.
fn no_memory(count: usize) -> Error {
    let sentence = format!(
        "there is no memory for the descriptors of {count} buffers; make the pool smaller, or raise the limit (ulimit -v)"
    );
    Error::new(Errno::ENOMEM, sentence)
}

/// Records of bunches, one a buffer.
fn records(count: usize) -> Result<Box<[Bunch]>> {
    let mut records = Vec::new();
    records.try_reserve_exact(count).map_err(|_| no_memory(count))?;
    records.resize_with(count, Bunch::new);
    Ok(records.into())
}

/// The descriptors, zeroed, aligned, in private memory.
#[derive(Debug)]
struct Descriptors {
    first: NonNull<Mbuf>,
    layout: Layout,
}

impl Descriptors {
    fn new(count: usize) -> Result<Self> {
        // Aligned as DPDK's are: a descriptor is two cache lines.
        let layout = Layout::from_size_align(count * size_of::<Mbuf>(), 2 * 64)
            .map_err(|_| Error::invalid("a pool of so many buffers cannot be"))?;
        // SAFETY: the layout is not of zero size: a pool has at least one buffer.
        let first = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(|| no_memory(count))?;
        Ok(Self { first: first.cast(), layout })
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `new`.
        unsafe { dealloc(self.first.as_ptr().cast(), self.layout) };
    }
}

/// A pool of packet buffers. Any thread may get and give.
#[derive(Debug)]
pub struct Pool {
    /// Goes first: it is told of by the address of the descriptors.
    watch: Box<Watch>,
    memory: Arc<SharedMemory>,
    descriptors: Descriptors,
    bunches: Box<[Bunch]>,
    /// Index of the top bunch, and in the high half a count of changes against ABA.
    top: AtomicU64,
    stride: usize,
    config: PoolConfig,
}

// SAFETY: descriptors are handed out to one owner at a time by the stack, which is atomic.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    /// A pool with all its buffers free.
    pub fn new(config: PoolConfig) -> Result<Arc<Self>> {
        let count = config.count as usize;
        if config.count == 0 || config.count > 1 << 24 {
            return Err(Error::invalid(format!("a pool has 1 to {} buffers, not {count}", 1 << 24)));
        }
        if usize::from(config.data_size) < usize::from(config.headroom) + 64 {
            let message =
                format!("buffers of {} bytes hold no frame behind a headroom of {}", config.data_size, config.headroom);
            return Err(Error::invalid(message));
        }
        // Frames begin where a line does.
        let stride = (usize::from(config.data_size) + watch::ZONE).div_ceil(STRIDE) | 1;
        let memory = SharedMemory::new("vuser-pool", count * stride * STRIDE, config.huge)?;
        let pages = if memory.is_huge() { "huge" } else { "ordinary" };
        log::info!("pool of {count} buffers of {} bytes in {pages} pages", config.data_size);
        let descriptors = Descriptors::new(count)?;
        let pool = Arc::new(Self {
            watch: Watch::new(descriptors.first.as_ptr(), count),
            memory: Arc::new(memory),
            bunches: records(count)?,
            descriptors,
            top: AtomicU64::new(u64::from(NIL)),
            stride: stride * STRIDE,
            config,
        });
        pool.fill();
        Ok(pool)
    }

    fn fill(&self) {
        let mut end = self.config.count;
        while end > 0 {
            let begin = end.saturating_sub(BUNCH as u32);
            let bunch: ArrayVec<MbufRef, BUNCH> = (begin..end).map(|i| self.buffer(i)).collect();
            for m in &bunch {
                m.set_pool(self.id());
                m.set_buf_addr(self.home(*m).cast());
                m.set_buf_len(self.config.data_size);
                m.receive(rearm(self.config.headroom, u16::MAX), 0);
                if WATCHED {
                    // SAFETY: a buffer of ours, with room for the zone behind it.
                    unsafe { watch::poison_first(self.home(*m), self.config.data_size.into()) };
                }
            }
            self.push(&bunch);
            end = begin;
        }
    }

    /// What the `pool` field of its buffers holds.
    pub fn id(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    /// What it was made of.
    pub fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// The memory that the device must be given.
    pub fn memory(&self) -> &Arc<SharedMemory> {
        &self.memory
    }

    /// k and c such that the buffer of the descriptor at address m begins at m × k + c, so that no descriptor has to
    /// be looked at to know where its buffer is.
    pub fn linear(&self) -> (u32, u64) {
        let k = (self.stride / size_of::<Mbuf>()) as u32;
        (k, (self.memory.addr() as u64).wrapping_sub((self.descriptors.first.as_ptr() as u64).wrapping_mul(k.into())))
    }

    fn buffer(&self, index: u32) -> MbufRef {
        // SAFETY: indices on the stack and below `count` are of descriptors that exist; who takes one off owns it.
        unsafe { MbufRef::new(self.descriptors.first.add(index as usize)) }
    }

    fn index(&self, m: MbufRef) -> u32 {
        ((m.as_ptr() as usize - self.descriptors.first.as_ptr() as usize) / size_of::<Mbuf>()) as u32
    }

    /// Where the data of a buffer of this pool begin.
    fn home(&self, m: MbufRef) -> *mut u8 {
        self.memory.addr().wrapping_add(self.index(m) as usize * self.stride)
    }

    /// A buffer is about to be put on the stack.
    fn leaves(&self, m: MbufRef) {
        self.watch.is_free(m);
        if !self.watch.is_ours() {
            return;
        }
        // SAFETY: a free buffer, with room for the zone behind it.
        unsafe { watch::poison(self.home(m), self.config.data_size.into()) };
    }

    /// A buffer was taken off the stack.
    fn comes(&self, m: MbufRef) {
        if !self.watch.is_ours() {
            return;
        }
        // SAFETY: as above.
        unsafe { watch::was_left_alone(self.home(m), self.config.data_size.into()) };
    }

    /// Puts up to [`BUNCH`] free buffers on the stack.
    fn push(&self, bunch: &[MbufRef]) {
        if WATCHED {
            bunch.iter().for_each(|m| self.leaves(*m));
        }
        let Some((&first, others)) = bunch.split_first() else { return };
        let index = self.index(first);
        let Some(record) = self.bunches.get(index as usize) else { return };
        // SAFETY: the bunch is ours until it is on the stack.
        let rest = unsafe { &mut *record.rest.get() };
        for (place, m) in rest.iter_mut().zip(others) {
            place.write(*m);
        }
        record.others.store(others.len() as u32, Ordering::Relaxed);
        let mut top = self.top.load(Ordering::Relaxed);
        loop {
            record.below.store(top as u32, Ordering::Relaxed);
            let new = (top >> 32).wrapping_add(1) << 32 | u64::from(index);
            // [pool] the record before the new top; pairs with the acquire in `pop`.
            match self.top.compare_exchange_weak(top, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }

    /// Takes a bunch off the stack and puts it behind what is in `into`, which has room for it; how many there were.
    #[inline]
    fn pop<const N: usize>(&self, into: &mut ArrayVec<MbufRef, N>) -> usize {
        // Before anything is taken off: what has no place would be lost.
        if into.remaining_capacity() < BUNCH {
            return 0;
        }
        let mut top = self.top.load(Ordering::Acquire);
        loop {
            let Some(record) = self.bunches.get(top as u32 as usize) else { return 0 };
            // Meanwhile another thread may have taken it: then this is nonsense, and the exchange fails.
            let below = record.below.load(Ordering::Relaxed);
            let new = (top >> 32).wrapping_add(1) << 32 | u64::from(below);
            // [pool] pairs with the release in `push`.
            match self.top.compare_exchange_weak(top, new, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => {
                    let n = (record.others.load(Ordering::Relaxed) as usize + 1).min(BUNCH);
                    let first = self.buffer(top as u32);
                    let len = into.len();
                    // SAFETY: the bunch is ours now. There is room for a whole one, and the first `n` of it are buffers.
                    unsafe {
                        let to = into.as_mut_ptr().add(len);
                        to.write(first);
                        to.add(1).cast::<[MaybeUninit<MbufRef>; BUNCH - 1]>().write(*record.rest.get());
                        into.set_len(len + n);
                    }
                    if WATCHED {
                        into.iter().skip(len).for_each(|m| self.comes(*m));
                    }
                    return n;
                }
                Err(now) => top = now,
            }
        }
    }

    /// Whether nothing is left on the stack.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.top.load(Ordering::Relaxed) as u32 == NIL
    }

    /// Free buffers, not counting those in queues' caches; a guess while others get and give.
    pub fn available(&self) -> usize {
        let (mut n, mut at) = (0, self.top.load(Ordering::Acquire) as u32);
        while let Some(record) = self.bunches.get(at as usize).filter(|_| n < self.bunches.len()) {
            n += 1 + (record.others.load(Ordering::Relaxed) as usize).min(BUNCH - 1);
            at = record.below.load(Ordering::Acquire);
        }
        n
    }

    /// Gets a buffer, empty, with the pool's headroom.
    pub fn get(&self) -> Option<MbufRef> {
        let mut one = [None];
        self.get_bulk(&mut one).ok()?;
        one[0]
    }

    /// Gets as many buffers as there are places, or none.
    pub fn get_bulk(&self, places: &mut [Option<MbufRef>]) -> Result<()> {
        let n = places.len();
        match self.try_get_bulk(places) {
            true => Ok(()),
            false => Err(Error::new(Errno::ENOMEM, format!("the pool has no {n} free buffers"))),
        }
    }

    /// [`get_bulk`](Self::get_bulk) for callers in a hurry: false instead of an error.
    pub fn try_get_bulk(&self, places: &mut [Option<MbufRef>]) -> bool {
        let mut bunch = ArrayVec::<MbufRef, BUNCH>::new();
        let mut empty = places.iter_mut();
        while empty.len() > 0 {
            if self.pop(&mut bunch) == 0 {
                places.iter_mut().filter_map(Option::take).for_each(|m| self.push(&[m]));
                return false;
            }
            for place in empty.by_ref().take(bunch.len()) {
                *place = bunch.pop();
            }
        }
        self.push(&bunch);
        for m in places.iter().flatten() {
            self.reset(*m);
            self.watch.handed_out(*m);
        }
        true
    }

    fn reset(&self, m: MbufRef) {
        m.receive(rearm(self.config.headroom, u16::MAX), 0);
        m.set_raw_tx_offload(0);
    }

    /// Gives back buffers of this pool that have one owner, one segment and their own data.
    #[inline]
    pub fn put_plain(&self, buffers: &[MbufRef]) {
        for bunch in buffers.chunks(BUNCH) {
            self.push(bunch);
        }
    }

    /// Gives a packet up, whatever pools of ours its segments are of.
    ///
    /// # Safety
    /// The `pool` field of each segment, and of what each borrows from, is the id of a living [`Pool`].
    pub unsafe fn free(m: MbufRef) {
        let mut next = Some(m);
        while let Some(m) = next {
            next = m.next();
            // SAFETY: passed on.
            unsafe { Self::free_segment(m) };
        }
    }

    /// Gives packets up, those in a row that are plain and of one pool together.
    ///
    /// # Safety
    /// As [`free`](Self::free), for each packet.
    pub unsafe fn free_bulk(packets: &[Option<MbufRef>]) {
        let mut bunch = ArrayVec::<MbufRef, BUNCH>::new();
        for &m in packets.iter().flatten() {
            let single = m.rearm_word() >> 16 & 0xffff_ffff == 1 | 1 << 16 && m.ol_flags() & flags::BORROWED == 0;
            if !single {
                // SAFETY: passed on.
                unsafe { Self::free(m) };
                continue;
            }
            if bunch.is_full() || bunch.first().is_some_and(|first| first.pool() != m.pool()) {
                // SAFETY: passed on.
                unsafe { Self::put_bunch(&mut bunch) };
            }
            let _ = bunch.try_push(m);
        }
        // SAFETY: passed on.
        unsafe { Self::put_bunch(&mut bunch) };
    }

    /// # Safety
    /// The `pool` field of the first is the id of a living pool, and the others are of the same.
    unsafe fn put_bunch(bunch: &mut ArrayVec<MbufRef, BUNCH>) {
        if let Some(first) = bunch.first() {
            // SAFETY: passed on.
            unsafe { &*first.pool().cast::<Self>() }.push(bunch);
        }
        bunch.clear();
    }

    /// # Safety
    /// As [`free`](Self::free).
    unsafe fn free_segment(m: MbufRef) {
        if !m.drop_reference() {
            return;
        }
        // SAFETY: the caller says that the field holds the id of a living pool.
        let pool = unsafe { &*m.pool().cast::<Self>() };
        if m.ol_flags() & flags::INDIRECT != 0 {
            let lender = pool.detach(m);
            // SAFETY: passed on; the lender is a direct buffer, so this goes one level deep.
            unsafe { Self::free_segment(lender) };
        }
        m.refcnt().store(1, Ordering::Relaxed);
        m.set_ol_flags(0);
        m.set_nb_segs(1);
        m.set_next(None);
        pool.push(&[m]);
    }

    /// A second packet with the same data: its segments borrow from those of `m`, which gain an owner each.
    ///
    /// # Safety
    /// As [`free`](Self::free), for `m`.
    pub unsafe fn clone_packet(&self, m: MbufRef) -> Result<MbufRef> {
        let mut clones = vec![None; m.segments().count()];
        self.get_bulk(&mut clones)?;
        let mut last: Option<MbufRef> = None;
        for (segment, clone) in m.segments().zip(clones.iter().flatten()) {
            // SAFETY: passed on.
            unsafe { clone.attach(segment) };
            if let Some(last) = last {
                last.set_next(Some(*clone));
            }
            last = Some(*clone);
        }
        let first = clones.first().copied().flatten().ok_or_else(|| Error::invalid("a packet has no segments"))?;
        first.set_nb_segs(m.nb_segs());
        first.set_pkt_len(m.pkt_len());
        Ok(first)
    }

    /// Gives a borrower its own data back; the buffer it had borrowed from.
    fn detach(&self, m: MbufRef) -> MbufRef {
        // SAFETY: `attach` stored the lender's descriptor there.
        let lender = unsafe { MbufRef::new(NonNull::new_unchecked((*m.as_ptr()).shinfo.cast())) };
        m.set_buf_addr(self.home(m).cast());
        m.set_buf_len(self.config.data_size);
        lender
    }
}

impl MbufRef {
    /// Makes an empty buffer borrow the data of a segment.
    ///
    /// # Safety
    /// As [`Pool::free`], for the segment.
    unsafe fn attach(self, segment: MbufRef) {
        let lender = if segment.ol_flags() & flags::INDIRECT != 0 {
            // SAFETY: `attach` stored the lender's descriptor there.
            unsafe { MbufRef::new(NonNull::new_unchecked((*segment.as_ptr()).shinfo.cast())) }
        } else {
            segment
        };
        lender.refcnt().fetch_add(1, Ordering::AcqRel);
        // SAFETY: this descriptor is ours.
        unsafe { (&raw mut (*self.as_ptr()).shinfo).write(lender.as_ptr().cast()) };
        self.set_buf_addr(segment.buf_addr());
        self.set_buf_len(segment.buf_len());
        self.receive(rearm(segment.data_off(), segment.port()), u32::from(segment.data_len()));
        self.set_ol_flags((segment.ol_flags() & !flags::BORROWED) | flags::INDIRECT);
        self.set_packet_type(segment.packet_type());
        self.set_vlan_tci(segment.vlan_tci());
        self.set_hash_rss(segment.hash_rss());
        self.set_raw_tx_offload(segment.raw_tx_offload());
    }
}

/// Buffers that a queue keeps near, so that it rarely goes to the pool's stack.
#[derive(Debug)]
pub struct Cache {
    pool: Arc<Pool>,
    kept: ArrayVec<MbufRef, CACHE>,
}

/// Most that a cache keeps: two bulks and a bunch.
const CACHE: usize = 2 * super::source::BULK + BUNCH;

impl Cache {
    /// An empty cache in front of a pool.
    pub fn new(pool: Arc<Pool>) -> Self {
        Self { pool, kept: ArrayVec::new() }
    }

    /// The pool behind.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Up to `want` (at most a bulk) free buffers, which stay in the cache until they are [`taken`](Self::taken).
    #[inline]
    pub fn stock(&mut self, want: usize) -> &[MbufRef] {
        while self.kept.len() < want {
            // A bunch more than `want` fits.
            if self.pool.pop(&mut self.kept) == 0 {
                break;
            }
        }
        self.kept.get(self.kept.len().saturating_sub(want)..).unwrap_or(&[])
    }

    /// The last `n` of the stock are in use now.
    #[inline]
    pub fn taken(&mut self, n: usize) {
        self.kept.truncate(self.kept.len().saturating_sub(n));
    }

    /// Takes plain buffers of the pool back. Whole bunches go to the pool at once: there are others who want them.
    #[inline]
    pub fn put(&mut self, buffers: &[MbufRef]) {
        if WATCHED {
            // Nothing is kept near: on the stack it is seen whether somebody writes to it.
            return self.pool.put_plain(buffers);
        }
        let (bunches, buffers) = buffers.as_chunks::<BUNCH>();
        bunches.iter().for_each(|bunch| self.pool.push(bunch));
        if self.kept.try_extend_from_slice(buffers).is_err() {
            self.flush();
            self.pool.put_plain(buffers);
        }
    }

    /// Returns all to the pool.
    pub fn flush(&mut self) {
        self.pool.put_plain(&self.kept);
        self.kept.clear();
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(count: u32) -> Arc<Pool> {
        Pool::new(PoolConfig { count, huge: false, ..PoolConfig::default() }).unwrap()
    }

    #[test]
    fn buffers_are_all_there_all_different_and_come_back() {
        let pool = pool(100);
        assert_eq!(pool.available(), 100);
        let mut all = [None; 100];
        pool.get_bulk(&mut all).unwrap();
        assert!(pool.is_empty() && pool.get().is_none());
        let mut data: Vec<_> = all.iter().flatten().map(|m| m.data() as usize).collect();
        data.sort_unstable();
        data.dedup();
        assert_eq!(data.len(), 100);
        let (k, c) = pool.linear();
        for m in all.into_iter().flatten() {
            assert_eq!((m.as_ptr() as u64).wrapping_mul(k.into()).wrapping_add(c), m.buf_addr() as u64);
            // SAFETY: buffers of a living pool.
            unsafe { Pool::free(m) };
        }
        assert_eq!(pool.available(), 100);
        assert!(pool.get_bulk(&mut [None; 101]).is_err());
        assert_eq!(pool.available(), 100);
    }

    #[test]
    fn a_clone_shares_the_data_and_keeps_them_alive() {
        let pool = pool(4);
        let m = pool.get().unwrap();
        m.set_data_len(60);
        m.set_pkt_len(60);
        // SAFETY: buffers of a living pool, here and below.
        let clone = unsafe { pool.clone_packet(m) }.unwrap();
        // SAFETY: see above.
        let second = unsafe { pool.clone_packet(clone) }.unwrap();
        assert_eq!((clone.data(), second.data(), second.pkt_len()), (m.data(), m.data(), 60));
        assert_eq!(m.refcnt().load(Ordering::Relaxed), 3);
        // SAFETY: see above.
        unsafe { Pool::free(m) };
        assert_eq!(pool.available(), 1);
        // SAFETY: see above.
        unsafe { Pool::free(clone) };
        assert_eq!(pool.available(), 2);
        // SAFETY: see above.
        unsafe { Pool::free(second) };
        assert_eq!(pool.available(), 4);
    }

    #[test]
    fn a_cache_gives_everything_back() {
        let pool = pool(200);
        let mut cache = Cache::new(pool.clone());
        let mut held = Vec::new();
        for _ in 0..6 {
            let stock = cache.stock(32);
            let n = stock.len();
            held.extend_from_slice(stock);
            cache.taken(n);
        }
        assert_eq!(held.len(), 192);
        held.chunks(32).for_each(|c| cache.put(c));
        drop(cache);
        assert_eq!(pool.available(), 200);
    }

    #[test]
    fn threads_share_a_pool_without_losing_a_buffer() {
        let pool = pool(64);
        std::thread::scope(|s| {
            for t in 0..4 {
                let pool = &pool;
                s.spawn(move || {
                    for i in 0..if cfg!(miri) { 50 } else { 20_000 } {
                        let mut some = [None; 20];
                        let some = &mut some[..1 + (i + t) % 20];
                        if pool.get_bulk(some).is_ok() {
                            for m in some.iter().flatten() {
                                assert_eq!(m.refcnt().fetch_add(1, Ordering::Relaxed), 1, "handed out twice");
                                m.refcnt().fetch_sub(1, Ordering::Relaxed);
                            }
                            let back: Vec<_> = some.iter().copied().flatten().collect();
                            pool.put_plain(&back);
                        }
                    }
                });
            }
        });
        assert_eq!(pool.available(), 64);
    }
}
