//! What is left of a queue whose device is gone, on its way to the queue that takes its place.
//!
//! Whatever is not taken over goes back to where it came from when it is dropped: nothing leaks on any way.

use std::collections::VecDeque;

use crate::buf::MbufRef;
use crate::buf::source::{BULK, Source};

/// Of a receive queue.
#[derive(Debug)]
pub struct RxSalvage {
    source: Source,
    frames: VecDeque<MbufRef>,
    buffers: Vec<MbufRef>,
}

impl RxSalvage {
    /// All that a queue with this source had.
    pub(super) fn new(source: Source, frames: VecDeque<MbufRef>, buffers: Vec<MbufRef>) -> Self {
        Self { source, frames, buffers }
    }

    /// Frames that the device had delivered and nobody has received.
    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    /// Free buffers that the device had.
    pub fn buffers(&self) -> usize {
        self.buffers.len()
    }

    /// Frames and buffers for a queue with another handle of the same source; nothing if it is another source.
    pub(super) fn into_parts(mut self, to: &Source) -> (VecDeque<MbufRef>, Vec<MbufRef>) {
        match self.source.is_same(to) {
            true => (std::mem::take(&mut self.frames), std::mem::take(&mut self.buffers)),
            false => Default::default(),
        }
    }
}

impl Drop for RxSalvage {
    fn drop(&mut self) {
        self.frames.drain(..).for_each(|m| self.source.free(m));
        self.buffers.chunks(BULK).for_each(|buffers| self.source.put(buffers));
    }
}

/// Of a transmit queue.
#[derive(Debug)]
pub struct TxSalvage {
    source: Source,
    packets: Vec<MbufRef>,
}

impl TxSalvage {
    /// All that a queue with this source had.
    pub(super) fn new(source: Source, packets: Vec<MbufRef>) -> Self {
        Self { source, packets }
    }

    /// Packets that the device had not marked as used.
    pub fn packets(&self) -> usize {
        self.packets.len()
    }

    /// The packets, oldest first, for a queue with another handle of the same source; nothing if it is another source.
    pub(super) fn into_packets(mut self, to: &Source) -> Vec<MbufRef> {
        match self.source.is_same(to) {
            true => std::mem::take(&mut self.packets),
            false => Vec::new(),
        }
    }
}

impl Drop for TxSalvage {
    fn drop(&mut self) {
        self.packets.drain(..).for_each(|m| self.source.free(m));
    }
}
