//! `struct vuser_queue`: bursts.

use std::ffi::{c_int, c_uint, c_void};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

use super::dev::{vuser_dev, with};
use super::error::{Sized0, control, fill, read};
use super::handle::{QUEUE, alone, is_foreign, living, queue_born, there, used};
use super::pool::{pool, vuser_pool};
use crate::buf::layout::Mbuf;
use crate::buf::source::Calls;
use crate::buf::{MbufRef, watch};
use crate::dev::port::Port;
use crate::dev::{Device, SourceSetup};
use crate::error::{Error, Result};
use crate::net::stats::Stats;
use crate::sys::caller::WATCHED;

/// One receive or one transmit queue of a device, from its set-up until vuser_dev_uninit. One thread at a time uses
/// it; control calls of the device may come from others meanwhile, all but vuser_dev_uninit.
pub struct vuser_queue {
    /// What it points to is a [`Port`].
    _port: (),
}

impl vuser_queue {
    fn of(port: &Arc<Port>) -> *mut Self {
        Arc::as_ptr(port).cast_mut().cast()
    }
}

/// An allocator of the application's, in place of a vuser_pool. Its functions are called for up to 64 buffers at a
/// time from the thread that bursts, or, while that is kept out, from a control call or the thread that looks after events;
/// they must not call back into the queue or the device. All buffers have one size, and lie in memory that was registered
/// with vuser_mem_register.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct vuser_mbuf_source {
    /// sizeof(struct vuser_mbuf_source).
    pub size: usize,
    /// Passed to the functions.
    pub ctx: *mut c_void,
    /// Gets n free buffers (refcnt 1, nb_segs 1, next NULL): 0, or non-zero and none.
    pub get_bulk: Option<unsafe extern "C" fn(ctx: *mut c_void, mbufs: *mut *mut Mbuf, n: c_uint) -> c_int>,
    /// Takes n free buffers back.
    pub put_bulk: Option<unsafe extern "C" fn(ctx: *mut c_void, mbufs: *const *mut Mbuf, n: c_uint)>,
    /// Gives one packet up, whatever it is: chained, shared, of another allocator.
    pub free: Option<unsafe extern "C" fn(ctx: *mut c_void, m: *mut Mbuf)>,
    /// What the field `pool` of these buffers holds. Others are given to free.
    pub pool: *mut c_void,
    /// If not 0, a buffer begins at its descriptor's address times this, plus linear_add (modulo 2^64), and the
    /// descriptor need not be read to know it. Below 2^32.
    pub linear_mul: u64,
    /// See linear_mul.
    pub linear_add: u64,
    /// Bytes of a buffer.
    pub buf_len: u16,
    /// Bytes to keep in front of a received frame.
    pub headroom: u16,
    /// Transmit only, may be NULL. With pool NULL the queue adapts to whatever pool packets come from: put_bulk is given
    /// buffers that all have the same pool, and before the queue relies on one for the first time it asks here: non-zero
    /// means that all of its buffers lie in memory that the device was told of.
    pub accepts: Option<unsafe extern "C" fn(ctx: *mut c_void, pool: *mut c_void) -> c_int>,
}

// SAFETY: integers, pointers and optional functions, for which any bytes that C wrote are a value; `size` first.
unsafe impl Sized0 for vuser_mbuf_source {
    fn size_mut(&mut self) -> &mut usize {
        &mut self.size
    }
}

const EMPTY: vuser_mbuf_source = vuser_mbuf_source {
    size: size_of::<vuser_mbuf_source>(),
    ctx: std::ptr::null_mut(),
    get_bulk: None,
    put_bulk: None,
    free: None,
    pool: std::ptr::null_mut(),
    linear_mul: 0,
    linear_add: 0,
    buf_len: 0,
    headroom: 0,
    accepts: None,
};

unsafe fn source(given: *const vuser_mbuf_source) -> Result<SourceSetup> {
    // SAFETY: by the conventions.
    let s = unsafe { read(given, "source", EMPTY) }?;
    let missing = || Error::invalid("get_bulk, put_bulk and free must all be set");
    let (get_bulk, put_bulk) = (s.get_bulk.ok_or_else(missing)?, s.put_bulk.ok_or_else(missing)?);
    let free = s.free.ok_or_else(missing)?;
    let mul = u32::try_from(s.linear_mul).map_err(|_| Error::invalid("linear_mul is below 2^32"))?;
    let linear = (mul != 0).then_some((mul, s.linear_add));
    Ok(SourceSetup::Calls(Calls {
        ctx: s.ctx,
        get_bulk,
        put_bulk,
        free,
        pool: s.pool,
        accepts: s.accepts,
        buf_len: s.buf_len,
        headroom: s.headroom,
        linear,
    }))
}

