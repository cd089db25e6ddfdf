//! Batches of an in-order device, which may name only the last buffer of a batch (VIRTIO 2.7.9, 2.8.7).

use super::ledger::Ledger;
use super::{Lie, Used};

/// The rest of a batch that is being taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    /// Slots before the last chain of the batch.
    slots: u16,
    /// Bytes used of the last chain.
    len: u32,
    on: bool,
}

impl Run {
    /// The device named a buffer that is not the oldest, or, if others were looked at before, not the one that is
    /// `behind` slots further on: all before it are used as well.
    ///
    /// In order, slot and id are the same for ever.
    #[inline]
    pub fn begin(ledger: &Ledger, behind: u16, id: u16, len: u32) -> Result<Self, Lie> {
        let slots = if id < ledger.size() { ledger.distance(id) } else { u16::MAX };
        if slots >= ledger.lent() || slots < behind || ledger.span(id) == 0 {
            return Err(Lie::UsedId);
        }
        Ok(Self { slots: slots - behind, len, on: true })
    }

    /// Slots that the rest of the batch has.
    pub fn rest(&self, ledger: &Ledger) -> u16 {
        match self.on {
            true => self.slots + ledger.span(ledger.after(ledger.tail(), self.slots)),
            false => 0,
        }
    }

    /// Whether a batch is being taken.
    #[inline(always)]
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// What the device did with the next chain of the batch, which has so many slots.
    pub fn next(&mut self, span: u16) -> Result<Used, Lie> {
        if self.slots == 0 {
            self.on = false;
            return Ok(Used::Bytes(self.len));
        }
        self.slots = self.slots.checked_sub(span).ok_or(Lie::Order)?;
        Ok(Used::Whole)
    }

    /// Plain chains that the rest of the batch may consist of, with the one that was named.
    #[inline(always)]
    pub fn chains(&self) -> usize {
        usize::from(self.slots) + 1
    }

    /// So many of them have been taken.
    #[inline(always)]
    pub fn skip(&mut self, chains: usize) {
        match usize::from(self.slots).checked_sub(chains) {
            Some(left) => self.slots = left as u16,
            // The one that was named was among them.
            None => self.on = false,
        }
    }
}
