//! The hash of received frames, where no device computes it: Toeplitz, over the fields that VIRTIO 5.1.6.4.3 names.

use crate::buf::MbufRef;
use crate::buf::mbuf::flags;
use crate::mem::shared::peek;
use crate::spec::net::hash_type as types;

/// Longest input: two IPv6 addresses and two ports.
const INPUT: usize = 36;
/// Bytes of a key that matter.
const KEY: usize = INPUT + 4;
/// Extension headers that are looked at.
const EXTENSIONS: usize = 8;

const ETHER_VLAN: u16 = 0x8100;
const ETHER_QINQ: u16 = 0x88a8;
const ETHER_IPV4: u16 = 0x0800;
const ETHER_IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
/// Destination option: home address (RFC 6275).
const HOME_ADDRESS: u8 = 201;
/// Routing header of mobile IPv6 (RFC 6275).
const TYPE_2: u8 = 2;

/// The key that nearly everybody uses: Microsoft's, of its verification suite.
pub const DEFAULT_KEY: [u8; KEY] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b,
    0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac,
    0x01, 0xfa,
];

/// A key and a choice of fields.
#[derive(Debug)]
pub struct Toeplitz {
    /// For each half of each byte of input, what each of its values adds.
    table: Box<[[u32; 16]; 2 * INPUT]>,
    types: u32,
}

/// What is hashed of a frame.
struct Input {
    bytes: [u8; INPUT],
    len: usize,
}

impl Input {
    /// Source and destination one behind the other, and two ports if there are any.
    fn new(addresses: [&[u8]; 2], ports: Option<[u8; 4]>) -> Self {
        let (mut input, ports) = (Self { bytes: [0; INPUT], len: 0 }, ports.as_ref().map_or(&[][..], |ports| ports));
        let all = addresses.into_iter().flatten().chain(ports);
        for (place, byte) in input.bytes.iter_mut().zip(all) {
            *place = *byte;
            input.len += 1;
        }
        input
    }
}

/// An IPv6 header and the extensions behind it.
struct Ipv6 {
    source: [u8; 16],
    destination: [u8; 16],
    /// Home address and final destination, where extensions say.
    home: Option<[u8; 16]>,
    last: Option<[u8; 16]>,
    extended: bool,
    /// What is behind, and where; nothing behind the first of several fragments' header.
    upper: Option<(u8, u32)>,
}

impl Toeplitz {
    /// A hash by this key, shorter ones are filled with zeros, over the fields of these types (`hash_type`).
    pub fn new(key: &[u8], types: u32) -> Self {
        let mut padded = [0; KEY];
        padded.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
        let mut table = Box::new([[0; 16]; 2 * INPUT]);
        for (half, row) in table.iter_mut().enumerate() {
            for (value, sum) in row.iter_mut().enumerate() {
                let bits = (0..4).filter(|bit| value & 8 >> bit != 0);
                *sum = bits.map(|bit| window(&padded, 4 * half + bit)).fold(0, |a, b| a ^ b);
            }
        }
        Self { table, types }
    }

    /// The hash of some bytes; of no more than there are in the longest input.
    pub fn hash(&self, input: &[u8]) -> u32 {
        let halves = input.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        self.table.iter().zip(halves).fold(0, |sum, (row, half)| sum ^ row.get(usize::from(half)).unwrap_or(&0))
    }

    /// Writes the hash of a received frame into its descriptor, if it is one of those that have a hash.
    pub fn mark(&self, m: MbufRef) {
        if let Some(input) = self.input(m) {
            m.set_hash_rss(self.hash(input.bytes.get(..input.len).unwrap_or(&[])));
            m.set_ol_flags(m.ol_flags() | flags::RX_RSS_HASH);
        }
    }

