//! With the fences that the kernel's membarrier amounts to.

#[path = "../../src/sys/turnstile.rs"]
pub mod turnstile;

pub mod asymmetric {
    pub use loom::sync::atomic::{AtomicBool, Ordering, fence};

    pub fn light() {
        fence(Ordering::SeqCst);
    }

    pub fn heavy() -> crate::error::Result<()> {
        fence(Ordering::SeqCst);
        Ok(())
    }
}
