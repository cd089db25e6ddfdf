//! An allocator of the program's, whose buffers lie in memory that a device is told of. It knows of each buffer whether it is
//! free, so that none comes back twice or not as it must be.

use std::ffi::{c_int, c_uint, c_void};
use std::ptr::null_mut;
use std::sync::atomic::Ordering;
use std::sync::{LazyLock, Mutex};

use vuser::buf::layout::Mbuf;
use vuser::capi::mbuf::vuser_mbuf_free;
use vuser::capi::queue::vuser_mbuf_source;

use super::calls::Bytes;
use super::memory::MEMORY;

/// Buffers, and bytes of each: all of the memory.
const COUNT: usize = 32;
const SIZE: u16 = 1024;
const HEADROOM: u16 = 128;

struct Buffers {
    first: *mut Mbuf,
    free: Mutex<Vec<usize>>,
}

// SAFETY: who takes a number off the list has the descriptor.
unsafe impl Send for Buffers {}
// SAFETY: as above.
unsafe impl Sync for Buffers {}

static BUFFERS: LazyLock<Buffers> = LazyLock::new(|| {
    let layout = std::alloc::Layout::array::<[u64; 16]>(COUNT).and_then(|l| l.align_to(128)).expect("it is small");
    // SAFETY: it has a size.
    let first = unsafe { std::alloc::alloc_zeroed(layout) }.cast::<Mbuf>();
    for n in 0..COUNT {
        // SAFETY: a descriptor that nobody has; zeroes are one.
        let m = unsafe { &mut *first.add(n) };
        m.buf_addr = MEMORY.addr.wrapping_add(n * usize::from(SIZE)).cast();
        (m.buf_len, m.pool) = (SIZE, mark());
    }
    Buffers { first, free: Mutex::new((0..COUNT).collect()) }
});

/// What the field `pool` of these buffers holds.
fn mark() -> *mut c_void {
    (&raw const BUFFERS).cast_mut().cast()
}

/// What is received is in these.
pub fn is_ours(m: *mut Mbuf) -> bool {
    // SAFETY: a descriptor of somebody's.
    unsafe { (*m).pool == mark() }
}

/// All buffers are back.
pub fn is_whole() {
    assert_eq!(BUFFERS.free.lock().expect("nobody has panicked").len(), COUNT, "buffers of the program's are missing");
}

unsafe extern "C" fn get_bulk(ctx: *mut c_void, mbufs: *mut *mut Mbuf, n: c_uint) -> c_int {
    assert!(ctx == mark() && n <= 64);
    let mut free = BUFFERS.free.lock().expect("nobody has panicked");
    if free.len() < n as usize {
        return 1;
    }
    for at in 0..n as usize {
        let number = free.pop().expect("there are as many");
        // SAFETY: there are n places, and the descriptor is nobody's.
        unsafe {
            let m = BUFFERS.first.add(number);
            (*m).refcnt.store(1, Ordering::Relaxed);
            ((*m).nb_segs, (*m).next, (*m).data_off) = (1, null_mut(), HEADROOM);
            ((*m).data_len, (*m).pkt_len, (*m).ol_flags) = (0, 0, 0);
            *mbufs.add(at) = m;
        }
    }
    0
}

fn put(m: *mut Mbuf) {
    let number = (m as usize - BUFFERS.first as usize) / size_of::<Mbuf>();
    // SAFETY: it is given back, so that it is ours.
    unsafe {
        assert!(number < COUNT && (*m).pool == mark() && (*m).buf_len == SIZE, "a buffer that never was");
        assert!((*m).refcnt.load(Ordering::Relaxed) == 1 && (*m).next.is_null() && (*m).nb_segs == 1, "not alone");
    }
    let mut free = BUFFERS.free.lock().expect("nobody has panicked");
    assert!(!free.contains(&number), "a buffer comes back twice");
    free.push(number);
}

unsafe extern "C" fn put_bulk(ctx: *mut c_void, mbufs: *const *mut Mbuf, n: c_uint) {
    assert!(ctx == mark());
    // SAFETY: there are n.
    (0..n as usize).for_each(|at| put(unsafe { *mbufs.add(at) }));
}

unsafe extern "C" fn free_packet(ctx: *mut c_void, m: *mut Mbuf) {
    assert!(ctx == mark());
    free(m);
}

/// Gives a packet up, whose segments are of these buffers or of pools.
pub fn free(first: *mut Mbuf) {
    let mut next = first;
    while !next.is_null() {
        let m = next;
        // SAFETY: a packet that is given up; each segment alone is one.
        unsafe {
            next = std::mem::replace(&mut (*m).next, null_mut());
            (*m).nb_segs = 1;
            if is_ours(m) { put(m) } else { vuser_mbuf_free(m) }
        }
    }
}

unsafe extern "C" fn accepts(ctx: *mut c_void, pool: *mut c_void) -> c_int {
    assert!(ctx == mark());
    (pool == mark()).into()
}

/// The allocator, and whether it is one that can be.
pub fn source(script: &mut Bytes) -> (vuser_mbuf_source, bool) {
    let (what, linear) = (script.byte(), script.byte() & 1 == 1);
    let mul = usize::from(SIZE) / size_of::<Mbuf>();
    let add = (MEMORY.addr as u64).wrapping_sub((BUFFERS.first as u64).wrapping_mul(mul as u64));
    let mut source = vuser_mbuf_source {
        size: 0,
        ctx: mark(),
        get_bulk: Some(get_bulk),
        put_bulk: Some(put_bulk),
        free: Some(free_packet),
        pool: mark(),
        linear_mul: if linear { mul as u64 } else { 0 },
        linear_add: if linear { add } else { 0 },
        buf_len: SIZE,
        headroom: HEADROOM,
        accepts: None,
    };
    match what {
        0 => source.get_bulk = None,
        1 => source.put_bulk = None,
        2 => source.free = None,
        3 => source.linear_mul = 1 << 32,
        4 => source.headroom = SIZE - 63,
        5..64 => source.accepts = Some(accepts),
        _ => {}
    }
    (source, what > 4)
}
