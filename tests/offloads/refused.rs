//! What a packet asks for and cannot have, and what a tag may meet.

use vuser::buf::MbufRef;
use vuser::buf::mbuf::flags;
use vuser::mem::lanes::Simd;
use vuser::net::rx::RxOptions;
use vuser::spec::net::NetHdr;
use vuser::spec::virtio::Features;

use super::rig::{OFFLOADS, Plan, Rig, chained, frame, free, kinds, plain};
use super::{TSO, asking, lengths};

const TCP: u64 = flags::TX_TCP_CKSUM | flags::TX_IPV4;

/// A rig of either layout.
fn both(features: Features) -> [Rig; 2] {
    [Features::empty(), Features::RING_PACKED]
        .map(|layout| Rig::new(Simd::Auto, Features::VERSION_1 | features | layout))
}

#[test]
fn an_offload_that_does_not_fit_its_packet_is_refused_and_counted() {
    for mut rig in both(OFFLOADS) {
        let data = frame(1, 100);
        let whole = |what, l3, l4, segsz| asking(lengths(plain(&rig.pool, &data), 14, l3, l4, segsz), what);
        let parts = |lens: &[usize]| asking(lengths(chained(&rig.pool, 128, &data, lens), 14, 20, 20, 30), TSO);
        let headers_only = asking(lengths(plain(&rig.pool, &frame(2, 54)), 14, 20, 20, 30), TSO);
        let packets = [
            // Nobody computes an outer header's checksum.
            whole(flags::TX_OUTER_IP_CKSUM | TSO, 20, 20, 30),
            // A header of no length; one that ends too near to the packet's end.
            whole(TCP, 0, 20, 0),
            whole(TCP, 70, 20, 0),
            // Segments of no bytes; behind a header that is none.
            whole(TSO, 20, 20, 0),
            whole(TSO, 20, 7, 30),
            // Of no IP; of two transports.
            whole(flags::TX_TCP_SEG, 20, 20, 30),
            whole(flags::TX_TCP_SEG | flags::TX_UDP_CKSUM | flags::TX_IPV4, 20, 20, 30),
            // Headers that reach behind the first buffer; headers, and nothing to cut.
            parts(&[53, 47]),
            headers_only,
        ];
        assert_eq!(rig.tx.prepare(&packets), 0);
        for (k, m) in packets.iter().enumerate() {
            assert_eq!(rig.send(&[*m]), [], "packet {k}");
            assert_eq!((rig.tx_stats().bad_offload, rig.tx_stats().packets), (k as u64 + 1, 0), "packet {k}");
        }
        rig.finish();
    }
    for missing in [Features::HOST_TSO4, Features::CSUM] {
        for mut rig in both(OFFLOADS - missing) {
            let m = asking(lengths(plain(&rig.pool, &frame(1, 100)), 14, 20, 20, 30), TSO);
            assert_eq!((rig.send(&[m]).len(), rig.tx_stats().bad_offload), (0, 1), "{missing:?}");
            rig.finish();
        }
    }
}

#[test]
fn segments_say_ecn_only_where_it_was_agreed_and_their_header_says_it() {
    const SAID: u8 = 0x80;
    for (features, tcp_flags, first, ecn) in [
        (OFFLOADS, 0x80, 100, SAID),
        (OFFLOADS, 0x7f, 100, 0),
        (OFFLOADS - Features::HOST_ECN, 0x80, 100, 0),
        // The flags are in the next buffer, where nobody looks.
        (OFFLOADS, 0x80, 44, 0),
    ] {
        for mut rig in both(features) {
            let mut data = frame(1, 100);
            data[14 + 20 + 13] = tcp_flags;
            let lens: &[usize] = if first == 100 { &[100] } else { &[first, 100 - first] };
            // What is cut has its IP checksums computed with it.
            let m = lengths(chained(&rig.pool, 128, &data, lens), 14, 20, 8, 30);
            let seen = rig.send(&[asking(m, TSO | flags::TX_IP_CKSUM)]).remove(0);
            let expected = NetHdr {
                flags: 1,
                gso_type: 1 | ecn,
                gso_size: 30,
                hdr_len: 42,
                csum_start: 34,
                csum_offset: 16,
                ..NetHdr::default()
            };
            assert_eq!((seen.header, seen.frame), (expected, data), "{tcp_flags:#x}, {first} bytes in the first");
            rig.finish();
        }
    }
}

