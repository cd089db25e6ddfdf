//! A packet buffer: its flags, and the handle by which it is owned.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

pub use super::layout::Mbuf;
use crate::mem::lanes::{Lanes, STEP};
use crate::ring::Cookie;

/// `ol_flags` as DPDK numbers them.
pub mod flags {
    #![allow(missing_docs)]
    pub const RX_VLAN: u64 = 1 << 0;
    pub const RX_RSS_HASH: u64 = 1 << 1;
    pub const RX_L4_CKSUM_BAD: u64 = 1 << 3;
    pub const RX_VLAN_STRIPPED: u64 = 1 << 6;
    pub const RX_L4_CKSUM_GOOD: u64 = 1 << 8;
    /// The checksum field holds only the pseudo-header's sum, but the data are good.
    pub const RX_L4_CKSUM_NONE: u64 = RX_L4_CKSUM_BAD | RX_L4_CKSUM_GOOD;
    pub const RX_LRO: u64 = 1 << 16;
    pub const TX_UDP_SEG: u64 = 1 << 42;
    pub const TX_TCP_SEG: u64 = 1 << 50;
    pub const TX_L4_MASK: u64 = 3 << 52;
    pub const TX_TCP_CKSUM: u64 = 1 << 52;
    pub const TX_SCTP_CKSUM: u64 = 2 << 52;
    pub const TX_UDP_CKSUM: u64 = 3 << 52;
    pub const TX_IP_CKSUM: u64 = 1 << 54;
    pub const TX_IPV4: u64 = 1 << 55;
    pub const TX_IPV6: u64 = 1 << 56;
    pub const TX_VLAN: u64 = 1 << 57;
    pub const TX_OUTER_IP_CKSUM: u64 = 1 << 58;
    pub const TX_OUTER_IPV4: u64 = 1 << 59;
    pub const TX_OUTER_IPV6: u64 = 1 << 60;
    pub const EXTERNAL: u64 = 1 << 61;
    pub const INDIRECT: u64 = 1 << 62;
    /// All that ask something of the device or of us on transmit.
    pub const TX_WORK: u64 = TX_UDP_SEG | TX_TCP_SEG | TX_L4_MASK | TX_IP_CKSUM | TX_VLAN | TX_OUTER_IP_CKSUM;
    /// The data are not the buffer's own.
    pub const BORROWED: u64 = EXTERNAL | INDIRECT;
}

/// `packet_type` as DPDK numbers it: the parts that a virtio header tells.
pub mod ptype {
    #![allow(missing_docs)]
    pub const L2_ETHER: u32 = 0x1;
    pub const L3_IPV4_EXT_UNKNOWN: u32 = 0x90;
    pub const L3_IPV6_EXT_UNKNOWN: u32 = 0xe0;
    pub const L4_TCP: u32 = 0x100;
    pub const L4_UDP: u32 = 0x200;
}

/// Default room in front of a frame.
pub const HEADROOM: u16 = 128;

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<Mbuf>() == 128);
    assert!(offset_of!(Mbuf, data_off) == 16 && offset_of!(Mbuf, ol_flags) == 24);
    assert!(offset_of!(Mbuf, packet_type) == 32 && offset_of!(Mbuf, pkt_len) == 36 && offset_of!(Mbuf, data_len) == 40);
    assert!(offset_of!(Mbuf, hash_rss) == 44 && offset_of!(Mbuf, buf_len) == 54 && offset_of!(Mbuf, pool) == 56);
    assert!(offset_of!(Mbuf, next) == 64 && offset_of!(Mbuf, tx_offload) == 72 && offset_of!(Mbuf, dynfield) == 92);
};

/// The eight bytes from `data_off` on, as one word: data_off, refcnt 1, one segment, port.
#[inline(always)]
pub const fn rearm(data_off: u16, port: u16) -> u64 {
    data_off as u64 | 1 << 16 | 1 << 32 | (port as u64) << 48
}

