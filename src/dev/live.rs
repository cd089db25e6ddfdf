//! What anybody may ask of a device at any time, without waiting for its control calls to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;

use super::dial::Hook;
use super::events::Events;
use crate::error::Result;
use crate::mem::map::MemoryMap;
use crate::mem::reach::MapCell;

/// A device as it was left by its last control call, or by what has happened since.
#[derive(Debug)]
pub struct Live {
    up: AtomicBool,
    map: RwLock<Arc<MapCell>>,
    /// What has happened.
    pub events: Events,
    /// The connection on which the device waits for an answer.
    pub hook: Hook,
    /// Back-ends that came after another.
    pub(super) reconnects: AtomicU64,
    /// Back-ends that were sent away, because they do not suit or because there was one.
    pub(super) refused: AtomicU64,
}

impl Live {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            up: AtomicBool::new(false),
            map: RwLock::new(Arc::new(MapCell::new(&MemoryMap::default()))),
            events: Events::new()?,
            hook: Hook::default(),
            reconnects: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Whether frames can come and go, as far as is known without asking the device.
    pub fn link(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    pub(super) fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Release);
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
