//! A device of our own behind the kernel's VDUSE (`linux/vduse.h`): what a driver of `/dev/vhost-vdpa-N` finds at the other
//! end is this program. It returns frames, by the code of the built-in device, split or packed.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vuser::device::memory::Memory;
use vuser::device::net::{Mode, Pair, Rings};
use vuser::device::ring::{Areas, Ring, Setup};
use vuser::spec::net::NetConfig;
use vuser::spec::virtio::{DEVICE_ID_NET, Features, Status};
use vuser::sys::eventfd::Bell;
use vuser::sys::shm::Mapping;
use zerocopy::IntoBytes as _;

use crate::inside::lab::sh;

pub const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
pub const MTU: u16 = 1400;
const RING: u16 = 256;

#[repr(C)]
pub struct CreateDevice {
    name: [u8; 256],
    vendor: u32,
    device: u32,
    features: u64,
    rings: u32,
    align: u32,
    reserved: [u32; 13],
    config_size: u32,
    config: [u8; 24],
}

#[repr(C)]
pub struct Head([u8; 336]);

#[repr(C)]
#[derive(Default)]
pub struct IotlbEntry {
    offset: u64,
    start: u64,
    last: u64,
    access: u8,
}

#[repr(C)]
#[derive(Default)]
pub struct RingConfig {
    index: u32,
    max_size: u16,
    reserved: [u16; 13],
}

#[repr(C)]
#[derive(Default)]
pub struct RingInfo {
    index: u32,
    size: u32,
    desc: u64,
    driver: u64,
    device: u64,
    state: [u16; 4],
    ready: u8,
}

#[repr(C)]
pub struct RingEventfd {
    index: u32,
    fd: i32,
}

#[repr(C)]
pub struct ConfigData {
    offset: u32,
    len: u32,
    bytes: [u8; 24],
}

mod ioctl {
    use super::{Head, IotlbEntry, RingConfig, RingEventfd, RingInfo};
    const BASE: u8 = 0x81;
    nix::ioctl_write_ptr!(set_api_version, BASE, 0x01, u64);
    // The number has the size of the head; the configuration space follows it.
    nix::ioctl_write_ptr!(create, BASE, 0x02, Head);
    nix::ioctl_write_ptr!(destroy, BASE, 0x03, [u8; 256]);
    nix::ioctl_readwrite!(iotlb_get_fd, BASE, 0x10, IotlbEntry);
    nix::ioctl_read!(get_features, BASE, 0x11, u64);
    nix::ioctl_write_ptr!(set_config, BASE, 0x12, [u32; 2]);
    nix::ioctl_none!(inject_config_irq, BASE, 0x13);
    nix::ioctl_write_ptr!(set_up_ring, BASE, 0x14, RingConfig);
    nix::ioctl_readwrite!(get_ring_info, BASE, 0x15, RingInfo);
    nix::ioctl_write_ptr!(set_kick, BASE, 0x16, RingEventfd);
    nix::ioctl_write_ptr!(inject_irq, BASE, 0x17, u32);
}

/// Requests of the kernel's, by type.
const GET_VQ_STATE: u32 = 0;
const SET_STATUS: u32 = 1;
const UPDATE_IOTLB: u32 = 2;

/// The driver's memory, found region by region as it is touched.
struct Driver {
    device: File,
    regions: Mutex<Regions>,
}

/// Where a region begins in the driver's addresses, its bytes, and where it is here.
type Region = (u64, u64, Mapping);

#[derive(Default)]
struct Regions {
    now: Vec<Region>,
    /// Rings lie in these still, and frames that are under way.
    before: Vec<Region>,
}

impl Driver {
    fn map(&self, addr: u64, len: u64) -> Option<Region> {
        let mut entry = IotlbEntry { start: addr, last: addr + len - 1, ..IotlbEntry::default() };
        // SAFETY: a structure that lives as long as the call, to be read and written.
        let fd = unsafe { ioctl::iotlb_get_fd(self.device.as_raw_fd(), &raw mut entry) }.ok()?;
        // SAFETY: the kernel has just made this descriptor for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let len = entry.last - entry.start + 1;
        let map = Mapping::new(fd.as_fd(), entry.offset, len as usize).expect("a region of the driver's");
        Some((entry.start, len, map))
    }

