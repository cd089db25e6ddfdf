//! Where the device can reach, for queues that must know it while it changes.

use std::sync::atomic::{AtomicPtr, Ordering};

use parking_lot::Mutex;

use super::map::MemoryMap;

/// Addresses that the device can reach. It holds no memory and no descriptor: it is what a map said at a moment.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// First byte of each region, and the one behind its last; sorted.
    bounds: Box<[(u64, u64)]>,
}

impl Reach {
    /// What the regions of a map cover.
    pub fn of(map: &MemoryMap) -> Self {
        Self { bounds: map.regions().iter().map(|r| (r.addr(), r.addr() + r.size())).collect() }
    }

    /// Bytes from an address to the end of the region that it is in, or just behind.
    #[inline]
    fn left(&self, addr: u64) -> Option<u64> {
        let behind = self.bounds.partition_point(|(begin, _)| *begin <= addr);
        let &(_, end) = self.bounds.get(behind.checked_sub(1)?)?;
        end.checked_sub(addr)
    }

    /// Whether the device can reach all of these bytes, in one region.
    #[inline]
    pub fn contains(&self, addr: u64, len: u64) -> bool {
        self.left(addr).is_some_and(|left| len <= left)
    }

    /// Whether the device can reach all of these bytes, in as many regions as it takes.
    pub fn covers(&self, addr: u64, len: u64) -> bool {
        let (mut at, mut len) = (addr, len);
        while let Some(left) = self.left(at).filter(|left| *left > 0) {
            if len <= left {
                return true;
            }
            (at, len) = (at + left, len - left);
        }
        false
    }
}

/// The reach of a device at work. Queues read it without a lock, and keep using what they have read as long as they
/// like: what it was before stays until the cell goes.
#[derive(Debug)]
pub struct MapCell {
    current: AtomicPtr<Reach>,
    /// All that were ever current: pointers, since they are read through while the list grows.
    kept: Mutex<Vec<*mut Reach>>,
}

// SAFETY: what the pointers point to is only read, and freed when nobody can have the cell any more.
unsafe impl Send for MapCell {}
// SAFETY: as above.
unsafe impl Sync for MapCell {}

impl MapCell {
    /// A cell for what the regions of a map cover.
    pub fn new(map: &MemoryMap) -> Self {
        let first = Box::into_raw(Box::new(Reach::of(map)));
        Self { current: AtomicPtr::new(first), kept: Mutex::new(vec![first]) }
    }

    /// What can be reached now.
    #[inline]
    pub fn current(&self) -> &Reach {
        // SAFETY: made by `new` or `set`, and freed only with the cell. The acquire pairs with the release in `set`.
        unsafe { &*self.current.load(Ordering::Acquire) }
    }

    /// From now on what the regions of another map cover can be reached.
    pub fn set(&self, map: &MemoryMap) {
        let next = Box::into_raw(Box::new(Reach::of(map)));
        self.kept.lock().push(next);
        self.current.store(next, Ordering::Release);
    }
}

impl Drop for MapCell {
    fn drop(&mut self) {
        for reach in self.kept.get_mut().drain(..) {
            // SAFETY: made by `Box::into_raw`, listed once, and nobody borrows the cell any more.
            drop(unsafe { Box::from_raw(reach) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::mem::map::Region;
    use crate::sys::shm::SharedMemory;

    #[test]
    fn what_can_be_reached_changes_under_those_who_read_it() {
        let file = SharedMemory::new("test", 3 * 4096, false).unwrap();
        let mut map = MemoryMap::default();
        let piece = |at: u64| Region::application(file.as_fd().try_clone_to_owned().unwrap(), 0, 4096, at).unwrap();
        map.add(piece(0x10_0000)).unwrap();
        let cell = MapCell::new(&map);
        let before = cell.current();
        map.add(piece(0x10_1000)).unwrap();
        cell.set(&map);
        let now = cell.current();
        assert!(before.contains(0x10_0000, 4096) && !before.contains(0x10_1000, 1) && now.contains(0x10_1000, 4096));
        // Over the border, in two regions but not in one.
        assert!(!now.contains(0x10_0ff0, 0x20) && now.covers(0x10_0ff0, 0x20) && now.covers(0x10_0000, 0x2000));
        assert!(!now.covers(0x10_0000, 0x2001) && !now.covers(0xf_ffff, 2) && !now.covers(u64::MAX, 2));
        assert!(!now.contains(0xf_ffff, 1) && !now.contains(0x10_2000, 1) && !Reach::default().covers(0, 0));
    }
}
