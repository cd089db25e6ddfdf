//! Memory of the application's, given to a device and taken away, also while it runs.
//!
//! A back-end that has slots is told of single regions, and nothing stops meanwhile. For any other change its rings are
//! disabled, since back-ends differ in what they do with rings whose memory moves under them.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::errno::Errno;

use super::{Device, SourceSetup};
use crate::backend::check_number;
use crate::error::{Error, Result};
use crate::mem::map::{MemoryMap, Region};

impl Device {
    /// Gives memory of the application to the device: `len` bytes mapped at `addr`, from `offset` of the file.
    pub fn register_memory(&mut self, fd: OwnedFd, offset: u64, len: u64, addr: u64) -> Result<()> {
        let piece = Region::application(fd, offset, len, addr)?;
        let mut memory = self.memory.clone();
        let Some(told) = self.told.clone().filter(|_| self.running) else {
            memory.add(piece)?;
            self.memory = memory;
            self.note_memory();
            return Ok(());
        };
        if memory.find(&piece).is_some_and(|known| known.is_same(&piece)) {
            return Ok(());
        }
        memory.insert(piece.clone())?;
        let mut map = MemoryMap::clone(&told);
        map.insert(piece)?;
        self.tell_memory(map)?;
        self.memory = memory;
        Ok(())
    }

    /// Takes memory of the application away from the device.
    pub fn unregister_memory(&mut self, addr: u64) -> Result<()> {
        let mut memory = self.memory.clone();
        let gone = memory.remove(addr);
        let gone = gone.ok_or_else(|| Error::new(Errno::ENOENT, format!("no memory is registered at {addr:#x}")))?;
        let Some(told) = self.told.clone().filter(|_| self.running) else {
            self.memory = memory;
            self.note_memory();
            return Ok(());
        };
        let mut map = MemoryMap::clone(&told);
        // A pool of ours that came to lie at the same place has taken it over at the start: then it stays.
        if told.find(&gone).is_some_and(|known| known.is_same(&gone)) {
            map.remove(addr);
            self.tell_memory(map)?;
        }
        self.memory = memory;
        Ok(())
    }

    /// What a stopped device will be told of at its next start, but for the rings.
    pub(super) fn planned_memory(&self) -> Result<MemoryMap> {
        let mut map = self.memory.clone();
        for queue in self.queues.iter().take(self.rings_used()).flatten() {
            if let Some(SourceSetup::Pool(pool)) = &queue.source {
                map.add(Region::ours(pool.memory().clone()))?;
            }
        }
        Ok(map)
    }

    /// The memory of a stopped device has changed.
    pub(super) fn note_memory(&self) {
        // Memory that can't be together is an error of the start.
        let planned = self.planned_memory();
        let map = planned.as_ref().unwrap_or(&self.memory);
        match &self.rings {
            None => self.live.renew_map(map),
            // Queues that wait for their next device look at it.
            Some(_) => self.live.set_map(map),
        }
    }

    /// Tells a running device of other memory. On an error the former holds.
    fn tell_memory(&mut self, mut map: MemoryMap) -> Result<()> {
        let Some(told) = self.told.clone() else { return Ok(()) };
        let backend = self.backend()?;
        let (slots, most) = (backend.has_memory_slots(), backend.max_regions()?);
        if !slots || map.regions().len() > most {
            map.merge();
        }
        check_number(map.regions().len(), most)?;
        // Queues may use what was and will be: what goes is out of bounds before, what comes after the device knows.
        let mut common = MemoryMap::clone(&told);
        for gone in told.pieces().iter().filter(|p| map.find(p).is_none()) {
            common.remove(gone.addr());
            self.live.set_map(&common);
        }
        let result = if slots && map.is_near(&told) {
            self.backend()?.change_memory(&told, &map)
        } else {
            self.pause_rings().and_then(|()| self.replace_memory(&told, &map))
        };
        let resumed = self.resume_rings();
        match &result {
            Ok(()) => self.told = Some(Arc::new(map)),
            Err(e) => log::error!("the device was not told of other memory: {e}"),
        }
        self.live.set_map(self.told.as_deref().unwrap_or(&common));
        self.note_link();
        result.and(resumed)
    }

    /// Tells all memory anew while no ring is enabled.
    fn replace_memory(&mut self, told: &MemoryMap, map: &MemoryMap) -> Result<()> {
        let backend = self.backend()?;
        if backend.has_memory_slots() {
            return backend.change_memory(told, map);
        }
        backend.set_memory(map).inspect_err(|_| {
            // DPDK's vhost has no memory at all after a table that it refused.
            if backend.is_alive()
                && let Err(e) = backend.set_memory(told)
            {
                log::error!("the device has not taken the former memory back: {e}");
            }
        })
    }
}
