//! A device comes up, and goes down.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

use super::engine::Engine;
use super::queues::{Side, SourceSetup, running};
use super::rings::RingMemory;
use super::{Device, Offloads, Parked, negotiate};
use crate::backend::RingSetup;
use crate::error::{Error, Result};
use crate::net::rx::RxOptions;
use crate::net::tx::TxParts;
use crate::net::{Framing, path};
use crate::spec::virtio::{Features, Status};

/// How long a device that could not be stopped is given to close the connection.
pub(super) const LET_GO: Duration = Duration::from_millis(500);
/// Position of a packed ring that nobody has used: the first descriptor, and a wrap counter of 1, for either side.
const FRESH_PACKED: u32 = 0x8000_8000;

/// Ticks of the time stamp counter for which a packed ring is left alone after a burst that was not full.
const GATE: u16 = 1000;

impl Device {
    /// Brings the device up. On an error it is as it was before. Without a back-end it is up as soon as one comes.
    pub fn start(&mut self) -> Result<()> {
        self.must_be_stopped("it can be started")?;
        if self.set_up().next().is_none() {
            let message = "no queue has been set up; call vuser_rx_queue_setup or vuser_tx_queue_setup first";
            return Err(Error::invalid(message));
        }
        self.check_layout(self.features)?;
        self.check_rooms();
        self.fill_gaps()?;
        self.promised = negotiate::of_offloads(self.features);
        if self.backend.is_none() {
            return self.start_later();
        }
        if self.pairs > self.max_pairs {
            let (asked, has) = (self.pairs, self.max_pairs);
            let message = format!("{asked} queue pairs: the back-end has {has}; call vuser_dev_set_queue_pairs");
            return Err(Error::new(Errno::ENOTSUP, message));
        }
        self.bring_up().inspect_err(|e| {
            log::error!("start: {e}");
            let _ = self.take_down();
        })?;
        self.started = true;
        self.link_is_known();
        Ok(())
    }

    /// A device whose back-end is not there is started when it comes, if it can come.
    fn start_later(&mut self) -> Result<()> {
        if !self.config.reconnect && self.link.number > 0 {
            let sentence = format!("{}; with reconnect=0 it is not looked for again", self.describe());
            return Err(Error::new(Errno::ENOTCONN, sentence));
        }
        log::info!("{}; the device starts when one comes", self.describe());
        self.started = true;
        let state = self.without_device();
        running(&self.queues, self.pairs).try_for_each(|(_, queue)| queue.wait(state))
    }

    /// Without merged buffers, a frame that does not fit one is dropped by the device.
    fn check_rooms(&self) {
        let framing = Framing::new(self.features);
        let need = 14 + u32::from(self.mtu());
        for source in
            self.set_up().filter(|(side, _)| *side == Side::Rx && !framing.mergeable).map(|(_, source)| source)
        {
            let (len, headroom) = source.open().room();
            if u32::from(len.saturating_sub(headroom)) < need {
                log::warn!(
                    "receive buffers have {len} bytes: too few for an MTU of {} without mrg_rxbuf=1",
                    self.mtu()
                );
            }
        }
    }

    /// Tells the back-end of everything, and fills the rings once they are enabled.
    pub(super) fn bring_up(&mut self) -> Result<()> {
        for (index, queue) in running(&self.queues, self.pairs) {
            let backend = self.backend.as_mut().ok_or_else(no_back_end)?;
            backend.set_call(index, queue.port.call.as_fd())?;
        }
        let features = self.features;
        self.tell_log()?;
        self.backend()?.set_features(features)?;
        self.agree_status()?;
        if !self.follows_mtu() {
            self.tell_mtu()?;
        }
        let resumed = self.take_over_rings()?;
        if !resumed {
            self.salvage()?;
            self.make_memory()?;
        }
        self.tell_rings_of(resumed)?;
        self.set_up_control()?;
        self.enable_first()?;
        self.set_status_bits(Status::DRIVER_OK)?;
        if self.status().intersects(Status::NEEDS_RESET | Status::FAILED) {
            return Err(Error::new(Errno::EIO, "the device failed when it was told to go"));
        }
        self.tell_wishes()?;
        self.resume_rings()?;
        let up = !self.down;
        self.backend()?.set_carrier(up)?;
        self.fill_rings(resumed)?;
        self.running = true;
        self.look_at_link();
        Ok(())
    }

    /// Lets the back-end take the rings over as the last one left them, when both keep notes of what they are working on:
    /// then nothing is done twice. Whether it did.
    fn take_over_rings(&mut self) -> Result<bool> {
        let (Some(inflight), Some(rings)) = (&self.inflight, self.rings.clone()) else { return Ok(false) };
        let reaches = !self.config.compact || self.planned_memory()?.lowest() >= self.shift;
        if self.rings_for != self.features || self.link.lingers(self.rings_of) || !reaches || !self.can_be_resumed()? {
            return Ok(false);
        }
        let backend = self.backend.as_mut().ok_or_else(no_back_end)?;
        if !backend.set_inflight(inflight)? {
            return Ok(false);
        }
        self.tell_all_memory(&rings)?;
        self.rings_of = self.link.number;
        Ok(true)
    }

