//! A queue of which frames are copied: around the queue itself, which knows nothing of it, so that one without a tap pays
//! nothing.

use std::mem::MaybeUninit;
use std::sync::Arc;

use arrayvec::ArrayVec;

use super::copy::{Frames, Places};
use super::lend::{LentFrame, MORE};
use super::path::{Descriptor, Monitor, Rx, Tx};
use super::relay::Relay;
use super::salvage::{RxSalvage, TxSalvage};
use super::toeplitz::Toeplitz;
use crate::buf::MbufRef;
use crate::sys::clock;

/// Packets that are sent together: so many copies are made for nothing at most when the ring is full.
const AT_ONCE: usize = 64;

/// A receive queue whose frames are copied as they are handed out.
pub struct RxTap {
    inner: Box<dyn Rx>,
    relay: Arc<Relay>,
    /// The first parts of the frame that comes next were given back.
    torn: bool,
}

/// A transmit queue whose packets are copied as they are taken.
pub struct TxTap {
    inner: Box<dyn Tx>,
    relay: Arc<Relay>,
}

/// The queue with another tap, or with none.
pub fn rx(queue: Box<dyn Rx>, relay: Option<&Arc<Relay>>) -> Box<dyn Rx> {
    let inner = queue.bare();
    match relay {
        Some(relay) => Box::new(RxTap { inner, relay: relay.clone(), torn: false }),
        None => inner,
    }
}

/// The queue with another tap, or with none.
pub fn tx(queue: Box<dyn Tx>, relay: Option<&Arc<Relay>>) -> Box<dyn Tx> {
    let inner = queue.bare();
    match relay {
        Some(relay) => Box::new(TxTap { inner, relay: relay.clone() }),
        None => inner,
    }
}

impl RxTap {
    /// Copies frames that were received.
    fn copy(&self, frames: &[MaybeUninit<MbufRef>]) {
        let mut batch = self.relay.begin(clock::now());
        for frames in frames.chunks(AT_ONCE) {
            let mut puts = [None; AT_ONCE];
            // SAFETY: they were received.
            frames.iter().zip(&mut puts).for_each(|(m, put)| *put = batch.add(unsafe { m.assume_init() }));
            batch = batch.publish(puts.into_iter().take(frames.len()));
        }
    }
}

/// Copies frames that lie in memory of the application's: addresses and lengths.
///
/// # Safety
/// They are valid for reads.
unsafe fn copy_bytes(relay: &Relay, time: u64, frames: impl Iterator<Item = (*const u8, usize)>) {
    let mut batch = relay.begin(time);
    for (from, len) in frames {
        // SAFETY: by the caller.
        let put = unsafe { batch.add_parts(len as u32, [(from, len)].into_iter()) };
        batch = batch.publish([put].into_iter());
    }
}

impl TxTap {
    /// Sends packets, of which copies are made first: once they are sent, they are the device's. Nobody sees the copies
    /// before it is known which packets were taken.
    fn send(&mut self, packets: &[MbufRef]) -> usize {
        let mut batch = self.relay.begin(clock::now());
        let mut puts = [None; AT_ONCE];
        packets.iter().zip(&mut puts).for_each(|(m, put)| *put = batch.add(*m));
        let taken = self.inner.burst(packets);
        batch.publish(puts.into_iter().take(taken));
        taken
    }

    /// Sends packets, a few at a time.
    fn send_all(&mut self, packets: &[MbufRef]) -> usize {
        let mut taken = 0;
        loop {
            let rest = packets.get(taken..).unwrap_or_default();
            let part = rest.get(..AT_ONCE).unwrap_or(rest);
            let n = self.send(part);
            taken += n;
            if n < AT_ONCE || taken == packets.len() {
                return taken;
            }
        }
    }
}

impl Rx for RxTap {
    fn burst(&mut self, out: &mut [MaybeUninit<MbufRef>]) -> usize {
        let n = self.inner.burst(out);
        if n > 0 {
            self.torn = false;
            self.copy(out.get(..n).unwrap_or_default());
        }
        n
    }

    fn peek(&mut self, out: &mut [MaybeUninit<LentFrame>]) -> usize {
        self.inner.peek(out)
    }

