//! The packet buffer's descriptor, laid out as DPDK's `struct rte_mbuf` (21.11 to 26.x, x86-64, with IOVA field).

use std::ffi::c_void;
use std::sync::atomic::AtomicU16;

/// A packet buffer's descriptor, laid out as DPDK's `struct rte_mbuf`; 128 bytes, aligned to 64.
///
/// A packet is a chain of them. Descriptors of a `vuser_pool` lie in private memory, only the data are shared with
/// the device.
#[repr(C)]
#[derive(Debug)]
pub struct Mbuf {
    /// First byte of the buffer.
    pub buf_addr: *mut c_void,
    /// Not used here; DPDK's bus address.
    pub buf_iova: u64,
    /// Where the data begin in the buffer.
    pub data_off: u16,
    /// Owners of the buffer; access is atomic.
    pub refcnt: AtomicU16,
    /// Segments of the packet (in the first of them).
    pub nb_segs: u16,
    /// Port it came in by.
    pub port: u16,
    /// Offload flags, VUSER_MBUF_F_*.
    pub ol_flags: u64,
    /// What the packet is made of, as far as the device said it.
    pub packet_type: u32,
    /// Bytes of the packet, all segments (in the first of them).
    pub pkt_len: u32,
    /// Bytes of data in this segment.
    pub data_len: u16,
    /// VLAN tag that was stripped or is to be inserted.
    pub vlan_tci: u16,
    /// Hash of the packet, with VUSER_MBUF_F_RX_RSS_HASH.
    pub hash_rss: u32,
    /// Not for the application.
    pub hash_hi: u32,
    /// Not used here.
    pub vlan_tci_outer: u16,
    /// Bytes of the buffer.
    pub buf_len: u16,
    /// Pool the buffer belongs to.
    pub pool: *mut c_void,
    /// Next segment of the packet.
    pub next: *mut Mbuf,
    /// For transmit offloads, from bit 0: l2_len 7 bits, l3_len 9, l4_len 8, tso_segsz 16, outer_l3_len 9,
    /// outer_l2_len 7. See vuser_mbuf_set_tx_offload.
    pub tx_offload: u64,
    /// Not for the application.
    pub shinfo: *mut c_void,
    /// Bytes of the application's private area.
    pub priv_size: u16,
    /// Not used here.
    pub timesync: u16,
    /// Not used here.
    pub dynfield: [u32; 9],
}