    /// The driver's memory is another: what is touched from now on is looked for anew.
    fn look_again(&self) {
        let Regions { now, before } = &mut *self.regions.lock().unwrap();
        before.append(now);
    }

    /// No ring is left.
    fn forget(&self) {
        *self.regions.lock().unwrap() = Regions::default();
    }
}

// SAFETY: a mapping stays until `forget`, which the thread that steps the rings calls when there are none any more.
unsafe impl Memory for Driver {
    fn local(&self, addr: u64, len: u64) -> Option<*mut u8> {
        let mut regions = self.regions.lock().unwrap();
        let find = |regions: &[Region]| {
            let (start, _, map) =
                regions.iter().find(|(start, size, _)| *start <= addr && addr + len <= start + size)?;
            Some(map.addr().wrapping_add((addr - start) as usize))
        };
        find(&regions.now).or_else(|| {
            regions.now.push(self.map(addr, len)?);
            find(&regions.now)
        })
    }
}

/// What the test wants of the device while it runs.
#[derive(Default)]
struct Shared {
    over: AtomicBool,
    /// Requests that are still answered.
    patience: AtomicUsize,
    log: Mutex<Vec<String>>,
}

/// A device. Dropped, it goes, and the kernel's side of it too.
pub struct Vduse {
    name: String,
    device: File,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    wake: Arc<Bell>,
}

impl Vduse {
    /// A device with one pair of rings that offers these features beside those that the kernel insists on.
    pub fn new(name: &str, features: Features) -> Self {
        let features = features | Features::VERSION_1 | Features::ACCESS_PLATFORM | Features::MAC | Features::MTU;
        let mut head = CreateDevice {
            name: [0; 256],
            vendor: 0,
            device: DEVICE_ID_NET,
            features: features.bits() as u64,
            rings: 2,
            align: 4096,
            reserved: [0; 13],
            config_size: 24,
            config: [0; 24],
        };
        head.name[..name.len()].copy_from_slice(name.as_bytes());
        let space = NetConfig { mac: MAC, status: 1, max_virtqueue_pairs: 1, mtu: MTU, ..NetConfig::default() };
        head.config.copy_from_slice(space.as_bytes());
        let control = open("/dev/vduse/control");
        // SAFETY: values that live as long as the calls, to be read; the configuration space follows the head.
        unsafe {
            ioctl::set_api_version(control.as_raw_fd(), &0).expect("VDUSE's version");
            ioctl::create(control.as_raw_fd(), (&raw const head).cast()).expect("a VDUSE device");
        }
        let device = open(&format!("/dev/vduse/{name}"));
        for index in 0..2 {
            let config = RingConfig { index, max_size: RING, ..RingConfig::default() };
            // SAFETY: a structure that lives as long as the call, to be read.
            unsafe { ioctl::set_up_ring(device.as_raw_fd(), &raw const config) }.expect("a ring of a VDUSE device");
        }
        let (shared, wake) = (Arc::new(Shared::default()), Arc::new(Bell::new().unwrap()));
        shared.patience.store(usize::MAX, Ordering::Release);
        let server = Server::new(device.try_clone().unwrap(), shared.clone(), wake.clone());
        let thread = std::thread::spawn(move || server.run());
        let made = Self { name: name.to_owned(), device, shared, thread: Some(thread), wake };
        sh(&format!("vdpa dev add name {name} mgmtdev vduse"));
        made
    }

    /// Answers so many requests from now on, and then none.
    pub fn answer_only(&self, requests: usize) {
        self.shared.patience.store(requests, Ordering::Release);
        self.wake.ring();
    }

