//! The kernel's vhost devices, `linux/vhost.h`: what `/dev/vhost-net` and `/dev/vhost-vdpa-N` have in common, call by call.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

/// `VHOST_VIRTIO`, the type of all these calls.
const TYPE: u8 = 0xaf;

/// `struct vhost_vring_state`: a ring, and a number about it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct RingNumber {
    /// Ring index, of this descriptor's device.
    pub index: u32,
    /// The number.
    pub number: u32,
}

/// `struct vhost_vring_file`: a ring, and a descriptor for it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RingFile {
    /// Ring index, of this descriptor's device.
    pub index: u32,
    /// The descriptor; -1 takes the former away.
    pub fd: RawFd,
}

/// `struct vhost_vring_addr`: where a ring lies.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct RingAddresses {
    /// Ring index, of this descriptor's device.
    pub index: u32,
    /// 1: writes to the used ring are logged.
    pub flags: u32,
    /// Descriptor table or ring.
    pub desc: u64,
    /// Used ring or device event suppression.
    pub device: u64,
    /// Available ring or driver event suppression.
    pub driver: u64,
    /// Where the used ring begins in the log.
    pub log: u64,
}

/// `struct vhost_memory_region`: a run of memory that the device may access.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryRegion {
    /// Address in descriptors.
    pub device_addr: u64,
    /// Bytes.
    pub len: u64,
    /// Our address.
    pub addr: u64,
    /// Zero.
    pub flags: u64,
}

const _: () = assert!(size_of::<RingAddresses>() == 40 && size_of::<MemoryRegion>() == 32);

mod ioctl {
    use super::{RingAddresses, RingFile, RingNumber, TYPE};
    nix::ioctl_read!(get_features, TYPE, 0x00, u64);
    nix::ioctl_write_ptr!(set_features, TYPE, 0x00, u64);
    nix::ioctl_none!(set_owner, TYPE, 0x01);
    // The number has the size of the table's head only; the regions follow it.
    nix::ioctl_write_ptr!(set_memory, TYPE, 0x03, u64);
    nix::ioctl_write_ptr!(set_ring_size, TYPE, 0x10, RingNumber);
    nix::ioctl_write_ptr!(set_ring_addresses, TYPE, 0x11, RingAddresses);
    nix::ioctl_write_ptr!(set_ring_base, TYPE, 0x12, RingNumber);
    nix::ioctl_readwrite!(get_ring_base, TYPE, 0x12, RingNumber);
    nix::ioctl_write_ptr!(set_kick, TYPE, 0x20, RingFile);
    nix::ioctl_write_ptr!(set_call, TYPE, 0x21, RingFile);
    nix::ioctl_write_ptr!(set_error, TYPE, 0x22, RingFile);
    nix::ioctl_write_ptr!(set_busy_poll, TYPE, 0x23, RingNumber);
    nix::ioctl_write_ptr!(set_backend_features, TYPE, 0x25, u64);
    nix::ioctl_read!(get_backend_features, TYPE, 0x26, u64);
    nix::ioctl_write_ptr!(set_net_backend, TYPE, 0x30, RingFile);
}

/// An open vhost device.
///
/// None of the calls waits for anything but the device's own worker thread of the kernel. An error is the kernel's number;
/// what it means depends on who asks.
#[derive(Debug)]
pub struct Vhost(OwnedFd);

type Outcome<T = ()> = nix::Result<T>;

