//! The table of memory that the device is told of.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::stat::fstat;

use super::reach::Reach;
use crate::error::{Error, Result};
use crate::sys::shm::{HUGE_PAGE, SharedMemory};

/// What a region is made of; holding it keeps the memory and its descriptor alive.
#[derive(Clone, Debug)]
enum Backing {
    Ours(Arc<SharedMemory>),
    /// With the file's device and inode: the same file may come by several descriptors.
    Application(Arc<OwnedFd>, (u64, u64)),
}

impl Backing {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ours(a), Self::Ours(b)) => Arc::ptr_eq(a, b),
            (Self::Application(_, a), Self::Application(_, b)) => a == b,
            _ => false,
        }
    }
}

/// A run of our address space that the device may access.
///
/// Device addresses are our own addresses, unless compact ones were asked for: no translation is needed on either side of a
/// burst.
#[derive(Clone, Debug)]
pub struct Region {
    addr: u64,
    len: u64,
    offset: u64,
    backing: Backing,
}

impl Region {
    /// All of a shared memory of ours.
    pub fn ours(memory: Arc<SharedMemory>) -> Self {
        Self { addr: memory.addr() as u64, len: memory.len() as u64, offset: 0, backing: Backing::Ours(memory) }
    }

    /// Memory of the application: `len` bytes of a file from `offset`, mapped at `addr`.
    pub fn application(fd: OwnedFd, offset: u64, len: u64, addr: u64) -> Result<Self> {
        if len == 0 || addr == 0 || addr.checked_add(len).is_none() || offset.checked_add(len).is_none() {
            return Err(Error::invalid(format!("memory of {len} bytes at {addr:#x}, offset {offset:#x}, cannot be")));
        }
        let file = fstat(&fd).map_err(|e| Error::sys(e, "cannot look at the memory's file"))?;
        let size = u64::try_from(file.st_size).unwrap_or(0);
        if size < offset + len {
            let message = format!(
                "the memory cannot be shared: its file has {size} bytes, {} are needed (pass the descriptor of the \
                 memfd or hugetlbfs file that is mapped at {addr:#x}; anonymous memory has none)",
                offset + len
            );
            return Err(Error::new(Errno::EBADF, message));
        }
        Ok(Self { addr, len, offset, backing: Backing::Application(Arc::new(fd), (file.st_dev, file.st_ino)) })
    }

    /// Our address of the first byte.
    pub fn addr(&self) -> u64 {
        self.addr
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.len
    }

    /// Where it begins in its file.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether it is the same memory, in the same bounds.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.addr, self.len, self.offset) == (other.addr, other.len, other.offset)
            && self.backing.is_same(&other.backing)
    }

    fn has_bounds_of(&self, other: &Self) -> bool {
        (self.addr, self.len) == (other.addr, other.len)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.addr < other.addr + other.len && other.addr < self.addr + self.len
    }

    /// Whether another goes on where this one ends, in memory and in the file.
    fn is_continued_by(&self, next: &Self) -> bool {
        (self.addr + self.len, self.offset + self.len) == (next.addr, next.offset)
            && self.backing.is_same(&next.backing)
    }
}

impl AsFd for Region {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.backing {
            Backing::Ours(memory) => memory.as_fd(),
            Backing::Application(fd, _) => fd.as_fd(),
        }
    }
}

/// All memory that a device is told of: pieces as they were given to us, and the regions that they are told as. A region
/// is one piece, or several that follow one another in memory and in one file. Both are sorted and do not overlap.
#[derive(Clone, Debug, Default)]
pub struct MemoryMap {
    pieces: Vec<Region>,
    regions: Vec<Region>,
    /// Device addresses are ours less this, which is not above any piece.
    shift: u64,
}

impl MemoryMap {
    /// Adds a piece, as a region of its own. One of the same bounds that is there already gives way: memory can be at a
    /// place only once.
    pub fn add(&mut self, piece: Region) -> Result<()> {
        if self.find(&piece).is_some() {
            self.remove(piece.addr);
        }
        self.insert(piece)
    }

