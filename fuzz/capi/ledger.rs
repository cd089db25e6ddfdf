//! What was sent over a pair of queues, and what of it has come back.

use std::collections::VecDeque;

/// What comes of the frames that are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// They come back, one after the other.
    Ordered,
    /// They come back, in any order.
    Shuffled,
    /// They come back, perhaps, or twice: the back-end was another meanwhile.
    Perhaps,
    /// Frames of the back-end's own come, of so many bytes.
    Source(usize),
    /// Nothing comes.
    Nothing,
}

struct Sent {
    bytes: Vec<u8>,
    /// It asks for something to be done to it: only its addresses come back as they were.
    wild: bool,
    /// It must come back.
    due: bool,
}

/// A pair's.
#[derive(Default)]
pub struct Ledger {
    sent: VecDeque<Sent>,
    /// Parts of frames may come.
    halves: bool,
}

/// Bytes of both addresses.
const ADDRESSES: usize = 12;
/// Frames that are remembered.
const MOST: usize = 4096;

impl Ledger {
    /// A frame is given.
    pub fn sent(&mut self, bytes: Vec<u8>, wild: bool, due: bool) {
        let twin = |s: &Sent| (wild || s.wild) && s.bytes.iter().take(ADDRESSES).eq(bytes.iter().take(ADDRESSES));
        // Which of the two has come can't be told.
        let twins = self.sent.iter_mut().filter(|s| twin(s)).map(|s| s.due = false).count();
        self.sent.push_back(Sent { due: due && !wild && twins == 0, bytes, wild });
        if self.sent.len() > MOST {
            self.sent.pop_front();
        }
    }

    /// The last ones were not taken.
    pub fn take_back(&mut self, n: usize) {
        self.sent.truncate(self.sent.len().saturating_sub(n));
    }

    /// Nothing is sure any more.
    pub fn doubt(&mut self) {
        self.sent.iter_mut().for_each(|s| s.due = false);
    }

    /// A part of a frame was given back: the next may begin within it.
    pub fn halve(&mut self) {
        self.doubt();
        self.halves = true;
    }

    /// How many must come.
    pub fn due(&self) -> usize {
        self.sent.iter().filter(|s| s.due).count()
    }

    fn find(&self, frame: &[u8], from: usize) -> Option<usize> {
        let is = |s: &Sent| match s.wild {
            true => s.bytes.iter().take(ADDRESSES).eq(frame.iter().take(ADDRESSES)),
            false => s.bytes == frame,
        };
        let place = self.sent.iter().skip(from).position(is);
        assert!(place.is_some() || self.halves, "{} bytes that nobody sent: {frame:x?}", frame.len());
        place.map(|at| from + at)
    }

    /// These frames are there, in this order; they are looked at only.
    pub fn looked_at(&self, frames: &[Vec<u8>], echo: Echo) {
        let mut from = 0;
        for frame in frames {
            match echo {
                Echo::Ordered => from = self.find(frame, from).map_or(from, |at| at + 1),
                Echo::Shuffled | Echo::Perhaps => _ = self.find(frame, 0),
                _ => self.own(frame, echo),
            }
        }
    }

    /// A frame has come.
    pub fn came(&mut self, frame: &[u8], echo: Echo) {
        match echo {
            Echo::Ordered => {
                let Some(at) = self.find(frame, 0) else { return };
                let skipped = self.sent.drain(..=at).rev().skip(1).find(|s| s.due);
                assert!(skipped.is_none(), "a frame was lost: {:x?}", skipped.map(|s| s.bytes));
            }
            Echo::Shuffled => {
                if let Some(at) = self.find(frame, 0) {
                    self.sent.remove(at);
                }
            }
            Echo::Perhaps => _ = self.find(frame, 0),
            _ => self.own(frame, echo),
        }
    }

    /// A frame of the back-end's own.
    fn own(&self, frame: &[u8], echo: Echo) {
        let right = echo == Echo::Source(frame.len()) || self.halves && echo != Echo::Nothing;
        assert!(right, "a frame of {} bytes, where {echo:?}", frame.len());
    }
}