    fn input(&self, m: MbufRef) -> Option<Input> {
        let (mut at, mut kind) = (14, u16::from_be_bytes(read(m, 12)?));
        for _ in 0..2 {
            if kind == ETHER_VLAN || kind == ETHER_QINQ {
                (at, kind) = (at + 4, u16::from_be_bytes(read(m, at + 2)?));
            }
        }
        match kind {
            ETHER_IPV4 => self.ipv4(m, at),
            ETHER_IPV6 => self.ipv6(m, at),
            _ => None,
        }
    }

    /// 5.1.6.4.3.2.
    fn ipv4(&self, m: MbufRef, at: u32) -> Option<Input> {
        let [version, .., f0, f1, _, protocol]: [u8; 10] = read(m, at)?;
        let header = 4 * u32::from(version & 15);
        // More fragments, or not the first: then there are no ports.
        let whole = u16::from_be_bytes([f0, f1]) & 0x3fff == 0 && header >= 20;
        let (source, destination): ([u8; 4], [u8; 4]) = (read(m, at + 12)?, read(m, at + 16)?);
        let wanted = match protocol {
            TCP => types::TCPV4,
            UDP => types::UDPV4,
            _ => 0,
        };
        let ports = read(m, at + header).filter(|_| whole && self.types & wanted != 0);
        (ports.is_some() || self.types & types::IPV4 != 0).then(|| Input::new([&source, &destination], ports))
    }

    /// 5.1.6.4.3.3 and 5.1.6.4.3.4.
    fn ipv6(&self, m: MbufRef, at: u32) -> Option<Input> {
        let header = walk(m, at)?;
        let ports = header.upper.and_then(|(protocol, at)| Some((protocol, read::<4>(m, at)?)));
        let (wanted, wanted_ex) = match ports {
            Some((TCP, _)) => (types::TCPV6, types::TCP_EX),
            Some((UDP, _)) => (types::UDPV6, types::UDP_EX),
            _ => (0, 0),
        };
        let ports = ports.map(|(_, ports)| ports);
        let near: [&[u8]; 2] = [&header.source, &header.destination];
        let far: [&[u8]; 2] =
            [header.home.as_ref().unwrap_or(&header.source), header.last.as_ref().unwrap_or(&header.destination)];
        match self.types {
            these if header.extended && these & wanted_ex != 0 => Some(Input::new(far, ports)),
            these if header.extended && these & types::IP_EX != 0 => Some(Input::new(far, None)),
            these if these & wanted != 0 => Some(Input::new(near, ports)),
            these if these & types::IPV6 != 0 => Some(Input::new(near, None)),
            _ => None,
        }
    }
}

/// 32 bits of the key, from a bit on.
fn window(key: &[u8; KEY], bit: usize) -> u32 {
    let bytes = key.iter().skip(bit / 8).take(5).fold(0u64, |word, byte| word << 8 | u64::from(*byte));
    (bytes >> (8 - bit % 8)) as u32
}

/// Bytes of the frame, as far as they are in its first segment.
fn read<const N: usize>(m: MbufRef, at: u32) -> Option<[u8; N]> {
    if at + N as u32 > u32::from(m.data_len()) {
        return None;
    }
    // SAFETY: inside the first segment's data, which is ours now.
    Some(unsafe { peek(m.data().wrapping_add(at as usize)) })
}

