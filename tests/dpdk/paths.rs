//! The ten ways DPDK's own driver has to move frames, by the device arguments that select them.

use std::fmt::Write as _;

/// One of the ways, and a ring for it.
#[derive(Clone, Copy)]
pub struct Way {
    pub name: &'static str,
    pub packed: bool,
    pub mergeable: bool,
    pub in_order: bool,
    pub vectorized: bool,
    pub queue_size: u16,
}

const fn way(name: &'static str, packed: bool, mergeable: bool, in_order: bool, vectorized: bool) -> Way {
    Way { name, packed, mergeable, in_order, vectorized, queue_size: 256 }
}

pub const TEN: [Way; 10] = [
    way("packed mergeable", true, true, false, false),
    way("packed non-mergeable", true, false, false, false),
    way("packed in-order mergeable", true, true, true, false),
    way("packed in-order non-mergeable", true, false, true, true),
    way("split in-order mergeable", false, true, true, false),
    way("split in-order non-mergeable", false, false, true, false),
    way("split mergeable", false, true, false, false),
    way("split non-mergeable", false, false, false, false),
    way("split vectorized", false, false, false, true),
    Way { queue_size: 255, ..way("packed vectorized, ring of 255", true, false, true, true) },
];

/// Each ring layout once, with all that it can do.
pub const BOTH: [Way; 2] = [TEN[4], TEN[2]];

impl Way {
    /// Device arguments, but for the socket and the number of queues.
    pub fn args(self) -> String {
        let bit = u8::from;
        format!(
            "packed_vq={},mrg_rxbuf={},in_order={},vectorized={},queue_size={}",
            bit(self.packed),
            bit(self.mergeable),
            bit(self.in_order),
            bit(self.vectorized),
            self.queue_size
        )
    }

    /// Lengths of frames that the other side can send here.
    pub fn sizes(self) -> &'static str {
        if self.mergeable { "64,128,256,512,1024,1518,9000" } else { "64,128,256,512,1024,1518" }
    }

    /// What the driver must call the way it goes, with EAL's SIMD width in bits.
    pub fn mode(self, width: u32) -> String {
        let layout = if self.packed { "packed" } else { "split" };
        let mut mode = format!("{layout} {}", lanes(width));
        for (on, word) in [(self.in_order, "in-order"), (self.mergeable, "mergeable")] {
            if on {
                write!(mode, " {word}").unwrap();
            }
        }
        mode
    }
}

/// The widest lanes that this CPU has and EAL lets us use.
pub fn lanes(width: u32) -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        let avx512 = is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx512bw");
        if width >= 512 && avx512 {
            return "avx512";
        }
        if width >= 256 && is_x86_feature_detected!("avx2") {
            return "avx2";
        }
    }
    let _ = width;
    "scalar"
}
