//! Frames that are not in the ring any more, and are lent all the same: those of a former connection, one that a burst had
//! begun to receive, and what is left of one that was given back in part.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use super::lend::{LentFrame, MORE, said};
use super::rx::{MOST, RxQueue};
use super::vlan;
use crate::buf::MbufRef;
use crate::ring::{Lie, Ring, Used};

impl<R: Ring> RxQueue<R> {
    /// Lends frames of the backlog, and no others.
    #[cold]
    pub(super) fn lend_backlog(&mut self, out: &mut [MaybeUninit<LentFrame>]) -> Result<(), Lie> {
        if self.merge.is_some() {
            match self.receive_one(&mut MOST.clone())? {
                Some(frame) => self.put_first(frame),
                None => return Ok(()),
            }
        }
        let mut n = 0;
        for frame in self.backlog.iter() {
            vlan::put_back(frame);
            let segments = usize::from(frame.nb_segs());
            if n > 0 && segments > out.len() - n {
                break;
            }
            let mut flags = said(frame);
            for (segment, place) in frame.segments().zip(out.iter_mut().skip(n)) {
                flags |= if segment.next().is_some() { MORE } else { 0 };
                place.write(LentFrame { data: segment.data().cast::<c_void>(), len: segment.data_len().into(), flags });
                flags = 0;
            }
            self.loan.hidden = segments.saturating_sub(out.len() - n);
            n += segments - self.loan.hidden;
        }
        self.loan.backlog = n;
        Ok(())
    }

    pub(super) fn put_first(&mut self, frame: MbufRef) {
        self.by_steps = false;
        if let Some(frame) = self.backlog.put_first(frame) {
            self.board.counters.lost.add(1);
            self.source.free(frame);
        }
    }

    /// Gives back buffers of the backlog, as many as are lent at most.
    #[cold]
    pub(super) fn release_backlog(&mut self, n: usize) {
        self.loan.backlog -= n;
        let mut left = n;
        while left > 0
            && let Some(frame) = self.backlog.pop()
        {
            let segments = usize::from(frame.nb_segs());
            match split(frame, left) {
                Some(rest) => self.put_first(rest),
                None => self.board.counters.packets.add(1),
            }
            self.source.free(frame);
            left = left.saturating_sub(segments);
        }
        self.by_steps = self.can_step() && self.backlog.is_empty();
    }

    /// The first buffers of a frame were given back: what is left of it comes out of the ring, so that the ring
    /// begins with a frame.
    #[cold]
    pub(super) fn keep_rest(&mut self) {
        let shown = self.loan.rest_of_frame();
        let all = if shown == self.loan.ring { shown + self.loan.hidden } else { shown };
        let mut rest: Option<(MbufRef, MbufRef)> = None;
        for _ in 0..all {
            let (cookie, used) = match self.ring.take() {
                Ok(Some((cookie, used, _))) => (cookie, used),
                Ok(None) => break,
                Err(lie) => {
                    self.board.set_broken(lie);
                    break;
                }
            };
            // SAFETY: the ring has just released it.
            let m = unsafe { MbufRef::from_cookie(cookie) };
            let len = match used {
                Used::Bytes(len) => len.min(self.room.len),
                Used::Whole => self.room.len,
            };
            m.receive(self.rest, len);
            self.board.counters.bytes.add(len.into());
            if let Some((head, last)) = rest {
                last.set_next(Some(m));
                head.set_nb_segs(head.nb_segs() + 1);
                head.set_pkt_len(head.pkt_len() + len);
            }
            rest = Some((rest.map_or(m, |(head, _)| head), m));
        }
        self.loan.pass(shown);
        if let Some((head, _)) = rest {
            self.loan.backlog += shown;
            self.put_first(head);
        }
    }
}

/// Cuts a packet behind its first `n` segments; what is left of it, if anything.
fn split(m: MbufRef, n: usize) -> Option<MbufRef> {
    let last = m.segments().nth(n - 1)?;
    let rest = last.next()?;
    let bytes: u32 = m.segments().take(n).map(|s| u32::from(s.data_len())).sum();
    rest.set_nb_segs(m.nb_segs() - n as u16);
    rest.set_pkt_len(m.pkt_len().saturating_sub(bytes));
    last.set_next(None);
    m.set_nb_segs(n as u16);
    m.set_pkt_len(bytes);
    Some(rest)
}