#[test]
fn only_packets_whose_headers_are_there_can_be_prepared() {
    for mut rig in both(OFFLOADS) {
        let data = frame(3, 120);
        let packet =
            |lens: &[usize], what, l3| asking(lengths(chained(&rig.pool, 128, &data, lens), 14, l3, 20, 0), what);
        let cannot = [
            // An IPv4 checksum of what is not IPv4, of too short a header, of one in two buffers.
            packet(&[120], flags::TX_IP_CKSUM, 20),
            packet(&[120], flags::TX_IP_CKSUM | flags::TX_IPV4, 19),
            packet(&[30, 90], flags::TX_IP_CKSUM | flags::TX_IPV4, 20),
            // Addresses where the header has none; a checksum in the second buffer.
            packet(&[120], TCP, 16),
            packet(&[120], flags::TX_TCP_CKSUM | flags::TX_IPV6, 20),
            packet(&[120], flags::TX_TCP_CKSUM, 20),
            packet(&[51, 69], TCP, 20),
        ];
        for (k, m) in cannot.iter().enumerate() {
            assert_eq!(rig.tx.prepare(&[*m]), 0, "packet {k}");
        }
        let can = [
            packet(&[120], 0, 0),
            packet(&[120], flags::TX_IP_CKSUM | flags::TX_IPV4, 20),
            packet(&[52, 68], TCP, 20),
            cannot[0],
        ];
        // They are prepared up to the first that can't be.
        assert_eq!(rig.tx.prepare(&can), 3);
        assert_eq!(can.map(MbufRef::ol_flags), [0, flags::TX_IPV4, TCP, flags::TX_IP_CKSUM]);
        cannot.into_iter().chain(can.into_iter().take(3)).for_each(free);
        rig.finish();
    }
}

#[test]
fn a_tag_is_put_in_wherever_the_first_buffer_ends() {
    for (simd, features) in kinds() {
        let mut rig = Rig::new(simd, features | OFFLOADS);
        let data = frame(5, 100);
        let tag = |lens: &[usize], what| {
            let m = asking(lengths(chained(&rig.pool, 128, &data, lens), 14, 20, 20, 30), flags::TX_VLAN | what);
            m.set_vlan_tci(0x0abc);
            m
        };
        let packets = [tag(&[100], 0), tag(&[12, 88], 0), tag(&[13, 87], 0), tag(&[100], TSO), tag(&[11, 89], 0)];
        let seen = rig.send(&packets);
        let tagged = [&data[..12], &[0x81, 0, 0x0a, 0xbc], &data[12..]].concat();
        assert!(seen.len() == 4 && seen.iter().all(|s| s.frame == tagged), "{features:?}");
        let large =
            NetHdr { flags: 1, gso_type: 1, gso_size: 30, csum_start: 38, csum_offset: 16, ..NetHdr::default() };
        assert!(seen[..3].iter().all(|s| s.header == NetHdr::default()), "{features:?}");
        assert_eq!(
            NetHdr { gso_type: seen[3].header.gso_type & 0x7f, ..seen[3].header },
            NetHdr { hdr_len: 58, ..large }
        );
        // Two addresses in two buffers are not put together.
        assert_eq!((rig.tx_stats().packets, rig.tx_stats().bad_packet), (4, 1), "{features:?}");
        rig.finish();
    }
}

#[test]
fn a_frame_too_short_for_a_tag_has_none() {
    for (simd, features) in kinds() {
        let options = RxOptions { vlan_strip: true, port: 7, sort: false, gate: 0, shift: 0 };
        let mut rig = Plan { options, ..Plan::new(simd, features) }.build();
        rig.rx.refill();
        let mut tagged = frame(6, 18);
        tagged[12..16].copy_from_slice(&[0x81, 0, 0, 5]);
        (14..=18).for_each(|len| assert!(rig.arrive(NetHdr::default(), &tagged[..len])));
        let got = rig.received();
        assert_eq!(got.iter().map(|f| f.pkt_len).collect::<Vec<_>>(), [14, 15, 16, 17, 14], "{features:?}");
        assert_eq!((got[3].ol_flags, got[4].vlan_tci), (0, 5), "{features:?}");
        rig.finish();
    }
}
