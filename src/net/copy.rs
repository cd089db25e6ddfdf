//! Bursts that copy: frames of an application that keeps no packets, back to back in memory of its own.

use std::mem::MaybeUninit;

use arrayvec::ArrayVec;

use super::rx::RxQueue;
use super::tx::TxQueue;
use crate::buf::MbufRef;
use crate::buf::mbuf::rearm;
use crate::buf::source::BULK;
use crate::ring::Ring;

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
    /// The `n`th frame, if it lies inside of the memory: its first byte and its length.
    pub(super) fn get(&self, n: usize) -> Option<(*const u8, usize)> {
        let (offset, len) = (*self.offsets.get(n)? as usize, *self.lengths.get(n)? as usize);
        (offset <= self.size && len <= self.size - offset).then(|| (self.data.wrapping_add(offset), len))
    }
}

impl<R: Ring> RxQueue<R> {
    /// Receives frames into the application's memory; how many.
    ///
    /// # Safety
    /// The memory is valid for writes.
    pub unsafe fn copy_out(&mut self, to: &mut Places<'_>) -> usize {
        let (mut n, mut at) = (0, 0);
        while n < to.offsets.len().min(to.lengths.len()) {
            let mut frame = [const { MaybeUninit::uninit() }];
            if self.burst(&mut frame) == 0 {
                break;
            }
            let [frame] = frame;
            // SAFETY: the burst has filled the place.
            let frame = unsafe { frame.assume_init() };
            let len = frame.pkt_len() as usize;
            if len > to.size - at {
                self.unget(frame);
                break;
            }
            if let (Some(offset), Some(length)) = (to.offsets.get_mut(n), to.lengths.get_mut(n)) {
                offset.write(at as u32);
                length.write(len as u32);
            }
            for segment in frame.segments() {
                let len = usize::from(segment.data_len());
                // SAFETY: the segment's own data, to memory that has room for the frame.
                unsafe { std::ptr::copy_nonoverlapping(segment.data(), to.data.add(at), len) };
                at += len;
            }
            self.give_up(frame);
            n += 1;
        }
        n
    }
}

impl<R: Ring> TxQueue<R> {
    /// Sends frames out of the application's memory, in buffers of the queue's source; how many were taken.
    ///
    /// # Safety
    /// The memory is valid for reads.
    pub unsafe fn copy_in(&mut self, from: Frames<'_>) -> usize {
        let mut done = 0;
        loop {
            let mut packets = ArrayVec::<MbufRef, BULK>::new();
            let mut n = done;
            while !packets.is_full() && n < from.offsets.len() {
                let Some((data, len)) = from.get(n) else { break };
                // SAFETY: passed on; the frame lies inside of it.
                let Some(packet) = (unsafe { self.packet(data, len) }) else { break };
                let _ = packets.try_push(packet);
                n += 1;
            }
            let sent = self.burst(&packets);
            packets.iter().skip(sent).for_each(|m| self.source.free(*m));
            done += sent;
            if sent < packets.len() || packets.is_empty() {
                if done < from.offsets.len() && from.get(done).is_none() {
                    // Nobody could ever send it.
                    self.board.counters.bad_packet.add(1);
                    done += 1;
                    continue;
                }
                return done;
            }
        }
    }

    /// A packet with these bytes.
    ///
    /// # Safety
    /// They are valid for reads.
    unsafe fn packet(&mut self, mut data: *const u8, len: usize) -> Option<MbufRef> {
        let (buf_len, headroom) = self.source.room();
        let room = usize::from(buf_len.saturating_sub(headroom)).max(1);
        let (mut left, mut first, mut last) = (len, None::<MbufRef>, None::<MbufRef>);
        while left > 0 || first.is_none() {
            let Some(&[m]) = self.source.stock(1).first_chunk() else {
                first.into_iter().for_each(|m| self.source.free(m));
                self.board.counters.no_buffer.add(1);
                return None;
            };
            self.source.taken(1);
            let part = left.min(room);
            m.receive(rearm(headroom, 0), part as u32);
            // SAFETY: passed on; the buffer has the room.
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
