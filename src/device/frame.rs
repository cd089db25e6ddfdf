//! Frames as bytes: walking over buffers, the header in front of each frame, and generated frames.

use super::memory::Memory;
use super::ring::{Chain, Segment};
use crate::spec::net::{
    GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, HDR_F_NEEDS_CSUM, HDR_LEN, HDR_LEN_HASH, HDR_LEN_LEGACY, NetHdr,
};
use crate::spec::virtio::Features;

/// `hash_report` of the frames that we hash: IPv4 (5.1.6.4.4).
pub const HASH_REPORT_IPV4: u16 = 1;
/// Bytes at the head of a frame that [`hash`] looks at.
pub const HASHED_BYTES: usize = 64;

/// Length of the header in front of each frame (5.1.6).
pub fn header_len(features: Features) -> usize {
    if features.contains(Features::HASH_REPORT) {
        HDR_LEN_HASH
    } else if features.intersects(Features::VERSION_1.union(Features::MRG_RXBUF)) {
        HDR_LEN
    } else {
        HDR_LEN_LEGACY
    }
}

/// The header to receive a frame with that was sent with `sent`. Wishes for checksum and segmentation are passed on
/// only to a driver that has agreed to get such frames (5.1.6.4.1); any other gets a plain header.
pub fn received_header(sent: &NetHdr, features: Features) -> NetHdr {
    if sent.flags & HDR_F_NEEDS_CSUM == 0 || !features.contains(Features::GUEST_CSUM) {
        return NetHdr::default();
    }
    let plain = NetHdr {
        flags: HDR_F_NEEDS_CSUM,
        csum_start: sent.csum_start,
        csum_offset: sent.csum_offset,
        hdr_len: sent.hdr_len,
        ..NetHdr::default()
    };
    if may_receive(sent.gso_type, features) {
        NetHdr { gso_type: sent.gso_type, gso_size: sent.gso_size, ..plain }
    } else {
        plain
    }
}

fn may_receive(gso_type: u8, features: Features) -> bool {
    let ecn = gso_type & GSO_ECN == 0 || features.contains(Features::GUEST_ECN);
    ecn && match gso_type & !GSO_ECN {
        GSO_TCPV4 => features.contains(Features::GUEST_TSO4),
        GSO_TCPV6 => features.contains(Features::GUEST_TSO6),
        GSO_UDP => features.contains(Features::GUEST_UFO),
        GSO_UDP_L4 => features.intersects(Features::GUEST_USO4.union(Features::GUEST_USO6)),
        _ => false,
    }
}

/// The hash that we report: FNV-1a over the first [`HASHED_BYTES`] of a frame.
pub fn hash(frame: &[u8]) -> u32 {
    let start = &frame[..frame.len().min(HASHED_BYTES)];
    start.iter().fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Walks over the bytes of some buffers, of the readable or of the writable elements.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    chains: std::slice::Iter<'a, Chain>,
    segments: std::slice::Iter<'a, Segment>,
    writable: bool,
    addr: u64,
    left: u32,
}

impl<'a> Cursor<'a> {
    /// The bytes that we read.
    pub(super) fn readable(chains: &'a [Chain]) -> Self {
        Self { chains: chains.iter(), segments: [].iter(), writable: false, addr: 0, left: 0 }
    }

    /// The bytes that we write.
    pub(super) fn writable(chains: &'a [Chain]) -> Self {
        Self { writable: true, ..Self::readable(chains) }
    }

    /// Address and length of the run of bytes that comes next; `None` at the end.
    fn run(&mut self) -> Option<(u64, u32)> {
        while self.left == 0 {
            if let Some(segment) = self.segments.next() {
                if segment.writable == self.writable {
                    (self.addr, self.left) = (segment.addr, segment.len);
                }
            } else {
                self.segments = self.chains.next()?.segments().iter();
            }
        }
        Some((self.addr, self.left))
    }

    fn advance(&mut self, n: u32) {
        // The ring has checked that the whole segment lies in one region: its end does not overflow.
        self.addr = self.addr.wrapping_add(n.into());
        self.left -= n;
    }

    /// Reads the next bytes; false when there are not enough.
    pub(super) fn get(&mut self, memory: &impl Memory, bytes: &mut [u8]) -> bool {
        let mut done = 0;
        while done < bytes.len() {
            let Some((addr, left)) = self.run() else { return false };
            let n = (bytes.len() - done).min(left as usize);
            if !memory.read(addr, &mut bytes[done..done + n]) {
                return false;
            }
            self.advance(n as u32);
            done += n;
        }
        true
    }

    /// Writes the next bytes; false when there is not enough room.
    pub(super) fn put(&mut self, memory: &impl Memory, bytes: &[u8]) -> bool {
        let mut done = 0;
        while done < bytes.len() {
            let Some((addr, left)) = self.run() else { return false };
            let n = (bytes.len() - done).min(left as usize);
            if !memory.write(addr, &bytes[done..done + n]) {
                return false;
            }
            self.advance(n as u32);
            done += n;
        }
        true
    }

