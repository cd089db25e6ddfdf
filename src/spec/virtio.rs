//! What every virtio device shares: feature bits (VIRTIO 6) and the status byte (2.1).

use bitflags::bitflags;

/// Kind of device (VIRTIO 5): network.
pub const DEVICE_ID_NET: u32 = 1;

bitflags! {
    /// Feature bits of a virtio-net device and of its transport (VIRTIO 5.1.3 and 6).
    ///
    /// 128 bits wide, because VIRTIO 1.4 assigns bits above 63; the vhost-user wire carries the low 64.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Features: u128 {
        /// The device computes checksums of frames we send.
        const CSUM = 1 << 0;
        /// We accept frames with partial checksums.
        const GUEST_CSUM = 1 << 1;
        /// Receive offloads can be changed over the control queue.
        const CTRL_GUEST_OFFLOADS = 1 << 2;
        /// The device reports its maximum MTU.
        const MTU = 1 << 3;
        /// The device has a MAC address.
        const MAC = 1 << 5;
        /// Legacy: the device segments whatever TCP.
        const GSO = 1 << 6;
        /// We accept TCPv4 frames larger than the MTU.
        const GUEST_TSO4 = 1 << 7;
        /// We accept TCPv6 frames larger than the MTU.
        const GUEST_TSO6 = 1 << 8;
        /// We accept large TCP frames with ECN.
        const GUEST_ECN = 1 << 9;
        /// We accept large UDP frames that need fragmentation (obsolete).
        const GUEST_UFO = 1 << 10;
        /// The device segments TCPv4.
        const HOST_TSO4 = 1 << 11;
        /// The device segments TCPv6.
        const HOST_TSO6 = 1 << 12;
        /// The device segments TCP with ECN.
        const HOST_ECN = 1 << 13;
        /// The device fragments UDP (obsolete).
        const HOST_UFO = 1 << 14;
        /// A received frame may span several buffers.
        const MRG_RXBUF = 1 << 15;
        /// The device reports link state.
        const STATUS = 1 << 16;
        /// There is a control queue.
        const CTRL_VQ = 1 << 17;
        /// Receive modes over the control queue.
        const CTRL_RX = 1 << 18;
        /// VLAN filter over the control queue.
        const CTRL_VLAN = 1 << 19;
        /// Further receive modes over the control queue.
        const CTRL_RX_EXTRA = 1 << 20;
        /// The device asks for gratuitous announcements.
        const GUEST_ANNOUNCE = 1 << 21;
        /// Several queue pairs.
        const MQ = 1 << 22;
        /// The MAC address can be set over the control queue.
        const CTRL_MAC_ADDR = 1 << 23;
        /// Legacy: notify even when the ring runs empty.
        const NOTIFY_ON_EMPTY = 1 << 24;
        /// vhost only: the device notes which pages it writes.
        const LOG_ALL = 1 << 26;
        /// Legacy: no framing rules for descriptors.
        const ANY_LAYOUT = 1 << 27;
        /// A descriptor may point to a table of descriptors.
        const INDIRECT_DESC = 1 << 28;
        /// Kick and call thresholds by ring index.
        const EVENT_IDX = 1 << 29;
        /// vhost-user only: the back-end has protocol features.
        const PROTOCOL_FEATURES = 1 << 30;
        /// VIRTIO 1.0 or newer.
        const VERSION_1 = 1 << 32;
        /// Addresses go through an IOMMU.
        const ACCESS_PLATFORM = 1 << 33;
        /// Packed virtqueues.
        const RING_PACKED = 1 << 34;
        /// Buffers are used in the order they were made available.
        const IN_ORDER = 1 << 35;
        /// Memory accesses are ordered by the platform.
        const ORDER_PLATFORM = 1 << 36;
        /// The device has virtual functions.
        const SR_IOV = 1 << 37;
        /// Notifications carry ring positions.
        const NOTIFICATION_DATA = 1 << 38;
        /// Notifications carry a word of the device's.
        const NOTIF_CONFIG_DATA = 1 << 39;
        /// A queue can be reset alone.
        const RING_RESET = 1 << 40;
        /// There are administration queues.
        const ADMIN_VQ = 1 << 41;
        /// The device counts, and tells over the control queue.
        const DEVICE_STATS = 1 << 50;
        /// Hashes of what is in tunnels.
        const HASH_TUNNEL = 1 << 51;
        /// Calls are put off, queue by queue.
        const VQ_NOTF_COAL = 1 << 52;
        /// Calls are put off.
        const NOTF_COAL = 1 << 53;
        /// We accept large UDPv4 frames to be segmented.
        const GUEST_USO4 = 1 << 54;
        /// We accept large UDPv6 frames to be segmented.
        const GUEST_USO6 = 1 << 55;
        /// The device segments UDP.
        const HOST_USO = 1 << 56;
        /// The device reports a hash with each frame.
        const HASH_REPORT = 1 << 57;
        /// We promise an exact hdr_len.
        const GUEST_HDRLEN = 1 << 59;
        /// Receive side scaling.
        const RSS = 1 << 60;
        /// The device merges segments and says how many.
        const RSC_EXT = 1 << 61;
        /// It stands by for another device of the same address.
        const STANDBY = 1 << 62;
        /// The device reports speed and duplex.
        const SPEED_DUPLEX = 1 << 63;
    }
}

bitflags! {
    /// Device status (VIRTIO 2.1). Zero means reset.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Status: u8 {
        /// We have noticed the device.
        const ACKNOWLEDGE = 1;
        /// We know how to drive it.
        const DRIVER = 2;
        /// The driver is live.
        const DRIVER_OK = 4;
        /// Feature negotiation is complete.
        const FEATURES_OK = 8;
        /// The device has an error it cannot recover from.
        const NEEDS_RESET = 0x40;
        /// We have given up on the device.
        const FAILED = 0x80;
    }
}
