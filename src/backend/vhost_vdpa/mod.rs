//! vhost-vdpa: the device is hardware, or a program (VDUSE), behind a driver of the kernel's, `/dev/vhost-vdpa-N`.
//!
//! It has a status, a configuration space and a control queue as any virtio device has, and it is told of memory by address.
//! The order of a start is that of VIRTIO 3.1.1. What can be stopped is the device as a whole: it is suspended, where it can
//! be, says where its rings are, and is reset; then it does not touch memory any more.

mod calls;
mod memory;
mod watch;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

use self::calls::Calls;
use self::memory::{MAX_REGIONS, Table};
use self::watch::Watch;
use crate::backend::{Backend, Notice, RingSetup};
use crate::error::{Error, Result};
use crate::mem::doorbell::Doorbell;
use crate::mem::map::MemoryMap;
use crate::spec::net::NetConfig;
use crate::spec::vhost::BackendFeatures;
use crate::spec::virtio::{DEVICE_ID_NET, Features, Status};
use crate::sys::eventfd::Bell;
use crate::sys::vdpa::AddressRange;
use crate::sys::vhost::{RingAddresses, Vhost};

/// Features that are the transport's business and that a device can't do without when it offers them.
///
/// ORDER_PLATFORM (VIRTIO 6.1) asks for barriers that hold towards hardware. On x86-64 ours do.
const TRANSPORT: Features = if cfg!(target_arch = "x86_64") {
    Features::ACCESS_PLATFORM.union(Features::ORDER_PLATFORM)
} else {
    Features::ACCESS_PLATFORM
};

/// A vDPA device.
///
/// Errors: what opening the file says, `ETIMEDOUT` and then `ENOTCONN` for a device that hangs, `EINVAL` and `ERANGE` for what
/// the device cannot have, and what the kernel says to a call.
pub struct VhostVdpa {
    calls: Calls,
    watch: Watch,
    /// Rung when the configuration space has changed.
    config_call: Bell,
    offered: Features,
    chosen: Features,
    max_pairs: u16,
    backend: BackendFeatures,
    /// Rings that the device has, if it says.
    rings: Option<u32>,
    max_ring_size: u16,
    config_size: u32,
    range: AddressRange,
    table: Table,
    /// Rings that were set up since the last reset, with the positions where they were to begin.
    begun: Vec<(u16, u32)>,
    /// Positions of the rings of a device that was stopped.
    stopped: Option<Vec<(u16, u32)>>,
    status: Status,
}

impl VhostVdpa {
    /// Opens a device. Each exchange with it takes `timeout` at most.
    pub fn open(path: &Path, timeout: Duration) -> Result<Self> {
        let name = path.display().to_string();
        // Watched before it is opened, so that no removal is missed.
        let watch = Watch::new(path)?;
        let calls = Calls::open(path, name, timeout)?;
        let id = calls.call("VHOST_VDPA_GET_DEVICE_ID", Vhost::device_id)?;
        if id != DEVICE_ID_NET {
            let sentence =
                format!("{}: a virtio device of kind {id}; this drives network devices, kind 1", calls.name());
            return Err(Error::new(Errno::ENOTSUP, sentence));
        }
        calls.call("VHOST_SET_OWNER", Vhost::set_owner)?;
        let offered = Features::from_bits_retain(calls.call("VHOST_GET_FEATURES", Vhost::features)?.into());
        let theirs = calls.call("VHOST_GET_BACKEND_FEATURES", Vhost::backend_features)?;
        let backend = BackendFeatures::from_bits_truncate(theirs);
        if !backend.contains(BackendFeatures::IOTLB_MSG_V2) {
            let sentence =
                format!("{}: the kernel does not know VHOST_IOTLB_MSG_V2; use Linux 5.8 or newer", calls.name());
            return Err(Error::new(Errno::ENOTSUP, sentence));
        }
        calls.call("VHOST_SET_BACKEND_FEATURES", move |d| d.set_backend_features(backend.bits()))?;
        let max_ring_size = calls.call("VHOST_VDPA_GET_VRING_NUM", Vhost::max_ring_size)?;
        let range = calls.call("VHOST_VDPA_GET_IOVA_RANGE", Vhost::address_range)?;
        // Linux 5.17 and newer have these two.
        let rings = calls.call("VHOST_VDPA_GET_VQS_COUNT", Vhost::rings).ok();
        let config_size = calls.call("VHOST_VDPA_GET_CONFIG_SIZE", Vhost::config_size);
        let config_size = config_size.unwrap_or(size_of::<NetConfig>() as u32);
        Ok(Self {
            calls,
            watch,
            config_call: Bell::new()?,
            offered,
            chosen: offered,
            max_pairs: 1,
            backend,
            rings,
            max_ring_size,
            config_size,
            range,
            table: Table::default(),
            begun: Vec::new(),
            stopped: None,
            status: Status::empty(),
        })
    }

