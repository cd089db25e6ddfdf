//! One queue of a device, as the thread that bursts sees it and as the control plane sees it.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use parking_lot::Mutex;

use crate::buf::MbufRef;
use crate::error::{Error, Result};
use crate::net::path::{Descriptor, Monitor, Rx, Tx};
use crate::net::stats::{Board, Stats};
use crate::sys::eventfd::Bell;

/// What a queue is at the moment.
pub(super) enum Engine {
    /// The device is not started.
    Idle,
    /// A receive queue at work.
    Rx(Box<dyn Rx>),
    /// A transmit queue at work.
    Tx(Box<dyn Tx>),
    /// A queue that was stopped alone, with the buffers that its ring has.
    Halted(Box<Engine>),
}

impl Engine {
    /// The device has let go of it: all its buffers come back.
    pub(super) fn reclaim(self) {
        match self {
            Self::Rx(mut rx) => rx.reclaim(),
            Self::Tx(mut tx) => tx.reclaim(),
            Self::Halted(engine) => engine.reclaim(),
            Self::Idle => {}
        }
    }

    /// Position for SET_VRING_BASE, if there is a queue.
    pub(super) fn base(&self) -> Option<u32> {
        match self {
            Self::Rx(rx) => Some(rx.base()),
            Self::Tx(tx) => Some(tx.base()),
            Self::Halted(engine) => engine.base(),
            Self::Idle => None,
        }
    }

    /// See [`Ring::untouched`](crate::ring::Ring::untouched).
    pub(super) fn untouched(&self, base: u32) -> Option<u16> {
        match self {
            Self::Rx(rx) => rx.untouched(base),
            Self::Tx(tx) => tx.untouched(base),
            Self::Halted(engine) => engine.untouched(base),
            Self::Idle => None,
        }
    }

    /// The same, which bursts pass by.
    pub(super) fn halted(self) -> Self {
        match self {
            Self::Rx(_) | Self::Tx(_) => Self::Halted(Box::new(self)),
            other => other,
        }
    }

    /// The same, at work.
    pub(super) fn working(self) -> Self {
        match self {
            Self::Halted(engine) => *engine,
            other => other,
        }
    }

    fn state(&self) -> u8 {
        match self {
            Self::Idle => IDLE,
            Self::Rx(_) | Self::Tx(_) => WORKING,
            Self::Halted(_) => HALTED,
        }
    }
}

const IDLE: u8 = 0;
const WORKING: u8 = 1;
const HALTED: u8 = 2;

/// A queue. It lives as long as its device, and from start to stop there is an engine in it.
///
/// The law of queues: one thread at a time uses a queue, and none while the device is started, stopped or reset.
/// The burst takes no lock to enforce it; the callers of the unsafe functions answer for it.
pub struct Port {
    engine: UnsafeCell<Engine>,
    /// What it counts.
    pub board: Arc<Board>,
    /// The device rings it.
    pub call: Bell,
    /// We ring it.
    pub kick: Arc<Bell>,
    /// Where the counters stood when they were reset.
    zero: Mutex<Stats>,
    /// Of the engine, for all threads.
    state: AtomicU8,
    /// Descriptors.
    size: AtomicU16,
}

// SAFETY: all but the engine may be shared; for the engine the law of queues holds.
unsafe impl Sync for Port {}
// SAFETY: engines are `Send`.
unsafe impl Send for Port {}

