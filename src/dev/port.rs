//! One queue of a device, as the thread that bursts sees it and as the control plane sees it.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use parking_lot::{Mutex, MutexGuard};

use super::engine::{Engine, FORSAKEN, HALTED, IDLE, WAITING, WORKING};
use crate::buf::MbufRef;
use crate::error::{Error, Result};
use crate::mem::doorbell::Doorbell;
use crate::mem::kick::Kick;
use crate::net::copy::{Frames, Places};
use crate::net::lend::LentFrame;
use crate::net::path::{Descriptor, Monitor};
use crate::net::relay::Relay;
use crate::net::stats::{Board, Stats};
use crate::sys::asymmetric;
use crate::sys::eventfd::Bell;
use crate::sys::turnstile::{Shut, Turnstile};

/// How long the thread of a queue may take to come out of it. A burst takes microseconds; the thread may have been put
/// aside by the kernel in the middle of one.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is asked, once it has not come out at once.
const LOOK: Duration = Duration::from_micros(20);

/// A queue. It lives as long as its device, and from start to stop there is an engine in it.
///
/// The law of queues: one thread at a time uses a queue. The burst takes no lock to enforce it; the callers of the unsafe
/// functions answer for it. The control plane comes in at any time: it [pauses](Self::pause) the queue first.
pub struct Port {
    turnstile: Turnstile,
    engine: UnsafeCell<Engine>,
    /// What it counts.
    pub board: Arc<Board>,
    /// The device rings it.
    pub call: Bell,
    /// We ring it.
    pub kick: Arc<Kick>,
    /// Where the counters stood when they were reset.
    zero: Mutex<Stats>,
    /// Of the engine, for all threads.
    state: AtomicU8,
    /// Descriptors.
    size: AtomicU16,
    /// Whoever pauses the queue has it, and with it where frames are copied to, if they are.
    turn: Mutex<Option<Arc<Relay>>>,
}

// SAFETY: all but the engine may be shared; the engine is touched by the thread of the queue while it is inside of the
// turnstile, of which there is one by the law of queues, and by whoever has paused the queue, one at a time by `turn`.
unsafe impl Sync for Port {}
// SAFETY: engines are `Send`.
unsafe impl Send for Port {}

/// A queue that is paused as long as this lives: bursts find nothing to do. Its engine is ours meanwhile.
pub(super) struct Paused<'a> {
    port: &'a Port,
    /// Always there, until the drop.
    shut: Option<Shut<'a>>,
    tap: MutexGuard<'a, Option<Arc<Relay>>>,
}

impl Paused<'_> {
    pub(super) fn engine(&mut self) -> &mut Engine {
        // SAFETY: the thread of the queue is outside and stays there as long as `shut` lives, and nobody else has the turn.
        unsafe { &mut *self.port.engine.get() }
    }

    /// Puts another engine in; the one that was there.
    pub(super) fn replace(&mut self, engine: Engine) -> Engine {
        self.port.state.store(engine.state(), Ordering::Release);
        if self.tap.as_ref().is_some_and(|relay| relay.is_closed()) {
            // Its capture has ended, and could not take it off.
            *self.tap = None;
        }
        let engine = engine.tapped(self.tap.as_ref());
        std::mem::replace(self.engine(), engine)
    }

    /// From now on copies of the frames go there, or nowhere, whatever engine is in it.
    pub(super) fn set_tap(&mut self, relay: Option<Arc<Relay>>) {
        *self.tap = relay;
        let engine = std::mem::replace(self.engine(), Engine::Idle).tapped(self.tap.as_ref());
        *self.engine() = engine;
    }

    /// What is said of the engine, until it is replaced.
    pub(super) fn says(&mut self, state: u8) {
        self.port.state.store(state, Ordering::Release);
    }

    /// Collects all that has been sent; whether the device has nothing left to send.
    pub(super) fn is_drained(&mut self) -> bool {
        let size = self.port.size.load(Ordering::Relaxed);
        let Engine::Tx(tx) = self.engine() else { return true };
        tx.done_cleanup(usize::MAX);
        (0..size).all(|offset| tx.descriptor_status(offset) != Descriptor::WithDevice)
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        if self.shut.take().is_some_and(Shut::open) {
            self.port.call.ring();
        }
    }
}

impl Port {
    pub(super) fn new() -> Result<Arc<Self>> {
        asymmetric::prepare()?;
        Ok(Arc::new(Self {
            turnstile: Turnstile::new(),
            engine: UnsafeCell::new(Engine::Idle),
            board: Arc::default(),
            call: Bell::new()?,
            kick: Arc::new(Kick::new()?),
            zero: Mutex::default(),
            state: AtomicU8::new(IDLE),
            size: AtomicU16::new(0),
            turn: Mutex::default(),
        }))
    }

