//! A packet that is not plain: several segments, shared data, offloads, no headroom, a VLAN tag to insert.
//!
//! It becomes a chain of segments with the header in front. Where the header can't be put into the packet, it and
//! whatever else must be rewritten go into the *extras* of the packet's slot; there, too, is the table of an
//! indirect descriptor.

use arrayvec::ArrayVec;

use super::tx::{Sent, TxQueue};
use super::{SHORTEST_FRAME, header, vlan};
use crate::buf::MbufRef;
use crate::buf::mbuf::flags;
use crate::mem::shared::poke;
use crate::ring::{Ring, Segment};
use crate::spec::net::NetHdr;
use crate::spec::ring::{DESC_F_INDIRECT, DESC_F_NEXT};
use crate::spec::virtio::Features;

/// Longest chain: header and segments.
const MAX_CHAIN: usize = 66;
type Chain = ArrayVec<Segment, MAX_CHAIN>;

/// Bytes of extras of one slot: a header and a rewritten Ethernet header, then a table of descriptors.
pub const EXTRA: usize = 512;
const TABLE: usize = 64;
const TABLE_ENTRIES: usize = (EXTRA - TABLE) / 16;

/// Shared memory beside the ring, [`EXTRA`] bytes for each id that a chain can travel under.
#[derive(Clone, Copy, Debug)]
pub struct Extras {
    base: *mut u8,
}

// SAFETY: an address; what is written there belongs to the queue that owns the extras.
unsafe impl Send for Extras {}

impl Extras {
    /// Extras for a ring.
    ///
    /// # Safety
    /// [`EXTRA`] bytes for each slot of the ring are mapped at `base`, aligned to 64, as long as the queue lives, for it alone.
    pub unsafe fn new(base: *mut u8) -> Self {
        Self { base }
    }

    /// The extras of an id; ids are below the ring's size, and there are as many extras.
    fn of(self, id: u16) -> *mut u8 {
        self.base.wrapping_add(usize::from(id) * EXTRA)
    }
}

/// Why a packet can't be sent, ever.
enum Refusal {
    Packet,
    Offload,
    Address,
    Segments,
}

impl<R: Ring> TxQueue<R> {
    /// Sends one packet, whatever it is like.
    #[inline(never)]
    pub(super) fn send_one(&mut self, m: MbufRef) -> Sent {
        if self.ring.ledger().free() == 0 {
            return Sent::Full;
        }
        let (len, plain, lent) = (m.pkt_len(), self.is_plain(m), self.ring.ledger().lent());
        let extra = self.extras.of(self.ring.ledger().next_id());
        let mut chain = self.chain(m, extra);
        if let Ok(chain) = &mut chain {
            self.to_device(chain);
        }
        match chain.and_then(|chain| self.offer(&chain, extra, m, plain)) {
            Ok(Sent::Full) => return Sent::Full,
            Ok(Sent::Gone) => {
                let slots = usize::from(self.ring.ledger().lent() - lent);
                self.since_plain = if plain { 0 } else { self.since_plain.saturating_add(slots) };
                self.board.counters.packets.add(1);
                self.board.counters.bytes.add(u64::from(len));
                if self.sort {
                    self.board.counters.sort(m);
                }
            }
            Err(refusal) => {
                let counters = &self.board.counters;
                match refusal {
                    Refusal::Packet => &counters.bad_packet,
                    Refusal::Offload => &counters.bad_offload,
                    Refusal::Address => &counters.bad_address,
                    Refusal::Segments => &counters.too_many_segments,
                }
                .add(1);
                self.source.free(m);
            }
        }
        Sent::Gone
    }

    /// The packet as segments, header first.
    fn chain(&self, m: MbufRef, extra: *mut u8) -> Result<Chain, Refusal> {
        let mut data = self.data(m)?;
        let mut header = header::for_packet(m, self.features).map_err(|_| Refusal::Offload)?;
        let tag = m.ol_flags() & flags::TX_VLAN != 0;
        if tag && header.flags != 0 {
            header.csum_start += vlan::TAG;
            header.hdr_len += if header.gso_type == 0 { 0 } else { vlan::TAG };
        }
        let hdr_len = usize::from(self.framing.hdr_len);
        if !tag && self.can_push(m) {
            let first = data.first_mut().ok_or(Refusal::Packet)?;
            first.addr -= hdr_len as u64;
            first.len += hdr_len as u32;
            // SAFETY: the headroom has room for it, and the packet is ours alone.
            unsafe { header::write(first.addr as *mut u8, hdr_len, header) };
            return Ok(data);
        }
        // SAFETY: the extras are ours, and large enough for all that is written below.
        unsafe { header::write(extra, hdr_len, header) };
        let mut chain = Chain::new();
        chain.try_push(Segment { addr: extra as u64, len: hdr_len as u32, flags: 0 }).map_err(|_| Refusal::Segments)?;
        if tag {
            chain.try_push(self.rewrite(m, extra, &mut data)?).map_err(|_| Refusal::Segments)?;
        }
        chain.try_extend_from_slice(&data).map_err(|_| Refusal::Segments)?;
        Ok(chain)
    }