    /// Whether all queues are whole, and know where the last device was.
    fn can_be_resumed(&self) -> Result<bool> {
        for (_, queue) in running(&self.queues, self.pairs).filter(|(_, queue)| queue.source.is_some()) {
            let mut paused = queue.port.pause()?;
            let engine = paused.engine();
            if queue.carried.is_some()
                || queue.port.board.is_broken()
                || !engine.is_whole()
                || engine.resume_base().is_none()
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Tells where each ring is, and where in it the device begins.
    fn tell_rings_of(&mut self, resumed: bool) -> Result<()> {
        let Some(rings) = self.rings.clone() else { return Ok(()) };
        let fresh = if self.features.contains(Features::RING_PACKED) { FRESH_PACKED } else { 0 };
        for (index, queue) in running(&self.queues, self.pairs) {
            let base = match queue.port.pause()?.engine() {
                engine if resumed => engine.resume_base(),
                engine => engine.base(),
            };
            let base = base.unwrap_or(fresh);
            let (desc, driver, device) = rings.addresses(usize::from(index));
            let kick = queue.port.kick.as_fd();
            let backend = self.backend.as_mut().ok_or_else(no_back_end)?;
            backend.setup_ring(&RingSetup { index, size: queue.size, base, desc, driver, device, kick })?;
            queue.port.set_doorbell(index, backend.doorbell(index))?;
        }
        Ok(())
    }

    /// Makes rings and queues, and tells the device of all memory.
    fn make_memory(&mut self) -> Result<()> {
        let sizes: Vec<u16> = running(&self.queues, self.pairs).map(|(_, queue)| queue.size).collect();
        let largest = sizes.iter().copied().max().unwrap_or(0);
        let backend = self.backend.as_mut().ok_or_else(no_back_end)?;
        self.inflight = backend.inflight(sizes.len() as u16, largest)?;
        if let Some(inflight) = &self.inflight {
            backend.set_inflight(inflight)?;
        }
        let rings = Arc::new(RingMemory::new(self.features, &sizes, self.config.huge)?);
        (self.rings, self.rings_of, self.rings_for) = (Some(rings.clone()), self.link.number, self.features);
        let mut map = self.planned_memory()?;
        self.live.renew_map(&map);
        map.add(rings.region())?;
        self.shift = if self.config.compact { self.shift_from(map.lowest())? } else { 0 };
        self.make_engines(&rings)?;
        self.tell_all_memory(&rings)
    }

    /// What device addresses are less than ours with compact=1. A log that is kept goes on with as few changes as can be.
    fn shift_from(&self, lowest: u64) -> Result<u64> {
        if !self.keeps_log() || self.shift == 0 {
            return Ok(lowest);
        }
        if let Some(by) = self.shift.checked_sub(lowest).filter(|by| *by > 0) {
            self.move_log(by)?;
        }
        Ok(self.shift.min(lowest))
    }

    /// Tells the device of all memory, these rings among it.
    fn tell_all_memory(&mut self, rings: &RingMemory) -> Result<()> {
        let mut map = self.planned_memory()?;
        map.set_shift(self.shift)?;
        map.add(rings.region())?;
        self.make_control()?;
        if let Some(control) = &self.control {
            map.add(control.region())?;
        }
        map.merge();
        self.live.set_map(&map);
        self.backend()?.set_memory(&map)?;
        self.told = Some(Arc::new(map));
        Ok(())
    }

    /// VIRTIO 3.1.1, steps 5 and 6. A legacy device has neither.
    fn agree_status(&mut self) -> Result<()> {
        if !self.features.contains(Features::VERSION_1) {
            return Ok(());
        }
        self.set_status_bits(Status::FEATURES_OK)?;
        match self.backend()?.status()? {
            Some(status) if !status.contains(Status::FEATURES_OK) => {
                let message = format!("the device does not accept the features {:#x}", self.features.bits());
                Err(Error::new(Errno::ENOTSUP, message))
            }
            _ => Ok(()),
        }
    }

    fn set_status_bits(&mut self, bits: Status) -> Result<()> {
        self.status |= bits;
        let status = self.status;
        self.backend()?.set_status(status)
    }

    fn make_engines(&self, rings: &RingMemory) -> Result<()> {
        let hasher = self.hasher();
        for (index, queue) in running(&self.queues, self.pairs) {
            let Some(source) = queue.source.as_ref().map(SourceSetup::open) else { continue };
            let (board, kick) = (queue.port.board.clone(), queue.port.kick.clone());
            board.mend();
            let (features, index) = (self.features, usize::from(index));
            let place = rings.place(index, self.config.simd);
            // SAFETY: the ring memory lives until the engines are gone (`take_down`), and each has its own place.
            let engine = unsafe {
                if index % 2 == 0 {
                    let vlan_strip = self.config.offloads.contains(Offloads::VLAN_STRIP);
                    let gate = if self.features.contains(Features::RING_PACKED) { GATE } else { 0 };
                    let (port, sort, shift) = (self.config.port, self.config.stats, self.shift);
                    let options = RxOptions { port, vlan_strip, sort, gate, shift };
                    let mut rx = path::rx(place, source, features, options, board, kick);
                    rx.set_hasher(hasher.clone());
                    Engine::Rx(rx)
                } else {
                    let (extras, map) = (rings.extras(index), self.live.map());
                    let (sort, shift) = (self.config.stats, self.shift);
                    let parts = TxParts { source, features, extras, map, board, kick, sort, shift };
                    Engine::Tx(path::tx(place, parts))
                }
            };
            let left = queue.port.pause()?.replace(engine.halted());
            // Nothing, unless the last stop could not get at it: then nobody knows who uses its buffers.
            std::mem::forget(left);
        }
        Ok(())
    }

    /// Puts into the rings what the last back-end has not done, offers all receive buffers, and wakes the device once, in
    /// case it looks at rings only when kicked. Bursts find the queues from then on.
    fn fill_rings(&mut self, resumed: bool) -> Result<()> {
        let (used, resend) = (self.rings_used(), self.config.resend);
        let mut queues = self.queues.iter_mut().take(used).flatten();
        queues.try_for_each(|queue| if resumed { queue.go_on() } else { queue.fill(resend) })
    }

    /// Stops the device. All buffers come back; it can be started again. An error is reported, and the device is
    /// stopped all the same.
    pub fn stop(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.started) {
            return Ok(());
        }
        // Of a device that does not run nobody is there to be told.
        let result = if self.running { self.take_down() } else { self.abandon() };
        self.active = self.pairs;
        self.link_is_known();
        result
    }

    fn take_down(&mut self) -> Result<()> {
        self.running = false;
        if self.rings.is_none() {
            return self.back_to_driver();
        }
        let mut first = Ok(());
        let mut keep = |result: Result<()>| {
            if first.is_ok() {
                first = result;
            }
        };
        keep(self.pause_rings());
        let mut stopped = Vec::new();
        for index in 0..self.rings_used() as u16 {
            let result = self.stop_queue(index);
            stopped.push(result.is_ok());
            keep(result);
        }
        let sources = self.sources();
        // A device that has closed the connection has let go of everything, too.
        let gone = stopped.contains(&false) && self.backend.as_ref().is_none_or(|backend| backend.wait_gone(LET_GO));
        for (queue, stopped) in self.queues.iter_mut().flatten().zip(stopped) {
            queue.on = false;
            queue.port.board.mend();
            let engine = match queue.port.pause() {
                Ok(mut paused) => paused.replace(Engine::Idle),
                Err(e) => {
                    // A thread is inside, and may be for ever: then what it uses must be there for ever.
                    std::mem::forget((queue.port.clone(), self.rings.clone(), sources.clone()));
                    keep(Err(e));
                    continue;
                }
            };
            match &self.rings {
                Some(rings) if !stopped && !gone => {
                    self.parked.push(Parked::new(engine, &queue.port, rings, &sources, self.link.number));
                }
                _ => engine.reclaim(),
            }
        }
        if !self.parked.is_empty() {
            log::warn!("the device was not stopped: the buffers that it has stay with it until uninit");
        }
        (self.rings, self.control, self.inflight) = (None, None, None);
        self.note_memory();
        self.note_link();
        keep(self.back_to_driver());
        first
    }

    /// Resets the device, as far as it has a status, and takes VIRTIO 3.1.1's steps 2 and 3 again.
    pub(super) fn back_to_driver(&mut self) -> Result<()> {
        self.status = Status::ACKNOWLEDGE | Status::DRIVER;
        for step in [Status::empty(), Status::ACKNOWLEDGE, Status::ACKNOWLEDGE | Status::DRIVER] {
            self.backend()?.set_status(step)?;
        }
        Ok(())
    }

    /// Stops one ring; the device says how far it got, which must be possible.
    fn stop_queue(&mut self, index: u16) -> Result<()> {
        let base = self.backend()?.stop_ring(index)?;
        let Some(Some(queue)) = self.queues.get(usize::from(index)) else { return Ok(()) };
        if queue.source.is_none() {
            return Ok(());
        }
        match queue.port.pause()?.engine().untouched(base) {
            Some(n) => log::debug!("ring {index} stopped at {base:#x}, {n} buffers before the end"),
            None => log::warn!("ring {index}: the device says it stopped at {base:#x}, where it cannot have been"),
        }
        Ok(())
    }
}

fn no_back_end() -> Error {
    Error::new(Errno::ENOTCONN, "there is no back-end")
}