    fn has(&self, feature: BackendFeatures) -> bool {
        self.backend.contains(feature)
    }

    fn batches(&self) -> bool {
        self.has(BackendFeatures::IOTLB_BATCH)
    }

    fn is_running(&self) -> bool {
        self.status.contains(Status::DRIVER_OK) && self.stopped.is_none()
    }

    /// Queue pairs by the configuration space; one where there is no field for it (VIRTIO 5.1.4).
    fn pairs(&mut self) -> Result<u16> {
        const AT: usize = std::mem::offset_of!(NetConfig, max_virtqueue_pairs);
        let mut pairs = [0; 2];
        if !self.offered.intersects(Features::MQ | Features::RSS) || !self.read_config(AT as u32, &mut pairs)? {
            return Ok(1);
        }
        let control = u32::from(self.offered.contains(Features::CTRL_VQ));
        let room = self.rings.map_or(u32::from(u16::MAX), |rings| rings.saturating_sub(control) / 2);
        Ok(u16::from_le_bytes(pairs).clamp(1, room.clamp(1, 0x8000) as u16))
    }

    /// Makes the device let go of all memory, after asking how far it got with each ring.
    fn halt(&mut self) -> Result<Vec<(u16, u32)>> {
        if self.has(BackendFeatures::SUSPEND)
            && let Err(e) = self.calls.call("VHOST_VDPA_SUSPEND", Vhost::suspend)
        {
            // The reset stops it all the same, but where it stopped is a guess.
            log::warn!("{e}");
        }
        let mut stopped = Vec::new();
        for &(index, begun) in &self.begun {
            let what = format!("VHOST_GET_VRING_BASE of ring {index}");
            match self.calls.call(&what, move |d| d.ring_base(index.into())) {
                Ok(base) => stopped.push((index, base)),
                Err(e) if !self.calls.is_alive() => return Err(e),
                // A device that cannot say it can be reset all the same.
                Err(_) => stopped.push((index, begun)),
            }
        }
        self.reset()?;
        Ok(stopped)
    }

    fn reset(&mut self) -> Result<()> {
        self.begun.clear();
        self.status = Status::empty();
        self.calls.call("VHOST_VDPA_SET_STATUS 0", |d| d.set_status(0))?;
        if !self.has(BackendFeatures::IOTLB_PERSIST) {
            self.table.forget(&self.calls, self.batches())?;
        }
        Ok(())
    }

    fn check_size(&self, size: u16) -> Result<()> {
        let (name, most) = (self.calls.name(), self.max_ring_size);
        if size > most {
            let sentence = format!(
                "queue_size={size}: {name} has rings of {most} descriptors at most; give queue_size={most} or less"
            );
            return Err(Error::invalid(sentence));
        }
        if !size.is_power_of_two() {
            let sentence = format!(
                "queue_size={size}: the kernel gives vDPA devices only rings of a power of two of descriptors, packed ones too"
            );
            return Err(Error::invalid(sentence));
        }
        Ok(())
    }

    fn set_started(&mut self) -> Result<()> {
        // A reset takes the bell away from some devices.
        let bell = own(self.config_call.as_fd())?;
        let call = self.calls.call("VHOST_VDPA_SET_CONFIG_CALL", move |d| d.set_config_call(bell.as_fd()));
        if let Err(e) = call {
            log::info!("changes of the configuration space will not be heard of: {e}");
        }
        self.stopped = None;
        Ok(())
    }
}

