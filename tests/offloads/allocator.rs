//! An application that has an allocator of its own: C functions over a pool, of which the queues know nothing.

use std::ffi::{c_int, c_uint, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use arrayvec::ArrayVec;
use vuser::buf::mbuf::HEADROOM;
use vuser::buf::pool::Pool;
use vuser::buf::source::{Calls, Source};
use vuser::buf::{Mbuf, MbufRef};

/// The allocator.
pub struct Allocator {
    pub pool: Arc<Pool>,
    /// It names its pool: packets of any other are never plain.
    pub named: bool,
    /// Buffers begin where that can be computed from their descriptors.
    pub linear: bool,
    /// Whether other pools may be the home of plain packets, and how often that was asked.
    pub accepts: AtomicBool,
    pub asked: AtomicU64,
}

impl Allocator {
    pub fn new(pool: Arc<Pool>, named: bool, linear: bool) -> Box<Self> {
        Box::new(Self { pool, named, linear, accepts: AtomicBool::new(true), asked: AtomicU64::new(0) })
    }

    /// A queue's handle of it, good as long as it lives.
    pub fn source(&self) -> Source {
        let pool = if self.named { self.pool.id() } else { std::ptr::null_mut() };
        let calls = Calls {
            ctx: std::ptr::from_ref(self).cast_mut().cast(),
            get_bulk,
            put_bulk,
            free,
            pool,
            accepts: Some(accepts),
            buf_len: self.pool.config().data_size,
            headroom: HEADROOM,
            linear: self.linear.then(|| self.pool.linear()),
        };
        Source::Calls(calls, ArrayVec::new())
    }
}

/// # Safety
/// The context is that of a living allocator.
unsafe fn of<'a>(ctx: *mut c_void) -> &'a Allocator {
    // SAFETY: passed on.
    unsafe { &*ctx.cast::<Allocator>() }
}

unsafe extern "C" fn get_bulk(ctx: *mut c_void, to: *mut *mut Mbuf, n: c_uint) -> c_int {
    let mut places = vec![None; n as usize];
    // SAFETY: a queue calls with its context.
    if unsafe { of(ctx) }.pool.get_bulk(&mut places).is_err() {
        return -1;
    }
    // SAFETY: there is room for as many.
    places.iter().flatten().enumerate().for_each(|(k, m)| unsafe { to.add(k).write(m.as_ptr()) });
    0
}

unsafe extern "C" fn put_bulk(_: *mut c_void, from: *const *mut Mbuf, n: c_uint) {
    // SAFETY: so many packets, given up.
    (0..n as usize).for_each(|k| unsafe { free(std::ptr::null_mut(), *from.add(k)) });
}

unsafe extern "C" fn free(_: *mut c_void, m: *mut Mbuf) {
    // SAFETY: a packet that is given up.
    unsafe { Pool::free(MbufRef::new(NonNull::new(m).unwrap())) };
}

unsafe extern "C" fn accepts(ctx: *mut c_void, _: *mut c_void) -> c_int {
    // SAFETY: a queue calls with its context.
    let allocator = unsafe { of(ctx) };
    allocator.asked.store(allocator.asked.load(Relaxed) + 1, Relaxed);
    allocator.accepts.load(Relaxed).into()
}