    /// Keeps the thread of the queue out of it, and waits until it has left. From any thread but that one.
    pub(super) fn pause(&self) -> Result<Paused<'_>> {
        let end = Instant::now() + PATIENCE;
        let turn = self.turn.try_lock_until(end).ok_or_else(taken)?;
        let shut = self.turnstile.shut()?;
        // Made first, so that it is opened again in the right way if this fails.
        let paused = Paused { port: self, shut: Some(shut), tap: turn };
        let mut rounds = 0;
        while !paused.shut.as_ref().is_some_and(Shut::is_empty) {
            rounds += 1;
            if rounds < 100 {
                std::hint::spin_loop();
            } else if Instant::now() < end {
                std::thread::sleep(LOOK);
            } else {
                return Err(busy());
            }
        }
        Ok(paused)
    }

    /// From now on the device is woken by a doorbell, or by its bell again. The caller is the only one who rings beside the
    /// thread of the queue.
    pub(super) fn set_doorbell(&self, index: u16, doorbell: Option<Arc<Doorbell>>) -> Result<()> {
        let _paused = self.pause()?;
        // SAFETY: the thread of the queue is outside.
        unsafe { self.kick.set_doorbell(index, doorbell) };
        Ok(())
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
    /// The law of queues, and the caller is inside of the turnstile as long as he has this.
    #[allow(clippy::mut_from_ref, reason = "the law of queues and the turnstile are what make it exclusive")]
    #[inline(always)]
    unsafe fn engine(&self) -> &mut Engine {
        // SAFETY: passed on.
        unsafe { &mut *self.engine.get() }
    }

    /// Receives frames; 0 when there are none, or the queue is idle or broken, or sends.
    ///
    /// # Safety
    /// The law of queues.
    #[inline(always)]
    pub unsafe fn rx_burst(&self, out: &mut [MaybeUninit<MbufRef>]) -> usize {
        let Some(_inside) = self.turnstile.enter() else { return 0 };
        // SAFETY: passed on; we are inside.
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
        let Some(_inside) = self.turnstile.enter() else { return 0 };
        // SAFETY: passed on; we are inside.
        match unsafe { self.engine() } {
            Engine::Tx(tx) => tx.burst(packets),
            _ => 0,
        }
    }

    /// Lends what comes next; in how many buffers.
    ///
    /// # Safety
    /// The law of queues.
    #[inline(always)]
    pub unsafe fn rx_peek(&self, out: &mut [MaybeUninit<LentFrame>]) -> usize {
        let Some(_inside) = self.turnstile.enter() else { return 0 };
        // SAFETY: passed on; we are inside.
        match unsafe { self.engine() } {
            Engine::Rx(rx) => rx.peek(out),
            _ => 0,
        }
    }

    /// Gives back the first buffers that are lent, as far as they are.
    ///
    /// # Safety
    /// The law of queues.
    #[inline(always)]
    pub unsafe fn rx_release(&self, n: usize) {
        let Some(_inside) = self.turnstile.enter() else { return };
        // SAFETY: passed on; we are inside.
        if let Engine::Rx(rx) = unsafe { self.engine() } {
            rx.release(n);
        }
    }

    /// Receives frames into memory of the caller's; how many.
    ///
    /// # Safety
    /// The law of queues; the memory is valid for writes.
    pub unsafe fn rx_copy(&self, to: &mut Places<'_>) -> usize {
        let Some(_inside) = self.turnstile.enter() else { return 0 };
        // SAFETY: passed on; we are inside.
        match unsafe { self.engine() } {
            // SAFETY: passed on.
            Engine::Rx(rx) => unsafe { rx.copy_out(to) },
            _ => 0,
        }
    }

    /// Sends frames out of memory of the caller's; how many were taken.
    ///
    /// # Safety
    /// The law of queues; the memory is valid for reads.
    pub unsafe fn tx_copy(&self, from: Frames<'_>) -> usize {
        let Some(_inside) = self.turnstile.enter() else { return 0 };
        // SAFETY: passed on; we are inside.
        match unsafe { self.engine() } {
            // SAFETY: passed on.
            Engine::Tx(tx) => unsafe { tx.copy_in(from) },
            _ => 0,
        }
    }

    /// Prepares packets for their offloads; how many could be.
    ///
    /// # Safety
    /// As [`tx_burst`](Self::tx_burst).
    pub unsafe fn tx_prepare(&self, packets: &[MbufRef]) -> usize {
        let Some(_inside) = self.turnstile.enter() else { return 0 };
        // SAFETY: passed on; we are inside.
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
        let Some(_inside) = self.turnstile.enter() else { return 0 };
        // SAFETY: passed on; we are inside.
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
        // Whoever sleeps through a pause is woken after it.
        self.turnstile.nap(on);
        if on {
            self.call.take();
        }
        let Some(_inside) = self.turnstile.enter() else { return false };
        // SAFETY: passed on; we are inside.
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
        let Some(_inside) = self.turnstile.enter() else { return 0 };
        // SAFETY: passed on; we are inside.
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
        let Some(_inside) = self.turnstile.enter() else { return Ok(Descriptor::WithDevice) };
        // SAFETY: passed on; we are inside.
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
        let _inside = self.turnstile.enter()?;
        // SAFETY: passed on; we are inside.
        match unsafe { self.engine() } {
            Engine::Rx(rx) => Some(rx.monitor()),
            Engine::Tx(tx) => Some(tx.monitor()),
            _ => None,
        }
    }

    /// Whether it works, and otherwise why not. From any thread.
    pub fn status(&self) -> Result<()> {
        if let Some(lie) = self.board.lie() {
            return Err(Error::new(Errno::EIO, format!("the queue is broken until the device is reset: {lie}")));
        }
        match self.state.load(Ordering::Acquire) {
            WORKING => Ok(()),
            WAITING => Err(Error::new(Errno::ENETDOWN, "there is no back-end; the queue goes on when one comes")),
            FORSAKEN => Err(Error::new(
                Errno::ENETDOWN,
                "the back-end has gone, and with reconnect=0 it is not looked for again; stop the device",
            )),
            HALTED => Err(Error::new(Errno::ENETDOWN, "the queue is stopped; start it")),
            _ => Err(Error::new(Errno::ENETDOWN, "the device is not started")),
        }
    }
}

