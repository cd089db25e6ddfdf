//! The hash of received frames, and how they are spread over queues by it.

use std::ffi::c_int;

use super::dev::{vuser_dev, with};
use super::error::{Sized0, fill, read};
use crate::dev::filters::Rss;
use crate::error::{Error, Result};
use crate::spec::net::hash_type;

/// Hash type: addresses of IPv4.
pub const VUSER_HASH_IPV4: u32 = 1 << 0;
/// Hash type: addresses and ports of TCP over IPv4.
pub const VUSER_HASH_TCPV4: u32 = 1 << 1;
/// Hash type: addresses and ports of UDP over IPv4.
pub const VUSER_HASH_UDPV4: u32 = 1 << 2;
/// Hash type: addresses of IPv6.
pub const VUSER_HASH_IPV6: u32 = 1 << 3;
/// Hash type: addresses and ports of TCP over IPv6.
pub const VUSER_HASH_TCPV6: u32 = 1 << 4;
/// Hash type: addresses and ports of UDP over IPv6.
pub const VUSER_HASH_UDPV6: u32 = 1 << 5;
/// Hash type: addresses of IPv6 with extension headers: the home address, the final destination.
pub const VUSER_HASH_IP_EX: u32 = 1 << 6;
/// Hash type: the same, and the ports of TCP.
pub const VUSER_HASH_TCP_EX: u32 = 1 << 7;
/// Hash type: the same, and the ports of UDP.
pub const VUSER_HASH_UDP_EX: u32 = 1 << 8;

const _: () = assert!(
    VUSER_HASH_IPV4 == hash_type::IPV4
        && VUSER_HASH_TCPV4 == hash_type::TCPV4
        && VUSER_HASH_UDPV4 == hash_type::UDPV4
        && VUSER_HASH_IPV6 == hash_type::IPV6
        && VUSER_HASH_TCPV6 == hash_type::TCPV6
        && VUSER_HASH_UDPV6 == hash_type::UDPV6
        && VUSER_HASH_IP_EX == hash_type::IP_EX
        && VUSER_HASH_TCP_EX == hash_type::TCP_EX
        && VUSER_HASH_UDP_EX == hash_type::UDP_EX
);

/// What is hashed of received frames, by Toeplitz, and where they go by it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct vuser_rss {
    /// sizeof(struct vuser_rss).
    pub size: usize,
    /// Frames that are hashed, and by which fields: VUSER_HASH_*. 0: none.
    pub types: u32,
    /// Bytes of the key.
    pub key_len: u16,
    /// Entries of the table, a power of two.
    pub table_len: u16,
    /// The key, copied; NULL: Microsoft's of 40 bytes, which nearly everybody uses.
    pub key: *const u8,
    /// Receive queue (pair) by hash modulo table_len, copied; NULL: evenly, where the device spreads frames.
    pub table: *const u16,
}

/// What can be chosen in struct vuser_rss.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct vuser_rss_limits {
    /// sizeof(struct vuser_rss_limits), to be set by the caller.
    pub size: usize,
    /// Hash types that can be had.
    pub types: u32,
    /// Bytes of the longest key.
    pub key_len: u16,
    /// Entries of the longest table. 0: the device does not spread frames by their hash.
    pub table_len: u16,
}

// SAFETY: integers and pointers, for which any bytes that C wrote are a value; `size` first.
unsafe impl Sized0 for vuser_rss {
    fn size_mut(&mut self) -> &mut usize {
        &mut self.size
    }
}

// SAFETY: integers, `size` first.
unsafe impl Sized0 for vuser_rss_limits {
    fn size_mut(&mut self) -> &mut usize {
        &mut self.size
    }
}

const EMPTY: vuser_rss = vuser_rss {
    size: size_of::<vuser_rss>(),
    types: 0,
    key_len: 0,
    table_len: 0,
    key: std::ptr::null(),
    table: std::ptr::null(),
};

/// A row of the caller's.
///
/// # Safety
/// As many values as that are at `ptr`, unless it is NULL.
unsafe fn row<T: Copy>(ptr: *const T, len: u16, name: &str) -> Result<Vec<T>> {
    match (ptr.is_null(), len) {
        (true, 0) => Ok(Vec::new()),
        (true, _) | (false, 0) => Err(Error::invalid(format!("{name} and {name}_len do not fit together"))),
        // SAFETY: by the caller.
        (false, len) => Ok(unsafe { std::slice::from_raw_parts(ptr, usize::from(len)) }.to_vec()),
    }
}

unsafe fn rss(given: *const vuser_rss) -> Result<Rss> {
    // SAFETY: by the conventions.
    unsafe {
        let given = read(given, "rss", EMPTY)?;
        let (key, table) = (row(given.key, given.key_len, "key")?, row(given.table, given.table_len, "table")?);
        Ok(Rss { types: given.types, key, table })
    }
}

/// Chooses what is hashed of received frames and, where the device can spread them over the receive queues by it, how. Now,
/// and after each start. With VUSER_OFFLOAD_HASH a device that reports hashes computes them; for any other we do, in the
/// burst. -ENOTSUP: what vuser_dev_rss_limits says can't be had, or a device that reports hashes can't be told by which key;
/// -EINVAL: a queue in the table is not in use; -EREMOTEIO: the device refused it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_set_rss(dev: *mut vuser_dev, rss: *const vuser_rss) -> c_int {
    // SAFETY: by the conventions.
    unsafe { with("vuser_dev_set_rss", dev, |d| d.set_rss(self::rss(rss)?).map(|()| 0)) }
}

/// What can be chosen with vuser_dev_set_rss; limits->size must be set. -ENOTSUP: nothing, since the device hashes by a key of
/// its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_rss_limits(dev: *mut vuser_dev, limits: *mut vuser_rss_limits) -> c_int {
    // SAFETY: by the conventions.
    unsafe {
        with("vuser_dev_rss_limits", dev, |d| {
            let found = d.rss_limits()?;
            let size = size_of::<vuser_rss_limits>();
            let out = vuser_rss_limits { size, types: found.types, key_len: found.key, table_len: found.table };
            fill(limits, "limits", out).map(|()| 0)
        })
    }
}
