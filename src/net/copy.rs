//! Bursts that copy: frames of an application that keeps no packets, back to back in memory of its own.

use std::mem::MaybeUninit;

use arrayvec::ArrayVec;

use super::checksum::Unfinished;
use super::header;
use super::lend::{MORE, NEEDS_CSUM, said};
use super::rx::{MOST, RxQueue};
use super::tx::TxQueue;
use super::vlan;
use crate::buf::MbufRef;
use crate::buf::mbuf::rearm;
use crate::buf::source::BULK;
use crate::ring::Ring;

/// The longest frame: headers in front of the largest IP packet.
const LONGEST: usize = 65550;

/// Where frames are copied to.
#[derive(Debug)]
pub struct Places<'a> {
    /// The first byte of the application's memory.
    pub data: *mut u8,
    /// Bytes of it.
    pub size: usize,
    /// Where each frame begins in it.
    pub offsets: &'a mut [MaybeUninit<u32>],
    /// The bytes of each; as many places.
    pub lengths: &'a mut [MaybeUninit<u32>],
}

/// Where frames are copied from.
#[derive(Clone, Copy, Debug)]
pub struct Frames<'a> {
    /// The first byte of the application's memory.
    pub data: *const u8,
    /// Bytes of it.
    pub size: usize,
    /// Where each frame begins in it.
    pub offsets: &'a [u32],
    /// The bytes of each; as many.
    pub lengths: &'a [u32],
}

impl Frames<'_> {
    /// The `n`th frame, if it is one that lies inside of the memory: its first byte and its length.
    pub(super) fn get(&self, n: usize) -> Option<(*const u8, usize)> {
        let (offset, len) = (*self.offsets.get(n)? as usize, *self.lengths.get(n)? as usize);
        let fits = len <= LONGEST && offset <= self.size && len <= self.size - offset;
        fits.then(|| (self.data.wrapping_add(offset), len))
    }
}

/// Buffers that are looked at at once.
const AT_ONCE: usize = 64;

impl Places<'_> {
    /// Copies a frame of `parts` to `at`, the `n`th; the place behind it, or none if it does not fit.
    ///
    /// # Safety
    /// The memory is valid for writes, the parts for reads.
    unsafe fn put(&mut self, n: usize, at: usize, parts: impl Iterator<Item = Part> + Clone) -> Option<usize> {
        let len: usize = parts.clone().map(|(_, len)| len).sum();
        let (offset, length) = (self.offsets.get_mut(n)?, self.lengths.get_mut(n)?);
        let behind = at.checked_add(len).filter(|behind| *behind <= self.size)?;
        offset.write(at as u32);
        length.write(len as u32);
        let mut to = self.data.wrapping_add(at);
        for (data, len) in parts {
            // SAFETY: passed on; there is room for all of the frame. What the device writes there meanwhile is the frame's
            // business: bytes are bytes.
            unsafe { std::ptr::copy_nonoverlapping(data, to, len) };
            to = to.wrapping_add(len);
        }
        Some(behind)
    }

    /// Finishes the checksum of a frame that was put here.
    ///
    /// # Safety
    /// It was.
    #[cold]
    unsafe fn finish(&mut self, at: usize, behind: usize, checksum: Unfinished) {
        // SAFETY: inside of the application's memory, which is ours during the call.
        unsafe { checksum.finish(self.data.wrapping_add(at), behind - at) };
    }
}

/// A piece of a frame.
type Part = (*const u8, usize);

impl<R: Ring> RxQueue<R> {
    /// Receives frames into the application's memory; how many.
    ///
    /// # Safety
    /// The memory is valid for writes.
    pub unsafe fn copy_out(&mut self, to: &mut Places<'_>) -> usize {
        let (mut n, mut at, mut frames) = (0, 0, [const { MaybeUninit::uninit() }; AT_ONCE]);
        while n < to.offsets.len() {
            let most = frames.len().min(to.offsets.len() - n);
            let lent = self.peek(frames.get_mut(..most).unwrap_or_default());
            let mut done = 0;
            while let Some(rest @ [first, ..]) = frames.get(done..lent) {
                // SAFETY: lent, so written.
                let first = unsafe { first.assume_init() };
                // SAFETY: as above.
                let rest = rest.iter().map(|frame| unsafe { frame.assume_init() });
                let needs_csum = first.flags & NEEDS_CSUM != 0;
                let more = rest.clone().take_while(|frame| frame.flags & MORE != 0).count();
                let parts = rest.take(more + 1).map(|frame| (frame.begin(), frame.len as usize));
                if done + more >= lent || (needs_csum && self.loan.backlog > 0) {
                    break;
                }
                // SAFETY: passed on; the parts are lent.
                let Some(behind) = (unsafe { to.put(n, at, parts) }) else { break };
                if needs_csum {
                    // SAFETY: the frame has just been put there.
                    unsafe { to.finish(at, behind, self.unfinished(first.begin())) };
                }
                (n, at, done) = (n + 1, behind, done + more + 1);
            }
            self.release(done);
            let is_parted = done == 0 && self.loan.hidden + self.loan.backlog > 0;
            let is_stuck = lent > 0 && done == 0 && at == 0 && to.size >= LONGEST;
            self.loan.end();
            if is_parted || is_stuck {
                // SAFETY: passed on.
                let Some(behind) = (unsafe { self.copy_large(to, n, at) }) else { return n };
                (n, at) = (n + 1, behind);
            } else if done < lent || lent == 0 {
                return n;
            }
        }
        n
    }

