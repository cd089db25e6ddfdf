//! The vhost-user protocol as bytes: requests, flags, payloads.
//!
//! *Front-end* is the side that drives the rings (we), *back-end* the side that serves them. All fields are in
//! the machine's byte order.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `flags` bits 0-1: protocol version.
pub const VERSION: u32 = 1;
/// Mask of the version in `flags`.
pub const VERSION_MASK: u32 = 3;
/// `flags` bit 2: this is a reply.
pub const FLAG_REPLY: u32 = 1 << 2;
/// `flags` bit 3: the sender wants an acknowledgement (REPLY_ACK).
pub const FLAG_NEED_REPLY: u32 = 1 << 3;

/// Regions that one SET_MEM_TABLE can carry.
pub const MAX_REGIONS: usize = 8;
/// File descriptors that one message can carry.
pub const MAX_FDS: usize = MAX_REGIONS;
/// Longest payload of the messages that we speak (GET_CONFIG: 12 + 256).
pub const MAX_PAYLOAD: usize = 272;
/// Rings that SET_VRING_KICK and SET_VRING_CALL can name: their index is one byte.
pub const MAX_VRINGS: u16 = 256;

/// SET_VRING_KICK/CALL/ERR payload: the ring's index.
pub const VRING_IDX_MASK: u64 = 0xff;
/// SET_VRING_KICK/CALL/ERR payload: no file descriptor comes with it.
pub const VRING_NOFD: u64 = 1 << 8;

macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        /// Requests of the front-end.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        pub enum Request { $($(#[$doc])* $name = $value,)* }

        impl Request {
            /// The request of this number, if we know it.
            pub const fn from_number(n: u32) -> Option<Self> {
                match n { $($value => Some(Self::$name),)* _ => None }
            }
        }
    };
}

requests! {
    /// Which virtio features does the back-end have? u64
    GET_FEATURES = 1,
    /// Use these virtio features. u64
    SET_FEATURES = 2,
    /// This session begins.
    SET_OWNER = 3,
    /// Obsolete.
    RESET_OWNER = 4,
    /// All shared memory. [`MemTable`], one fd a region
    SET_MEM_TABLE = 5,
    /// Where to note which pages were written. [`LogMessage`] + fd
    SET_LOG_BASE = 6,
    /// The eventfd that says that the log has changed. fd
    SET_LOG_FD = 7,
    /// Ring size. [`VringState`]
    SET_VRING_NUM = 8,
    /// Ring addresses. [`VringAddr`]
    SET_VRING_ADDR = 9,
    /// Ring position. [`VringState`]
    SET_VRING_BASE = 10,
    /// Stop the ring and say where. [`VringState`] both ways
    GET_VRING_BASE = 11,
    /// The eventfd we kick. u64 + fd
    SET_VRING_KICK = 12,
    /// The eventfd we are called by. u64 + fd
    SET_VRING_CALL = 13,
    /// The eventfd that reports a broken ring. u64 + fd
    SET_VRING_ERR = 14,
    /// Which protocol features does the back-end have? u64
    GET_PROTOCOL_FEATURES = 15,
    /// Use these protocol features. u64
    SET_PROTOCOL_FEATURES = 16,
    /// How many queues? u64
    GET_QUEUE_NUM = 17,
    /// Enable or disable a ring. [`VringState`]
    SET_VRING_ENABLE = 18,
    /// Tell the network that a MAC address is here now. u64, the address in its first six bytes
    SEND_RARP = 19,
    /// The MTU that the driver uses. u64
    NET_SET_MTU = 20,
    /// The socket for the back-end's own requests, [`backend_request`]. fd
    SET_BACKEND_REQ_FD = 21,
    /// Read the device's configuration space. [`ConfigHeader`] + bytes
    GET_CONFIG = 24,
    /// Write the device's configuration space. [`ConfigHeader`] + bytes
    SET_CONFIG = 25,
    /// Give me memory for notes on what is in flight. [`InflightMessage`] both ways, fd with the answer
    GET_INFLIGHT_FD = 31,
    /// These are the notes on what is in flight. [`InflightMessage`] + fd
    SET_INFLIGHT_FD = 32,
    /// Reset the device.
    RESET_DEVICE = 34,
    /// How many regions of memory can there be? u64
    GET_MAX_MEM_SLOTS = 36,
    /// One more region. [`MemRegionMessage`] + fd
    ADD_MEM_REG = 37,
    /// One region less. [`MemRegionMessage`]
    REM_MEM_REG = 38,
    /// Tell the virtio status byte. u64
    SET_STATUS = 39,
    /// Read the virtio status byte. u64
    GET_STATUS = 40,
}

/// Requests of the back-end, over the socket of SET_BACKEND_REQ_FD.
pub mod backend_request {
    /// The configuration space is another.
    pub const CONFIG_CHANGE_MSG: u32 = 2;
    /// Where a ring's doorbell is. [`VringArea`](super::VringArea) + fd
    pub const VRING_HOST_NOTIFIER_MSG: u32 = 3;
    /// A ring is broken. [`VringState`](super::VringState)
    pub const VRING_ERR: u32 = 5;
}

/// `VringAddr::flags`: writes to the used ring are noted in the log.
pub const VRING_F_LOG: u32 = 1;
/// Bytes of memory that one bit of the log stands for.
pub const LOG_PAGE: u64 = 4096;

