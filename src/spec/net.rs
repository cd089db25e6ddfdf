//! The virtio network device (VIRTIO 5.1): header of each frame and configuration space.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Header length without VERSION_1 and MRG_RXBUF (5.1.6, legacy).
pub const HDR_LEN_LEGACY: usize = 10;
/// Header length with VERSION_1 or MRG_RXBUF (5.1.6).
pub const HDR_LEN: usize = 12;
/// Header length with HASH_REPORT (5.1.6).
pub const HDR_LEN_HASH: usize = 20;

/// `flags`: the checksum from `csum_start` on is missing.
pub const HDR_F_NEEDS_CSUM: u8 = 1;
/// `flags`: the checksum was verified.
pub const HDR_F_DATA_VALID: u8 = 2;

/// `gso_type`: an ordinary frame.
pub const GSO_NONE: u8 = 0;
/// `gso_type`: TCP over IPv4.
pub const GSO_TCPV4: u8 = 1;
/// `gso_type`: UDP to be fragmented (obsolete).
pub const GSO_UDP: u8 = 3;
/// `gso_type`: TCP over IPv6.
pub const GSO_TCPV6: u8 = 4;
/// `gso_type`: UDP to be segmented.
pub const GSO_UDP_L4: u8 = 5;
/// `gso_type` modifier: the TCP segment has ECN set.
pub const GSO_ECN: u8 = 0x80;

/// `struct virtio_net_hdr` with its longest tail (5.1.6); shorter forms are prefixes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct NetHdr {
    /// `HDR_F_*`.
    pub flags: u8,
    /// `GSO_*`.
    pub gso_type: u8,
    /// Bytes of headers in front of the payload.
    pub hdr_len: u16,
    /// Bytes of payload in a segment.
    pub gso_size: u16,
    /// Where the sum begins.
    pub csum_start: u16,
    /// Where the sum is stored, counted from `csum_start`.
    pub csum_offset: u16,
    /// Buffers that the frame spans (receive, with MRG_RXBUF).
    pub num_buffers: u16,
    /// Hash of the frame (receive, with HASH_REPORT).
    pub hash_value: u32,
    /// Which hash it is, `HASH_REPORT_*`.
    pub hash_report: u16,
    /// Zero.
    pub padding: u16,
}

/// Which frames are hashed, and by which fields (5.1.6.4.3.1).
#[allow(missing_docs, reason = "the names say it; _EX: with the addresses of IPv6 extension headers")]
pub mod hash_type {
    pub const IPV4: u32 = 1 << 0;
    pub const TCPV4: u32 = 1 << 1;
    pub const UDPV4: u32 = 1 << 2;
    pub const IPV6: u32 = 1 << 3;
    pub const TCPV6: u32 = 1 << 4;
    pub const UDPV6: u32 = 1 << 5;
    pub const IP_EX: u32 = 1 << 6;
    pub const TCP_EX: u32 = 1 << 7;
    pub const UDP_EX: u32 = 1 << 8;
    /// All of them.
    pub const ALL: u32 = (1 << 9) - 1;
}

/// `hash_report`: no hash.
pub const HASH_REPORT_NONE: u16 = 0;
/// `hash_report`: the largest assigned value (UDPv6_EX).
pub const HASH_REPORT_MAX: u16 = 9;

/// `struct virtio_net_config` (5.1.4), read over GET_CONFIG.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct NetConfig {
    /// MAC address, with F_MAC.
    pub mac: [u8; 6],
    /// `NET_S_*`, with F_STATUS.
    pub status: u16,
    /// Queue pairs, with F_MQ.
    pub max_virtqueue_pairs: u16,
    /// Largest MTU, with F_MTU.
    pub mtu: u16,
    /// Mb/s, with F_SPEED_DUPLEX; 0xffffffff unknown.
    pub speed: u32,
    /// 0 half, 1 full, 0xff unknown.
    pub duplex: u8,
    /// RSS: longest key.
    pub rss_max_key_size: u8,
    /// RSS: longest table.
    pub rss_max_indirection_table_length: u16,
    /// Hash types the device knows.
    pub supported_hash_types: u32,
}

/// Smallest MTU that a device may have (5.1.4.1).
pub const MIN_MTU: u16 = 68;

/// Link is up.
pub const NET_S_LINK_UP: u16 = 1;
/// The device asks for announcements.
pub const NET_S_ANNOUNCE: u16 = 2;

const _: () = assert!(size_of::<NetHdr>() == HDR_LEN_HASH && size_of::<NetConfig>() == 24);

/// A command of the control queue (5.1.6.5): class and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// `class` of the header.
    pub class: u8,
    /// `command` of the header.
    pub command: u8,
    /// What the standard calls it, less its prefix.
    pub name: &'static str,
}

macro_rules! controls {
    ($($(#[$doc:meta])* $name:ident = $class:literal, $command:literal;)*) => {
        impl Control {
            $($(#[$doc])* pub const $name: Self = Self { class: $class, command: $command, name: stringify!($name) };)*
        }
    };
}

controls! {
    /// All frames, or only those for the device's addresses (5.1.6.5.1).
    RX_PROMISC = 0, 0;
    /// All multicast frames (5.1.6.5.1).
    RX_ALLMULTI = 0, 1;
    /// The addresses besides the first (5.1.6.5.2).
    MAC_TABLE_SET = 1, 0;
    /// The first address (5.1.6.5.2).
    MAC_ADDR_SET = 1, 1;
    /// Frames of this VLAN too (5.1.6.5.3).
    VLAN_ADD = 2, 0;
    /// No longer frames of this VLAN (5.1.6.5.3).
    VLAN_DEL = 2, 1;
    /// What was to be announced has been (5.1.6.5.4).
    ANNOUNCE_ACK = 3, 0;
    /// Queue pairs in use (5.1.6.5.5).
    MQ_VQ_PAIRS_SET = 4, 0;
    /// Receive side scaling (5.1.6.5.7).
    MQ_RSS_CONFIG = 4, 1;
    /// Which frames have a hash (5.1.6.5.6.4).
    MQ_HASH_CONFIG = 4, 2;
}

/// `ack` of a command that was done (5.1.6.5).
pub const CONTROL_OK: u8 = 0;
/// `ack` of a command that was not.
pub const CONTROL_ERR: u8 = 1;
/// Number of VLANs.
pub const VLANS: u16 = 4096;