impl Port {
    pub(super) fn new() -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            engine: UnsafeCell::new(Engine::Idle),
            board: Arc::default(),
            call: Bell::new()?,
            kick: Arc::new(Bell::new()?),
            zero: Mutex::default(),
            state: AtomicU8::new(IDLE),
            size: AtomicU16::new(0),
        }))
    }

    /// Puts another engine in; the one that was there.
    ///
    /// # Safety
    /// The law of queues.
    pub(super) unsafe fn replace(&self, engine: Engine) -> Engine {
        self.state.store(engine.state(), Ordering::Release);
        // SAFETY: passed on.
        std::mem::replace(unsafe { self.engine() }, engine)
    }

    pub(super) fn set_size(&self, size: u16) {
        self.size.store(size, Ordering::Relaxed);
    }

    /// What it has counted since the last reset of its counters. From any thread.
    pub fn stats(&self) -> Stats {
        self.board.counters.snapshot() - *self.zero.lock()
    }

    /// Sets the counters to zero. From any thread.
    pub fn reset_stats(&self) {
        *self.zero.lock() = self.board.counters.snapshot();
    }

    /// # Safety
    /// The law of queues.
    #[allow(clippy::mut_from_ref, reason = "the law of queues is what makes it exclusive")]
    #[inline(always)]
    pub(super) unsafe fn engine(&self) -> &mut Engine {
        // SAFETY: passed on.
        unsafe { &mut *self.engine.get() }
    }

    /// Receives frames; 0 when there are none, or the queue is idle or broken, or sends.
    ///
    /// # Safety
    /// The law of queues.
    #[inline(always)]
    pub unsafe fn rx_burst(&self, out: &mut [MaybeUninit<MbufRef>]) -> usize {
        // SAFETY: passed on.
        match unsafe { self.engine() } {
            Engine::Rx(rx) => rx.burst(out),
            _ => 0,
        }
    }

    /// Sends packets; how many were taken.
    ///
    /// # Safety
    /// The law of queues; the packets are valid and the caller's.
    #[inline(always)]
    pub unsafe fn tx_burst(&self, packets: &[MbufRef]) -> usize {
        // SAFETY: passed on.
        match unsafe { self.engine() } {
            Engine::Tx(tx) => tx.burst(packets),
            _ => 0,
        }
    }

    /// Prepares packets for their offloads; how many could be.
    ///
    /// # Safety
    /// As [`tx_burst`](Self::tx_burst).
    pub unsafe fn tx_prepare(&self, packets: &[MbufRef]) -> usize {
        // SAFETY: passed on.
        match unsafe { self.engine() } {
            Engine::Tx(tx) => tx.prepare(packets),
            _ => 0,
        }
    }

    /// Gives sent packets back to their pool.
    ///
    /// # Safety
    /// The law of queues.
    pub unsafe fn tx_done_cleanup(&self, most: usize) -> usize {
        // SAFETY: passed on.
        match unsafe { self.engine() } {
            Engine::Tx(tx) => tx.done_cleanup(most),
            _ => 0,
        }
    }

    /// Asks the device to call, or not to; true when there is work already, so that waiting would be wrong.
    ///
    /// # Safety
    /// The law of queues.
    pub unsafe fn set_calls(&self, on: bool) -> bool {
        if on {
            self.call.take();
        }
        // SAFETY: passed on.
        match unsafe { self.engine() } {
            Engine::Rx(rx) => rx.set_calls(on),
            Engine::Tx(tx) => tx.set_calls(on),
            _ => false,
        }
    }

    /// Waits until there may be work, or the time is over (false).
    ///
    /// # Safety
    /// The law of queues.
    pub unsafe fn wait(&self, at_most: Duration) -> bool {
        // SAFETY: passed on.
        if unsafe { self.set_calls(true) } {
            return true;
        }
        self.call.wait(at_most)
    }

    /// Descriptors that the device has used and the queue has not taken.
    ///
    /// # Safety
    /// The law of queues.
    pub unsafe fn used_count(&self) -> u16 {
        // SAFETY: passed on.
        match unsafe { self.engine() } {
            Engine::Rx(rx) => rx.used_count(),
            Engine::Tx(tx) => tx.used_count(),
            _ => 0,
        }
    }

    /// What has become of the descriptor so many places from the next one.
    ///
    /// # Safety
    /// The law of queues.
    pub unsafe fn descriptor_status(&self, offset: u16) -> Result<Descriptor> {
        let size = self.size.load(Ordering::Relaxed);
        if offset >= size {
            return Err(Error::invalid(format!("there is no descriptor {offset} places on: the ring has {size}")));
        }
        // SAFETY: passed on.
        match unsafe { self.engine() } {
            Engine::Rx(rx) => Ok(rx.descriptor_status(offset)),
            Engine::Tx(tx) => Ok(tx.descriptor_status(offset)),
            _ => Ok(Descriptor::Unused),
        }
    }

    /// What to watch in order to sleep until the device uses something.
    ///
    /// # Safety
    /// The law of queues.
    pub unsafe fn monitor(&self) -> Option<Monitor> {
        // SAFETY: passed on.
        match unsafe { self.engine() } {
            Engine::Rx(rx) => Some(rx.monitor()),
            Engine::Tx(tx) => Some(tx.monitor()),
            _ => None,
        }
    }

    /// Collects all that has been sent; whether the device has nothing left to send.
    ///
    /// # Safety
    /// The law of queues.
    pub(super) unsafe fn is_drained(&self) -> bool {
        // SAFETY: passed on.
        let Engine::Tx(tx) = (unsafe { self.engine() }) else { return true };
        tx.done_cleanup(usize::MAX);
        (0..self.size.load(Ordering::Relaxed)).all(|offset| tx.descriptor_status(offset) != Descriptor::WithDevice)
    }

    /// Whether it works, and otherwise why not. From any thread.
    pub fn status(&self) -> Result<()> {
        if let Some(lie) = self.board.lie() {
            return Err(Error::new(Errno::EIO, format!("the queue is broken until the device is reset: {lie}")));
        }
        match self.state.load(Ordering::Acquire) {
            WORKING => Ok(()),
            HALTED => Err(Error::new(Errno::ENETDOWN, "the queue is stopped; start it")),
            _ => Err(Error::new(Errno::ENETDOWN, "the device is not started")),
        }
    }
}

/// The receive side of a queue pair, borrowed from its device.
pub struct RxHandle<'a>(pub(super) &'a Port);

/// The transmit side of a queue pair, borrowed from its device.
pub struct TxHandle<'a>(pub(super) &'a Port);

impl RxHandle<'_> {
    /// Receives up to as many frames as there are places; how many. They are the caller's.
    pub fn burst(&mut self, out: &mut [MaybeUninit<MbufRef>]) -> usize {
        // SAFETY: the handle is exclusive, and the device is borrowed as long as it exists.
        unsafe { self.0.rx_burst(out) }
    }

    /// Waits until there may be frames, or the time is over (false).
    pub fn wait(&mut self, at_most: Duration) -> bool {
        // SAFETY: as above.
        unsafe { self.0.wait(at_most) }
    }
}

impl TxHandle<'_> {
    /// Sends packets from the first on; how many were taken. Those are the queue's now.
    ///
    /// # Safety
    /// The packets are valid and the caller's.
    pub unsafe fn burst(&mut self, packets: &[MbufRef]) -> usize {
        // SAFETY: the handle is exclusive; the packets are promised.
        unsafe { self.0.tx_burst(packets) }
    }
}
