//! Keeps a polling thread off a ring for a moment after it found little there.
//!
//! A device that is filling a packed ring writes the very lines that the driver polls. Whoever polls as fast as it can
//! takes each line away while it is being written, and slows the device down; frames then come a few at a time.

/// A moment, in ticks of the time stamp counter.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    ticks: u64,
    until: u64,
}

impl Gate {
    /// A gate that stays shut for so many ticks; for none, it never shuts.
    pub fn new(ticks: u16) -> Self {
        Self { ticks: ticks.into(), until: 0 }
    }

    /// Whether it is not yet time to poll again.
    #[inline(always)]
    pub fn is_shut(&self) -> bool {
        // Only within the moment itself: a counter that has jumped (a machine that was moved or slept) opens it.
        self.until != 0 && self.until.wrapping_sub(now()).wrapping_sub(1) < self.ticks
    }

    /// Little was there.
    #[inline(always)]
    pub fn shut(&mut self) {
        if self.ticks != 0 && cfg!(target_arch = "x86_64") {
            self.until = now().wrapping_add(self.ticks);
        }
    }

    /// There may be something: the device has called, or the last burst was full.
    #[inline(always)]
    pub fn open(&mut self) {
        self.until = 0;
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn now() -> u64 {
    // SAFETY: every CPU of this architecture has it.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Without a counter to read cheaply, the gate never shuts.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn now() -> u64 {
    0
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn it_shuts_for_its_moment_only() {
        let mut never = Gate::new(0);
        never.shut();
        assert!(!never.is_shut());
        let mut gate = Gate::new(u16::MAX);
        assert!(!gate.is_shut());
        gate.shut();
        while gate.is_shut() {}
        gate.shut();
        gate.open();
        assert!(!gate.is_shut());
    }

    #[test]
    fn a_counter_that_jumps_opens_it() {
        let mut gate = Gate::new(1000);
        gate.until = now() + (1 << 50);
        assert!(!gate.is_shut());
        gate.until = now() - (1 << 20);
        assert!(!gate.is_shut());
    }
}
