//! A tap interface of the kernel's, `linux/if_tun.h`: one descriptor is one queue of it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::netdev::{name_in, request};

/// The file that makes taps.
pub const CLONE: &str = "/dev/net/tun";

type Outcome<T = ()> = nix::Result<T>;

mod ioctl {
    use libc::{c_int, c_uint, ifreq};
    nix::ioctl_write_ptr_bad!(set_iff, libc::TUNSETIFF, ifreq);
    nix::ioctl_read_bad!(get_iff, libc::TUNGETIFF, ifreq);
    nix::ioctl_write_int_bad!(set_persist, libc::TUNSETPERSIST);
    nix::ioctl_read_bad!(get_features, libc::TUNGETFEATURES, c_uint);
    nix::ioctl_write_int_bad!(set_offload, libc::TUNSETOFFLOAD);
    nix::ioctl_write_ptr_bad!(set_send_room, libc::TUNSETSNDBUF, c_int);
    nix::ioctl_write_ptr_bad!(set_header, libc::TUNSETVNETHDRSZ, c_int);
    nix::ioctl_write_ptr_bad!(set_queue, libc::TUNSETQUEUE, ifreq);
    nix::ioctl_write_ptr_bad!(set_little_endian, libc::TUNSETVNETLE, c_int);
    nix::ioctl_write_ptr_bad!(set_carrier, libc::TUNSETCARRIER, c_int);
    nix::ioctl_write_ptr_bad!(set_mac, libc::SIOCSIFHWADDR, ifreq);
}

/// One queue of a tap.
#[derive(Debug)]
pub struct TapQueue(OwnedFd);

impl TapQueue {
    /// Opens [`CLONE`], which makes nothing yet.
    pub fn open() -> Outcome<Self> {
        open(CLONE, OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty()).map(Self)
    }

    /// Whether taps of this kernel can carry virtio-net headers, and have several queues.
    pub fn kernel_can(&self) -> Outcome<(bool, bool)> {
        let mut features = 0;
        // SAFETY: a number that lives as long as the call, to be written.
        unsafe { ioctl::get_features(self.0.as_raw_fd(), &raw mut features) }?;
        let has = |flag: i32| features & flag.cast_unsigned() != 0;
        Ok((has(libc::IFF_VNET_HDR), has(libc::IFF_MULTI_QUEUE)))
    }

    /// TUNSETIFF: becomes a queue of the tap of that name, which is made when there is none; an empty name, or one with
    /// `%d` in it, is chosen by the kernel. Returns the name.
    pub fn attach(&self, name: &str, multi_queue: bool) -> Outcome<String> {
        let mut request = request(name)?;
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        let flags = flags | if multi_queue { libc::IFF_MULTI_QUEUE } else { 0 };
        request.ifr_ifru.ifru_flags = flags as i16;
        let asked = &raw mut request;
        // SAFETY: a request that lives as long as the call, which also writes the name that was chosen.
        unsafe { ioctl::set_iff(self.0.as_raw_fd(), asked) }?;
        Ok(name_in(&request))
    }

    /// TUNGETIFF: the name of the tap now, in whatever namespace it is; `EBADFD` when it is no more.
    pub fn name(&self) -> Outcome<String> {
        let mut request = request("")?;
        // SAFETY: a request that lives as long as the call, to be written.
        unsafe { ioctl::get_iff(self.0.as_raw_fd(), &raw mut request) }?;
        Ok(name_in(&request))
    }

    /// TUNSETPERSIST: whether the tap stays when its last queue is closed.
    pub fn set_persist(&self, on: bool) -> Outcome {
        // SAFETY: a number as argument.
        unsafe { ioctl::set_persist(self.0.as_raw_fd(), on.into()) }.map(drop)
    }

    /// TUNSETOFFLOAD: what frames that we receive may still need, `TUN_F_*`.
    pub fn set_offload(&self, flags: u32) -> Outcome {
        // SAFETY: a number as argument.
        unsafe { ioctl::set_offload(self.0.as_raw_fd(), flags.cast_signed()) }.map(drop)
    }

