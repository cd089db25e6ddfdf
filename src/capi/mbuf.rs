//! `struct vuser_mbuf`: packets.

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

use nix::errno::Errno;

use super::error::{control, failed};
use super::handle::{POOL, exists, there};
use super::pool::{pool, vuser_pool};
use crate::buf::layout::Mbuf;
use crate::buf::mbuf::{MbufRef, flags};
use crate::buf::pool::Pool;
use crate::buf::watch;
use crate::error::Error;
use crate::sys::caller::WATCHED;

/// Received: a VLAN tag is in vlan_tci.
pub const VUSER_MBUF_F_RX_VLAN: u64 = 1 << 0;
/// Received: a hash is in hash_rss.
pub const VUSER_MBUF_F_RX_RSS_HASH: u64 = 1 << 1;
/// Received: the transport checksum is wrong.
pub const VUSER_MBUF_F_RX_L4_CKSUM_BAD: u64 = 1 << 3;
/// Received: the VLAN tag was taken out of the frame.
pub const VUSER_MBUF_F_RX_VLAN_STRIPPED: u64 = 1 << 6;
/// Received: the transport checksum is right.
pub const VUSER_MBUF_F_RX_L4_CKSUM_GOOD: u64 = 1 << 8;
/// Received, both bits together: the data are right, but the checksum field is not filled in.
pub const VUSER_MBUF_F_RX_L4_CKSUM_NONE: u64 = 1 << 8 | 1 << 3;
/// Received: several segments of a connection in one frame; tso_segsz is their size.
pub const VUSER_MBUF_F_RX_LRO: u64 = 1 << 16;
/// To send: cut into UDP segments of tso_segsz.
pub const VUSER_MBUF_F_TX_UDP_SEG: u64 = 1 << 42;
/// To send: cut into TCP segments of tso_segsz.
pub const VUSER_MBUF_F_TX_TCP_SEG: u64 = 1 << 50;
/// To send: compute the TCP checksum.
pub const VUSER_MBUF_F_TX_TCP_CKSUM: u64 = 1 << 52;
/// To send: compute the UDP checksum.
pub const VUSER_MBUF_F_TX_UDP_CKSUM: u64 = 3 << 52;
/// To send: compute the IPv4 header's checksum (vuser_tx_prepare does it).
pub const VUSER_MBUF_F_TX_IP_CKSUM: u64 = 1 << 54;
/// To send: it is IPv4.
pub const VUSER_MBUF_F_TX_IPV4: u64 = 1 << 55;
/// To send: it is IPv6.
pub const VUSER_MBUF_F_TX_IPV6: u64 = 1 << 56;
/// To send: put the VLAN tag in vlan_tci into the frame.
pub const VUSER_MBUF_F_TX_VLAN: u64 = 1 << 57;

const _: () = assert!(
    VUSER_MBUF_F_RX_VLAN == flags::RX_VLAN
        && VUSER_MBUF_F_RX_RSS_HASH == flags::RX_RSS_HASH
        && VUSER_MBUF_F_RX_L4_CKSUM_BAD == flags::RX_L4_CKSUM_BAD
        && VUSER_MBUF_F_RX_VLAN_STRIPPED == flags::RX_VLAN_STRIPPED
        && VUSER_MBUF_F_RX_L4_CKSUM_GOOD == flags::RX_L4_CKSUM_GOOD
        && VUSER_MBUF_F_RX_L4_CKSUM_NONE == flags::RX_L4_CKSUM_NONE
        && VUSER_MBUF_F_RX_LRO == flags::RX_LRO
        && VUSER_MBUF_F_TX_UDP_SEG == flags::TX_UDP_SEG
        && VUSER_MBUF_F_TX_TCP_SEG == flags::TX_TCP_SEG
        && VUSER_MBUF_F_TX_TCP_CKSUM == flags::TX_TCP_CKSUM
        && VUSER_MBUF_F_TX_UDP_CKSUM == flags::TX_UDP_CKSUM
        && VUSER_MBUF_F_TX_IP_CKSUM == flags::TX_IP_CKSUM
        && VUSER_MBUF_F_TX_IPV4 == flags::TX_IPV4
        && VUSER_MBUF_F_TX_IPV6 == flags::TX_IPV6
        && VUSER_MBUF_F_TX_VLAN == flags::TX_VLAN
);

