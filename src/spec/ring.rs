//! Virtqueue layouts: split (VIRTIO 2.7) and packed (2.8).

/// Largest queue of either layout (2.7, 2.8).
pub const MAX_QUEUE_SIZE: u16 = 32768;

/// The chain continues in `next` (split) or in the next slot (packed).
pub const DESC_F_NEXT: u16 = 1;
/// The device writes this buffer; otherwise it reads it.
pub const DESC_F_WRITE: u16 = 2;
/// The buffer is a table of descriptors.
pub const DESC_F_INDIRECT: u16 = 4;
/// Packed: the driver's wrap counter when it made the descriptor available (2.8.1).
pub const DESC_F_AVAIL: u16 = 1 << 7;
/// Packed: the device's wrap counter when it used the descriptor (2.8.1).
pub const DESC_F_USED: u16 = 1 << 15;

/// A split descriptor (2.7.5).
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Desc {
    /// Device address of the buffer.
    pub addr: u64,
    /// Bytes in the buffer.
    pub len: u32,
    /// `DESC_F_*`.
    pub flags: u16,
    /// Next descriptor of the chain, if `DESC_F_NEXT`.
    pub next: u16,
}

/// A packed descriptor, made available or used (2.8.5).
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackedDesc {
    /// Device address of the buffer.
    pub addr: u64,
    /// Bytes in the buffer; when used, bytes written.
    pub len: u32,
    /// The driver's name for the buffer.
    pub id: u16,
    /// `DESC_F_*`.
    pub flags: u16,
}

/// An element of the split used ring (2.7.8).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsedElem {
    /// Head descriptor of the used chain.
    pub id: u32,
    /// Bytes written.
    pub len: u32,
}

/// Split available ring `flags`: do not call (2.7.6).
pub const AVAIL_F_NO_INTERRUPT: u16 = 1;
/// Split used ring `flags`: do not kick (2.7.8).
pub const USED_F_NO_NOTIFY: u16 = 1;

/// Packed event suppression `flags` (2.8.10): notify always.
pub const EVENT_ENABLE: u16 = 0;
/// Packed event suppression: never notify.
pub const EVENT_DISABLE: u16 = 1;
/// Packed event suppression: notify when a given slot is reached (with EVENT_IDX).
pub const EVENT_DESC: u16 = 2;

/// Where the parts of a split queue of `size` lie, from the start of the queue's memory, and how many bytes it takes.
///
/// The table must be aligned to 16, the available ring to 2, the used ring to 4 (2.7); the parts that only we
/// write and the part that only the device writes are kept on cache lines of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLayout {
    /// Descriptor table (split) or descriptor ring (packed).
    pub desc: usize,
    /// Available ring, or the driver's event suppression structure.
    pub driver: usize,
    /// Used ring, or the device's event suppression structure.
    pub device: usize,
    /// Bytes in all.
    pub bytes: usize,
}

const LINE: usize = 64;
/// `flags` and `idx` in front of the available and the used ring.
const RING_HEAD: usize = 4;

const fn up(n: usize, to: usize) -> usize {
    n.div_ceil(to) * to
}

impl QueueLayout {
    /// The split layout: 16 bytes a descriptor, 2 a slot available, 8 a slot used.
    ///
    /// `flags` and `idx` lie at the end of a line, so that the first element of either ring begins a line: eight
    /// used elements then fill a line exactly, and each is aligned to its own size.
    pub const fn split(size: u16) -> Self {
        let n = size as usize;
        let driver = up(16 * n, LINE) + LINE - RING_HEAD;
        // The ring, then used_event, then up to the line that ends with flags and idx of the used ring.
        let device = up(driver + RING_HEAD + 2 * n + 2, LINE) + LINE - RING_HEAD;
        // The ring, then avail_event.
        Self { desc: 0, driver, device, bytes: up(device + RING_HEAD + 8 * n + 2, LINE) }
    }

    /// The packed layout: 16 bytes a descriptor and two words of event suppression on lines of their own.
    pub const fn packed(size: u16) -> Self {
        let driver = up(16 * size as usize, LINE);
        Self { desc: 0, driver, device: driver + LINE, bytes: driver + 2 * LINE }
    }
}

const _: () = assert!(size_of::<Desc>() == 16 && size_of::<PackedDesc>() == 16 && size_of::<UsedElem>() == 8);
