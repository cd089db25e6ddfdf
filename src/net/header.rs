//! The header in front of each frame (VIRTIO 5.1.6): what a received one means for the mbuf, and what an mbuf asks
//! for on transmit.

use super::checksum::{Unfinished, fold};
use crate::buf::MbufRef;
use crate::buf::mbuf::{flags, ptype};
use crate::mem::lanes::Lanes;
use crate::mem::shared::{peek, poke};
use crate::spec::net::{
    GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, HASH_REPORT_MAX, HASH_REPORT_NONE, HDR_F_DATA_VALID,
    HDR_F_NEEDS_CSUM, HDR_LEN, HDR_LEN_HASH, HDR_LEN_LEGACY, NetHdr,
};
use crate::spec::virtio::Features;

/// Where TCP keeps its checksum.
const TCP_CSUM: u16 = 16;
/// Where UDP keeps its checksum.
const UDP_CSUM: u16 = 6;
/// TCP's flags byte, and the bit in it by which ECN says that the window was reduced.
const TCP_FLAGS: (u32, u8) = (13, 0x80);

/// A header that cannot be right for its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadHeader;

/// Reads the header at `addr` once; what a shorter form lacks is zero.
///
/// # Safety
/// `hdr_len` bytes are mapped there.
#[inline]
pub unsafe fn read(addr: *const u8, hdr_len: usize) -> NetHdr {
    let mut bytes = [0; HDR_LEN_HASH];
    // SAFETY: as many bytes as the caller says, or fewer.
    unsafe {
        match hdr_len {
            HDR_LEN_LEGACY => bytes[..HDR_LEN_LEGACY].copy_from_slice(&peek::<[u8; HDR_LEN_LEGACY]>(addr)),
            HDR_LEN => bytes[..HDR_LEN].copy_from_slice(&peek::<[u8; HDR_LEN]>(addr)),
            _ => bytes = peek(addr),
        }
    }
    zerocopy::transmute!(bytes)
}

/// Writes a header of `hdr_len` bytes.
///
/// # Safety
/// `hdr_len` bytes are mapped there, and ours to write.
pub unsafe fn write(addr: *mut u8, hdr_len: usize, header: NetHdr) {
    let bytes: [u8; HDR_LEN_HASH] = zerocopy::transmute!(header);
    for (k, byte) in bytes.iter().enumerate().take(hdr_len) {
        // SAFETY: inside the header.
        unsafe { poke(addr.add(k), *byte) };
    }
}

/// The first 16 bytes of a received header that says nothing but "one ordinary frame in one buffer": which bits
/// matter, and what they are. `merge`: the header has num_buffers, and it counts.
pub const fn ordinary(merge: bool) -> [[u64; 2]; 2] {
    const FLAGS_AND_GSO: u64 = 0xffff;
    let (mask, one) = if merge { (0xffff_0000, 1 << 16) } else { (0, 0) };
    [[FLAGS_AND_GSO, mask], [0, one]]
}

/// Makes four zero headers of [`HDR_LEN`] bytes. Most buffers have one already from the time before: then nothing is
/// written, and their lines stay clean.
///
/// # Safety
/// 16 bytes are mapped at each address, and the headers are ours to write.
#[inline(always)]
pub unsafe fn zero<L: Lanes>(lanes: L, headers: L::Quad) {
    let all @ [a, b, c, d] = lanes.array(headers).map(|at| at as *mut u8);
    let mask = lanes.quad(&[!0, u32::MAX.into(), !0, u32::MAX.into()]);
    // SAFETY: passed on.
    unsafe {
        let both = lanes.or(lanes.load_pairs(a, b), lanes.load_pairs(c, d));
        if lanes.any(lanes.and(both, mask)) {
            for at in all {
                poke(at, 0u64);
                poke(at.add(8), 0u32);
            }
        }
    }
}

const _: () = assert!(HDR_LEN == 12);