/// # Safety
/// The device is NULL or lives.
unsafe fn set_up(
    name: &str,
    dev: *const vuser_dev,
    index: u32,
    source: impl FnOnce() -> Result<SourceSetup>,
    set_up: impl FnOnce(&mut Device, SourceSetup) -> Result<()>,
) -> c_int {
    // SAFETY: passed on.
    unsafe {
        with(name, dev, |d| {
            let source = source()?;
            let foreign = matches!(source, SourceSetup::Calls(_));
            set_up(d, source)?;
            d.port(index).into_iter().for_each(|port| queue_born(vuser_queue::of(port), dev, foreign));
            Ok(0)
        })
    }
}

/// Sets the receive queue of a pair up: its size (0: the configuration's) and where its buffers come from. Only while
/// the device is stopped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_rx_queue_setup(
    dev: *mut vuser_dev,
    pair: u16,
    size: u16,
    pool: *mut vuser_pool,
) -> c_int {
    // SAFETY: by the conventions.
    unsafe {
        set_up(
            "vuser_rx_queue_setup",
            dev,
            2 * u32::from(pair),
            || Ok(SourceSetup::Pool(self::pool(pool, "vuser_rx_queue_setup")?.clone())),
            |d, s| d.setup_rx(pair, size, s),
        )
    }
}

/// Sets the transmit queue of a pair up: its size (0: the configuration's) and the pool that most packets are of.
/// Packets of other pools that queues of this device were set up with may be sent too, at a higher cost. Only while the
/// device is stopped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_tx_queue_setup(
    dev: *mut vuser_dev,
    pair: u16,
    size: u16,
    pool: *mut vuser_pool,
) -> c_int {
    // SAFETY: by the conventions.
    unsafe {
        set_up(
            "vuser_tx_queue_setup",
            dev,
            2 * u32::from(pair) + 1,
            || Ok(SourceSetup::Pool(self::pool(pool, "vuser_tx_queue_setup")?.clone())),
            |d, s| d.setup_tx(pair, size, s),
        )
    }
}

/// As vuser_rx_queue_setup, with an allocator of the application's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_rx_queue_setup_source(
    dev: *mut vuser_dev,
    pair: u16,
    size: u16,
    source: *const vuser_mbuf_source,
) -> c_int {
    // SAFETY: by the conventions.
    unsafe {
        set_up(
            "vuser_rx_queue_setup_source",
            dev,
            2 * u32::from(pair),
            || self::source(source),
            |d, s| d.setup_rx(pair, size, s),
        )
    }
}

/// As vuser_tx_queue_setup, with an allocator of the application's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_tx_queue_setup_source(
    dev: *mut vuser_dev,
    pair: u16,
    size: u16,
    source: *const vuser_mbuf_source,
) -> c_int {
    // SAFETY: by the conventions.
    unsafe {
        set_up(
            "vuser_tx_queue_setup_source",
            dev,
            2 * u32::from(pair) + 1,
            || self::source(source),
            |d, s| d.setup_tx(pair, size, s),
        )
    }
}

unsafe fn queue(name: &str, dev: *const vuser_dev, index: u32) -> *mut vuser_queue {
    let mut queue = std::ptr::null_mut();
    // SAFETY: passed on.
    unsafe {
        with(name, dev, |d| {
            let port = d.port(index).ok_or_else(|| Error::invalid(format!("queue {} is not set up", index / 2)))?;
            queue = vuser_queue::of(port);
            Ok(0)
        })
    };
    queue
}

/// The receive queue of a pair; NULL if it has not been set up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_rx_queue(dev: *const vuser_dev, pair: u16) -> *mut vuser_queue {
    // SAFETY: by the conventions.
    unsafe { queue("vuser_rx_queue", dev, 2 * u32::from(pair)) }
}

