//! vhost-kernel: the device is `/dev/vhost-net`, its other end a tap interface, so that the network stack of the kernel is at
//! the end of the cable. This is the exception path.
//!
//! A queue pair is a *unit*: one descriptor of vhost-net, which has a worker thread in the kernel and two rings, and one queue
//! of the tap. A ring rests while it has no tap queue (VHOST_NET_SET_BACKEND), and runs while it has one.
//!
//! The tap and we are one station: its MAC address and its MTU are the device's, and change together. The link is up for
//! us when the interface was set up, and the interface has a carrier when the device runs.

mod offload;
mod open;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use zerocopy::IntoBytes;

use crate::backend::{Backend, Notice, RingSetup, check_number};
use crate::error::{Error, Result};
use crate::mem::map::MemoryMap;
use crate::spec::net::{HDR_LEN, HDR_LEN_LEGACY, NET_S_LINK_UP, NetConfig};
use crate::spec::virtio::{Features, Status};
use crate::sys::eventfd::Bell;
use crate::sys::netdev::{NetDev, News, State};
use crate::sys::tap::TapQueue;
use crate::sys::vhost::{MemoryRegion, RingAddresses, Vhost};

/// Bits of vhost-net's that are not for us: it would log dirty pages, make the headers of frames up itself (the bit is
/// ANY_LAYOUT elsewhere), or ask for every address.
const NEVER: Features =
    Features::from_bits_retain(1 << 26).union(Features::ANY_LAYOUT).union(Features::ACCESS_PLATFORM);
/// What we know of the device by its interface.
const BY_INTERFACE: Features = Features::MAC.union(Features::MTU).union(Features::STATUS);
/// Regions that vhost takes where it does not say.
const USUAL_REGIONS: usize = 64;
/// Where it says.
const MAX_REGIONS: &str = "/sys/module/vhost/parameters/max_mem_regions";

/// What a device of the kernel shall be.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `/dev/vhost-net`.
    pub path: PathBuf,
    /// Name of the tap; empty: the kernel chooses one.
    pub iface: String,
    /// Its address, if it is to have another than it has.
    pub mac: Option<[u8; 6]>,
    /// Its MTU, if it is to have another than it has.
    pub mtu: Option<u16>,
    /// Queue pairs.
    pub pairs: u16,
    /// The tap stays when we go.
    pub persist: bool,
    /// Microseconds for which workers look again before they sleep.
    pub busyloop_us: u32,
}

/// A queue pair.
#[derive(Debug)]
struct Unit {
    /// First, so that it lets go of the tap queue before that is closed.
    vhost: Vhost,
    tap: TapQueue,
    /// The kernel uses the tap queue.
    attached: bool,
    /// Receive, transmit.
    on: [bool; 2],
    /// The worker rings these when it cannot go on with a ring.
    errors: [Bell; 2],
}

/// A device behind `/dev/vhost-net`.
///
/// Errors: `EPERM` and `EACCES` a permission is missing, `ENOENT` a module is, `EBUSY` somebody else has the tap, `ENODEV`
/// the tap is no more, `EINVAL` and `E2BIG` what cannot be; others are the kernel's.
#[derive(Debug)]
pub struct VhostKernel {
    units: Vec<Unit>,
    interface: NetDev,
    path: PathBuf,
    /// Name of the tap when it was opened, for people.
    name: String,
    /// What vhost-net itself offers: no other bit is told to it.
    vhost: Features,
    offered: Features,
    busyloop_us: u32,
    /// How the interface was when we last looked.
    state: State,
    gone: Option<Error>,
    /// It was moved to where we may not look.
    out_of_sight: bool,
}

impl VhostKernel {
    /// Opens the device, and makes the tap or takes one that is there.
    pub fn open(options: &Options) -> Result<Self> {
        open::open(options)
    }

    /// The unit that a ring belongs to, and its index there.
    fn unit(&mut self, index: u16) -> Result<(&mut Unit, usize)> {
        let unit = self.units.get_mut(usize::from(index / 2));
        let unit = unit.ok_or_else(|| Error::invalid(format!("ring {index} does not exist")))?;
        Ok((unit, usize::from(index % 2)))
    }

    /// An error of a call about a ring, in a sentence.
    fn failed(&self, e: Errno, call: &str, ring: u16) -> Error {
        Error::sys(e, format!("{}: {call} of ring {ring} failed", self.name))
    }

    fn in_unit<T>(&mut self, index: u16, call: &str, ask: impl Fn(&Vhost, u32) -> nix::Result<T>) -> Result<T> {
        let (unit, side) = self.unit(index)?;
        let result = ask(&unit.vhost, side as u32);
        result.map_err(|e| self.failed(e, call, index))
    }

