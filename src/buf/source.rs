//! Where a queue gets buffers from and gives them back to: a pool of ours, or the application's own allocator.

use std::ffi::{c_int, c_uint, c_void};

use arrayvec::ArrayVec;

use super::mbuf::{Mbuf, MbufRef};
use super::pool::{Cache, Pool};
use super::watch;
use crate::sys::caller::WATCHED;

/// Buffers that move at once.
pub const BULK: usize = 64;

/// k and c such that a buffer begins at its descriptor's address × k + c, modulo 2^64; none when it must be read from
/// the descriptor.
pub type Linear = Option<(u32, u64)>;

/// The application's allocator. Called for [`BULK`] buffers at a time, from the thread that runs the burst.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the C face documents them, field by field")]
pub struct Calls {
    pub ctx: *mut c_void,
    pub get_bulk: unsafe extern "C" fn(*mut c_void, *mut *mut Mbuf, c_uint) -> c_int,
    pub put_bulk: unsafe extern "C" fn(*mut c_void, *const *mut Mbuf, c_uint),
    pub free: unsafe extern "C" fn(*mut c_void, *mut Mbuf),
    pub pool: *mut c_void,
    pub accepts: Option<unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int>,
    pub buf_len: u16,
    pub headroom: u16,
    pub linear: Linear,
}

// SAFETY: whoever sets a source up promises that its functions may be called from the thread of the burst.
unsafe impl Send for Calls {}

/// Buffers of one queue.
#[allow(clippy::large_enum_variant, reason = "there is one a queue, and no step to its cache is wanted")]
#[derive(Debug)]
pub enum Source {
    /// A pool of ours.
    Pool(Cache),
    /// The application's allocator, and what is left of the last bulk.
    Calls(Calls, ArrayVec<MbufRef, BULK>),
}

impl Source {
    /// Up to `want` free buffers, `BULK` at most. They stay in the source until they are [`taken`](Self::taken).
    #[inline]
    pub fn stock(&mut self, want: usize) -> &[MbufRef] {
        match self {
            Self::Pool(cache) => cache.stock(want),
            Self::Calls(calls, kept) => {
                if kept.len() < want {
                    calls.fill(kept);
                }
                kept.get(kept.len().saturating_sub(want)..).unwrap_or(&[])
            }
        }
    }

    /// The last `n` of the stock are in use now.
    #[inline]
    pub fn taken(&mut self, n: usize) {
        match self {
            Self::Pool(cache) => cache.taken(n),
            Self::Calls(_, kept) => kept.truncate(kept.len().saturating_sub(n)),
        }
    }

    /// Gives back buffers that are plain: of the pool that [`home`](Self::home) names, with one owner, one segment
    /// and their own data.
    #[inline]
    pub fn put(&mut self, buffers: &[MbufRef]) {
        match self {
            Self::Pool(cache) => cache.put(buffers),
            Self::Calls(..) if buffers.is_empty() => {}
            // SAFETY: the source's own function, with buffers that came from it.
            Self::Calls(calls, _) => unsafe {
                if WATCHED {
                    buffers.iter().for_each(|m| watch::to_application(*m));
                }
                (calls.put_bulk)(calls.ctx, buffers.as_ptr().cast(), buffers.len() as c_uint);
            },
        }
    }

    /// Gives any packet up.
    pub fn free(&mut self, m: MbufRef) {
        match self {
            // SAFETY: packets given to a queue with a pool of ours are of pools of ours.
            Self::Pool(_) => unsafe { Pool::free(m) },
            // SAFETY: the source's own function.
            Self::Calls(calls, _) => unsafe {
                if WATCHED {
                    watch::to_application(m);
                }
                (calls.free)(calls.ctx, m.as_ptr());
            },
        }
    }

    /// What the `pool` field of plain buffers holds.
    pub fn home(&self) -> *mut c_void {
        match self {
            Self::Pool(cache) => cache.pool().id(),
            Self::Calls(calls, _) => calls.pool,
        }
    }

    /// Whether plain packets may have any home, one at a time: an application's allocator that names no pool.
    pub fn adapts(&self) -> bool {
        matches!(self, Self::Calls(calls, _) if calls.pool.is_null())
    }

    /// Whether the application says that all buffers of a pool lie in memory that the device was told of.
    pub fn accepts(&self, pool: u64) -> bool {
        match self {
            Self::Calls(Calls { ctx, accepts: Some(accepts), .. }, _) => {
                // SAFETY: the source's own function, with its context.
                unsafe { accepts(*ctx, pool as *mut c_void) != 0 }
            }
            _ => false,
        }
    }

    /// Whether the other one is of the same pool or the same allocator.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pool(cache), Self::Pool(other)) => cache.pool().id() == other.pool().id(),
            (Self::Calls(calls, _), Self::Calls(other, _)) => (calls.ctx, calls.pool) == (other.ctx, other.pool),
            _ => false,
        }
    }

    /// Where plain buffers begin.
    pub fn linear(&self) -> Linear {
        match self {
            Self::Pool(cache) => Some(cache.pool().linear()),
            Self::Calls(calls, _) => calls.linear,
        }
    }

    /// Bytes of a buffer, and of its headroom.
    pub fn room(&self) -> (u16, u16) {
        match self {
            Self::Pool(cache) => (cache.pool().config().data_size, cache.pool().config().headroom),
            Self::Calls(calls, _) => (calls.buf_len, calls.headroom),
        }
    }

    /// Whether free buffers have run out, as far as can be seen without a call.
    #[inline]
    pub fn is_dry(&self) -> bool {
        matches!(self, Self::Pool(cache) if cache.pool().is_empty())
    }

    /// Returns what is kept near.
    pub fn flush(&mut self) {
        match self {
            Self::Pool(cache) => cache.flush(),
            Self::Calls(_, kept) if kept.is_empty() => {}
            Self::Calls(calls, kept) => {
                // SAFETY: the source's own function, with buffers that came from it.
                unsafe { (calls.put_bulk)(calls.ctx, kept.as_ptr().cast(), kept.len() as c_uint) };
                kept.clear();
            }
        }
    }
}

impl Calls {
    /// Fills up to a bulk, or with a scarce source by halves, as far as there are buffers.
    fn fill(&self, kept: &mut ArrayVec<MbufRef, BULK>) {
        let mut want = BULK - kept.len();
        while want > 0 {
            let len = kept.len();
            // SAFETY: there is room for `want` behind what is kept; on success (0) the source has filled all of them.
            unsafe {
                if (self.get_bulk)(self.ctx, kept.as_mut_ptr().add(len).cast(), want as c_uint) == 0 {
                    kept.set_len(len + want);
                    return;
                }
            }
            want /= 2;
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.flush();
    }
}