unsafe fn own(m: *mut Mbuf, call: &str) -> Option<MbufRef> {
    if WATCHED && !m.is_null() {
        // Of any allocator: only those of ours can be looked at.
        watch::is_callers(m, true, call);
    }
    // SAFETY: by the conventions a packet that is passed in is valid and the caller's.
    NonNull::new(m).map(|m| unsafe { MbufRef::new(m) })
}

/// Gets an empty buffer; NULL when the pool has none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_mbuf_alloc(pool: *mut vuser_pool) -> *mut Mbuf {
    // SAFETY: by the conventions.
    match unsafe { self::pool(pool, "vuser_mbuf_alloc") } {
        Ok(pool) => pool.get().map_or(std::ptr::null_mut(), MbufRef::as_ptr),
        Err(e) => {
            failed("vuser_mbuf_alloc", &e);
            std::ptr::null_mut()
        }
    }
}

/// Gets n empty buffers, or none: -ENOMEM when the pool has fewer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_mbuf_alloc_bulk(pool: *mut vuser_pool, mbufs: *mut *mut Mbuf, n: u16) -> c_int {
    // No guard: it is called between bursts. Nothing in here panics.
    // SAFETY: by the conventions; a NULL pointer and an empty place are the same bytes.
    let (pool, places) = unsafe {
        let Some(found) = pool.as_ref() else { return -(Errno::EINVAL as c_int) };
        if WATCHED {
            exists(pool, POOL, "vuser_mbuf_alloc_bulk");
            there(mbufs, n, "vuser_mbuf_alloc_bulk");
        }
        std::ptr::write_bytes(mbufs, 0, usize::from(n));
        (&found.0, std::slice::from_raw_parts_mut(mbufs.cast::<Option<MbufRef>>(), usize::from(n)))
    };
    if pool.try_get_bulk(places) { 0 } else { -(Errno::ENOMEM as c_int) }
}

/// Gives a packet up, with all its segments; each goes back to its pool. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_mbuf_free(m: *mut Mbuf) {
    if let Some(m) = NonNull::new(m) {
        if WATCHED {
            watch::is_callers(m.as_ptr(), false, "vuser_mbuf_free");
        }
        // SAFETY: by the conventions it is the caller's, and packets of ours are of pools that live.
        unsafe { Pool::free(MbufRef::new(m)) };
    }
}

/// Gives n packets up. NULLs among them are allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_mbuf_free_bulk(mbufs: *const *mut Mbuf, n: u16) {
    if n == 0 {
        return;
    }
    there(mbufs, n, "vuser_mbuf_free_bulk");
    // SAFETY: by the conventions; a NULL pointer and an empty place are the same bytes.
    let packets = unsafe { std::slice::from_raw_parts(mbufs.cast::<Option<MbufRef>>(), usize::from(n)) };
    if WATCHED {
        // One by one, so that one that is there twice is met.
        for m in packets.iter().flatten() {
            watch::is_callers(m.as_ptr(), false, "vuser_mbuf_free_bulk");
            // SAFETY: as below.
            unsafe { Pool::free(*m) };
        }
        return;
    }
    // SAFETY: packets of ours are of pools that live.
    unsafe { Pool::free_bulk(packets) };
}

/// A second packet that shares the data of the first; each is freed alone. NULL when the pool has too few buffers for
/// its descriptors. Neither may write to the data then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_mbuf_clone(pool: *mut vuser_pool, m: *mut Mbuf) -> *mut Mbuf {
    // SAFETY: by the conventions.
    let clone = unsafe {
        self::pool(pool, "vuser_mbuf_clone").and_then(|pool| {
            let m = own(m, "vuser_mbuf_clone").ok_or_else(|| Error::invalid("m is NULL"))?;
            pool.clone_packet(m)
        })
    };
    clone.map_or_else(
        |e| {
            failed("vuser_mbuf_clone", &e);
            std::ptr::null_mut()
        },
        MbufRef::as_ptr,
    )
}

/// Address of the first byte of data of this segment.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_mbuf_data(m: *const Mbuf) -> *mut c_void {
    // SAFETY: by the conventions.
    unsafe { own(m.cast_mut(), "vuser_mbuf_data") }.map_or(std::ptr::null_mut(), |m| m.data().cast())
}

