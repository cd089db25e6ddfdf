//! The calls that `/dev/vhost-vdpa-N` has beside those of all vhost devices: `linux/vhost.h`, `linux/vhost_types.h`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use zerocopy::{Immutable, IntoBytes};

use super::vhost::{RingNumber, Vhost};

/// `VHOST_VIRTIO`, the type of all these calls.
const TYPE: u8 = 0xaf;
/// `VHOST_IOTLB_MSG_V2`.
const MESSAGE_V2: u32 = 2;
/// Longest configuration space that is read or written at once.
const MAX_CONFIG: usize = 256;

/// `struct vhost_vdpa_iova_range`: the addresses that a device can be given, both ends among them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressRange {
    /// The lowest.
    pub first: u64,
    /// The highest.
    pub last: u64,
}

/// `struct vhost_vdpa_config` with room for what is read or written.
#[repr(C)]
struct Config {
    offset: u32,
    len: u32,
    bytes: [u8; MAX_CONFIG],
}

/// What to do with the table of addresses that the device translates (`VHOST_IOTLB_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the standard's names")]
pub enum Change {
    Update = 2,
    Invalidate = 3,
    BatchBegin = 5,
    BatchEnd = 6,
}

/// `struct vhost_msg_v2` with a `struct vhost_iotlb_msg` in it.
#[repr(C)]
#[derive(Clone, Copy, IntoBytes, Immutable)]
struct Message {
    kind: u32,
    /// Address space.
    space: u32,
    device_addr: u64,
    len: u64,
    addr: u64,
    access: u8,
    change: u8,
    padding: [u8; 38],
}

const _: () = assert!(size_of::<Message>() == 72 && size_of::<AddressRange>() == 16);

mod ioctl {
    use super::{AddressRange, RingNumber, TYPE};
    nix::ioctl_read!(get_device_id, TYPE, 0x70, u32);
    nix::ioctl_read!(get_status, TYPE, 0x71, u8);
    nix::ioctl_write_ptr!(set_status, TYPE, 0x72, u8);
    // The number has the size of the head only; the bytes follow it.
    nix::ioctl_read!(get_config, TYPE, 0x73, [u32; 2]);
    nix::ioctl_write_ptr!(set_config, TYPE, 0x74, [u32; 2]);
    nix::ioctl_write_ptr!(enable_ring, TYPE, 0x75, RingNumber);
    nix::ioctl_read!(get_max_ring_size, TYPE, 0x76, u16);
    nix::ioctl_write_ptr!(set_config_call, TYPE, 0x77, i32);
    nix::ioctl_read!(get_address_range, TYPE, 0x78, AddressRange);
    nix::ioctl_read!(get_config_size, TYPE, 0x79, u32);
    nix::ioctl_none!(suspend, TYPE, 0x7d);
    nix::ioctl_none!(resume, TYPE, 0x7e);
    nix::ioctl_read!(get_rings, TYPE, 0x80, u32);
}

type Outcome<T = ()> = nix::Result<T>;

/// A value that a call writes.
macro_rules! ask {
    ($device:expr, $call:ident, $type:ty) => {{
        let mut value = <$type>::default();
        // SAFETY: a value of the call's type that lives as long as the call, to be written.
        unsafe { ioctl::$call($device.as_fd().as_raw_fd(), &raw mut value) }.map(|_| value)
    }};
}

/// A value that a call reads.
macro_rules! tell {
    ($device:expr, $call:ident, $value:expr) => {{
        let value = $value;
        // SAFETY: a value of the call's type that lives as long as the call, to be read.
        unsafe { ioctl::$call($device.as_fd().as_raw_fd(), &raw const value) }.map(drop)
    }};
}

/// What only vDPA devices have. They may hand a call on to a program (VDUSE), so that any of these can wait for it.
impl Vhost {
    /// VHOST_VDPA_GET_DEVICE_ID: which kind of virtio device it is.
    pub fn device_id(&self) -> Outcome<u32> {
        ask!(self, get_device_id, u32)
    }

    /// VHOST_VDPA_GET_STATUS.
    pub fn status(&self) -> Outcome<u8> {
        ask!(self, get_status, u8)
    }

