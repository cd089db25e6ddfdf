//! What anybody may ask of a device at any time, without waiting for its control calls to end.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use crate::error::Result;
use crate::mem::map::MemoryMap;
use crate::mem::reach::MapCell;
use crate::sys::socket::Stream;

/// A device as it was left by its last control call.
#[derive(Debug)]
pub struct Live {
    /// A handle of our own of the control channel, so that it can be looked at as long as this lives.
    control: Stream,
    up: AtomicBool,
    map: RwLock<Arc<MapCell>>,
}

impl Live {
    pub(super) fn new(control: BorrowedFd<'_>) -> Result<Self> {
        let map = RwLock::new(Arc::new(MapCell::new(&MemoryMap::default())));
        Ok(Self { control: Stream::share(control)?, up: AtomicBool::new(false), map })
    }

    /// Whether frames can come and go, as far as is known without asking the device.
    pub fn link(&self) -> bool {
        self.up.load(Ordering::Acquire) && !self.control.is_closed()
    }

    pub(super) fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Release);
    }

    /// The control channel, to be watched.
    pub fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// Whether the device was told of all of these bytes, or will be at its next start.
    pub fn covers(&self, addr: u64, len: u64) -> bool {
        self.map.read().current().covers(addr, len)
    }

    /// What queues look at.
    pub(super) fn map(&self) -> Arc<MapCell> {
        self.map.read().clone()
    }

    /// The memory is another, and no queue looks at what it was.
    pub(super) fn renew_map(&self, map: &MemoryMap) {
        *self.map.write() = Arc::new(MapCell::new(map));
    }

    /// The memory is another, under queues at work.
    pub(super) fn set_map(&self, map: &MemoryMap) {
        self.map.read().set(map);
    }
}