/// Reads an IPv6 header and follows the extensions behind it.
fn walk(m: MbufRef, at: u32) -> Option<Ipv6> {
    let [next]: [u8; 1] = read(m, at + 6)?;
    let (source, destination) = (read(m, at + 8)?, read(m, at + 24)?);
    let mut header = Ipv6 { source, destination, home: None, last: None, extended: false, upper: None };
    let (mut kind, mut at) = (next, at + 40);
    for _ in 0..EXTENSIONS {
        match kind {
            HOP_BY_HOP | ROUTING | DESTINATION => {}
            FRAGMENT => {
                let [_, _, f0, f1]: [u8; 4] = read(m, at)?;
                header.extended = true;
                if u16::from_be_bytes([f0, f1]) & 0xfff9 != 0 {
                    return Some(header);
                }
            }
            _ => {
                header.upper = Some((kind, at));
                return Some(header);
            }
        }
        let Some([next, len]) = read::<2>(m, at) else { return Some(header) };
        let end = at + if kind == FRAGMENT { 8 } else { 8 * (u32::from(len) + 1) };
        match kind {
            ROUTING if read::<4>(m, at).is_some_and(|[.., kind, left]| kind == TYPE_2 && left == 1) => {
                header.last = read(m, at + 8);
            }
            DESTINATION => header.home = header.home.or(home(m, at + 2, end)),
            _ => {}
        }
        (header.extended, kind, at) = (true, next, end);
    }
    Some(header)
}