    /// Writes all bytes that are left in `from`; false when there is not enough room.
    pub(super) fn put_all(&mut self, memory: &impl Memory, mut from: Cursor<'_>) -> bool {
        while let Some((source, there)) = from.run() {
            let Some((addr, here)) = self.run() else { return false };
            let n = there.min(here);
            if !memory.carry(source, addr, n) {
                return false;
            }
            self.advance(n);
            from.advance(n);
        }
        true
    }
}

const ETHERNET: usize = 14;
const IP: usize = 20;
const UDP: usize = 8;
/// Where the sequence number of a generated frame stands: 8 bytes, big-endian, behind the UDP header.
pub const SEQUENCE_AT: usize = ETHERNET + IP + UDP;
/// Lengths that a generated frame can have.
pub const FRAME_LENGTHS: std::ops::RangeInclusive<u16> = 60..=9216;

/// A UDP/IPv4 frame of `len` bytes for `to`, with sequence number zero.
pub(super) fn generate(to: [u8; 6], len: u16) -> Vec<u8> {
    let len = len.clamp(*FRAME_LENGTHS.start(), *FRAME_LENGTHS.end());
    let mut frame = Vec::with_capacity(len.into());
    frame.extend_from_slice(&to);
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 0xfe, 8, 0]);
    let ip_len = (len - ETHERNET as u16).to_be_bytes();
    let mut ip = [0x45, 0, ip_len[0], ip_len[1], 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
    let sum = ip_checksum(&ip).to_be_bytes();
    ip[10..12].copy_from_slice(&sum);
    frame.extend_from_slice(&ip);
    // From port 9 to port 9, which discards; a UDP checksum of zero means none.
    frame.extend_from_slice(&[0, 9, 0, 9]);
    frame.extend_from_slice(&(len - (ETHERNET + IP) as u16).to_be_bytes());
    frame.extend_from_slice(&[0, 0]);
    frame.extend((frame.len()..len.into()).map(|n| if n < SEQUENCE_AT + 8 { 0 } else { n as u8 }));
    frame
}

/// Writes the sequence number into a generated frame.
pub(super) fn number(frame: &mut [u8], sequence: u64) {
    if let Some(place) = frame.get_mut(SEQUENCE_AT..SEQUENCE_AT + 8) {
        place.copy_from_slice(&sequence.to_be_bytes());
    }
}

fn ip_checksum(header: &[u8]) -> u16 {
    let sum: u32 = header.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(folded as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_the_negotiated_length() {
        assert_eq!(header_len(Features::empty()), 10);
        assert_eq!(header_len(Features::MRG_RXBUF), 12);
        assert_eq!(header_len(Features::VERSION_1), 12);
        assert_eq!(header_len(Features::VERSION_1 | Features::HASH_REPORT), 20);
    }

    #[test]
    fn offloads_are_passed_on_only_to_those_who_agreed() {
        let sent = NetHdr {
            flags: 1,
            gso_type: GSO_TCPV4,
            gso_size: 1448,
            hdr_len: 54,
            csum_start: 34,
            csum_offset: 16,
            ..NetHdr::default()
        };
        assert_eq!(received_header(&sent, Features::VERSION_1), NetHdr::default());
        assert_eq!(received_header(&sent, Features::GUEST_TSO4), NetHdr::default());
        assert_eq!(received_header(&sent, Features::GUEST_CSUM | Features::GUEST_TSO4), sent);
        let csum_only = NetHdr { gso_type: 0, gso_size: 0, ..sent };
        assert_eq!(received_header(&sent, Features::GUEST_CSUM), csum_only);
        let ecn = NetHdr { gso_type: GSO_TCPV4 | GSO_ECN, ..sent };
        assert_eq!(received_header(&ecn, Features::GUEST_CSUM | Features::GUEST_TSO4), csum_only);
        assert_eq!(received_header(&ecn, Features::GUEST_CSUM | Features::GUEST_TSO4 | Features::GUEST_ECN), ecn);
        // `num_buffers` and unknown flags of the sender are never passed on.
        let odd = NetHdr { flags: 0xff, num_buffers: 7, ..NetHdr::default() };
        let plain = NetHdr { flags: 1, ..NetHdr::default() };
        assert_eq!(received_header(&odd, Features::all()), plain);
    }

    #[test]
    fn generated_frames_are_valid_udp() {
        let mut frame = generate([2, 0, 0, 0, 0, 1], 64);
        number(&mut frame, 0x0102_0304_0506_0708);
        assert_eq!((frame.len(), &frame[12..14]), (64, &[8, 0][..]));
        assert_eq!(ip_checksum(&frame[14..34]), 0);
        assert_eq!(u16::from_be_bytes([frame[16], frame[17]]), 50);
        assert_eq!(u16::from_be_bytes([frame[38], frame[39]]), 30);
        assert_eq!(&frame[42..50], &[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(frame[0] & 1, 0);
    }
}