    /// TUNSETVNETHDRSZ: bytes of the header in front of each frame.
    pub fn set_header(&self, len: usize) -> Outcome {
        let len = libc::c_int::try_from(len).map_err(|_| Errno::EINVAL)?;
        // SAFETY: a number that lives as long as the call, to be read.
        unsafe { ioctl::set_header(self.0.as_raw_fd(), &raw const len) }.map(drop)
    }

    /// TUNSETVNETLE: whether headers are little-endian, as VIRTIO has it, in place of the machine's order.
    pub fn set_little_endian(&self, on: bool) -> Outcome {
        let on = libc::c_int::from(on);
        // SAFETY: a number that lives as long as the call, to be read.
        unsafe { ioctl::set_little_endian(self.0.as_raw_fd(), &raw const on) }.map(drop)
    }

    /// TUNSETSNDBUF: no limit on what we have sent that nobody has taken yet. A worker that waited for room would keep the
    /// whole ring waiting.
    pub fn set_send_room_unlimited(&self) -> Outcome {
        // SAFETY: a number that lives as long as the call, to be read.
        unsafe { ioctl::set_send_room(self.0.as_raw_fd(), &libc::c_int::MAX) }.map(drop)
    }

    /// TUNSETQUEUE: whether the kernel uses this queue of a tap that has several.
    pub fn set_attached(&self, on: bool) -> Outcome {
        let mut request = request("")?;
        let flag = if on { libc::IFF_ATTACH_QUEUE } else { libc::IFF_DETACH_QUEUE };
        request.ifr_ifru.ifru_flags = flag as i16;
        // SAFETY: a request that lives as long as the call, to be read.
        unsafe { ioctl::set_queue(self.0.as_raw_fd(), &raw const request) }.map(drop)
    }

    /// TUNSETCARRIER: whether a cable is plugged in, as the kernel's side sees it (Linux 5.0).
    pub fn set_carrier(&self, on: bool) -> Outcome {
        let on = libc::c_int::from(on);
        // SAFETY: a number that lives as long as the call, to be read.
        unsafe { ioctl::set_carrier(self.0.as_raw_fd(), &raw const on) }.map(drop)
    }

    /// SIOCSIFHWADDR: gives the interface another address. Whoever has a queue of it may, without CAP_NET_ADMIN.
    pub fn set_mac(&self, mac: [u8; 6]) -> Outcome {
        let mut request = request("")?;
        // SAFETY: a family and bytes: all zero is a value of it.
        let mut address: libc::sockaddr = unsafe { std::mem::zeroed() };
        address.sa_family = libc::ARPHRD_ETHER;
        for (to, from) in address.sa_data.iter_mut().zip(mac) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_hwaddr = address;
        // SAFETY: a request that lives as long as the call, to be read.
        unsafe { ioctl::set_mac(self.0.as_raw_fd(), &raw const request) }.map(drop)
    }
}

impl AsFd for TapQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether a tap that is there has several queues; `None` when no tap of that name is there.
pub fn is_multi_queue(name: &str) -> Option<bool> {
    let flags = std::fs::read_to_string(format!("/sys/class/net/{name}/tun_flags")).ok()?;
    let flags = i32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).ok()?;
    (flags & libc::IFF_TAP != 0).then_some(flags & libc::IFF_MULTI_QUEUE != 0)
}

/// The process that has a queue of a tap open, as "name (process 7)", as far as we may see it.
pub fn owner(name: &str) -> Option<String> {
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    for process in processes {
        let id = process.file_name();
        let Some(id) = id.to_str().filter(|id| id.bytes().all(|b| b.is_ascii_digit())) else { continue };
        let Ok(files) = std::fs::read_dir(process.path().join("fdinfo")) else { continue };
        let is_it = |text: String| text.lines().any(|l| l.strip_prefix("iff:").is_some_and(|iff| iff.trim() == name));
        if files.flatten().any(|file| std::fs::read_to_string(file.path()).is_ok_and(is_it)) {
            let command = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {id})", command.trim()));
        }
    }
    None
}