fn cannot_open(errno: Errno, name: &str) -> Error {
    let hint = match errno {
        Errno::ENOENT => {
            " (no such device: load vhost_vdpa and the device's driver, and add it: vdpa dev add mgmtdev NAME name vdpa0)"
        }
        Errno::EBUSY => " (another process has it open, or this one has)",
        Errno::EACCES | Errno::EPERM => " (opening it needs read and write permission on the file)",
        Errno::ENXIO | Errno::ENODEV => " (the device is being removed)",
        _ => "",
    };
    Error::new(errno, format!("cannot open {name}: {}{hint}", errno.desc()))
}

fn own(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    let fd = fd.try_clone_to_owned();
    fd.map_err(|e| Error::sys(Errno::from_raw(e.raw_os_error().unwrap_or(0)), "cannot share a descriptor"))
}

impl Backend for VhostVdpa {
    fn describe(&self) -> String {
        format!("vhost-vdpa device at {}", self.calls.name())
    }

    fn features(&mut self) -> Result<Features> {
        Ok(self.offered)
    }

    fn max_queue_pairs(&mut self) -> Result<Option<u16>> {
        self.max_pairs = self.pairs()?;
        Ok(Some(self.max_pairs))
    }

    fn transport_features(&self) -> Features {
        self.offered & TRANSPORT
    }

    fn protocol_features(&self) -> u64 {
        self.backend.bits()
    }

    fn set_call(&mut self, index: u16, call: BorrowedFd<'_>) -> Result<()> {
        let call = own(call)?;
        let what = format!("VHOST_SET_VRING_CALL of ring {index}");
        self.calls.call(&what, move |d| d.set_call(index.into(), Some(call.as_fd())))
    }

    fn set_features(&mut self, features: Features) -> Result<()> {
        self.stopped = None;
        let features = features | (self.offered & TRANSPORT);
        self.chosen = features;
        self.calls.call("VHOST_SET_FEATURES", move |d| d.set_features(features.bits() as u64))
    }

    fn set_memory(&mut self, map: &MemoryMap) -> Result<()> {
        let (batch, range) = (self.batches(), self.range);
        self.table.replace(&self.calls, batch, range, map)
    }

    fn max_regions(&mut self) -> Result<usize> {
        Ok(MAX_REGIONS)
    }

    fn has_memory_slots(&self) -> bool {
        true
    }

    fn change_memory(&mut self, from: &MemoryMap, to: &MemoryMap) -> Result<()> {
        // What a region that is told anew covers would be missing for a moment.
        let pause =
            self.is_running() && !to.is_near(from) && self.has(BackendFeatures::SUSPEND | BackendFeatures::RESUME);
        if pause {
            self.calls.call("VHOST_VDPA_SUSPEND", Vhost::suspend)?;
        }
        let result = self.set_memory(to);
        if pause {
            self.calls.call("VHOST_VDPA_RESUME", Vhost::resume)?;
        }
        result
    }

    fn setup_ring(&mut self, ring: &RingSetup<'_>) -> Result<()> {
        self.check_size(ring.size)?;
        let &RingSetup { index, size, base, desc, driver, device, kick } = ring;
        let (kick, of) = (own(kick)?, u32::from(index));
        self.calls.call(&format!("VHOST_SET_VRING_NUM of ring {index}"), move |d| d.set_ring_size(of, size.into()))?;
        self.calls.call(&format!("VHOST_SET_VRING_BASE of ring {index}"), move |d| d.set_ring_base(of, base))?;
        let addresses = RingAddresses { index: of, flags: 0, desc, device, driver, log: 0 };
        self.calls.call(&format!("VHOST_SET_VRING_ADDR of ring {index}"), move |d| d.set_ring_addresses(&addresses))?;
        self.calls
            .call(&format!("VHOST_SET_VRING_KICK of ring {index}"), move |d| d.set_kick(of, Some(kick.as_fd())))?;
        self.begun.push((index, base));
        Ok(())
    }

    fn can_disable_rings(&self) -> bool {
        // VIRTIO lets nobody disable a ring of a running device; these say that they don't mind.
        self.has(BackendFeatures::ENABLE_AFTER_DRIVER_OK)
    }

    fn enable_ring(&mut self, index: u16, on: bool) -> Result<()> {
        if !on && !self.can_disable_rings() {
            return Ok(());
        }
        let what = format!("VHOST_VDPA_SET_VRING_ENABLE of ring {index}, {on}");
        self.calls.call(&what, move |d| d.enable_ring(index.into(), on))
    }