    /// The checksum that is left to be done of a frame in the ring, of which this is the first byte.
    #[cold]
    fn unfinished(&self, data: *const u8) -> Unfinished {
        let hdr_len = usize::from(self.framing.hdr_len);
        // SAFETY: in the ring a frame has its header in front.
        Unfinished::of(&unsafe { header::read(data.wrapping_sub(hdr_len), hdr_len) })
    }

    /// The next frame has more buffers than are looked at at once, or is longer than any can be, or is not in the ring any
    /// more and not finished: it is received first.
    ///
    /// # Safety
    /// As [`copy_out`](Self::copy_out).
    #[cold]
    unsafe fn copy_large(&mut self, to: &mut Places<'_>, n: usize, at: usize) -> Option<usize> {
        let frame = match self.receive_one(&mut MOST.clone()) {
            Ok(frame) => frame?,
            Err(lie) => {
                self.board.set_broken(lie);
                return None;
            }
        };
        vlan::put_back(frame);
        let parts = frame.segments().map(|s| (s.data().cast_const(), usize::from(s.data_len())));
        // SAFETY: passed on; the segments are the frame's.
        let behind = unsafe { to.put(n, at, parts) };
        if said(frame) & NEEDS_CSUM != 0 {
            // SAFETY: the frame has just been put there, if it has.
            unsafe { to.finish(at, behind.unwrap_or(at), Unfinished::of_word(frame.hash_hi())) };
        }
        // One that is too long would be the first for ever.
        let is_too_long = to.size >= LONGEST && frame.pkt_len() as usize > LONGEST;
        let counters = &self.board.counters;
        if behind.is_none() && !is_too_long {
            self.put_first(frame);
            return None;
        }
        if behind.is_some() { &counters.packets } else { &counters.bad_header }.add(1);
        self.source.free(frame);
        behind
    }
}

impl<R: Ring> TxQueue<R> {
    /// Sends frames out of the application's memory, in buffers of the queue's source; how many were taken.
    ///
    /// # Safety
    /// The memory is valid for reads.
    pub unsafe fn copy_in(&mut self, from: Frames<'_>) -> usize {
        let mut done = 0;
        while done < from.offsets.len() && !self.board.is_broken() {
            if from.get(done).is_none() {
                // Nobody could ever send it.
                self.board.counters.bad_packet.add(1);
                done += 1;
                continue;
            }
            // SAFETY: passed on.
            let packets = unsafe { self.packets(from, done) };
            let sent = self.burst(&packets);
            packets.iter().skip(sent).for_each(|m| self.source.free(*m));
            done += sent;
            if sent < packets.len() || packets.is_empty() {
                break;
            }
        }
        done
    }

    /// Packets for the frames from the `done`th on, as many as there is room for at once.
    ///
    /// # Safety
    /// The frames' memory is valid for reads.
    unsafe fn packets(&mut self, from: Frames<'_>, done: usize) -> ArrayVec<MbufRef, BULK> {
        let mut packets = ArrayVec::new();
        let want = BULK.min(from.offsets.len() - done);
        if usize::from(self.ring.ledger().free()) < want || self.source.stock(want).len() < want {
            // What has been sent makes room.
            self.done_cleanup(2 * BULK);
        }
        let room = want.min(self.ring.ledger().free().into());
        self.board.counters.ring_full.add(u64::from(room == 0));
        for n in done..done + room {
            let Some((data, len)) = from.get(n) else { break };
            // SAFETY: passed on; the frame lies inside of it.
            let Some(packet) = (unsafe { self.packet(data, len) }) else {
                self.board.counters.no_buffer.add(1);
                break;
            };
            let _ = packets.try_push(packet);
        }
        packets
    }

    /// A packet with these bytes.
    ///
    /// # Safety
    /// They are valid for reads.
    unsafe fn packet(&mut self, mut data: *const u8, len: usize) -> Option<MbufRef> {
        let (buf_len, headroom) = self.source.room();
        let room = usize::from(buf_len.checked_sub(headroom).filter(|room| *room > 0)?);
        let (mut left, mut first, mut last) = (len, None::<MbufRef>, None::<MbufRef>);
        while left > 0 || first.is_none() {
            let Some(&[m]) = self.source.stock(1).first_chunk() else {
                first.into_iter().for_each(|m| self.source.free(m));
                return None;
            };
            self.source.taken(1);
            let part = left.min(room);
            m.receive(rearm(headroom, 0), part as u32);
            // SAFETY: passed on; the buffer has `room` bytes behind its headroom, and `part` is no more.
            unsafe { std::ptr::copy_nonoverlapping(data, m.data(), part) };
            data = data.wrapping_add(part);
            left -= part;
            match (first, last) {
                (Some(first), Some(last)) => {
                    last.set_next(Some(m));
                    first.set_nb_segs(first.nb_segs() + 1);
                    first.set_pkt_len(first.pkt_len() + part as u32);
                }
                _ => first = Some(m),
            }
            last = Some(m);
        }
        first
    }
}