    /// Changes the configuration space from an offset on.
    pub fn set_config(&self, offset: u32, bytes: &[u8]) {
        let mut data = ConfigData { offset, len: bytes.len() as u32, bytes: [0; 24] };
        data.bytes[..bytes.len()].copy_from_slice(bytes);
        // SAFETY: a structure with as many bytes as it says, to be read.
        unsafe { ioctl::set_config(self.device.as_raw_fd(), (&raw const data).cast()) }
            .expect("the configuration space");
    }

    /// The same, and says so to a driver that runs.
    pub fn change_config(&self, offset: u32, bytes: &[u8]) {
        self.set_config(offset, bytes);
        // SAFETY: this call has no argument.
        unsafe { ioctl::inject_config_irq(self.device.as_raw_fd()) }.expect("an interrupt");
    }

    /// Whether the device can reach these bytes of the driver's.
    pub fn reaches(&self, addr: u64, len: u64) -> bool {
        let driver = Driver { device: self.device.try_clone().unwrap(), regions: Mutex::default() };
        driver.local(addr, len).is_some()
    }

    /// What the device has been told.
    pub fn log(&self) -> MutexGuard<'_, Vec<String>> {
        self.shared.log.lock().unwrap()
    }
}

impl Drop for Vduse {
    fn drop(&mut self) {
        self.answer_only(usize::MAX);
        sh(&format!("vdpa dev del {}", self.name));
        self.shared.over.store(true, Ordering::Release);
        self.wake.ring();
        self.thread.take().unwrap().join().unwrap();
        let mut name = [0; 256];
        name[..self.name.len()].copy_from_slice(self.name.as_bytes());
        // The kernel lets a device go only when nobody has it open.
        self.device = open("/dev/null");
        // SAFETY: a name that lives as long as the call, to be read.
        unsafe { ioctl::destroy(open("/dev/vduse/control").as_raw_fd(), &raw const name) }.expect("the device's end");
    }
}

fn open(path: &str) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The thread of a device.
struct Server {
    driver: Driver,
    shared: Arc<Shared>,
    wake: Arc<Bell>,
    kicks: [Bell; 2],
    features: Features,
    rings: [Option<Ring>; 2],
    pair: Pair,
}

impl Server {
    fn new(device: File, shared: Arc<Shared>, wake: Arc<Bell>) -> Self {
        let driver = Driver { device, regions: Mutex::default() };
        let kicks = [Bell::new().unwrap(), Bell::new().unwrap()];
        let features = Features::empty();
        let pair = Pair::new(Mode::Echo, features, MAC, 64);
        Self { driver, shared, wake, kicks, features, rings: [None, None], pair }
    }

