//! What else can be asked of a queue.

use std::time::Instant;

use vuser::net::copy::Frames;

use super::{End, Rig};

impl Rig {
    /// All that changes nothing, whatever the device has written.
    pub fn probe(&mut self, offset: u16) {
        let (size, begin) = (self.hand.shape().size, Instant::now());
        let used = match &self.end {
            End::Rx(rx) => {
                let _ = (rx.descriptor_status(offset), rx.monitor(), rx.base(), rx.is_whole());
                let _ = rx.untouched(u32::from(offset) << 16 | u32::from(offset));
                rx.each_lent(offset.into(), &mut |_| {});
                rx.used_count()
            }
            End::Tx(tx) => {
                let _ = (tx.descriptor_status(offset), tx.monitor(), tx.base());
                let _ = tx.untouched(u32::from(offset) << 16 | u32::from(offset));
                tx.used_count()
            }
        };
        assert!(used <= size, "{used} of {size} are used");
        self.resume_base();
        self.spend(begin);
    }

    /// Sends `n` frames of so many bytes by copying them; how many were taken.
    pub fn send_copies(&mut self, n: usize, bytes: usize) -> usize {
        let End::Tx(tx) = &mut self.end else { panic!("not a transmit queue") };
        let data = vec![0; bytes];
        let (offsets, lengths) = (vec![0; n], vec![bytes as u32; n]);
        let frames = Frames { data: data.as_ptr(), size: bytes, offsets: &offsets, lengths: &lengths };
        let begin = Instant::now();
        // SAFETY: the memory is ours, of this size.
        let taken = unsafe { tx.copy_in(frames) };
        self.spend(begin);
        assert!(taken <= n);
        taken
    }
}