    /// VHOST_VDPA_SET_STATUS.
    pub fn set_status(&self, status: u8) -> Outcome {
        tell!(self, set_status, status)
    }

    /// VHOST_VDPA_GET_CONFIG: reads configuration space.
    pub fn read_config(&self, offset: u32, to: &mut [u8]) -> Outcome {
        let mut config = Config { offset, len: to.len() as u32, bytes: [0; MAX_CONFIG] };
        let room = config.bytes.get(..to.len()).ok_or(Errno::E2BIG)?.len();
        // SAFETY: a structure that lives as long as the call, with room for the `len` bytes that it writes.
        unsafe { ioctl::get_config(self.as_fd().as_raw_fd(), (&raw mut config).cast()) }?;
        to.copy_from_slice(config.bytes.get(..room).unwrap_or_default());
        Ok(())
    }

    /// VHOST_VDPA_SET_CONFIG: writes configuration space.
    pub fn write_config(&self, offset: u32, from: &[u8]) -> Outcome {
        let mut config = Config { offset, len: from.len() as u32, bytes: [0; MAX_CONFIG] };
        config.bytes.get_mut(..from.len()).ok_or(Errno::E2BIG)?.copy_from_slice(from);
        // SAFETY: a structure that lives as long as the call, with the `len` bytes that it reads.
        unsafe { ioctl::set_config(self.as_fd().as_raw_fd(), (&raw const config).cast()) }.map(drop)
    }

    /// VHOST_VDPA_SET_VRING_ENABLE.
    pub fn enable_ring(&self, index: u32, on: bool) -> Outcome {
        tell!(self, enable_ring, RingNumber { index, number: on.into() })
    }

    /// VHOST_VDPA_GET_VRING_NUM: the longest ring.
    pub fn max_ring_size(&self) -> Outcome<u16> {
        ask!(self, get_max_ring_size, u16)
    }

    /// VHOST_VDPA_SET_CONFIG_CALL: the bell that is rung when the configuration space has changed.
    pub fn set_config_call(&self, bell: BorrowedFd<'_>) -> Outcome {
        tell!(self, set_config_call, bell.as_raw_fd())
    }

    /// VHOST_VDPA_GET_IOVA_RANGE: the addresses that the device can be given.
    pub fn address_range(&self) -> Outcome<AddressRange> {
        ask!(self, get_address_range, AddressRange)
    }

    /// VHOST_VDPA_GET_CONFIG_SIZE: bytes of the configuration space.
    pub fn config_size(&self) -> Outcome<u32> {
        ask!(self, get_config_size, u32)
    }

    /// VHOST_VDPA_GET_VQS_COUNT: rings that the device has.
    pub fn rings(&self) -> Outcome<u32> {
        ask!(self, get_rings, u32)
    }

    /// VHOST_VDPA_SUSPEND: when it returns, the device does not touch its rings any more, and knows where it stopped.
    pub fn suspend(&self) -> Outcome {
        // SAFETY: this call has no argument.
        unsafe { ioctl::suspend(self.as_fd().as_raw_fd()) }.map(drop)
    }

    /// VHOST_VDPA_RESUME: it goes on where it stopped.
    pub fn resume(&self) -> Outcome {
        // SAFETY: this call has no argument.
        unsafe { ioctl::resume(self.as_fd().as_raw_fd()) }.map(drop)
    }

    /// Changes the table by which the device finds our memory: `len` bytes that it calls `device_addr` and that are ours at
    /// `addr`, readable and writable.
    pub fn change_addresses(&self, change: Change, device_addr: u64, addr: u64, len: u64) -> Outcome {
        const READ_WRITE: u8 = 3;
        let (kind, space, access, change) = (MESSAGE_V2, 0, READ_WRITE, change as u8);
        let message = Message { kind, space, device_addr, len, addr, access, change, padding: [0; 38] };
        loop {
            match nix::unistd::write(self.as_fd(), message.as_bytes()) {
                Ok(n) if n == size_of::<Message>() => return Ok(()),
                Ok(_) => return Err(Errno::EIO),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e),
            }
        }
    }
}