    /// Frames that were lent are copied as they are given back.
    fn release(&mut self, n: usize) {
        let (time, mut parts) = (clock::now(), ArrayVec::<(*const u8, usize), AT_ONCE>::new());
        let (relay, torn) = (&self.relay, &mut self.torn);
        let mut is_open = false;
        self.inner.each_lent(n, &mut |part| {
            // Of a frame that has too many parts, or was begun to be given back before, nothing is kept.
            *torn |= parts.try_push((part.begin(), part.len as usize)).is_err();
            is_open = part.flags & MORE != 0;
            if !is_open {
                let len: usize = parts.iter().map(|(_, len)| len).sum();
                let mut batch = relay.begin(time);
                let mut put = None;
                if !*torn {
                    // SAFETY: lent until they are given back.
                    put = unsafe { batch.add_parts(len as u32, parts.iter().copied()) };
                }
                batch.publish([put].into_iter());
                parts.clear();
                *torn = false;
            }
        });
        *torn |= is_open;
        self.inner.release(n);
    }

    fn each_lent(&self, n: usize, see: &mut dyn FnMut(LentFrame)) {
        self.inner.each_lent(n, see);
    }

    unsafe fn copy_out(&mut self, to: &mut Places<'_>) -> usize {
        // SAFETY: passed on.
        let n = unsafe { self.inner.copy_out(to) };
        if n > 0 {
            let data = to.data.cast_const();
            // SAFETY: the first n of both were filled in, and say where frames lie.
            unsafe {
                let of = |places: &MaybeUninit<u32>| places.assume_init() as usize;
                let frames = to.offsets.iter().zip(to.lengths.iter()).take(n);
                copy_bytes(&self.relay, clock::now(), frames.map(|(at, len)| (data.wrapping_add(of(at)), of(len))));
            }
        }
        n
    }

    fn bare(self: Box<Self>) -> Box<dyn Rx> {
        self.inner
    }

    fn refill(&mut self) {
        self.inner.refill();
    }

    fn is_whole(&self) -> bool {
        self.inner.is_whole()
    }

    fn set_calls(&mut self, on: bool) -> bool {
        self.inner.set_calls(on)
    }

    fn used_count(&self) -> u16 {
        self.inner.used_count()
    }

    fn descriptor_status(&self, offset: u16) -> Descriptor {
        self.inner.descriptor_status(offset)
    }

    fn monitor(&self) -> Monitor {
        self.inner.monitor()
    }

    fn base(&self) -> u32 {
        self.inner.base()
    }

    fn untouched(&self, base: u32) -> Option<u16> {
        self.inner.untouched(base)
    }

    fn reclaim(&mut self) {
        self.inner.reclaim();
    }

    fn salvage(self: Box<Self>) -> RxSalvage {
        self.inner.salvage()
    }

    fn set_hasher(&mut self, hasher: Option<Arc<Toeplitz>>) {
        self.inner.set_hasher(hasher);
    }

    fn restore(&mut self, salvage: RxSalvage) {
        self.inner.restore(salvage);
    }

    fn resume_base(&self) -> Option<u32> {
        self.inner.resume_base()
    }

    fn resume(&mut self) {
        self.inner.resume();
    }
}

impl Tx for TxTap {
    fn burst(&mut self, packets: &[MbufRef]) -> usize {
        self.send_all(packets)
    }

    unsafe fn copy_in(&mut self, from: Frames<'_>) -> usize {
        let time = clock::now();
        // SAFETY: passed on. The frames stay the application's.
        unsafe {
            let n = self.inner.copy_in(from);
            copy_bytes(&self.relay, time, (0..n).filter_map(|i| from.get(i)));
            n
        }
    }

    fn bare(self: Box<Self>) -> Box<dyn Tx> {
        self.inner
    }

    fn done_cleanup(&mut self, most: usize) -> usize {
        self.inner.done_cleanup(most)
    }

    fn prepare(&mut self, packets: &[MbufRef]) -> usize {
        self.inner.prepare(packets)
    }

    fn set_calls(&mut self, on: bool) -> bool {
        self.inner.set_calls(on)
    }

    fn used_count(&self) -> u16 {
        self.inner.used_count()
    }

    fn descriptor_status(&self, offset: u16) -> Descriptor {
        self.inner.descriptor_status(offset)
    }

    fn monitor(&self) -> Monitor {
        self.inner.monitor()
    }

    fn base(&self) -> u32 {
        self.inner.base()
    }

    fn untouched(&self, base: u32) -> Option<u16> {
        self.inner.untouched(base)
    }

    fn reclaim(&mut self) {
        self.inner.reclaim();
    }

    fn salvage(self: Box<Self>) -> TxSalvage {
        self.inner.salvage()
    }

    fn restore(&mut self, salvage: TxSalvage, resend: bool) {
        self.inner.restore(salvage, resend);
    }

    fn resume_base(&self) -> Option<u32> {
        self.inner.resume_base()
    }

    fn resume(&mut self) {
        self.inner.resume();
    }
}