    fn configuration(&self) -> NetConfig {
        NetConfig {
            mac: self.state.mac,
            status: if self.state.up { NET_S_LINK_UP } else { 0 }.to_le(),
            max_virtqueue_pairs: (self.units.len() as u16).to_le(),
            mtu: self.state.mtu.to_le(),
            speed: u32::MAX,
            duplex: 0xff,
            ..NetConfig::default()
        }
    }

    /// Looks at the interface; whether it is another than when we last did. One that was moved to another network
    /// namespace works on, out of our sight: its address and MTU are then what they were.
    fn look(&mut self) -> bool {
        if self.out_of_sight {
            return false;
        }
        match self.interface.state() {
            Ok(state) => std::mem::replace(&mut self.state, state) != state,
            Err(_) => {
                self.check_gone();
                false
            }
        }
    }

    fn check_gone(&mut self) {
        if self.gone.is_none() && self.now().is_none() {
            self.gone = Some(Error::new(Errno::ENODEV, format!("the interface {} was deleted", self.name)));
        }
    }

    /// The interface is no more where it was. If it is still there, it was moved to another network namespace. To follow it
    /// would be to keep that: its sockets do.
    fn lose_sight(&mut self) -> Option<Notice> {
        self.check_gone();
        if self.gone.is_some() {
            return None;
        }
        self.out_of_sight = true;
        // A move takes it down. Whoever has moved it will take it up, and nobody tells us.
        self.state.up = true;
        let sentence = format!(
            "the interface {} was moved to another network namespace: frames come and go, but its address, MTU and link \
             there are not seen, and the link counts as up",
            self.name
        );
        Some(Notice::OutOfSight(sentence))
    }

    /// How the interface is, or was when it was last seen.
    fn state_now(&self) -> State {
        // Its index may be another's where it was.
        if self.out_of_sight { self.state } else { self.interface.state().unwrap_or(self.state) }
    }

    /// Name of the interface now; `None` when it is no more.
    fn now(&self) -> Option<String> {
        self.tap().ok()?.name().ok()
    }

    /// The tap queue of the first pair: it is always attached, so that it can speak for the interface.
    fn tap(&self) -> Result<&TapQueue> {
        self.units.first().map(|unit| &unit.tap).ok_or_else(|| Error::invalid("a device without queues"))
    }

    fn tell_memory(&self, map: &MemoryMap) -> Result<()> {
        let regions = joined(map);
        for unit in &self.units {
            let told = unit.vhost.set_memory(&regions);
            told.map_err(|e| Error::sys(e, format!("{}: VHOST_SET_MEM_TABLE failed", self.name)))?;
        }
        Ok(())
    }

    fn mtu_failed(&self, e: Errno, mtu: u16) -> Error {
        let name = &self.name;
        match e {
            Errno::EPERM | Errno::EACCES => Error::new(
                e,
                format!(
                    "the MTU of {name} cannot be changed without CAP_NET_ADMIN: leave mtu away, or run as root: ip link set \
                     {name} mtu {mtu}"
                ),
            ),
            e => Error::sys(e, format!("the MTU of {name} cannot be changed")),
        }
    }
}

/// The memory as vhost sees it: it has our own addresses, and need not know of files.
fn joined(map: &MemoryMap) -> Vec<MemoryRegion> {
    let mut regions: Vec<MemoryRegion> = Vec::new();
    for (addr, len) in map.regions().iter().map(|r| (r.addr(), r.size())) {
        match regions.last_mut() {
            Some(last) if last.addr + last.len == addr => last.len += len,
            _ => regions.push(MemoryRegion { device_addr: addr, len, addr, flags: 0 }),
        }
    }
    regions
}

impl Unit {
    /// Whether no ring is on the tap, or can be taken off now.
    fn is_quiet(&self) -> bool {
        let on = (0..).zip(self.on).filter(|(_, on)| *on);
        // Each is tried, also when one has failed.
        on.filter(|(side, _)| self.vhost.set_net_backend(*side, None).is_err()).count() == 0
    }

    /// Connects a ring to the tap or takes it off. The kernel refuses to take off what it has never been told the memory of.
    fn enable(&mut self, side: usize, on: bool, alone: bool) -> nix::Result<()> {
        if self.on.get(side) == Some(&on) {
            return Ok(());
        }
        let others = self.on.iter().enumerate().any(|(i, &on)| i != side && on);
        if on && !self.attached {
            self.tap.set_attached(true)?;
            self.attached = true;
        }
        self.vhost.set_net_backend(side as u32, on.then(|| self.tap.as_fd()))?;
        if let Some(is) = self.on.get_mut(side) {
            *is = on;
        }
        // A queue that nobody serves must not get flows. The only one of a tap cannot be taken off.
        if !on && !others && !alone && self.attached {
            self.tap.set_attached(false)?;
            self.attached = false;
        }
        Ok(())
    }
}

