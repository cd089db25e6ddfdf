//! A network interface of the kernel's, as anybody may look at it: name, address, MTU, whether it is up, and news of it.
//!
//! It is known by its index, because it may be renamed under us.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket, sockopt,
};

type Outcome<T = ()> = nix::Result<T>;

mod ioctl {
    use libc::ifreq;
    nix::ioctl_readwrite_bad!(get_index, libc::SIOCGIFINDEX, ifreq);
    nix::ioctl_readwrite_bad!(get_name, libc::SIOCGIFNAME, ifreq);
    nix::ioctl_readwrite_bad!(get_flags, libc::SIOCGIFFLAGS, ifreq);
    nix::ioctl_readwrite_bad!(get_mtu, libc::SIOCGIFMTU, ifreq);
    nix::ioctl_write_ptr_bad!(set_mtu, libc::SIOCSIFMTU, ifreq);
    nix::ioctl_readwrite_bad!(get_mac, libc::SIOCGIFHWADDR, ifreq);
}

/// A request about the interface of a name; empty where it is to be chosen.
pub fn request(name: &str) -> Outcome<libc::ifreq> {
    // SAFETY: names, numbers and null pointers: all zero is a value of it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte stays zero.
    if name.len() >= request.ifr_name.len() || name.contains('\0') {
        return Err(Errno::EINVAL);
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}

/// The name in a request.
pub fn name_in(request: &libc::ifreq) -> String {
    let bytes: Vec<u8> = request.ifr_name.iter().map(|b| b.cast_unsigned()).take_while(|&b| b != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How an interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Largest IP packet.
    pub mtu: u16,
    /// It was set up, by whoever may.
    pub up: bool,
}

/// What was heard of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Something of it may have changed.
    Changed,
    /// It is no more, or no more in its network namespace.
    Gone,
}

/// An interface.
#[derive(Debug)]
pub struct NetDev {
    index: i32,
    /// Of the network namespace that we were in when this was made: threads that are in others ask the same one.
    asks: OwnedFd,
    /// Hears what happens to links of that namespace.
    hears: OwnedFd,
}

impl NetDev {
    /// The interface of that name.
    pub fn named(name: &str) -> Outcome<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let hears = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        bind(hears.as_raw_fd(), &NetlinkAddr::new(0, libc::RTMGRP_LINK.cast_unsigned()))?;
        // The kernel's loudest is one message a change; ours is a line of it, so that little is enough.
        let _ = setsockopt(&hears, sockopt::RcvBuf, &(64 << 10));
        let asks = asking()?;
        let index = index_of(asks.as_fd(), name)?;
        Ok(Self { index, asks, hears })
    }

    /// Its name now; `ENODEV` when it is no more.
    pub fn name(&self) -> Outcome<String> {
        let mut request = request("")?;
        request.ifr_ifru.ifru_ifindex = self.index;
        // SAFETY: a request that lives as long as the call.
        unsafe { ioctl::get_name(self.asks.as_raw_fd(), &raw mut request) }?;
        Ok(name_in(&request))
    }

    /// How it is now.
    pub fn state(&self) -> Outcome<State> {
        let fd = self.asks.as_raw_fd();
        let mut request = request(&self.name()?)?;
        // SAFETY: a request that lives as long as the call; each answer is read as what was asked for.
        unsafe {
            ioctl::get_flags(fd, &raw mut request)?;
            let up = i32::from(request.ifr_ifru.ifru_flags) & libc::IFF_UP != 0;
            ioctl::get_mtu(fd, &raw mut request)?;
            let mtu = u16::try_from(request.ifr_ifru.ifru_mtu).unwrap_or(u16::MAX);
            ioctl::get_mac(fd, &raw mut request)?;
            let [a, b, c, d, e, f, ..] = request.ifr_ifru.ifru_hwaddr.sa_data.map(i8::cast_unsigned);
            Ok(State { mac: [a, b, c, d, e, f], mtu, up })
        }
    }

    /// Gives it another MTU. That needs CAP_NET_ADMIN.
    pub fn set_mtu(&self, mtu: u16) -> Outcome {
        let mut request = request(&self.name()?)?;
        request.ifr_ifru.ifru_mtu = mtu.into();
        // SAFETY: a request that lives as long as the call.
        unsafe { ioctl::set_mtu(self.asks.as_raw_fd(), &raw const request) }.map(drop)
    }

    /// What has happened to it since the last time: the last of it.
    pub fn hear(&self) -> Option<News> {
        let (mut heard, mut room) = (None, [0; 16 << 10]);
        loop {
            match recv(self.hears.as_raw_fd(), &mut room, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return heard,
                Ok(len) => heard = news(room.get(..len).unwrap_or_default(), self.index).or(heard),
                Err(Errno::EINTR) => {}
                // Messages were lost: anything may have happened.
                Err(Errno::ENOBUFS) => heard = Some(News::Changed),
                Err(_) => return heard,
            }
        }
    }

    /// Readable when [`hear`](Self::hear) may have something.
    pub fn watched(&self) -> BorrowedFd<'_> {
        self.hears.as_fd()
    }
}