    /// Adds a piece, as a region of its own, where there is nothing yet.
    pub fn insert(&mut self, piece: Region) -> Result<()> {
        if piece.addr < self.shift {
            let message = format!(
                "memory at {:#x} is below what device addresses begin with, {:#x}, as compact=1 has them: register it \
                 before the device is started",
                piece.addr, self.shift
            );
            return Err(Error::invalid(message));
        }
        let at = self.pieces.partition_point(|p| p.addr < piece.addr);
        let neighbours = self.pieces.iter().skip(at.saturating_sub(1)).take(2);
        if let Some(other) = neighbours.into_iter().find(|p| p.overlaps(&piece)) {
            let message = format!(
                "memory at {:#x}, {} bytes, overlaps memory at {:#x}, {} bytes, that is registered already",
                piece.addr, piece.len, other.addr, other.len
            );
            return Err(Error::new(Errno::EEXIST, message));
        }
        for list in [&mut self.pieces, &mut self.regions] {
            list.insert(list.partition_point(|p| p.addr < piece.addr), piece.clone());
        }
        Ok(())
    }

    /// Where compact device addresses can begin: at the first piece, or a little below it.
    pub fn lowest(&self) -> u64 {
        self.pieces.first().map_or(0, |piece| piece.addr & !(HUGE_PAGE as u64 - 1))
    }

    /// From now on device addresses are ours less this.
    pub fn set_shift(&mut self, shift: u64) -> Result<()> {
        let pieces = std::mem::take(&mut self.pieces);
        (self.regions, self.shift) = (Vec::new(), shift);
        pieces.into_iter().try_for_each(|piece| self.insert(piece))
    }

    /// What is to be taken from an address of ours for the device's.
    pub fn shift(&self) -> u64 {
        self.shift
    }

    /// Takes the piece that begins at `addr` away. What is left of its region stays: as it was, or split.
    pub fn remove(&mut self, addr: u64) -> Option<Region> {
        let at = self.pieces.iter().position(|p| p.addr == addr)?;
        let piece = self.pieces.remove(at);
        let at = self.regions.iter().position(|r| r.overlaps(&piece))?;
        let region = self.regions.remove(at);
        let rest = self.pieces.iter().filter(|p| p.overlaps(&region));
        self.regions.splice(at..at, merged(rest));
        Some(piece)
    }

    /// Tells as few regions as can be.
    pub fn merge(&mut self) {
        self.regions = merged(self.pieces.iter());
    }

    /// The pieces, by address.
    pub fn pieces(&self) -> &[Region] {
        &self.pieces
    }

    /// The piece that has the same bounds.
    pub fn find(&self, piece: &Region) -> Option<&Region> {
        at(&self.pieces, piece.addr).filter(|p| p.has_bounds_of(piece))
    }

    /// The regions, by address.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The regions that another map has not.
    pub fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Region> {
        self.regions.iter().filter(|r| !at(&other.regions, r.addr).is_some_and(|o| o.is_same(r)))
    }

    /// Whether one can come to this map by adding whole regions to another and taking whole regions away, with nothing
    /// in between of which a part would be missed.
    pub fn is_near(&self, other: &Self) -> bool {
        !self.without(other).any(|new| other.regions.iter().any(|old| old.overlaps(new)))
    }

    /// Whether the device can reach all of these bytes, in one region.
    pub fn contains(&self, addr: u64, len: u64) -> bool {
        Reach::of(self).contains(addr, len)
    }
}

/// What begins at an address, in a sorted list.
fn at(list: &[Region], addr: u64) -> Option<&Region> {
    list.binary_search_by_key(&addr, |r| r.addr).ok().and_then(|at| list.get(at))
}

