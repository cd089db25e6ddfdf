//! What we lent to the device, in private memory.
//!
//! The ledger is a circle of slots. The oldest chain begins at `tail`, the next one will begin at `head`; a chain
//! of n descriptors takes n slots. At each slot stands the id that travels to the device: a split descriptor's
//! index, a packed buffer's id. Ids are a permutation: between `tail` and `head` they are lent, elsewhere free. A
//! device that uses buffers in order finds them in their places; when it does not, the chain it used is moved to
//! the front, so that everything else is always about the oldest chain.
//!
//! Nothing of this is ever read from shared memory, and every access is bounded by our own size.

use super::{Cookie, STEP};
use crate::mem::lanes::{step_at, whole_steps};

/// Mark of a chain of which the owner knows all that it needs (see [`Ledger::lend`]).
const PLAIN: u16 = 1 << 15;
/// Longest chain.
pub const MAX_SPAN: u16 = 1 << 14;

/// What stands at a step of plain chains of one slot each.
pub const PLAIN_STEP: [u16; STEP] = [1 | PLAIN; STEP];

/// Slots from `head` on: rows of equal length, a multiple of [`STEP`].
pub struct HeadSteps<'a> {
    /// What the buffers travel under.
    pub ids: &'a [u16],
    /// To be set to what is lent.
    pub cookies: &'a mut [Cookie],
}

/// Slots from `tail` on: rows of equal length, a multiple of [`STEP`].
pub struct TailSteps<'a> {
    /// What the buffers travel under.
    pub ids: &'a [u16],
    /// [`PLAIN_STEP`] where all four of a step are plain chains of one slot.
    pub spans: &'a [u16],
    /// What is lent there.
    pub cookies: &'a [Cookie],
}

impl<'a> TailSteps<'a> {
    /// Four of each row, from the `n`th on: ids, spans, cookies.
    ///
    /// # Safety
    /// The rows have so many.
    #[inline(always)]
    pub unsafe fn at(&self, n: usize) -> (&'a [u16; STEP], &'a [u16; STEP], &'a [Cookie; STEP]) {
        // SAFETY: passed on.
        unsafe { (step_at(self.ids, n), step_at(self.spans, n), step_at(self.cookies, n)) }
    }
}

/// The record of one ring.
#[derive(Debug)]
pub struct Ledger {
    ids: Box<[u16]>,
    /// At a chain's first slot: its slots, and `PLAIN`; at its other slots 0; where nothing is lent, as if it were a plain
    /// chain of one slot, so that steps need not write it.
    spans: Box<[u16]>,
    /// At a chain's first slot.
    cookies: Box<[Cookie]>,
    head: u16,
    tail: u16,
    lent: u16,
}

impl Ledger {
    /// A ring of `size` slots, all free.
    pub fn new(size: u16) -> Self {
        let n = usize::from(size);
        Self {
            ids: (0..size).collect(),
            spans: vec![1 | PLAIN; n].into(),
            cookies: vec![Cookie::default(); n].into(),
            head: 0,
            tail: 0,
            lent: 0,
        }
    }

    /// Slots.
    #[inline(always)]
    pub fn size(&self) -> u16 {
        self.ids.len() as u16
    }

    /// Slots lent.
    #[inline(always)]
    pub fn lent(&self) -> u16 {
        self.lent
    }

    /// Slots free.
    #[inline(always)]
    pub fn free(&self) -> u16 {
        self.size() - self.lent
    }

    /// The slot where the next chain begins.
    #[inline(always)]
    pub fn head(&self) -> u16 {
        self.head
    }

    /// The slot where the oldest chain begins.
    #[inline(always)]
    pub fn tail(&self) -> u16 {
        self.tail
    }

    /// The id that the next chain travels under.
    #[inline(always)]
    pub fn next_id(&self) -> u16 {
        self.id(self.head)
    }

    #[inline(always)]
    fn wrap(&self, slot: u32) -> u16 {
        let size = self.ids.len() as u32;
        (if slot >= size { slot - size } else { slot }) as u16
    }

    /// The slot `n` after another; `n` is at most the size.
    #[inline(always)]
    pub fn after(&self, slot: u16, n: u16) -> u16 {
        self.wrap(u32::from(slot) + u32::from(n))
    }