/// Whether there is an interface of that name, of whatever kind.
pub fn exists(name: &str) -> bool {
    asking().is_ok_and(|fd| index_of(fd.as_fd(), name).is_ok())
}

/// Any socket will do to ask about interfaces; one of Unix is there in every kernel.
fn asking() -> Outcome<OwnedFd> {
    socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
}

fn index_of(asks: BorrowedFd<'_>, name: &str) -> Outcome<i32> {
    let mut request = request(name)?;
    // SAFETY: a request that lives as long as the call; the answer is read as what was asked for.
    unsafe {
        ioctl::get_index(asks.as_raw_fd(), &raw mut request)?;
        Ok(request.ifr_ifru.ifru_ifindex)
    }
}

/// What a datagram of route netlink says of an interface (`struct nlmsghdr`, `struct ifinfomsg`).
fn news(mut datagram: &[u8], index: i32) -> Option<News> {
    const HEAD: usize = 16;
    let mut heard = None;
    while let Some((len, rest)) = datagram.split_first_chunk::<4>() {
        let len = u32::from_ne_bytes(*len) as usize;
        let kind = rest.first_chunk::<2>().map_or(0, |b| u16::from_ne_bytes(*b));
        let about = datagram.get(HEAD + 4..HEAD + 8).and_then(|b| b.first_chunk::<4>());
        if len >= HEAD + 8 && about.is_some_and(|b| i32::from_ne_bytes(*b) == index) {
            heard = match kind {
                libc::RTM_NEWLINK => Some(News::Changed),
                libc::RTM_DELLINK => Some(News::Gone),
                _ => heard,
            };
        }
        // The next begins at a multiple of four; nothing moves on a length of zero.
        datagram = datagram.get(len.next_multiple_of(4).max(HEAD)..).unwrap_or_default();
    }
    heard
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, index: i32) -> Vec<u8> {
        let mut bytes = vec![0; 36];
        bytes[..4].copy_from_slice(&36u32.to_ne_bytes());
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[20..24].copy_from_slice(&index.to_ne_bytes());
        bytes
    }

    #[test]
    fn every_machine_has_a_loopback_interface() {
        let lo = NetDev::named("lo").unwrap();
        assert_eq!(lo.name().unwrap(), "lo");
        assert_eq!(lo.state().unwrap().mac, [0; 6]);
        assert!(exists("lo") && !exists("vuser-none") && !exists("a-name-that-is-far-too-long"));
        assert_eq!(NetDev::named("vuser-none").unwrap_err(), Errno::ENODEV);
    }

    #[test]
    fn only_news_of_our_own_interface_is_heard() {
        assert_eq!(news(&message(libc::RTM_NEWLINK, 7), 7), Some(News::Changed));
        assert_eq!(news(&message(libc::RTM_DELLINK, 7), 7), Some(News::Gone));
        assert_eq!(news(&message(libc::RTM_NEWLINK, 8), 7), None);
        assert_eq!(news(&message(libc::RTM_NEWADDR, 7), 7), None);
        let both = [message(libc::RTM_NEWLINK, 7), message(libc::RTM_DELLINK, 7), message(libc::RTM_DELLINK, 8)];
        assert_eq!(news(&both.concat(), 7), Some(News::Gone));
    }

    #[test]
    fn a_datagram_cut_anywhere_ends() {
        let whole = [message(libc::RTM_NEWLINK, 7), message(libc::RTM_NEWLINK, 7)].concat();
        for len in 0..whole.len() {
            let _ = news(&whole[..len], 7);
        }
        assert_eq!(news(&[0; 64], 0), None);
    }
}
