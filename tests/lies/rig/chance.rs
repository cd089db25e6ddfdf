//! Where what is done comes from.

use std::collections::VecDeque;

/// Numbers without a pattern, the same ones for a seed (xorshift); or a script first.
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
    script: Option<VecDeque<u8>>,
    /// How often it is not over yet after its end.
    more: u64,
}

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, script: None, more: 0 }
    }

    /// What the bytes say, each number from as few of them as it needs. Behind their end come numbers without a
    /// pattern, which depend on the bytes, and it is over when that was asked `more` times.
    pub fn script(bytes: &[u8], more: u64) -> Self {
        let seed = bytes.iter().fold(bytes.len() as u64, |all, byte| all.wrapping_mul(31).wrapping_add((*byte).into()));
        Self { script: Some(bytes.iter().copied().collect()), more, ..Self::new(seed) }
    }

    /// Whether there was a script, and nothing more is to be done.
    pub fn is_over(&mut self) -> bool {
        let is_at_end = self.script.as_ref().is_some_and(VecDeque::is_empty);
        let is_over = is_at_end && self.more == 0;
        self.more -= u64::from(is_at_end && !is_over);
        is_over
    }

    fn read(&mut self, bytes: usize) -> Option<u64> {
        let script = self.script.as_mut()?;
        let bytes = bytes.min(script.len());
        (!script.is_empty()).then(|| script.drain(..bytes).fold(0, |all, byte| all << 8 | u64::from(byte)))
    }

    pub fn next(&mut self) -> u64 {
        if let Some(number) = self.read(4) {
            return number;
        }
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub fn below(&mut self, n: usize) -> usize {
        let bytes = (n - 1).checked_ilog2().map_or(0, |bits| bits / 8 + 1) as usize;
        self.read(bytes).unwrap_or_else(|| self.next()) as usize % n
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}