/// Pieces, sorted, as few regions as they can be told as.
fn merged<'a>(pieces: impl Iterator<Item = &'a Region>) -> Vec<Region> {
    let mut regions: Vec<Region> = Vec::new();
    for piece in pieces {
        match regions.last_mut() {
            Some(last) if last.is_continued_by(piece) => last.len += piece.len,
            _ => regions.push(piece.clone()),
        }
    }
    regions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(len: usize) -> Region {
        Region::ours(Arc::new(SharedMemory::new("test", len, false).unwrap()))
    }

    #[test]
    fn only_what_was_added_is_reachable() {
        let mut map = MemoryMap::default();
        let r = region(4096);
        map.add(r.clone()).unwrap();
        map.add(r.clone()).unwrap();
        assert_eq!(map.regions().len(), 1);
        assert!(map.contains(r.addr(), 4096) && map.contains(r.addr() + 4095, 1));
        assert!(!map.contains(r.addr(), 4097) && !map.contains(r.addr() - 1, 1) && !map.contains(u64::MAX, 2));
        assert!(map.remove(r.addr()).is_some() && !map.contains(r.addr(), 1));
    }

    /// Pages of one file, mapped one behind the other from `AT` on.
    fn pages(file: &SharedMemory, which: impl IntoIterator<Item = u64>) -> Vec<Region> {
        let page = |n| {
            let fd = file.as_fd().try_clone_to_owned().unwrap();
            Region::application(fd, n * 4096, 4096, AT + n * 4096).unwrap()
        };
        which.into_iter().map(page).collect()
    }

    const AT: u64 = 0x10_0000;

    fn bounds(map: &MemoryMap) -> Vec<(u64, u64, u64)> {
        map.regions().iter().map(|r| ((r.addr() - AT) / 4096, r.size() / 4096, r.offset() / 4096)).collect()
    }

    #[test]
    fn pieces_that_follow_one_another_are_told_as_one_region() {
        let (file, other) = (SharedMemory::new("test", 8 * 4096, false).unwrap(), region(8 * 4096));
        let mut map = MemoryMap::default();
        for piece in pages(&file, [3, 0, 2, 1, 5]) {
            map.add(piece).unwrap();
        }
        assert_eq!(bounds(&map), [(0, 1, 0), (1, 1, 1), (2, 1, 2), (3, 1, 3), (5, 1, 5)]);
        // Next to it in memory, but of another file; and of the same, but from elsewhere.
        let fd = |from: &dyn AsFd| from.as_fd().try_clone_to_owned().unwrap();
        map.add(Region::application(fd(&other), 4 * 4096, 4096, AT + 4 * 4096).unwrap()).unwrap();
        map.add(Region::application(fd(&file), 7 * 4096, 4096, AT + 6 * 4096).unwrap()).unwrap();
        map.merge();
        assert_eq!(bounds(&map), [(0, 4, 0), (4, 1, 4), (5, 1, 5), (6, 1, 7)]);
        assert!(map.contains(AT + 100, 3 * 4096) && !map.contains(AT + 100, 4 * 4096));
        // From the middle, from the beginning, from the end.
        map.remove(AT + 4096).unwrap();
        assert_eq!(bounds(&map)[..2], [(0, 1, 0), (2, 2, 2)]);
        map.remove(AT).unwrap();
        map.remove(AT + 3 * 4096).unwrap();
        assert_eq!(bounds(&map), [(2, 1, 2), (4, 1, 4), (5, 1, 5), (6, 1, 7)]);
        assert!(map.remove(AT + 4095).is_none());
    }

    #[test]
    fn changes_of_whole_regions_are_near_and_all_others_are_not() {
        let file = SharedMemory::new("test", 8 * 4096, false).unwrap();
        let mut map = MemoryMap::default();
        pages(&file, 0..4).into_iter().for_each(|p| map.add(p).unwrap());
        map.merge();
        let more = |which: u64| {
            let mut more = map.clone();
            more.add(pages(&file, [which]).remove(0)).unwrap();
            more
        };
        assert!(more(6).is_near(&map) && map.is_near(&more(6)) && more(4).is_near(&map));
        assert_eq!((more(4).without(&map).count(), map.without(&more(4)).count()), (1, 0));
        let mut grown = more(4);
        grown.merge();
        assert!(!grown.is_near(&map));
        let mut split = map.clone();
        split.remove(AT + 4096).unwrap();
        assert!(!split.is_near(&map));
        assert_eq!(more(4).insert(pages(&file, [2]).remove(0)).unwrap_err().errno(), Errno::EEXIST);
    }

    #[test]
    fn device_addresses_begin_with_the_lowest_piece_there_is_then() {
        let file = SharedMemory::new("test", 8 * 4096, false).unwrap();
        let mut map = MemoryMap::default();
        pages(&file, [3, 4]).into_iter().for_each(|p| map.add(p).unwrap());
        assert_eq!((map.shift(), map.lowest()), (0, 0));
        map.set_shift(AT + 3 * 4096).unwrap();
        let error = map.insert(pages(&file, [0]).remove(0)).unwrap_err();
        assert!(error.to_string().contains("compact=1") && map.regions().len() == 2, "{error}");
        map.insert(pages(&file, [5]).remove(0)).unwrap();
        assert!(map.clone().set_shift(AT + 4 * 4096).is_err());
    }

    #[test]
    fn memory_that_cannot_be_shared_is_refused_with_the_reason() {
        let r = region(4096);
        let fd = || r.as_fd().try_clone_to_owned().unwrap();
        assert!(Region::application(fd(), 0, 4096, 0x10_0000).is_ok());
        let error = Region::application(fd(), 4096, 4096, 0x10_0000).unwrap_err();
        assert!(error.errno() == Errno::EBADF && error.to_string().contains("cannot be shared"));
        assert!(Region::application(fd(), 0, 0, 0x10_0000).is_err());
        assert!(Region::application(fd(), 0, u64::MAX, 0x10_0000).is_err());
    }
}
