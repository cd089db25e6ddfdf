//! Frames that a receive queue has already, and nobody has received: they come before all that is in its ring.

use std::collections::VecDeque;

use crate::buf::MbufRef;

/// Frames in order.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Whether there are any.
    any: bool,
    /// One in front of the others.
    first: Option<MbufRef>,
    others: VecDeque<MbufRef>,
}

impl Backlog {
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        !self.any
    }

    /// The first frame, if there is one.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<MbufRef> {
        if self.any { self.take() } else { None }
    }

    #[cold]
    fn take(&mut self) -> Option<MbufRef> {
        let frame = self.first.take().or_else(|| self.others.pop_front());
        self.any = !self.others.is_empty();
        frame
    }

    /// Puts a frame in front of all, without allocating; none if there is one already.
    pub fn put_first(&mut self, frame: MbufRef) -> Option<MbufRef> {
        if self.first.is_some() {
            return Some(frame);
        }
        (self.any, self.first) = (true, Some(frame));
        None
    }

    /// All frames in order.
    pub fn iter(&self) -> impl Iterator<Item = MbufRef> {
        self.first.iter().chain(&self.others).copied()
    }

    /// All frames in order, taken out.
    pub fn take_all(&mut self) -> VecDeque<MbufRef> {
        let mut frames = std::mem::take(&mut self.others);
        if let Some(first) = self.first.take() {
            frames.push_front(first);
        }
        self.any = false;
        frames
    }
}

impl From<VecDeque<MbufRef>> for Backlog {
    fn from(others: VecDeque<MbufRef>) -> Self {
        Self { any: !others.is_empty(), first: None, others }
    }
}