    /// Addresses of ours become the device's.
    fn to_device(&self, chain: &mut Chain) {
        if self.shift != 0 {
            chain.iter_mut().for_each(|segment| segment.addr = segment.addr.wrapping_sub(self.shift));
        }
    }

    /// The data of the packet, each segment inside memory that the device was told of.
    fn data(&self, m: MbufRef) -> Result<Chain, Refusal> {
        let (mut chain, mut sum) = (Chain::new(), 0);
        for segment in m.segments() {
            let len = u32::from(segment.data_len());
            let addr = segment.data() as u64;
            if !self.map.current().contains(addr, u64::from(len)) {
                return Err(Refusal::Address);
            }
            if len > 0 {
                // One place is kept for the header, one for a rewritten Ethernet header.
                if chain.len() == MAX_CHAIN - 2 {
                    return Err(Refusal::Segments);
                }
                chain.try_push(Segment { addr, len, flags: 0 }).map_err(|_| Refusal::Segments)?;
            }
            sum += len;
        }
        if sum != m.pkt_len() || sum < SHORTEST_FRAME { Err(Refusal::Packet) } else { Ok(chain) }
    }

    fn can_push(&self, m: MbufRef) -> bool {
        let own = m.ol_flags() & flags::BORROWED == 0
            && m.refcnt().load(std::sync::atomic::Ordering::Acquire) == 1
            && m.data_len() > 0;
        let header = (m.data() as u64).wrapping_sub(u64::from(self.framing.hdr_len));
        let room = m.data_off() >= self.framing.hdr_len && header % 2 == 0;
        self.push && own && room && self.map.current().contains(header, u64::from(self.framing.hdr_len))
    }

    /// Puts the VLAN tag in: the two addresses and the tag are written anew, and the packet's own are left out. The
    /// packet itself stays as it is, since it may be shared.
    fn rewrite(&self, m: MbufRef, extra: *mut u8, data: &mut Chain) -> Result<Segment, Refusal> {
        if m.data_len() < vlan::ADDRESSES {
            return Err(Refusal::Packet);
        }
        let first = data.first_mut().ok_or(Refusal::Packet)?;
        first.addr += u64::from(vlan::ADDRESSES);
        first.len -= u32::from(vlan::ADDRESSES);
        if first.len == 0 {
            data.remove(0);
        }
        let tagged = vlan::tagged(m);
        let place = extra.wrapping_add(32);
        // SAFETY: 16 bytes behind the header's 20, before the table at 64.
        unsafe { poke(place, tagged) };
        Ok(Segment { addr: place as u64, len: tagged.len() as u32, flags: 0 })
    }

    /// Offers a chain: as it is if it is one segment, else by an indirect table, else descriptor by descriptor.
    fn offer(&mut self, chain: &Chain, extra: *mut u8, m: MbufRef, plain: bool) -> Result<Sent, Refusal> {
        let table = self.features.contains(Features::INDIRECT_DESC) && chain.len() <= TABLE_ENTRIES;
        let offered = if chain.len() > 1 && table {
            let table = self.write_table(chain, extra.wrapping_add(TABLE));
            self.ring.offer(&[table], m.cookie(), plain)
        } else if chain.len() > usize::from(self.ring.ledger().size()) {
            return Err(Refusal::Segments);
        } else {
            self.ring.offer(chain, m.cookie(), plain)
        };
        Ok(if offered { Sent::Gone } else { Sent::Full })
    }

    /// Writes an indirect table (2.7.5.3, 2.8.9). Both layouts have 16 bytes a descriptor, address and length first;
    /// only the split one links them.
    fn write_table(&self, chain: &Chain, table: *mut u8) -> Segment {
        let packed = self.features.contains(Features::RING_PACKED);
        for (k, segment) in chain.iter().enumerate() {
            let more = !packed && k + 1 < chain.len();
            let link = if more { u64::from(DESC_F_NEXT) << 32 | (k as u64 + 1) << 48 } else { 0 };
            // SAFETY: at most TABLE_ENTRIES descriptors, inside the extras.
            unsafe {
                poke(table.wrapping_add(16 * k), segment.addr);
                poke(table.wrapping_add(16 * k + 8), u64::from(segment.len) | link);
            }
        }
        Segment { addr: (table as u64).wrapping_sub(self.shift), len: 16 * chain.len() as u32, flags: DESC_F_INDIRECT }
    }
}

const _: () = assert!(size_of::<NetHdr>() <= 32);