/// The transmit queue of a pair; NULL if it has not been set up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_tx_queue(dev: *const vuser_dev, pair: u16) -> *mut vuser_queue {
    // SAFETY: by the conventions.
    unsafe { queue("vuser_tx_queue", dev, 2 * u32::from(pair) + 1) }
}

/// The queue of a control call, from any thread.
///
/// # Safety
/// It is NULL or, by the conventions, exists.
unsafe fn port<'a>(queue: *const vuser_queue, call: &str) -> Result<&'a Port> {
    // SAFETY: passed on.
    unsafe { living(queue, QUEUE, call)? };
    // SAFETY: it is one, see there.
    Ok(unsafe { &*queue.cast::<Port>() })
}

/// Packets of a call; with none of them, the array may be NULL. `look` is for a build that watches.
///
/// # Safety
/// By the conventions as many are there, valid and the caller's.
#[inline(always)]
unsafe fn packets<'a>(
    queue: *mut vuser_queue,
    mbufs: *mut *mut Mbuf,
    n: u16,
    call: &str,
    look: impl Fn(*mut Mbuf, bool, &str),
) -> &'a [MbufRef] {
    if WATCHED {
        there(mbufs, n, call);
        let foreign = is_foreign(queue);
        // SAFETY: passed on; before any is taken for a packet.
        (0..usize::from(n)).for_each(|i| look(unsafe { *mbufs.add(i) }, foreign, call));
    }
    let mbufs = if n == 0 { std::ptr::dangling() } else { mbufs.cast::<MbufRef>().cast_const() };
    // SAFETY: passed on; a handle has the representation of a pointer.
    unsafe { std::slice::from_raw_parts(mbufs, usize::from(n)) }
}

/// Receives up to n frames into mbufs, and returns how many. They belong to the caller. Never waits. 0 also when the
/// device is stopped or the queue is broken: see vuser_queue_status.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_rx_burst(queue: *mut vuser_queue, mbufs: *mut *mut Mbuf, n: u16) -> u16 {
    if n == 0 {
        return 0;
    }
    there(mbufs, n, "vuser_rx_burst");
    // SAFETY: by the conventions, which are the law of queues; a handle has the representation of a pointer.
    unsafe {
        let out = std::slice::from_raw_parts_mut(mbufs.cast::<MaybeUninit<MbufRef>>(), usize::from(n));
        let received = used(queue, "vuser_rx_burst").rx_burst(out);
        watch::received(out, received) as u16
    }
}

/// Sends up to n packets, from the first on, and returns how many were taken. Those belong to the queue; the others
/// stay the caller's, who may try again while vuser_queue_status is 0. A packet that can't be sent at all counts as taken: it is freed, and counted
/// by its reason in the statistics. Never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_tx_burst(queue: *mut vuser_queue, mbufs: *mut *mut Mbuf, n: u16) -> u16 {
    // SAFETY: as above.
    unsafe {
        let port = used(queue, "vuser_tx_burst");
        let packets = packets(queue, mbufs, n, "vuser_tx_burst", watch::sent);
        let taken = port.tx_burst(packets);
        watch::not_taken(packets, taken);
        taken as u16
    }
}

/// Prepares packets for the offloads that they ask for: puts the pseudo-header's sum where the device expects it, and
/// computes IPv4 header checksums. Returns how many, from the first on, can be sent; the one after them can't. The
/// headers must lie in the first segment, which must not be shared.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_tx_prepare(queue: *mut vuser_queue, mbufs: *mut *mut Mbuf, n: u16) -> u16 {
    // SAFETY: as above.
    unsafe {
        let port = used(queue, "vuser_tx_prepare");
        port.tx_prepare(packets(queue, mbufs, n, "vuser_tx_prepare", watch::is_callers)) as u16
    }
}

/// Gives packets that have been sent back to their pool now, up to about n of them, and returns how many. Otherwise
/// that happens when half the ring is in use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_tx_done_cleanup(queue: *mut vuser_queue, n: u16) -> u16 {
    // SAFETY: by the conventions.
    unsafe { used(queue, "vuser_tx_done_cleanup").tx_done_cleanup(usize::from(n)) as u16 }
}