bitflags! {
    /// Protocol features (vhost-user, "Protocol features").
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct ProtocolFeatures: u64 {
        /// Several queues; GET_QUEUE_NUM.
        const MQ = 1 << 0;
        /// The log of written pages lies in a file: SET_LOG_BASE with a descriptor.
        const LOG_SHMFD = 1 << 1;
        /// SEND_RARP.
        const RARP = 1 << 2;
        /// Requests can be acknowledged.
        const REPLY_ACK = 1 << 3;
        /// NET_SET_MTU.
        const NET_MTU = 1 << 4;
        /// The back-end has requests of its own: SET_BACKEND_REQ_FD.
        const BACKEND_REQ = 1 << 5;
        /// Rings may be of the other byte order.
        const CROSS_ENDIAN = 1 << 6;
        /// Sessions of a cryptographic device.
        const CRYPTO_SESSION = 1 << 7;
        /// Memory is fetched as the back-end touches it, after a migration.
        const PAGEFAULT = 1 << 8;
        /// GET_CONFIG, SET_CONFIG.
        const CONFIG = 1 << 9;
        /// Descriptors may come with requests of the back-end.
        const BACKEND_SEND_FD = 1 << 10;
        /// Rings may have doorbells: VRING_HOST_NOTIFIER_MSG.
        const HOST_NOTIFIER = 1 << 11;
        /// Notes on what is in flight: GET_INFLIGHT_FD, SET_INFLIGHT_FD.
        const INFLIGHT_SHMFD = 1 << 12;
        /// RESET_DEVICE.
        const RESET_DEVICE = 1 << 13;
        /// Kicks and calls are messages.
        const INBAND_NOTIFICATIONS = 1 << 14;
        /// Memory changes region by region: GET_MAX_MEM_SLOTS, ADD_MEM_REG, REM_MEM_REG.
        const CONFIGURE_MEM_SLOTS = 1 << 15;
        /// SET_STATUS, GET_STATUS.
        const STATUS = 1 << 16;
        /// Memory is Xen's.
        const XEN_MMAP = 1 << 17;
        /// Objects are shared with other devices.
        const SHARED_OBJECT = 1 << 18;
        /// The back-end's state can be moved.
        const DEVICE_STATE = 1 << 19;
    }
}

/// The first 12 bytes of each message.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Header {
    /// [`Request`] number.
    pub request: u32,
    /// Version and `FLAG_*`.
    pub flags: u32,
    /// Bytes of payload that follow.
    pub size: u32,
}

/// A ring and a number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct VringState {
    /// Ring index.
    pub index: u32,
    /// Size, position or switch, as the request says.
    pub num: u32,
}

/// Addresses of a ring, in the front-end's user addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct VringAddr {
    /// Ring index.
    pub index: u32,
    /// Bit 0: log writes to the used ring.
    pub flags: u32,
    /// Descriptor table or ring.
    pub desc: u64,
    /// Used ring, or the device's event suppression structure.
    pub used: u64,
    /// Available ring, or the driver's event suppression structure.
    pub avail: u64,
    /// Device address for logging writes to the used ring.
    pub log: u64,
}

/// One region of shared memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct MemRegion {
    /// Address that descriptors use.
    pub guest_addr: u64,
    /// Bytes.
    pub size: u64,
    /// Address that SET_VRING_ADDR uses.
    pub user_addr: u64,
    /// Where the region begins in its file.
    pub mmap_offset: u64,
}

/// SET_MEM_TABLE: only the first `count` regions are sent.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct MemTable {
    /// Regions that follow.
    pub count: u32,
    /// Zero.
    pub padding: u32,
    /// The regions.
    pub regions: [MemRegion; MAX_REGIONS],
}

/// ADD_MEM_REG and REM_MEM_REG.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct MemRegionMessage {
    /// Zero.
    pub padding: u64,
    /// The region. To take one away, its offset does not matter.
    pub region: MemRegion,
}

/// GET_CONFIG and SET_CONFIG: what precedes the bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct ConfigHeader {
    /// Offset in the configuration space.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// 0 or 1: writable.
    pub flags: u32,
}

/// VRING_HOST_NOTIFIER_MSG.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct VringArea {
    /// Ring index, and [`VRING_NOFD`] to take the doorbell away.
    pub ring: u64,
    /// Bytes.
    pub size: u64,
    /// Where it begins in the file.
    pub offset: u64,
}

/// SET_LOG_BASE.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct LogMessage {
    /// Bytes.
    pub size: u64,
    /// Where the log begins in its file.
    pub offset: u64,
}

/// GET_INFLIGHT_FD and SET_INFLIGHT_FD.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct InflightMessage {
    /// Bytes.
    pub size: u64,
    /// Where the notes begin in their file.
    pub offset: u64,
    /// Rings.
    pub rings: u16,
    /// Descriptors of each.
    pub ring_size: u16,
    /// Zero.
    pub padding: u32,
}

const _: () = assert!(
    size_of::<Header>() == 12
        && size_of::<VringState>() == 8
        && size_of::<VringAddr>() == 40
        && size_of::<MemRegion>() == 32
        && size_of::<MemTable>() == 8 + 32 * MAX_REGIONS
        && size_of::<MemRegionMessage>() == 40
        && size_of::<ConfigHeader>() == 12
        && size_of::<VringArea>() == 24
        && size_of::<LogMessage>() == 16
        && size_of::<InflightMessage>() == 24
);