/// What [`MbufRef::receive`] does, for four buffers with lengths below 2^16.
///
/// # Safety
/// The buffers are valid and the caller's.
#[inline(always)]
pub unsafe fn receive_step<L: Lanes>(lanes: L, step: [MbufRef; STEP], rearm: u64, lens: L::Quad) {
    // SAFETY: 32 bytes from `data_off` on of four valid descriptors.
    unsafe {
        let to = step.map(|m| (&raw mut (*m.as_ptr()).data_off).cast::<u64>());
        lanes.store_with_lengths(to, lanes.quad(&[rearm, 0, 0, 0]), lens);
    }
}

/// Lengths for transmit offloads, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxOffload {
    /// Link header.
    pub l2: u32,
    /// Network header.
    pub l3: u32,
    /// Transport header.
    pub l4: u32,
    /// Payload of a segment.
    pub segsz: u16,
}

/// A packet buffer that we own: a valid descriptor that nobody else reads or writes meanwhile.
///
/// Copies of this handle are the same buffer; whoever gives it away (to the application, to the device, to a pool)
/// stops using it. All fields are read and written through a raw pointer: there is never a Rust reference to a
/// descriptor, which DPDK may have put into shared memory.
///
/// It is the descriptor's address as a number, since rings carry numbers and lanes compute with them. To C it is a pointer. What it
/// leads to is exposed: by the pool that made it; other descriptors are C's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct MbufRef(NonZeroUsize);

macro_rules! fields {
    ($($get:ident, $set:ident: $field:ident $type:ty;)*) => {$(
        #[doc = concat!("`", stringify!($field), "`")]
        #[inline(always)]
        pub fn $get(self) -> $type {
            // SAFETY: the handle stands for a valid descriptor that is ours.
            unsafe { (&raw const (*self.as_ptr()).$field).read() }
        }

        #[doc = concat!("Sets `", stringify!($field), "`")]
        #[inline(always)]
        #[allow(clippy::not_unsafe_ptr_arg_deref, reason = "the value is stored, not followed")]
        pub fn $set(self, value: $type) {
            // SAFETY: as above.
            unsafe { (&raw mut (*self.as_ptr()).$field).write(value) }
        }
    )*};
}

impl MbufRef {
    /// A handle of a buffer.
    ///
    /// # Safety
    /// `mbuf` points to a valid descriptor, with valid `next` descriptors, that is ours from now on.
    #[inline(always)]
    pub unsafe fn new(mbuf: NonNull<Mbuf>) -> Self {
        Self(mbuf.expose_provenance())
    }

    /// The descriptor's address.
    #[inline(always)]
    pub fn as_ptr(self) -> *mut Mbuf {
        std::ptr::with_exposed_provenance_mut(self.0.get())
    }

    /// What the ring carries for it.
    #[inline(always)]
    pub fn cookie(self) -> Cookie {
        Cookie(self.0.get() as u64)
    }

    /// The same for a step, as lanes have it.
    #[inline(always)]
    pub fn words(step: &[Self; STEP]) -> &[u64; STEP] {
        // SAFETY: a handle is a word.
        unsafe { &*std::ptr::from_ref(step).cast() }
    }

    /// The buffer that a ring gives back.
    ///
    /// # Safety
    /// The cookie was made by [`cookie`](Self::cookie), and the ring has released it.
    #[inline(always)]
    pub unsafe fn from_cookie(cookie: Cookie) -> Self {
        // SAFETY: it was made from a handle, which is never zero.
        Self(unsafe { NonZeroUsize::new_unchecked(cookie.0 as usize) })
    }

    fields! {
        buf_addr, set_buf_addr: buf_addr *mut c_void;
        data_off, set_data_off: data_off u16;
        nb_segs, set_nb_segs: nb_segs u16;
        port, set_port: port u16;
        ol_flags, set_ol_flags: ol_flags u64;
        packet_type, set_packet_type: packet_type u32;
        pkt_len, set_pkt_len: pkt_len u32;
        data_len, set_data_len: data_len u16;
        vlan_tci, set_vlan_tci: vlan_tci u16;
        hash_rss, set_hash_rss: hash_rss u32;
        hash_hi, set_hash_hi: hash_hi u32;
        buf_len, set_buf_len: buf_len u16;
        pool, set_pool: pool *mut c_void;
        raw_next, set_raw_next: next *mut Mbuf;
        raw_tx_offload, set_raw_tx_offload: tx_offload u64;
    }