impl Backend for VhostKernel {
    fn describe(&self) -> String {
        format!("{} of the kernel, interface {}", self.path.display(), self.now().unwrap_or(self.name.clone()))
    }

    fn features(&mut self) -> Result<Features> {
        Ok(self.offered)
    }

    fn max_queue_pairs(&mut self) -> Result<Option<u16>> {
        Ok(Some(self.units.len() as u16))
    }

    fn protocol_features(&self) -> u64 {
        0
    }

    fn set_call(&mut self, index: u16, call: BorrowedFd<'_>) -> Result<()> {
        self.in_unit(index, "VHOST_SET_VRING_CALL", |vhost, ring| vhost.set_call(ring, Some(call)))
    }

    /// Features of vhost-net go there, those of the tap to the tap; those of the interface's are ours alone.
    fn set_features(&mut self, features: Features) -> Result<()> {
        let name = self.name.clone();
        let (tap, failed) = (self.tap()?, |e, call| Error::sys(e, format!("{name}: {call} failed")));
        // VIRTIO 5.1.6.1: num_buffers is there with either of these.
        let long = features.intersects(Features::VERSION_1 | Features::MRG_RXBUF);
        tap.set_header(if long { HDR_LEN } else { HDR_LEN_LEGACY }).map_err(|e| failed(e, "TUNSETVNETHDRSZ"))?;
        if cfg!(target_endian = "big") {
            let little = features.contains(Features::VERSION_1);
            tap.set_little_endian(little).map_err(|e| failed(e, "TUNSETVNETLE"))?;
        }
        tap.set_offload(offload::flags(features)).map_err(|e| failed(e, "TUNSETOFFLOAD"))?;
        for unit in &self.units {
            // vhost has 64 bits; what was offered came in these.
            let told = unit.vhost.set_features((features & self.vhost).bits() as u64);
            told.map_err(|e| failed(e, "VHOST_SET_FEATURES"))?;
        }
        Ok(())
    }

    fn set_memory(&mut self, map: &MemoryMap) -> Result<()> {
        let said = std::fs::read_to_string(MAX_REGIONS).ok().and_then(|text| text.trim().parse().ok());
        check_number(joined(map).len(), said.unwrap_or(USUAL_REGIONS))?;
        self.tell_memory(map)
    }

    /// How many there are in the end is known when they are told: here, what follows one another in memory is one region,
    /// whatever files it is in.
    fn max_regions(&mut self) -> Result<usize> {
        Ok(usize::MAX)
    }

    /// It takes a new table at any time: a worker holds on to the former until it is done with a buffer.
    fn has_memory_slots(&self) -> bool {
        true
    }

    fn change_memory(&mut self, from: &MemoryMap, to: &MemoryMap) -> Result<()> {
        self.set_memory(to).inspect_err(|_| {
            if let Err(e) = self.tell_memory(from) {
                log::error!("the device has not taken the former memory back: {e}");
            }
        })
    }

    fn setup_ring(&mut self, ring: &RingSetup<'_>) -> Result<()> {
        let &RingSetup { index, size, base, desc, driver, device, kick } = ring;
        let busyloop_us = self.busyloop_us;
        self.enable_ring(index, false)?;
        self.in_unit(index, "VHOST_SET_VRING_NUM", |vhost, ring| vhost.set_ring_size(ring, size.into()))?;
        self.in_unit(index, "VHOST_SET_VRING_BASE", |vhost, ring| vhost.set_ring_base(ring, base))?;
        self.in_unit(index, "VHOST_SET_VRING_ADDR", |vhost, ring| {
            vhost.set_ring_addresses(&RingAddresses { index: ring, flags: 0, desc, device, driver, log: 0 })
        })?;
        let (unit, side) = self.unit(index)?;
        let bell = unit.errors.get(side).map(AsFd::as_fd);
        let result = unit.vhost.set_error(side as u32, bell);
        result.map_err(|e| self.failed(e, "VHOST_SET_VRING_ERR", index))?;
        if busyloop_us > 0 {
            let call = "VHOST_SET_VRING_BUSYLOOP_TIMEOUT (busyloop_us)";
            self.in_unit(index, call, |vhost, ring| vhost.set_busy_poll(ring, busyloop_us))?;
        }
        self.in_unit(index, "VHOST_SET_VRING_KICK", |vhost, ring| vhost.set_kick(ring, Some(kick)))
    }

    fn can_disable_rings(&self) -> bool {
        true
    }

    fn enable_ring(&mut self, index: u16, on: bool) -> Result<()> {
        // The first unit speaks for the interface, so that its tap queue stays.
        let alone = index < 2;
        let (unit, side) = self.unit(index)?;
        let result = unit.enable(side, on, alone);
        result.map_err(|e| self.failed(e, "VHOST_NET_SET_BACKEND", index))
    }