/// Tells the mbuf of a received frame, of which `pkt_len` is complete, what its header says.
///
/// Only what was negotiated is believed, and only if it stays inside the frame.
pub fn apply(header: &NetHdr, m: MbufRef, features: Features) -> Result<(), BadHeader> {
    let mut ol_flags = m.ol_flags();
    let checksummed = header.flags & HDR_F_NEEDS_CSUM != 0;
    if checksummed {
        let end = u32::from(header.csum_start) + u32::from(header.csum_offset) + 2;
        if !features.contains(Features::GUEST_CSUM) || end > m.pkt_len() {
            return Err(BadHeader);
        }
        ol_flags |= flags::RX_L4_CKSUM_NONE;
    } else if header.flags & HDR_F_DATA_VALID != 0 && features.contains(Features::GUEST_CSUM) {
        ol_flags |= flags::RX_L4_CKSUM_GOOD;
    }
    let mut packet_type = match header.csum_offset {
        TCP_CSUM if checksummed => ptype::L2_ETHER | ptype::L4_TCP,
        UDP_CSUM if checksummed => ptype::L2_ETHER | ptype::L4_UDP,
        _ => 0,
    };
    if header.gso_type & !GSO_ECN != GSO_NONE {
        packet_type = large(header, features)?;
        ol_flags |= flags::RX_LRO | flags::RX_L4_CKSUM_NONE;
        m.set_raw_tx_offload(u64::from(header.gso_size) << 24);
    }
    let hashed = header.hash_report != HASH_REPORT_NONE && header.hash_report <= HASH_REPORT_MAX;
    if features.contains(Features::HASH_REPORT) && hashed {
        ol_flags |= flags::RX_RSS_HASH;
        m.set_hash_rss(header.hash_value);
    }
    if ol_flags & flags::RX_L4_CKSUM_NONE == flags::RX_L4_CKSUM_NONE {
        m.set_hash_hi(Unfinished::of(header).word());
    }
    m.set_ol_flags(ol_flags);
    m.set_packet_type(packet_type);
    Ok(())
}

/// The packet type of a frame that is to be segmented, if such frames were negotiated.
fn large(header: &NetHdr, features: Features) -> Result<u32, BadHeader> {
    let (needs, packet_type) = match header.gso_type & !GSO_ECN {
        GSO_TCPV4 => (Features::GUEST_TSO4, ptype::L3_IPV4_EXT_UNKNOWN | ptype::L4_TCP),
        GSO_TCPV6 => (Features::GUEST_TSO6, ptype::L3_IPV6_EXT_UNKNOWN | ptype::L4_TCP),
        GSO_UDP_L4 => (Features::GUEST_USO4 | Features::GUEST_USO6, ptype::L4_UDP),
        _ => return Err(BadHeader),
    };
    if !features.intersects(needs) || header.gso_size == 0 {
        return Err(BadHeader);
    }
    Ok(ptype::L2_ETHER | packet_type)
}

/// The header that a packet asks for by its flags.
pub fn for_packet(m: MbufRef, features: Features) -> Result<NetHdr, BadHeader> {
    let mut header = NetHdr::default();
    let asked = m.ol_flags();
    let segment = asked & (flags::TX_TCP_SEG | flags::TX_UDP_SEG);
    if asked & flags::TX_OUTER_IP_CKSUM != 0 || (asked & flags::TX_IP_CKSUM != 0 && segment == 0) {
        // No virtio device computes an IPv4 header's checksum, but segmenting includes it.
        return Err(BadHeader);
    }
    let csum_offset = match (asked & flags::TX_L4_MASK, segment) {
        (0, 0) => return Ok(header),
        (0 | flags::TX_TCP_CKSUM, flags::TX_TCP_SEG) | (flags::TX_TCP_CKSUM, 0) => TCP_CSUM,
        (0 | flags::TX_UDP_CKSUM, flags::TX_UDP_SEG) | (flags::TX_UDP_CKSUM, 0) => UDP_CSUM,
        _ => return Err(BadHeader),
    };
    let lengths = m.tx_offload();
    let start = lengths.l2 + lengths.l3;
    if !features.contains(Features::CSUM) || lengths.l3 == 0 || start + u32::from(csum_offset) + 2 > m.pkt_len() {
        return Err(BadHeader);
    }
    header.flags = HDR_F_NEEDS_CSUM;
    header.csum_start = start as u16;
    header.csum_offset = csum_offset;
    if segment != 0 {
        header.gso_type = gso_type(m, start, features)?;
        header.gso_size = lengths.segsz;
        header.hdr_len = u16::try_from(start + lengths.l4).map_err(|_| BadHeader)?;
        let headers = u32::from(header.hdr_len);
        if lengths.segsz == 0 || lengths.l4 < 8 || headers > u32::from(m.data_len()) || headers >= m.pkt_len() {
            return Err(BadHeader);
        }
    }
    Ok(header)
}