fn taken() -> Error {
    Error::new(Errno::ETIMEDOUT, "another control call has kept the queue paused for 5 s; try again")
}

fn busy() -> Error {
    let sentence = "the thread that uses the queue has been inside a call of it for 5 s, so that the queue cannot be paused; \
                    is that thread stopped, or its allocator waiting for this one?";
    Error::new(Errno::ETIMEDOUT, sentence)
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

    /// Lends what comes next, in place: in up to as many buffers as there are places. They stay the queue's, and are told again
    /// until they are [given back](Self::release) or received by a burst; nobody is to look at them after that.
    pub fn peek<'a>(&mut self, out: &'a mut [MaybeUninit<LentFrame>]) -> &'a [LentFrame] {
        // SAFETY: as above.
        let n = unsafe { self.0.rx_peek(out) };
        let lent = out.get(..n).unwrap_or_default();
        // SAFETY: so many were lent, so written.
        unsafe { &*(std::ptr::from_ref(lent) as *const [LentFrame]) }
    }

    /// Gives the first `n` buffers that are lent back to the device; fewer, where so many are not lent any more.
    pub fn release(&mut self, n: usize) {
        // SAFETY: as above.
        unsafe { self.0.rx_release(n) }
    }

    /// Receives frames by copying them into `data`, one behind the other; how many. The `n`th begins at `offsets[n]` and has
    /// `lengths[n]` bytes. One that does not fit any more stays the next to be received.
    pub fn burst_copy(&mut self, data: &mut [u8], offsets: &mut [u32], lengths: &mut [u32]) -> usize {
        let n = offsets.len().min(lengths.len());
        let size = data.len().min(u32::MAX as usize);
        // SAFETY: as above; the memory is borrowed, and numbers are good as places for numbers.
        unsafe {
            let row = |numbers: &mut [u32]| &mut *(std::ptr::from_mut(numbers) as *mut [MaybeUninit<u32>]);
            let (offsets, lengths) =
                (row(offsets.get_mut(..n).unwrap_or_default()), row(lengths.get_mut(..n).unwrap_or_default()));
            self.0.rx_copy(&mut Places { data: data.as_mut_ptr(), size, offsets, lengths })
        }
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

    /// Sends frames by copying them out of `data`, from the first on; how many were taken. The `n`th begins at `offsets[n]` and
    /// has `lengths[n]` bytes; one that does not lie in `data` counts as taken, and as bad_packet.
    pub fn burst_copy(&mut self, data: &[u8], offsets: &[u32], lengths: &[u32]) -> usize {
        let n = offsets.len().min(lengths.len());
        let rows = (offsets.get(..n).unwrap_or_default(), lengths.get(..n).unwrap_or_default());
        // SAFETY: the handle is exclusive, and the memory is borrowed.
        unsafe { self.0.tx_copy(Frames { data: data.as_ptr(), size: data.len(), offsets: rows.0, lengths: rows.1 }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tap_of_a_capture_that_has_ended_is_not_put_on_the_next_engine() {
        let (port, relay) = (Port::new().unwrap(), Arc::new(Relay::new(16, 64).unwrap()));
        port.pause().unwrap().set_tap(Some(relay.clone()));
        port.pause().unwrap().replace(Engine::Idle);
        assert_eq!(Arc::strong_count(&relay), 2, "it stays while its capture goes on");
        // The stop of a capture closes it first; the queue may be in use too long for it to be taken off.
        relay.close();
        port.pause().unwrap().replace(Engine::Idle);
        assert_eq!(Arc::strong_count(&relay), 1);
    }
}