    fn stop_ring(&mut self, index: u16) -> Result<u32> {
        self.enable_ring(index, false)?;
        self.in_unit(index, "VHOST_GET_VRING_BASE", Vhost::ring_base)
    }

    /// vhost-net has no status. A reset takes all rings off the tap, and the carrier away.
    fn set_status(&mut self, status: Status) -> Result<()> {
        if !status.is_empty() {
            return Ok(());
        }
        let carrier = self.set_carrier(false);
        (0..2 * self.units.len() as u16).try_for_each(|index| self.enable_ring(index, false))?;
        carrier
    }

    fn status(&mut self) -> Result<Option<Status>> {
        Ok(None)
    }

    fn read_config(&mut self, offset: u32, bytes: &mut [u8]) -> Result<bool> {
        self.look();
        let space = self.configuration();
        let from = offset as usize;
        let part = from.checked_add(bytes.len()).and_then(|end| space.as_bytes().get(from..end));
        let part = part.ok_or_else(|| Error::invalid(format!("no configuration at {from}, {} bytes", bytes.len())))?;
        bytes.copy_from_slice(part);
        Ok(true)
    }

    /// There is nothing to wait for: a ring that can be taken off the tap is out of the kernel's hands.
    fn wait_gone(&self, _at_most: Duration) -> bool {
        self.units.iter().all(Unit::is_quiet)
    }

    fn control(&self) -> BorrowedFd<'_> {
        self.interface.watched()
    }

    fn is_alive(&self) -> bool {
        self.gone.is_none() && self.now().is_some()
    }

    fn watched(&self) -> Vec<BorrowedFd<'_>> {
        let bells = self.units.iter().flat_map(|unit| unit.errors.iter().map(AsFd::as_fd));
        std::iter::once(self.interface.watched()).chain(bells).collect()
    }

    fn hear(&mut self) -> Vec<Notice> {
        let mut heard = Vec::new();
        match self.interface.hear() {
            // What has its index where it was is another interface.
            _ if self.out_of_sight => self.check_gone(),
            Some(News::Gone) => heard.extend(self.lose_sight()),
            Some(News::Changed) if self.look() => heard.push(Notice::ConfigChanged),
            _ => {}
        }
        for (pair, unit) in (0..).zip(&self.units) {
            let broken = (0..).zip(&unit.errors).filter(|(_, bell)| bell.take());
            heard.extend(broken.map(|(side, _)| Notice::RingError(2 * pair + side)));
        }
        heard.extend(self.gone.clone().map(Notice::Gone));
        heard
    }

    /// Another MTU needs CAP_NET_ADMIN, which the owner of a tap need not have; the one that it has needs nothing.
    fn set_mtu(&mut self, mtu: u16) -> Result<bool> {
        if self.state_now().mtu == mtu {
            return Ok(true);
        }
        if self.out_of_sight {
            let sentence = format!("the MTU of {} cannot be changed: it is in another network namespace", self.name);
            return Err(Error::new(Errno::ENODEV, sentence));
        }
        self.interface.set_mtu(mtu).map_err(|e| self.mtu_failed(e, mtu))?;
        self.state.mtu = mtu;
        Ok(true)
    }

    fn set_mac(&mut self, mac: [u8; 6]) -> Result<bool> {
        if self.state_now().mac == mac {
            return Ok(true);
        }
        let failed = |e| Error::sys(e, format!("the MAC address of {} cannot be changed", self.name));
        self.tap()?.set_mac(mac).map_err(failed)?;
        self.state.mac = mac;
        Ok(true)
    }

    /// A kernel without TUNSETCARRIER (before 5.0) always has one.
    fn set_carrier(&mut self, up: bool) -> Result<()> {
        match self.tap()?.set_carrier(up) {
            Ok(()) | Err(Errno::EINVAL | Errno::EBADFD) => Ok(()),
            Err(e) => Err(Error::sys(e, format!("{}: TUNSETCARRIER failed", self.name))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::map::Region;
    use crate::sys::shm::SharedMemory;

    #[test]
    fn memory_that_follows_other_memory_is_one_region() {
        let memory = SharedMemory::new("test", 8 << 12, false).unwrap();
        let page = |n: u64| {
            // Each comes from a place in the file that does not fit the one before.
            let fd = memory.as_fd().try_clone_to_owned().unwrap();
            Region::application(fd, (7 - n) << 12, 1 << 12, memory.addr() as u64 + (n << 12)).unwrap()
        };
        let mut map = MemoryMap::default();
        for n in [0, 1, 2, 4, 6, 7] {
            map.insert(page(n)).unwrap();
        }
        map.merge();
        let regions: Vec<_> =
            joined(&map).iter().map(|r| ((r.addr - memory.addr() as u64) >> 12, r.len >> 12)).collect();
        assert_eq!((map.regions().len(), regions), (6, vec![(0, 3), (4, 1), (6, 2)]));
    }
}