    /// Slots from `tail` to another.
    #[inline(always)]
    pub fn distance(&self, slot: u16) -> u16 {
        if slot >= self.tail { slot - self.tail } else { self.size() - self.tail + slot }
    }

    /// The id at a slot.
    #[inline(always)]
    pub fn id(&self, slot: u16) -> u16 {
        self.ids.get(usize::from(slot)).copied().unwrap_or(0)
    }

    /// Slots that can be lent by steps, `most` at most, and do not cross the end.
    #[inline(always)]
    pub fn head_steps(&mut self, most: usize) -> HeadSteps<'_> {
        let from = usize::from(self.head);
        let to = from + whole_steps(most.min(usize::from(self.free())).min(self.ids.len() - from));
        // SAFETY: all rows have the size of the ring, and `to` is not beyond it.
        unsafe {
            HeadSteps { ids: self.ids.get_unchecked(from..to), cookies: self.cookies.get_unchecked_mut(from..to) }
        }
    }

    /// Lends the first `n` of the slots that [`head_steps`](Self::head_steps) showed, whose cookies are filled in, as plain chains.
    #[inline(always)]
    pub fn lend_steps(&mut self, n: usize) {
        self.head = self.after(self.head, n as u16);
        self.lent += n as u16;
    }

    /// Slots that are lent, `most` at most, from the oldest on, and do not cross the end.
    #[inline(always)]
    pub fn tail_steps(&self, most: usize) -> TailSteps<'_> {
        self.steps_behind(0, most)
    }

    /// The same from `behind` slots after the oldest on.
    #[inline(always)]
    pub fn steps_behind(&self, behind: u16, most: usize) -> TailSteps<'_> {
        let from = usize::from(self.after(self.tail, behind));
        let lent = usize::from(self.lent.saturating_sub(behind));
        let to = from + whole_steps(most.min(lent).min(self.ids.len() - from));
        // SAFETY: as in `head_steps`.
        unsafe {
            TailSteps {
                ids: self.ids.get_unchecked(from..to),
                spans: self.spans.get_unchecked(from..to),
                cookies: self.cookies.get_unchecked(from..to),
            }
        }
    }

    /// Takes the `n` oldest slots back, which [`tail_steps`](Self::tail_steps) showed.
    #[inline(always)]
    pub fn release_steps(&mut self, n: usize) {
        self.tail = self.after(self.tail, n as u16);
        self.lent -= n as u16;
    }

    /// The cookie of the chain that begins at a slot.
    #[inline(always)]
    pub fn cookie(&self, slot: u16) -> Option<Cookie> {
        self.cookies.get(usize::from(slot)).copied()
    }

    /// With all slots lent to chains of one slot: the `n` oldest are the newest now, each where it was.
    #[inline(always)]
    pub fn renew(&mut self, n: u16) {
        self.tail = self.after(self.tail, n);
        self.head = self.tail;
    }

    /// Lends a chain of `span` slots from `head` on; the caller has seen that they are free. `plain` comes back with
    /// it: the owner found, when it lent the chain, that it can be given back without another look.
    #[inline(always)]
    pub fn lend(&mut self, span: u16, cookie: Cookie, plain: bool) {
        let first = usize::from(self.head);
        if let (Some(c), Some(s)) = (self.cookies.get_mut(first), self.spans.get_mut(first)) {
            *c = cookie;
            *s = if plain { span | PLAIN } else { span };
        }
        for k in 1..span {
            let slot = usize::from(self.after(self.head, k));
            if let Some(s) = self.spans.get_mut(slot) {
                *s = 0;
            }
        }
        self.head = self.after(self.head, span);
        self.lent += span;
    }

    /// Slots of the oldest chain; 0 when nothing is lent.
    #[inline(always)]
    pub fn tail_span(&self) -> u16 {
        if self.lent == 0 { 0 } else { self.span(self.tail) }
    }

    /// Slots of the chain that begins at a slot; 0 if none begins there.
    #[inline(always)]
    pub fn span(&self, slot: u16) -> u16 {
        self.spans.get(usize::from(slot)).copied().unwrap_or(0) & !PLAIN
    }

    /// Slots that a device has gone on by, from `behind` slots after `tail` on, when it says that it has used the chain of
    /// this id; in order, all older ones with it. None when no such chain is lent.
    pub fn used_span(&self, behind: u16, id: u16, in_order: bool) -> Option<u16> {
        let from = if in_order { behind } else { 0 };
        let at = (from..self.lent).find(|&k| self.id(self.after(self.tail, k)) == id)?;
        let span = Some(self.span(self.after(self.tail, at))).filter(|span| *span > 0)?;
        Some(if in_order { at - behind + span } else { span })
    }

    /// Takes the oldest chain back: its cookie and whether it is plain.
    #[inline(always)]
    pub fn release(&mut self) -> Option<(Cookie, bool)> {
        let span = self.tail_span();
        if span == 0 {
            return None;
        }
        let slot = usize::from(self.tail);
        let (cookie, plain) = (*self.cookies.get(slot)?, self.spans.get(slot)? & PLAIN != 0);
        for k in 0..span {
            let slot = usize::from(self.after(self.tail, k));
            if let Some(s) = self.spans.get_mut(slot) {
                *s = 1 | PLAIN;
            }
        }
        self.tail = self.after(self.tail, span);
        self.lent -= span;
        Some((cookie, plain))
    }

    /// Moves the lent chain of this id to the front, or behind so many slots at the front. False when no chain of this id
    /// is lent there.
    ///
    /// The cold path of a device that does not keep the order: a search and a rotation, both bounded by the ring.
    #[cold]
    pub fn bring_forward(&mut self, behind: u16, id: u16) -> bool {
        let Some(at) = (behind..self.lent).find(|&k| self.id(self.after(self.tail, k)) == id) else {
            return false;
        };
        let span = self.span(self.after(self.tail, at));
        if span == 0 {
            return false;
        }
        // A rotation by three reversals: [older chains][this one] -> [this one][older chains].
        self.reverse(behind, at);
        self.reverse(at, at + span);
        self.reverse(behind, at + span);
        true
    }

    /// `swap` of slices has a panic that the compiler can't know to be out of reach; a burst has none.
    fn swap<T>(row: &mut [T], i: usize, j: usize) {
        if i < row.len() && j < row.len() {
            row.swap(i, j);
        }
    }

    /// Reverses the entries from the `from`th to before the `to`th slot after `tail`.
    fn reverse(&mut self, from: u16, to: u16) {
        let (mut a, mut b) = (from, to);
        while a + 1 < b {
            b -= 1;
            let (i, j) = (usize::from(self.after(self.tail, a)), usize::from(self.after(self.tail, b)));
            Self::swap(&mut self.ids, i, j);
            Self::swap(&mut self.spans, i, j);
            Self::swap(&mut self.cookies, i, j);
            a += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie(n: usize) -> Cookie {
        Cookie(n as u64)
    }

    #[test]
    fn chains_come_back_in_any_order_and_only_once() {
        let mut l = Ledger::new(7);
        for (n, span) in [(1, 2), (2, 1), (3, 3)] {
            assert!(l.free() >= span);
            l.lend(span, cookie(n), n == 2);
        }
        assert_eq!((l.lent(), l.free()), (6, 1));
        // Ids of heads: 0, 2, 3. A member's id and a free one are refused.
        assert!(!l.bring_forward(0, 1) && !l.bring_forward(0, 6) && !l.bring_forward(0, 100));
        assert!(l.bring_forward(0, 3));
        assert_eq!(l.release(), Some((cookie(3), false)));
        assert!(!l.bring_forward(0, 3));
        assert!(l.bring_forward(0, 2));
        assert_eq!(l.release(), Some((cookie(2), true)));
        assert_eq!((l.tail_span(), l.id(l.tail())), (2, 0));
        assert_eq!(l.release(), Some((cookie(1), false)));
        assert_eq!((l.release(), l.lent()), (None, 0));
        let mut ids: Vec<u16> = (0..7).map(|s| l.id(s)).collect();
        ids.sort_unstable();
        assert_eq!(ids, [0, 1, 2, 3, 4, 5, 6]);
    }
}