/// The home address among the options of a destination header.
fn home(m: MbufRef, mut at: u32, end: u32) -> Option<[u8; 16]> {
    while at < end {
        let [kind]: [u8; 1] = read(m, at)?;
        // A byte of padding has no length.
        if kind == 0 {
            at += 1;
            continue;
        }
        let [len]: [u8; 1] = read(m, at + 1)?;
        if kind == HOME_ADDRESS && len == 16 && at + 18 <= end {
            return read(m, at + 2);
        }
        at += 2 + u32::from(len);
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::buf::pool::{Pool, PoolConfig};

    /// Microsoft's verification suite: source, its port, destination, its port, hash of the addresses, hash with ports.
    const SUITE: [(&str, u16, &str, u16, u32, u32); 8] = [
        ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x323e_8fc2, 0x51cc_c178),
        ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xd718_262a, 0xc626_b0ea),
        ("24.19.198.95", 12898, "12.22.207.184", 38024, 0xd2d0_a5de, 0x5c2b_394a),
        ("38.27.205.30", 48228, "209.142.163.6", 2217, 0x8298_9176, 0xafc7_327f),
        ("153.39.163.191", 44251, "202.188.127.2", 1303, 0x5d18_09c5, 0x10e8_28a2),
        ("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2cc1_8cd5, 0x4020_7d3d),
        ("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739, 0x0f0c_461c, 0xdde5_1bbf),
        ("3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, "fe80::200:f8ff:fe21:67cf", 38024, 0x4b61_e985, 0x02d1_feef),
    ];

    fn octets(address: &str) -> Vec<u8> {
        match address.parse().unwrap() {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        }
    }

    /// A frame: `between` is in front of the type (VLAN tags) and behind the IPv6 header.
    fn frame(tags: &[u8], addresses: [&str; 2], protocol: u8, between: &[u8], ports: [u16; 2]) -> Vec<u8> {
        let [source, destination] = addresses.map(octets);
        let mut bytes = [&[2; 12][..], tags].concat();
        if source.len() == 4 {
            bytes.extend([0x08, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0]);
        } else {
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, protocol, 64]);
        }
        bytes.extend([source, destination].concat());
        bytes.extend(between);
        bytes.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
        bytes.extend([0; 16]);
        bytes
    }

    /// What a frame is marked with.
    fn marked(types: u32, bytes: &[u8]) -> Option<u32> {
        let pool = Pool::new(PoolConfig { count: 1, huge: false, ..PoolConfig::default() }).unwrap();
        let m = pool.get().unwrap();
        // SAFETY: the packet is ours, and its room is larger.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), m.data(), bytes.len()) };
        m.set_data_len(bytes.len() as u16);
        m.set_pkt_len(bytes.len() as u32);
        Toeplitz::new(&DEFAULT_KEY, types).mark(m);
        let hash = (m.ol_flags() & flags::RX_RSS_HASH != 0).then(|| m.hash_rss());
        // SAFETY: ours.
        unsafe { Pool::free(m) };
        hash
    }

    #[test]
    fn the_verification_suite_comes_out_right() {
        for (source, from, destination, to, addresses, with_ports) in SUITE {
            let ip = [source, destination];
            for tags in [&[][..], &[0x81, 0, 0, 5], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6]] {
                let [tcp, udp, icmp] = [TCP, UDP, 1].map(|protocol| frame(tags, ip, protocol, &[], [from, to]));
                assert_eq!(marked(types::ALL, &tcp), Some(with_ports), "{source}");
                assert_eq!(marked(types::ALL, &udp), Some(with_ports));
                assert_eq!(marked(types::ALL, &icmp), Some(addresses));
                assert_eq!(marked(types::IPV4 | types::IPV6, &tcp), Some(addresses));
                assert_eq!(marked(types::UDPV4 | types::UDPV6, &tcp), None);
                assert_eq!(marked(types::TCPV4 | types::TCPV6, &tcp), Some(with_ports));
            }
        }
    }

    #[test]
    fn a_fragment_has_no_ports() {
        let (source, from, destination, to, addresses, _) = SUITE[0];
        for fragment in [[0x20, 0], [0, 1]] {
            let mut bytes = frame(&[], [source, destination], UDP, &[], [from, to]);
            bytes[20..22].copy_from_slice(&fragment);
            assert_eq!(marked(types::ALL, &bytes), Some(addresses));
        }
        let (source, from, destination, to, addresses, with_ports) = SUITE[5];
        for (offset, expected) in [(1, addresses), (8, addresses), (0, with_ports)] {
            let header = [UDP, 0, 0, offset, 0, 0, 0, 9];
            let bytes = frame(&[], [source, destination], FRAGMENT, &header, [from, to]);
            assert_eq!(marked(types::IPV6 | types::UDPV6, &bytes), Some(expected), "{offset}");
        }
    }

    #[test]
    fn extensions_say_who_the_ends_are() {
        let (source, from, destination, to, addresses, with_ports) = SUITE[5];
        // The true ends are in the extensions: the care-of address is another, and so is the next hop.
        let home = [&[ROUTING, 2, 1, 2, 0, 0, HOME_ADDRESS, 16][..], &octets(source)].concat();
        let last = [&[TCP, 2, TYPE_2, 1, 0, 0, 0, 0][..], &octets(destination)].concat();
        let between = [home, last].concat();
        let bytes = frame(&[], ["2001:db8::1", "2001:db8::2"], DESTINATION, &between, [from, to]);
        assert_eq!(marked(types::ALL, &bytes), Some(with_ports));
        assert_eq!(marked(types::ALL - types::TCP_EX, &bytes), Some(addresses));
        let skipped = frame(&[], [source, destination], HOP_BY_HOP, &[TCP, 0, 1, 4, 0, 0, 0, 0], [from, to]);
        assert_eq!(marked(types::TCPV6, &skipped), Some(with_ports));
        // So many that nobody looks behind them: the addresses are enough.
        let many = [HOP_BY_HOP, 0, 1, 4, 0, 0, 0, 0].repeat(EXTENSIONS);
        let endless = frame(&[], [source, destination], HOP_BY_HOP, &many, [from, to]);
        assert_eq!(marked(types::IPV6 | types::TCPV6, &endless), Some(addresses));
    }

    #[test]
    fn whatever_comes_is_read_inside_the_frame() {
        let (source, from, destination, to, ..) = SUITE[5];
        let between =
            [&[ROUTING, 2, 1, 2, 0, 0, HOME_ADDRESS, 16][..], &[7; 16], &[TCP, 2, TYPE_2, 1, 0, 0, 0, 0]].concat();
        let whole = frame(&[0x81, 0, 0, 5], [source, destination], DESTINATION, &between, [from, to]);
        for len in 14..whole.len() {
            marked(types::ALL, &whole[..len]);
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[len] = value;
                marked(types::ALL, &bytes);
            }
        }
        assert_eq!(marked(types::ALL, &[0xff; 60]), None);
    }
}