    /// The next segment.
    #[inline(always)]
    pub fn next(self) -> Option<Self> {
        NonZeroUsize::new(self.raw_next().expose_provenance()).map(Self)
    }

    /// Sets the next segment.
    #[inline(always)]
    pub fn set_next(self, next: Option<Self>) {
        self.set_raw_next(next.map_or(std::ptr::null_mut(), Self::as_ptr));
    }

    /// data_off, refcnt, nb_segs and port as one word.
    #[inline(always)]
    pub fn rearm_word(self) -> u64 {
        // SAFETY: the eight bytes from `data_off` on are four fields of a valid descriptor, aligned to 8.
        unsafe { (&raw const (*self.as_ptr()).data_off).cast::<u64>().read() }
    }

    /// Writes all that a received single-segment frame needs, in 32 bytes from `data_off` on: no field of the
    /// buffer's former life stays.
    #[inline(always)]
    pub fn receive(self, rearm: u64, len: u32) {
        // SAFETY: 32 bytes from `data_off` (offset 16) up to `hash_hi` (48), aligned to 16.
        unsafe {
            let words = (&raw mut (*self.as_ptr()).data_off).cast::<[u64; 4]>();
            words.write([rearm, 0, u64::from(len) << 32, u64::from(len as u16)]);
        }
    }

    /// The first 64 bytes, as two rows of four words: buf_addr, buf_iova, [`rearm`] and flags; then packet_type and
    /// pkt_len, data_len and others, buf_len among others, and pool.
    #[inline(always)]
    pub fn rows<L: Lanes>(self, lanes: L) -> [L::Quad; 2] {
        let words = self.as_ptr().cast::<u64>();
        // SAFETY: the first line of a valid descriptor.
        unsafe { [lanes.load(words), lanes.load(words.add(4))] }
    }

    /// The reference count.
    #[inline(always)]
    pub fn refcnt(self) -> &'static AtomicU16 {
        // SAFETY: an atomic may be shared with the buffer's other owners; pools keep descriptors as long as any
        // handle is in use, and nothing here holds on to the result.
        unsafe { &(*self.as_ptr()).refcnt }
    }

    /// Gives one reference up; true when it was the last.
    #[inline(always)]
    pub fn drop_reference(self) -> bool {
        let refcnt = self.refcnt();
        // Most buffers have one owner: no locked instruction for them.
        refcnt.load(Ordering::Acquire) == 1 || refcnt.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Address of the first byte of data in this segment.
    #[inline(always)]
    pub fn data(self) -> *mut u8 {
        self.buf_addr().cast::<u8>().wrapping_add(usize::from(self.data_off()))
    }

    /// Bytes free behind the data of this segment.
    pub fn tailroom(self) -> u16 {
        self.buf_len().saturating_sub(self.data_off()).saturating_sub(self.data_len())
    }

    /// The segments of the packet.
    pub fn segments(self) -> impl Iterator<Item = Self> + Clone {
        std::iter::successors(Some(self), |m| m.next())
    }

    /// The lengths for transmit offloads. Outer headers, if any, count as part of the link header.
    pub fn tx_offload(self) -> TxOffload {
        let word = self.raw_tx_offload();
        let bits = |from: u32, n: u32| (word >> from) as u32 & ((1 << n) - 1);
        let outer = if self.ol_flags() & (flags::TX_OUTER_IPV4 | flags::TX_OUTER_IPV6) != 0 {
            bits(40, 9) + bits(49, 7)
        } else {
            0
        };
        TxOffload { l2: outer + bits(0, 7), l3: bits(7, 9), l4: bits(16, 8), segsz: (word >> 24) as u16 }
    }
}