    fn run(mut self) {
        while !self.shared.over.load(Ordering::Acquire) {
            let patience = &self.shared.patience;
            let requests = if patience.load(Ordering::Acquire) == 0 { PollFlags::empty() } else { PollFlags::POLLIN };
            let timeout = if self.step() { PollTimeout::ZERO } else { PollTimeout::from(100u8) };
            let [kick, kick2] = &self.kicks;
            let mut fds = [
                PollFd::new(self.driver.device.as_fd(), requests),
                PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
                PollFd::new(kick.as_fd(), PollFlags::POLLIN),
                PollFd::new(kick2.as_fd(), PollFlags::POLLIN),
            ];
            poll(&mut fds, timeout).unwrap();
            let asked = fds[0].any() == Some(true);
            for bell in self.kicks.iter().chain([&*self.wake]) {
                bell.take();
            }
            // The wish may have changed while we slept. One request is taken from it before it is answered: afterwards it
            // can be another wish.
            if asked
                && self.shared.patience.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1)).is_ok()
            {
                self.answer();
            }
        }
    }

    /// Moves frames; whether there is more to do.
    fn step(&mut self) -> bool {
        let [Some(receive), Some(transmit)] = &mut self.rings else { return false };
        let moved =
            self.pair.step(&self.driver, Rings { receive: Some(receive), transmit: Some(transmit), discard: false });
        let again = self.pair.arm(Rings { receive: Some(receive), transmit: Some(transmit), discard: false });
        for (index, ring) in (0u32..).zip(&mut self.rings) {
            if ring.as_mut().is_some_and(Ring::should_call) {
                // SAFETY: a number that lives as long as the call, to be read.
                let _ = unsafe { ioctl::inject_irq(self.driver.device.as_raw_fd(), &raw const index) };
            }
        }
        moved > 0 || again
    }

    /// One request of the kernel's, and the answer.
    fn answer(&mut self) {
        let mut request = [0u8; 152];
        if self.driver.device.read(&mut request).unwrap_or(0) != request.len() {
            return;
        }
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        let mut response = [0u8; 152];
        response[..4].copy_from_slice(&request[4..8]);
        match word(0) {
            GET_VQ_STATE => {
                let index = word(24);
                self.note(format!("GET_VQ_STATE {index}"));
                response[24..28].copy_from_slice(&index.to_ne_bytes());
                let state = self.rings[index as usize].as_ref().map_or(0, Ring::position);
                response[28..36].copy_from_slice(&self.state(state));
            }
            SET_STATUS => self.set_status(Status::from_bits_retain(request[24])),
            UPDATE_IOTLB => {
                self.note("UPDATE_IOTLB".into());
                self.driver.look_again();
            }
            other => panic!("request {other} of VDUSE"),
        }
        self.driver.device.write_all(&response).expect("an answer to VDUSE");
    }

    fn note(&self, what: String) {
        self.shared.log.lock().unwrap().push(what);
    }

    /// A position in VDUSE's form.
    fn state(&self, base: u32) -> [u8; 8] {
        let [avail, used] = [base as u16, (base >> 16) as u16];
        let words = match self.features.contains(Features::RING_PACKED) {
            true => [avail >> 15, avail & 0x7fff, used >> 15, used & 0x7fff],
            false => [avail, 0, 0, 0],
        };
        let mut bytes = [0; 8];
        words.iter().zip(bytes.chunks_mut(2)).for_each(|(word, to)| to.copy_from_slice(&word.to_ne_bytes()));
        bytes
    }

    fn set_status(&mut self, status: Status) {
        self.note(format!("SET_STATUS {:#x}", status.bits()));
        if status.is_empty() {
            self.rings = [None, None];
            self.driver.forget();
        }
        if status.contains(Status::DRIVER_OK) && self.rings[0].is_none() {
            let mut features = 0;
            // SAFETY: a number that lives as long as the call, to be written.
            unsafe { ioctl::get_features(self.driver.device.as_raw_fd(), &raw mut features) }.expect("the features");
            self.features = Features::from_bits_retain(features.into());
            self.pair.negotiate(self.features);
            for index in 0..2 {
                self.rings[index] = self.take_up(index);
            }
        }
    }

    fn take_up(&self, index: usize) -> Option<Ring> {
        let mut info = RingInfo { index: index as u32, ..RingInfo::default() };
        // SAFETY: a structure that lives as long as the call, to be read and written.
        unsafe { ioctl::get_ring_info(self.driver.device.as_raw_fd(), &raw mut info) }.expect("a ring");
        if info.ready == 0 {
            return None;
        }
        let kick = RingEventfd { index: index as u32, fd: self.kicks[index].as_raw_fd() };
        // SAFETY: a structure that lives as long as the call, to be read.
        unsafe { ioctl::set_kick(self.driver.device.as_raw_fd(), &raw const kick) }.expect("a kick");
        let size = info.size as u16;
        let (desc, driver, device) = vuser::device::ring::area_bytes(size, self.features);
        let local = |addr, len| self.driver.local(addr, len).expect("a ring in the driver's memory");
        let areas = Areas {
            desc: local(info.desc, desc),
            driver: local(info.driver, driver),
            device: local(info.device, device),
        };
        let mut setup = Setup::new(areas, size, self.features);
        let [a, b, c, d] = info.state;
        setup.base = match self.features.contains(Features::RING_PACKED) {
            true => u32::from(b | a << 15) | u32::from(d | c << 15) << 16,
            false => a.into(),
        };
        // SAFETY: the areas are mapped until the driver's memory changes, for which the rings are taken up anew.
        Some(unsafe { Ring::new(&setup) }.expect("a ring"))
    }
}