/// 0 when the queue works; -ENETDOWN when the device or the queue is stopped; -EIO when the back-end broke the queue's rules, and
/// only a stop or reset of the device mends it. From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_queue_status(queue: *const vuser_queue) -> c_int {
    // SAFETY: by the conventions.
    control("vuser_queue_status", || unsafe { port(queue, "vuser_queue_status") }?.status().map(|()| 0))
}

/// The eventfd by which the device calls, to be watched for reading (poll, epoll, an event loop). It stays the
/// queue's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_queue_fd(queue: *const vuser_queue) -> c_int {
    // SAFETY: by the conventions.
    control("vuser_queue_fd", || unsafe { port(queue, "vuser_queue_fd") }.map(|q| q.call.as_raw_fd()))
}

/// With on = 1, asks the device to call when there is the next frame to receive (or the next one was sent): one call,
/// then it must be asked again. Returns 1 when there is work already, so that the caller must not wait but burst; 0 when
/// it may wait. With on = 0, asks it not to call, which is how a device starts. -ENETDOWN, -EIO: see vuser_queue_status.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_queue_call(queue: *mut vuser_queue, on: c_int) -> c_int {
    // SAFETY: by the conventions.
    control("vuser_queue_call", || unsafe {
        let queue = alone(queue, "vuser_queue_call")?;
        queue.status()?;
        Ok(queue.set_calls(on != 0).into())
    })
}

/// Waits until there may be work for the queue, at most so many milliseconds: 1 when there may be, 0 when not.
/// -ENETDOWN, -EIO: see vuser_queue_status.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_queue_wait(queue: *mut vuser_queue, timeout_ms: c_uint) -> c_int {
    let time = Duration::from_millis(timeout_ms.into());
    // SAFETY: by the conventions.
    control("vuser_queue_wait", || unsafe {
        let queue = alone(queue, "vuser_queue_wait")?;
        queue.status()?;
        Ok(queue.wait(time).into())
    })
}

/// Descriptors that the device has used and the queue has not taken: of a receive queue, buffers in which frames wait.
/// The queue must not be in use meanwhile. -ENETDOWN, -EIO: see vuser_queue_status.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_queue_count(queue: *mut vuser_queue) -> c_int {
    // SAFETY: by the conventions.
    control("vuser_queue_count", || unsafe {
        let queue = alone(queue, "vuser_queue_count")?;
        queue.status()?;
        Ok(queue.used_count().into())
    })
}

/// What the descriptor is doing that is `offset` places from the next one: to be received (a receive queue) or to be
/// sent (a transmit queue). 0: it is with the device; 1: the device is done with it, or, of a transmit queue, it is free;
/// 2: there is no buffer in it. The queue must not be
/// in use meanwhile. -EINVAL: the ring is shorter; -ENETDOWN, -EIO: see vuser_queue_status.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_queue_descriptor_status(queue: *mut vuser_queue, offset: u16) -> c_int {
    // SAFETY: by the conventions.
    control("vuser_queue_descriptor_status", || unsafe {
        let queue = alone(queue, "vuser_queue_descriptor_status")?;
        queue.status()?;
        queue.descriptor_status(offset).map(|d| d as c_int)
    })
}

/// A place in memory to sleep on, by UMWAIT for example, until the device uses something.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct vuser_monitor {
    /// sizeof(struct vuser_monitor), to be set by the caller.
    pub size: usize,
    /// Where to look. The device writes there.
    pub addr: *const c_void,
    /// Bits of the value there that matter.
    pub mask: u64,
    /// What to compare them with.
    pub value: u64,
    /// Bytes of the value there.
    pub bytes: u8,
    /// 1: nothing has been used as long as the value is this one; 0: as long as it is another.
    pub while_equal: u8,
}

// SAFETY: integers and an address, `size` first.
unsafe impl Sized0 for vuser_monitor {
    fn size_mut(&mut self) -> &mut usize {
        &mut self.size
    }
}

/// Where to look for the next buffer that the device uses; monitor->size must be set. It holds until the next burst. The
/// queue must not be in use meanwhile. -ENETDOWN, -EIO: see vuser_queue_status.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_queue_monitor(queue: *mut vuser_queue, monitor: *mut vuser_monitor) -> c_int {
    // SAFETY: by the conventions.
    control("vuser_queue_monitor", || unsafe {
        let queue = alone(queue, "vuser_queue_monitor")?;
        queue.status()?;
        let place = queue.monitor().ok_or_else(|| Error::new(Errno::ENETDOWN, "the queue is stopped"))?;
        let out = vuser_monitor {
            size: size_of::<vuser_monitor>(),
            addr: place.addr as *const c_void,
            mask: place.mask.into(),
            value: place.value.into(),
            bytes: size_of::<u16>() as u8,
            while_equal: place.while_equal.into(),
        };
        fill(monitor, "monitor", out).map(|()| 0)
    })
}

