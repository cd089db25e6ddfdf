//! pcapng as bytes (draft-ietf-opsawg-pcapng): the four blocks that a capture has.
//!
//! Written here since the crates for it do more and worse: a reader that nobody needs, dependencies, and an allocation for
//! each frame. A file is a section header, an interface block for each source of frames, packets, and statistics. It is in the
//! machine's byte order, which the section header tells.

/// `block type` of the section header.
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
/// `block type` of a packet.
pub const PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// Link type: Ethernet, without preamble and checksum.
const ETHERNET: u32 = 1;
/// Time stamps are in units of 10^-9 s.
const NANOSECONDS: u8 = 9;

/// Option codes. The first two are of all blocks.
mod option {
    pub const END: u16 = 0;
    pub const SECTION_APPLICATION: u16 = 4;
    pub const INTERFACE_NAME: u16 = 2;
    pub const INTERFACE_DESCRIPTION: u16 = 3;
    pub const INTERFACE_RESOLUTION: u16 = 9;
    pub const PACKET_FLAGS: u16 = 2;
    pub const STATISTICS_START: u16 = 2;
    pub const STATISTICS_END: u16 = 3;
    pub const STATISTICS_RECEIVED: u16 = 4;
    pub const STATISTICS_DROPPED: u16 = 5;
}

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// It was received.
    Inbound = 1,
    /// It was sent.
    Outbound = 2,
}

/// Of one frame, all but its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Number of the interface block, from 0.
    pub interface: u32,
    /// Nanoseconds since 1970.
    pub time: u64,
    /// Bytes that it had.
    pub len: u32,
    /// Bytes that are kept.
    pub kept: u32,
    /// Which way it went.
    pub direction: Direction,
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

fn words(out: &mut Vec<u8>, words: &[u32]) {
    words.iter().for_each(|word| out.extend_from_slice(&word.to_ne_bytes()));
}

/// The halves of a time stamp, in the order of the format.
fn halves(time: u64) -> [u32; 2] {
    [(time >> 32) as u32, time as u32]
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    out.extend_from_slice(&code.to_ne_bytes());
    out.extend_from_slice(&(value.len() as u16).to_ne_bytes());
    out.extend_from_slice(value);
    pad(out);
}

fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    words(out, &[kind, 0]);
    body(out);
    let len = ((out.len() - start) as u32 + 4).to_ne_bytes();
    out.extend_from_slice(&len);
    if let Some(place) = out.get_mut(start + 4..start + 8) {
        place.copy_from_slice(&len);
    }
}

/// The head of a file.
pub fn section(out: &mut Vec<u8>, application: &str) {
    block(out, SECTION, |out| {
        // Version 1.0; the length of the section is not told.
        let version = if cfg!(target_endian = "big") { 1 << 16 } else { 1 };
        words(out, &[BYTE_ORDER, version, u32::MAX, u32::MAX]);
        option(out, option::SECTION_APPLICATION, application.as_bytes());
        option(out, option::END, &[]);
    });
}

/// A source of frames; they are numbered from 0.
pub fn interface(out: &mut Vec<u8>, snaplen: u32, name: &str, description: &str) {
    block(out, INTERFACE, |out| {
        let link = if cfg!(target_endian = "big") { ETHERNET << 16 } else { ETHERNET };
        words(out, &[link, snaplen]);
        option(out, option::INTERFACE_NAME, name.as_bytes());
        option(out, option::INTERFACE_DESCRIPTION, description.as_bytes());
        option(out, option::INTERFACE_RESOLUTION, &[NANOSECONDS]);
        option(out, option::END, &[]);
    });
}

/// Bytes of the block of a frame of which so many are kept.
pub fn packet_len(kept: u32) -> usize {
    28 + (kept as usize).next_multiple_of(4) + 8 + 4 + 4
}

/// A frame; `bytes` appends what is kept of it.
pub fn packet(out: &mut Vec<u8>, packet: &Packet, bytes: impl FnOnce(&mut Vec<u8>)) {
    block(out, PACKET, |out| {
        let [high, low] = halves(packet.time);
        words(out, &[packet.interface, high, low, packet.kept, packet.len]);
        bytes(out);
        pad(out);
        option(out, option::PACKET_FLAGS, &(packet.direction as u32).to_ne_bytes());
        option(out, option::END, &[]);
    });
}

/// What came of an interface: when its capture began and ended, the frames that it had, and how many of these are missing.
pub fn statistics(out: &mut Vec<u8>, interface: u32, from: u64, to: u64, received: u64, dropped: u64) {
    block(out, STATISTICS, |out| {
        let [high, low] = halves(to);
        words(out, &[interface, high, low]);
        for (code, time) in [(option::STATISTICS_START, from), (option::STATISTICS_END, to)] {
            let [high, low] = halves(time).map(u32::to_ne_bytes);
            option(out, code, &[high, low].concat());
        }
        option(out, option::STATISTICS_RECEIVED, &received.to_ne_bytes());
        option(out, option::STATISTICS_DROPPED, &dropped.to_ne_bytes());
        option(out, option::END, &[]);
    });
}

/// Of bytes that begin with a block, those that are whole blocks, and the packets among these.
pub fn whole(mut bytes: &[u8]) -> (usize, u64) {
    let (mut len, mut packets) = (0, 0);
    while let Some((head, _)) = bytes.split_first_chunk::<8>() {
        let [k0, k1, k2, k3, l0, l1, l2, l3] = *head;
        let (kind, size) = (u32::from_ne_bytes([k0, k1, k2, k3]), u32::from_ne_bytes([l0, l1, l2, l3]) as usize);
        let Some(rest) = bytes.get(size..).filter(|_| size > 0) else { break };
        bytes = rest;
        len += size;
        packets += u64::from(kind == PACKET);
    }
    (len, packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_whole_and_as_long_as_they_say() {
        let mut file = Vec::new();
        section(&mut file, "test");
        interface(&mut file, 0, "rx0", "a queue");
        for kept in 0..9 {
            let (before, direction) = (file.len(), Direction::Inbound);
            let head = Packet { interface: 0, time: 1 << 40, len: 100, kept, direction };
            packet(&mut file, &head, |out| out.resize(out.len() + kept as usize, 7));
            assert_eq!(file.len() - before, packet_len(kept));
        }
        statistics(&mut file, 0, 1, 2, 9, 0);
        assert!(file.len().is_multiple_of(4));
        assert_eq!(whole(&file), (file.len(), 9));
        let cut = file.len() - 1;
        let (len, packets) = whole(&file[..cut]);
        assert!(len < cut && packets == 9);
        assert_eq!(whole(&file[..7]), (0, 0));
        assert_eq!(whole(&[0; 64]), (0, 0));
    }
}