/// How a packet is to be segmented; `l4` is where its transport header begins.
fn gso_type(m: MbufRef, l4: u32, features: Features) -> Result<u8, BadHeader> {
    let asked = m.ol_flags();
    let (needs, gso) = match (asked & flags::TX_UDP_SEG != 0, asked & (flags::TX_IPV4 | flags::TX_IPV6)) {
        (true, _) => (Features::HOST_USO, GSO_UDP_L4),
        (false, flags::TX_IPV4) => (Features::HOST_TSO4, GSO_TCPV4),
        (false, flags::TX_IPV6) => (Features::HOST_TSO6, GSO_TCPV6),
        _ => return Err(BadHeader),
    };
    if !features.contains(needs) {
        return Err(BadHeader);
    }
    let flags_at = l4 + TCP_FLAGS.0;
    if gso != GSO_UDP_L4 && features.contains(Features::HOST_ECN) && flags_at < u32::from(m.data_len()) {
        // SAFETY: inside the data of the first segment.
        let tcp_flags: u8 = unsafe { peek(m.data().add(flags_at as usize)) };
        return Ok(gso | if tcp_flags & TCP_FLAGS.1 != 0 { GSO_ECN } else { 0 });
    }
    Ok(gso)
}

/// Prepares a packet for the offloads that it asks for: the pseudo-header's sum goes where the device expects it, an
/// IPv4 header's checksum is computed here. The headers must lie in the first segment, which must not be shared.
pub fn prepare(m: MbufRef, features: Features) -> Result<(), BadHeader> {
    let asked = m.ol_flags();
    let lengths = m.tx_offload();
    let (l3, l4) = (lengths.l2, lengths.l2 + lengths.l3);
    let first = u32::from(m.data_len());
    if asked & flags::TX_IP_CKSUM != 0 {
        if asked & flags::TX_IPV4 == 0 || lengths.l3 < 20 || l4 > first {
            return Err(BadHeader);
        }
        put(m, l3 + 10, 0);
        put(m, l3 + 10, !fold(sum(m, l3, lengths.l3)));
        m.set_ol_flags(asked & !flags::TX_IP_CKSUM);
    }
    let header = for_packet(m, features)?;
    if header.flags & HDR_F_NEEDS_CSUM == 0 {
        return Ok(());
    }
    let at = l4 + u32::from(header.csum_offset);
    let (addresses, len) = match asked & (flags::TX_IPV4 | flags::TX_IPV6) {
        flags::TX_IPV4 if lengths.l3 >= 20 => (l3 + 12, 8),
        flags::TX_IPV6 if lengths.l3 >= 40 => (l3 + 8, 32),
        _ => return Err(BadHeader),
    };
    if at + 2 > first {
        return Err(BadHeader);
    }
    let protocol = if header.csum_offset == TCP_CSUM { 6 } else { 17 };
    let transport = m.pkt_len() - l4;
    put(m, at, fold(sum(m, addresses, len) + protocol + u64::from(transport & 0xffff) + u64::from(transport >> 16)));
    Ok(())
}

/// The sum of big-endian words of the first segment; the caller has checked that they are there.
fn sum(m: MbufRef, from: u32, len: u32) -> u64 {
    (from..from + len)
        .step_by(2)
        // SAFETY: inside the data of the first segment.
        .map(|at| u64::from(u16::from_be_bytes(unsafe { peek(m.data().add(at as usize)) })))
        .sum()
}

fn put(m: MbufRef, at: u32, value: u16) {
    // SAFETY: inside the data of the first segment, as the callers have checked.
    unsafe { poke(m.data().add(at as usize), value.to_be_bytes()) };
}