/// Makes room for len bytes behind the data of the packet's last segment; their address, or NULL when they don't fit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_mbuf_append(m: *mut Mbuf, len: u16) -> *mut c_void {
    // SAFETY: by the conventions.
    let Some(m) = (unsafe { own(m, "vuser_mbuf_append") }) else { return std::ptr::null_mut() };
    let Some(last) = m.segments().last().filter(|last| len <= last.tailroom()) else {
        return std::ptr::null_mut();
    };
    let end = last.data().wrapping_add(usize::from(last.data_len()));
    last.set_data_len(last.data_len() + len);
    m.set_pkt_len(m.pkt_len() + u32::from(len));
    end.cast()
}

/// Makes room for len bytes in front of the packet; their address, or NULL when the headroom is too small.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_mbuf_prepend(m: *mut Mbuf, len: u16) -> *mut c_void {
    // SAFETY: by the conventions.
    let m = unsafe { own(m, "vuser_mbuf_prepend") }
        .filter(|m| len <= m.data_off() && m.data_len().checked_add(len).is_some());
    let Some(m) = m else { return std::ptr::null_mut() };
    m.set_data_off(m.data_off() - len);
    m.set_data_len(m.data_len() + len);
    m.set_pkt_len(m.pkt_len() + u32::from(len));
    m.data().cast()
}

/// Takes len bytes off the front of the packet's first segment; -EINVAL when it has fewer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_mbuf_adj(m: *mut Mbuf, len: u16) -> c_int {
    control("vuser_mbuf_adj", || {
        // SAFETY: by the conventions.
        let m = unsafe { own(m, "vuser_mbuf_adj") }.ok_or_else(|| Error::invalid("m is NULL"))?;
        if len > m.data_len() {
            return Err(Error::invalid(format!("the first segment has fewer than {len} bytes: {}", m.data_len())));
        }
        m.set_data_off(m.data_off() + len);
        m.set_data_len(m.data_len() - len);
        m.set_pkt_len(m.pkt_len() - u32::from(len));
        Ok(0)
    })
}

/// Appends the segments of tail, which is no packet of its own after that, to head.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_mbuf_chain(head: *mut Mbuf, tail: *mut Mbuf) -> c_int {
    control("vuser_mbuf_chain", || {
        // SAFETY: by the conventions.
        let (Some(head), Some(tail)) =
            (unsafe { own(head, "vuser_mbuf_chain") }, unsafe { own(tail, "vuser_mbuf_chain") })
        else {
            return Err(Error::invalid("head or tail is NULL"));
        };
        let segments = head.nb_segs().checked_add(tail.nb_segs());
        head.set_nb_segs(segments.ok_or_else(|| Error::new(Errno::EOVERFLOW, "too many segments"))?);
        head.set_pkt_len(head.pkt_len() + tail.pkt_len());
        if let Some(last) = head.segments().last() {
            last.set_next(Some(tail));
        }
        tail.set_nb_segs(1);
        tail.set_pkt_len(u32::from(tail.data_len()));
        Ok(0)
    })
}

/// Sets the lengths that transmit offloads need: link, network and transport header, and the payload of a segment
/// (0 when nothing is to be cut). -EINVAL when one is too long for its field.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_mbuf_set_tx_offload(
    m: *mut Mbuf,
    l2_len: u16,
    l3_len: u16,
    l4_len: u16,
    tso_segsz: u16,
) -> c_int {
    control("vuser_mbuf_set_tx_offload", || {
        if l2_len >= 1 << 7 || l3_len >= 1 << 9 || l4_len >= 1 << 8 {
            return Err(Error::invalid("at most 127 bytes of l2, 511 of l3, 255 of l4"));
        }
        // SAFETY: by the conventions.
        let m = unsafe { own(m, "vuser_mbuf_set_tx_offload") }.ok_or_else(|| Error::invalid("m is NULL"))?;
        let [l2, l3, l4, segsz] = [l2_len, l3_len, l4_len, tso_segsz].map(u64::from);
        m.set_raw_tx_offload(l2 | l3 << 7 | l4 << 16 | segsz << 24);
        Ok(0)
    })
}
