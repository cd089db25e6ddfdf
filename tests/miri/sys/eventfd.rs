//! A bell without a descriptor.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Result;

#[derive(Debug)]
pub struct Bell(AtomicBool);

impl Bell {
    pub fn new() -> Result<Self> {
        Ok(Self(AtomicBool::new(false)))
    }

    pub fn ring(&self) -> bool {
        self.0.store(true, Ordering::SeqCst);
        true
    }

    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        unreachable!("a bell without a descriptor")
    }
}