impl Vhost {
    /// Opens a device file.
    pub fn open(path: &Path) -> Outcome<Self> {
        open(path, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map(Self)
    }

    /// VHOST_SET_OWNER: this process is whose memory the device will access.
    pub fn set_owner(&self) -> Outcome {
        // SAFETY: this call has no argument.
        unsafe { ioctl::set_owner(self.0.as_raw_fd()) }.map(drop)
    }

    /// VHOST_GET_FEATURES.
    pub fn features(&self) -> Outcome<u64> {
        let mut features = 0;
        // SAFETY: a number that lives as long as the call, to be written.
        unsafe { ioctl::get_features(self.0.as_raw_fd(), &raw mut features) }?;
        Ok(features)
    }

    /// VHOST_SET_FEATURES.
    pub fn set_features(&self, features: u64) -> Outcome {
        // SAFETY: a number that lives as long as the call, to be read.
        unsafe { ioctl::set_features(self.0.as_raw_fd(), &raw const features) }.map(drop)
    }

    /// VHOST_GET_BACKEND_FEATURES.
    pub fn backend_features(&self) -> Outcome<u64> {
        let mut features = 0;
        // SAFETY: a number that lives as long as the call, to be written.
        unsafe { ioctl::get_backend_features(self.0.as_raw_fd(), &raw mut features) }?;
        Ok(features)
    }

    /// VHOST_SET_BACKEND_FEATURES.
    pub fn set_backend_features(&self, features: u64) -> Outcome {
        // SAFETY: a number that lives as long as the call, to be read.
        unsafe { ioctl::set_backend_features(self.0.as_raw_fd(), &raw const features) }.map(drop)
    }

    /// VHOST_SET_MEM_TABLE: all memory that the device may access.
    pub fn set_memory(&self, regions: &[MemoryRegion]) -> Outcome {
        // `struct vhost_memory`: the number of regions, padding, and the regions, all in words of eight bytes.
        let count = u32::try_from(regions.len()).map_err(|_| Errno::E2BIG)?;
        let mut table = vec![u64::from_ne_bytes(head(count))];
        table.extend(regions.iter().flat_map(|r| [r.device_addr, r.len, r.addr, r.flags]));
        // SAFETY: the table lives as long as the call, which reads the head and as many regions as it says.
        unsafe { ioctl::set_memory(self.0.as_raw_fd(), table.as_ptr()) }.map(drop)
    }

    /// VHOST_SET_VRING_NUM: the descriptors of a ring.
    pub fn set_ring_size(&self, index: u32, number: u32) -> Outcome {
        let state = RingNumber { index, number };
        // SAFETY: a structure that lives as long as the call, to be read.
        unsafe { ioctl::set_ring_size(self.0.as_raw_fd(), &raw const state) }.map(drop)
    }

    /// VHOST_SET_VRING_BASE: where the device begins.
    pub fn set_ring_base(&self, index: u32, number: u32) -> Outcome {
        let state = RingNumber { index, number };
        // SAFETY: a structure that lives as long as the call, to be read.
        unsafe { ioctl::set_ring_base(self.0.as_raw_fd(), &raw const state) }.map(drop)
    }

    /// VHOST_GET_VRING_BASE: how far the device has got.
    pub fn ring_base(&self, index: u32) -> Outcome<u32> {
        let mut state = RingNumber { index, number: 0 };
        // SAFETY: a structure that lives as long as the call, to be read and written.
        unsafe { ioctl::get_ring_base(self.0.as_raw_fd(), &raw mut state) }?;
        Ok(state.number)
    }

    /// VHOST_SET_VRING_ADDR. The device accesses the memory while its ring runs.
    pub fn set_ring_addresses(&self, addresses: &RingAddresses) -> Outcome {
        // SAFETY: a structure that lives as long as the call, to be read.
        unsafe { ioctl::set_ring_addresses(self.0.as_raw_fd(), addresses) }.map(drop)
    }

    /// VHOST_SET_VRING_KICK: the bell that wakes the device.
    pub fn set_kick(&self, index: u32, bell: Option<BorrowedFd<'_>>) -> Outcome {
        let file = ring_file(index, bell);
        // SAFETY: a structure that lives as long as the call, to be read.
        unsafe { ioctl::set_kick(self.0.as_raw_fd(), &raw const file) }.map(drop)
    }

    /// VHOST_SET_VRING_CALL: the bell that the device rings.
    pub fn set_call(&self, index: u32, bell: Option<BorrowedFd<'_>>) -> Outcome {
        let file = ring_file(index, bell);
        // SAFETY: a structure that lives as long as the call, to be read.
        unsafe { ioctl::set_call(self.0.as_raw_fd(), &raw const file) }.map(drop)
    }

    /// VHOST_SET_VRING_ERR: the bell that the device rings when it cannot go on.
    pub fn set_error(&self, index: u32, bell: Option<BorrowedFd<'_>>) -> Outcome {
        let file = ring_file(index, bell);
        // SAFETY: a structure that lives as long as the call, to be read.
        unsafe { ioctl::set_error(self.0.as_raw_fd(), &raw const file) }.map(drop)
    }

    /// VHOST_SET_VRING_BUSYLOOP_TIMEOUT: how many microseconds the worker looks again before it sleeps.
    pub fn set_busy_poll(&self, index: u32, number: u32) -> Outcome {
        let state = RingNumber { index, number };
        // SAFETY: a structure that lives as long as the call, to be read.
        unsafe { ioctl::set_busy_poll(self.0.as_raw_fd(), &raw const state) }.map(drop)
    }

    /// VHOST_NET_SET_BACKEND: the tap queue that a ring is connected to. Without one the ring rests, and when this returns
    /// the device does not touch its memory any more.
    pub fn set_net_backend(&self, index: u32, tap: Option<BorrowedFd<'_>>) -> Outcome {
        let file = ring_file(index, tap);
        // SAFETY: a structure that lives as long as the call, to be read.
        unsafe { ioctl::set_net_backend(self.0.as_raw_fd(), &raw const file) }.map(drop)
    }
}

impl AsFd for Vhost {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn ring_file(index: u32, fd: Option<BorrowedFd<'_>>) -> RingFile {
    RingFile { index, fd: fd.map_or(-1, |fd| fd.as_raw_fd()) }
}

/// The first word of `struct vhost_memory`: the number of regions, and padding.
fn head(count: u32) -> [u8; 8] {
    let [a, b, c, d] = count.to_ne_bytes();
    [a, b, c, d, 0, 0, 0, 0]
}