/// Counters of a queue since it was set up, or since vuser_queue_reset_stats. What a direction has not stays 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct vuser_queue_stats {
    /// sizeof(struct vuser_queue_stats), to be set by the caller.
    pub size: usize,
    /// Frames received or sent.
    pub packets: u64,
    /// Their bytes, without the virtio header.
    pub bytes: u64,
    /// Times the device was woken.
    pub kicks: u64,
    /// Receive: times no free buffer was there to offer.
    pub no_buffer: u64,
    /// Receive, dropped: shorter than an Ethernet header.
    pub runt: u64,
    /// Receive, dropped: the virtio header asks for what was not agreed, or points outside the frame; or, in
    /// vuser_rx_burst_copy, the frame is longer than any can be.
    pub bad_header: u64,
    /// Transmit: times the ring was full.
    pub ring_full: u64,
    /// Transmit, dropped: shorter than an Ethernet header, or the segments do not add up.
    pub bad_packet: u64,
    /// Transmit, dropped: asks for an offload that was not agreed, or its lengths are wrong for it.
    pub bad_offload: u64,
    /// Transmit, dropped: outside the memory that the device was told of.
    pub bad_address: u64,
    /// Transmit, dropped: more segments than fit.
    pub too_many_segments: u64,
    /// Dropped because the device was stopped: offered and not used (transmit), half received.
    pub lost: u64,
    /// Frames to a multicast address; counted only with the option stats=1, as all below.
    pub multicast: u64,
    /// Frames to the broadcast address.
    pub broadcast: u64,
    /// Frames by length: below 64, 64, 65 to 127, 128 to 255, 256 to 511, 512 to 1023, 1024 to 1518, above.
    pub size_bins: [u64; 8],
    /// Transmit: packets sent once more, because the back-end went away before it said that it had sent them. They are not
    /// counted again in packets and bytes. Always counted, as the next.
    pub tx_resent: u64,
    /// Transmit, dropped when a back-end came back: not sent by the former one as far as it had said, and not to be sent once
    /// more (resend=0) or not possible any more.
    pub tx_dropped_on_reconnect: u64,
}

// SAFETY: integers, `size` first.
unsafe impl Sized0 for vuser_queue_stats {
    fn size_mut(&mut self) -> &mut usize {
        &mut self.size
    }
}

fn from_stats(stats: &Stats) -> vuser_queue_stats {
    vuser_queue_stats {
        size: size_of::<vuser_queue_stats>(),
        packets: stats.packets,
        bytes: stats.bytes,
        kicks: stats.kicks,
        no_buffer: stats.no_buffer,
        runt: stats.runt,
        bad_header: stats.bad_header,
        ring_full: stats.ring_full,
        bad_packet: stats.bad_packet,
        bad_offload: stats.bad_offload,
        bad_address: stats.bad_address,
        too_many_segments: stats.too_many_segments,
        lost: stats.lost,
        multicast: stats.multicast,
        broadcast: stats.broadcast,
        size_bins: stats.size_bins(),
        tx_resent: stats.tx_resent,
        tx_dropped_on_reconnect: stats.tx_dropped_on_reconnect,
    }
}

/// The counters of a queue; stats->size must be set. From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_queue_get_stats(queue: *const vuser_queue, stats: *mut vuser_queue_stats) -> c_int {
    control("vuser_queue_get_stats", || {
        // SAFETY: by the conventions.
        unsafe { fill(stats, "stats", from_stats(&port(queue, "vuser_queue_get_stats")?.stats())) }.map(|()| 0)
    })
}

/// Sets the counters of a queue to zero. From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_queue_reset_stats(queue: *mut vuser_queue) -> c_int {
    control("vuser_queue_reset_stats", || {
        // SAFETY: by the conventions.
        unsafe { port(queue, "vuser_queue_reset_stats") }?.reset_stats();
        Ok(0)
    })
}