    fn stop_ring(&mut self, index: u16) -> Result<u32> {
        let stopped = match self.stopped.take() {
            Some(stopped) => stopped,
            None => self.halt()?,
        };
        let stopped = self.stopped.insert(stopped);
        // A start that failed may end before this ring was set up: then it did not begin.
        Ok(stopped.iter().find(|(i, _)| *i == index).map_or(0, |(_, base)| *base))
    }

    fn set_status(&mut self, status: Status) -> Result<()> {
        if status.is_empty() {
            return self.reset();
        }
        if status.contains(Status::DRIVER_OK) && !self.status.contains(Status::DRIVER_OK) {
            self.set_started()?;
        }
        self.calls
            .call(&format!("VHOST_VDPA_SET_STATUS {:#x}", status.bits()), move |d| d.set_status(status.bits()))?;
        // The kernel says nothing when the device takes no notice; FEATURES_OK is the one that a device may refuse.
        let now = self.calls.call("VHOST_VDPA_GET_STATUS", Vhost::status)?;
        let missing = status - Status::FEATURES_OK - Status::from_bits_retain(now);
        if !missing.is_empty() {
            let sentence = format!(
                "{}: the device does not take the status {:#x}: it says {now:#x}",
                self.calls.name(),
                status.bits()
            );
            return Err(Error::new(Errno::EIO, sentence));
        }
        self.status = status;
        Ok(())
    }

    fn status(&mut self) -> Result<Option<Status>> {
        let status = self.calls.call("VHOST_VDPA_GET_STATUS", Vhost::status)?;
        Ok(Some(Status::from_bits_retain(status)))
    }

    fn read_config(&mut self, offset: u32, bytes: &mut [u8]) -> Result<bool> {
        let len = bytes.len();
        if u64::from(offset) + len as u64 > self.config_size.into() {
            return Ok(false);
        }
        let read = self.calls.call("VHOST_VDPA_GET_CONFIG", move |d| {
            let mut to = vec![0; len];
            d.read_config(offset, &mut to).map(|()| to)
        })?;
        bytes.copy_from_slice(&read);
        Ok(true)
    }

    fn write_config(&mut self, offset: u32, bytes: &[u8]) -> Result<bool> {
        if u64::from(offset) + bytes.len() as u64 > self.config_size.into() {
            return Ok(false);
        }
        let bytes = bytes.to_vec();
        self.calls.call("VHOST_VDPA_SET_CONFIG", move |d| d.write_config(offset, &bytes)).map(|()| true)
    }

    fn wait_gone(&self, at_most: Duration) -> bool {
        self.calls.give_up("it could not be stopped");
        self.calls.wait_closed(at_most)
    }

    fn control(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }

    fn is_alive(&self) -> bool {
        self.calls.is_alive() && self.watch.is_there()
    }

    fn watched(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.watch.as_fd(), self.config_call.as_fd()]
    }

    fn hear(&mut self) -> Vec<Notice> {
        self.watch.listen();
        if !self.is_alive() {
            let why = self.calls.why_dead().unwrap_or_else(|| format!("{}: the device was removed", self.calls.name()));
            return vec![Notice::Gone(Error::new(Errno::ENODEV, why))];
        }
        // VIRTIO 2.1.2: a device that needs a reset says so by the same interrupt; whoever hears of it looks at the status.
        if self.config_call.take() { vec![Notice::ConfigChanged] } else { Vec::new() }
    }

    fn doorbell(&mut self, index: u16) -> Option<Arc<Doorbell>> {
        const PAGE: u64 = 4096;
        let at = PAGE * u64::from(index);
        let map = move |d: &Vhost| Doorbell::map(d.as_fd(), at, PAGE).map_err(|e| e.errno());
        self.calls.call(&format!("mmap of the doorbell of ring {index}"), map).ok().map(Arc::new)
    }

    fn max_ring_size(&self) -> u16 {
        self.max_ring_size
    }

    fn control_ring(&self) -> Option<u16> {
        // VIRTIO 5.1.2: behind the data queues, of which there are two when no more were negotiated.
        let several = self.chosen.intersects(Features::MQ | Features::RSS);
        self.offered.contains(Features::CTRL_VQ).then(|| if several { 2 * self.max_pairs } else { 2 })
    }
}
