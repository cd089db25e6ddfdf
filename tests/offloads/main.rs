//! What the queues promise of packets and frames: what the device sees of a packet, what the application sees of a
//! frame, and where the buffers are in the end. The device is stepped by hand, over every layout and framing.

mod allocator;
mod lent;
mod own;
mod refused;
#[allow(dead_code, reason = "a rig has more than one test needs")]
mod rig;
mod taps;

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rig::{OFFLOADS, Plan, Rig, bytes, chained, frame, free, kinds, plain, segment};
use vuser::buf::MbufRef;
use vuser::buf::mbuf::flags;
use vuser::mem::lanes::Simd;
use vuser::net::copy::{Frames, Places};
use vuser::net::path;
use vuser::net::rx::RxOptions;
use vuser::net::toeplitz::{DEFAULT_KEY, Toeplitz};
use vuser::spec::net::{NetHdr, hash_type};
use vuser::spec::virtio::Features;

const TSO: u64 = flags::TX_TCP_SEG | flags::TX_IPV4 | flags::TX_TCP_CKSUM;

fn lengths(m: MbufRef, l2: u64, l3: u64, l4: u64, segsz: u64) -> MbufRef {
    m.set_raw_tx_offload(l2 | l3 << 7 | l4 << 16 | segsz << 24);
    m
}

fn asking(m: MbufRef, what: u64) -> MbufRef {
    m.set_ol_flags(what);
    m
}

#[test]
fn packets_of_every_shape_arrive_whole_with_an_empty_header() {
    for (simd, features) in kinds() {
        let mut rig = Rig::new(simd, features);
        let data = frame(1, 700);
        let shared = plain(&rig.pool, &data);
        shared.refcnt().store(2, Ordering::Relaxed);
        let original = plain(&rig.pool, &data);
        // SAFETY: a packet of a living pool.
        let clone = unsafe { rig.pool.clone_packet(original) }.unwrap();
        let packets = [
            plain(&rig.pool, &data),
            segment(&rig.pool, 4, &data),
            segment(&rig.pool, 129, &data),
            shared,
            clone,
            chained(&rig.pool, 128, &data, &[1, 2, 3, 694]),
            chained(&rig.pool, 0, &data, &[350, 0, 350]),
            chained(&rig.pool, 128, &data, &[25; 28]),
            plain(&rig.other, &data),
        ];
        let seen = rig.send(&packets);
        assert_eq!(seen.len(), packets.len(), "{features:?}: {:?}", rig.tx_stats());
        for (k, packet) in seen.iter().enumerate() {
            assert_eq!((packet.header, &packet.frame), (NetHdr::default(), &data), "{features:?}, packet {k}");
            assert!(!rig.framing.own_descriptor || u32::from(rig.framing.hdr_len) == packet.elements[0]);
        }
        assert_eq!(rig.tx_stats().packets, packets.len() as u64);
        rig.tx.done_cleanup(1000);
        assert_eq!((bytes(shared), bytes(original)), (data.clone(), data));
        free(shared);
        free(original);
        rig.finish();
    }
}

#[test]
fn what_can_never_be_sent_is_dropped_and_counted_by_its_reason() {
    for (simd, features) in kinds() {
        let mut rig = Rig::new(simd, features);
        let data = frame(2, 100);
        let foreign = rig::pool(4, 2176);
        let wrong_length = plain(&rig.pool, &data);
        wrong_length.set_pkt_len(99);
        let packets = [
            plain(&rig.pool, &frame(1, 13)),
            wrong_length,
            asking(lengths(plain(&rig.pool, &data), 14, 20, 20, 0), flags::TX_TCP_CKSUM),
            asking(plain(&rig.pool, &data), flags::TX_SCTP_CKSUM),
            asking(plain(&rig.pool, &data), flags::TX_IP_CKSUM | flags::TX_IPV4),
            plain(&foreign, &data),
            chained(&rig.pool, 128, &frame(3, 130), &[2; 65]),
        ];
        assert_eq!(rig.send(&packets), []);
        let stats = rig.tx_stats();
        let counted = [stats.bad_packet, stats.bad_offload, stats.bad_address, stats.too_many_segments, stats.packets];
        assert_eq!(counted, [2, 3, 1, 1, 0], "{features:?}");
        assert_eq!(foreign.available(), 4);
        rig.finish();
    }
}

#[test]
fn offloads_become_the_header_that_the_standard_describes() {
    for (simd, features) in kinds() {
        let mut rig = Rig::new(simd, features | OFFLOADS);
        let mut data = frame(4, 1400);
        data[14 + 20 + 13] = 0x80;
        let packet = |what, l4, segsz| asking(lengths(plain(&rig.pool, &data), 14, 20, l4, segsz), what);
        let packets = [
            packet(flags::TX_TCP_CKSUM, 20, 0),
            packet(flags::TX_UDP_CKSUM, 8, 0),
            packet(TSO, 20, 500),
            packet(flags::TX_TCP_SEG | flags::TX_IPV6, 20, 600),
            packet(flags::TX_UDP_SEG | flags::TX_IPV4, 8, 700),
            packet(flags::TX_TCP_CKSUM | flags::TX_VLAN, 20, 0),
        ];
        packets[5].set_vlan_tci(0x123);
        let seen = rig.send(&packets);
        let header = |gso_type, gso_size, hdr_len, csum_start, csum_offset| NetHdr {
            flags: 1,
            gso_type,
            gso_size,
            hdr_len,
            csum_start,
            csum_offset,
            ..NetHdr::default()
        };
        let expected = [
            header(0, 0, 0, 34, 16),
            header(0, 0, 0, 34, 6),
            header(1 | 0x80, 500, 54, 34, 16),
            header(4 | 0x80, 600, 54, 34, 16),
            header(5, 700, 42, 34, 6),
            header(0, 0, 0, 38, 16),
        ];
        assert_eq!(seen.iter().map(|s| s.header).collect::<Vec<_>>(), expected, "{features:?}");
        let tagged = [&data[..12], &[0x81, 0, 0x01, 0x23], &data[12..]].concat();
        assert!(seen[..5].iter().all(|s| s.frame == data) && seen[5].frame == tagged);
        rig.finish();
    }
}

#[test]
fn a_prepared_packet_has_a_right_checksum_once_the_device_completes_it() {
    let mut rig = Rig::new(Simd::Auto, Features::VERSION_1 | OFFLOADS);
    for (len, l3, what) in [
        (100, 20, flags::TX_IPV4 | flags::TX_TCP_CKSUM | flags::TX_IP_CKSUM),
        (101, 20, flags::TX_IPV4 | flags::TX_UDP_CKSUM),
        (1401, 40, flags::TX_IPV6 | flags::TX_TCP_CKSUM),
    ] {
        let mut data = frame(len, len);
        data[14 + 9] = if what & flags::TX_L4_MASK == flags::TX_TCP_CKSUM { 6 } else { 17 };
        let m = asking(lengths(plain(&rig.pool, &data), 14, l3, 20, 0), what);
        assert_eq!(rig.tx.prepare(&[m]), 1);
        let seen = rig.send(&[m]).remove(0);
        let (start, at) =
            (seen.header.csum_start as usize, (seen.header.csum_start + seen.header.csum_offset) as usize);
        let sum = |bytes: &[u8]| -> u64 {
            bytes.chunks(2).map(|c| u64::from(c[0]) << 8 | u64::from(c.get(1).copied().unwrap_or(0))).sum()
        };
        let fold = |mut n: u64| {
            while n > 0xffff {
                n = (n & 0xffff) + (n >> 16);
            }
            n as u16
        };
        // What the device does: the sum from csum_start on, of which the field already holds the pseudo-header's.
        let mut done = seen.frame.clone();
        let checksum = !fold(sum(&done[start..]));
        done[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        // What a receiver does, from scratch: pseudo-header and segment give all ones.
        let addresses = if l3 == 20 { &done[26..34] } else { &done[22..54] };
        let protocol = if seen.header.csum_offset == 16 { 6 } else { 17 };
        assert_eq!(fold(sum(addresses) + protocol + (done.len() - start) as u64 + sum(&done[start..])), 0xffff);
        if what & flags::TX_IP_CKSUM != 0 {
            assert_eq!(fold(sum(&done[14..34])), 0xffff);
        }
    }
    rig.finish();
}

#[test]
fn received_frames_look_the_same_by_fours_and_one_by_one() {
    for (simd, features) in kinds() {
        let arrive = |most: usize| {
            let mut rig = Rig::new(simd, features);
            // Buffers with a past: flags, tags and sizes of another life.
            let mut old: Vec<_> = std::iter::from_fn(|| rig.pool.get()).collect();
            for m in &old {
                m.set_ol_flags(flags::RX_LRO | flags::RX_VLAN);
                m.set_vlan_tci(77);
                m.set_hash_rss(78);
                m.set_packet_type(79);
            }
            rig.pool.put_plain(&old);
            old.clear();
            rig.rx.refill();
            for n in 0..24 {
                assert!(rig.arrive(NetHdr::default(), &frame(n, 60 + n)));
            }
            rig.publish();
            let mut all = Vec::new();
            while all.len() < 24 {
                let got = rig.receive(most);
                assert!(!got.is_empty(), "{features:?}");
                all.extend(got.iter().map(|m| rig::Fields::of(*m)));
                got.into_iter().for_each(free);
            }
            assert_eq!((rig.rx_stats().packets, rig.rx_stats().bytes), (24, (0..24).map(|n| 60 + n).sum()));
            rig.finish();
            all
        };
        let by_fours = arrive(32);
        assert!(
            by_fours.iter().enumerate().all(|(n, f)| f.bytes == frame(n, 60 + n) && f.port == 7 && f.ol_flags == 0)
        );
        for most in [1, 3, 5] {
            assert_eq!(arrive(most), by_fours, "{features:?}, {most} at a time");
        }
    }
}

#[test]
fn headers_of_received_frames_become_flags_and_nonsense_is_counted() {
    for (simd, features) in kinds() {
        let mut rig = Rig::new(simd, features | OFFLOADS);
        rig.rx.refill();
        let header = |flags, gso_type, gso_size, csum_offset| NetHdr {
            flags,
            gso_type,
            gso_size,
            csum_start: 34,
            csum_offset,
            ..NetHdr::default()
        };
        let good = [header(0, 0, 0, 0), header(1, 0, 0, 16), header(2, 0, 0, 0), header(1, 1, 500, 16)];
        let bad = [header(1, 0, 0, 200), header(1, 3, 500, 16), header(1, 1, 0, 16), header(1, 9, 9, 16)];
        for h in good.iter().chain(&bad).chain(&good) {
            assert!(rig.arrive(*h, &frame(5, 200)));
        }
        let got = rig.received();
        let none = flags::RX_L4_CKSUM_NONE;
        let expected = [0, none, flags::RX_L4_CKSUM_GOOD, none | flags::RX_LRO];
        let seen: Vec<u64> = got.iter().map(|f| f.ol_flags).collect();
        assert_eq!(seen, [expected, expected].concat(), "{features:?}");
        assert_eq!((got[3].tso_segsz, rig.rx_stats().bad_header), (Some(500), 4));
        rig.finish();
    }
}

#[test]
fn a_hash_is_reported_when_it_is_one() {
    for (simd, features) in kinds().into_iter().filter(|(_, f)| f.contains(Features::HASH_REPORT)) {
        let mut rig = Rig::new(simd, features);
        rig.rx.refill();
        for hash_report in [0, 1, 9, 10, 0xffff] {
            assert!(rig.arrive(NetHdr { hash_value: 0xabcd, hash_report, ..NetHdr::default() }, &frame(6, 90)));
        }
        let seen: Vec<_> = rig.received().iter().map(|f| (f.ol_flags, f.hash_rss)).collect();
        let yes = (flags::RX_RSS_HASH, 0xabcd);
        assert_eq!(seen, [(0, 0), yes, yes, (0, 0), (0, 0)], "{features:?}");
        rig.finish();
    }
}

#[test]
fn a_hash_is_computed_for_as_long_as_it_is_asked_for() {
    for (simd, features) in kinds() {
        for (vlan_strip, sort) in [(false, false), (true, false), (false, true)] {
            let options = RxOptions { vlan_strip, port: 7, sort, gate: 0, shift: 0 };
            let mut rig = Plan { options, ..Plan::new(simd, features) }.build();
            rig.rx.refill();
            // Microsoft's first example, and a frame of no kind that has a hash.
            let ip = [0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 66, 9, 149, 187, 161, 142, 100, 80];
            let tcp =
                [&frame(1, 12)[..], &[8, 0], &ip, &2794u16.to_be_bytes(), &1766u16.to_be_bytes(), &[0; 20]].concat();
            let mut marks = Vec::new();
            for hasher in [None, Some(Arc::new(Toeplitz::new(&DEFAULT_KEY, hash_type::ALL))), None] {
                rig.rx.set_hasher(hasher);
                (0..3).for_each(|_| {
                    assert!(rig.arrive(NetHdr::default(), &tcp) && rig.arrive(NetHdr::default(), &frame(1, 60)))
                });
                let got = rig.received();
                marks.push(got.iter().map(|f| (f.ol_flags, f.hash_rss)).collect::<Vec<_>>());
            }
            let hashed = [(flags::RX_RSS_HASH, 0x51cc_c178), (0, 0)].repeat(3);
            let is_marked = |m: &(u64, u32)| m.0 != 0;
            assert!(!marks[0].iter().chain(&marks[2]).any(is_marked), "{features:?}");
            let seen: Vec<_> = marks[1].iter().map(|m| if is_marked(m) { *m } else { (0, 0) }).collect();
            assert_eq!(seen, hashed, "{features:?}");
            rig.finish();
        }
    }
}

#[test]
fn a_frame_longer_than_any_that_is_all_there_is_not_the_next_for_ever() {
    for (simd, features) in kinds().into_iter().filter(|(_, f)| f.contains(Features::MRG_RXBUF)) {
        let mut rig = Rig::new(simd, features);
        rig.rx.refill();
        assert!(rig.arrive(NetHdr::default(), &frame(1, 66_000)) && rig.arrive(NetHdr::default(), &frame(2, 90)));
        rig.publish();
        // Too little room may be more the next time; there is never more than the longest frame has.
        assert_eq!((copies_into(&mut rig, 65_549).len(), rig.rx_stats().bad_header), (0, 0), "{features:?}");
        assert_eq!((copies_into(&mut rig, 65_550).len(), rig.rx_stats().bad_header), (0, 1), "{features:?}");
        assert_eq!(copies(&mut rig), [frame(2, 90)], "{features:?}");
        rig.finish();
    }
}

#[test]
fn vlan_tags_are_taken_out_on_every_path() {
    for (simd, features) in kinds() {
        let options = RxOptions { vlan_strip: true, port: 7, sort: false, gate: 0, shift: 0 };
        let mut rig = Plan { options, ..Plan::new(simd, features) }.build();
        rig.rx.refill();
        let data = frame(7, 80);
        let tagged = [&data[..12], &[0x81, 0, 0x0f, 0xff], &data[12..]].concat();
        for _ in 0..7 {
            assert!(rig.arrive(NetHdr::default(), &tagged) && rig.arrive(NetHdr::default(), &data));
        }
        for (n, f) in rig.received().iter().enumerate() {
            let tag = if n % 2 == 0 { (flags::RX_VLAN | flags::RX_VLAN_STRIPPED, 0xfff) } else { (0, 0) };
            assert_eq!((&f.bytes, (f.ol_flags, f.vlan_tci)), (&data, tag), "{features:?}, frame {n}");
        }
        rig.finish();
    }
}

#[test]
fn frames_of_a_device_that_has_gone_are_received_as_they_would_have_been() {
    for (simd, features) in kinds() {
        let options = RxOptions { vlan_strip: true, port: 7, sort: false, gate: 0, shift: 0 };
        let mut former = Plan { options, ..Plan::new(simd, features) }.build();
        former.rx.refill();
        let frames: Vec<_> = (0..6).map(|n| frame(n, 80 + n)).collect();
        for frame in &frames {
            assert!(former.arrive(NetHdr::default(), &[&frame[..12], &[0x81, 0, 0, 9], &frame[12..]].concat()));
        }
        former.publish();
        let mut rig = Plan { options, pool: Some(former.pool), ..Plan::new(simd, features) }.build();
        rig.rx.restore(former.rx.salvage());
        // One is in the hands of the application for a moment, tag and all; then they come by bursts.
        assert_eq!(lent::Lent::all(&mut rig, 1)[0].bytes[12..16], [0x81, 0, 0, 9], "{features:?}");
        assert!(rig.arrive(NetHdr::default(), &frame(7, 90)));
        let got = rig.received();
        assert_eq!(got.iter().map(|f| f.vlan_tci).collect::<Vec<_>>(), [9, 9, 9, 9, 9, 9, 0], "{features:?}");
        let expected = [&frames[..], &[frame(7, 90)]].concat();
        assert_eq!(got.into_iter().map(|f| f.bytes).collect::<Vec<_>>(), expected, "{features:?}");
        rig.finish();
    }
}

#[test]
fn what_is_salvaged_goes_home_where_the_next_queue_has_another_source() {
    for (simd, features) in kinds() {
        let mut former = Rig::new(simd, features);
        former.rx.refill();
        (0..3).for_each(|n| assert!(former.arrive(NetHdr::default(), &frame(n, 90))));
        former.publish();
        let data = frame(1, 100);
        assert_eq!(former.tx.burst(&[plain(&former.pool, &data), plain(&former.other, &data)]), 2);
        let mut rig = Rig::new(simd, features);
        rig.rx.restore(former.rx.salvage());
        rig.tx.restore(former.tx.salvage(), true);
        assert_eq!((former.pool.available(), former.other.available()), (600, 80), "{features:?}");
        assert_eq!((rig.received().len(), rig.sent().len()), (0, 0), "{features:?}");
        rig.finish();
    }
}

#[test]
fn a_merged_frame_whose_last_buffers_come_later_is_completed_by_a_later_burst() {
    for (simd, features) in
        kinds().into_iter().filter(|(_, f)| f.contains(Features::MRG_RXBUF) && !f.contains(Features::IN_ORDER))
    {
        let mut rig = Rig::new(simd, features | OFFLOADS);
        rig.rx.refill();
        let refused = NetHdr { flags: 1, csum_start: 9000, ..NetHdr::default() };
        for (n, header) in [(0, NetHdr::default()), (1, refused), (2, NetHdr::default())] {
            let data = frame(n, 7000);
            let buffers = rig.fill(header, &data).unwrap();
            assert!(buffers.len() > 3);
            for (k, (chain, len)) in buffers.iter().enumerate() {
                rig.rx_side.ring.push_used(chain, *len);
                rig.publish();
                let got = rig.receive(4);
                let complete = k + 1 == buffers.len() && n != 1;
                assert_eq!(got.len(), usize::from(complete), "{features:?}, frame {n}, buffer {k}");
                for m in got {
                    assert_eq!((bytes(m), m.nb_segs()), (data.clone(), buffers.len() as u16));
                    free(m);
                }
            }
        }
        assert_eq!((rig.rx_stats().packets, rig.rx_stats().bad_header), (2, 1));
        rig.finish();
    }
}

/// Frames copied out of a queue.
fn copies(rig: &mut Rig) -> Vec<Vec<u8>> {
    copies_into(rig, 1 << 18)
}

/// The same into so many bytes.
fn copies_into(rig: &mut Rig, size: usize) -> Vec<Vec<u8>> {
    let mut data = vec![0xeeu8; size];
    let (mut offsets, mut lengths) = ([MaybeUninit::new(0); 64], [MaybeUninit::new(0); 64]);
    let to = &mut Places { data: data.as_mut_ptr(), size: data.len(), offsets: &mut offsets, lengths: &mut lengths };
    // SAFETY: the memory is ours.
    let n = unsafe { rig.rx.copy_out(to) };
    // SAFETY: they are numbers from the beginning.
    let number = |places: &[MaybeUninit<u32>], n: usize| unsafe { places[n].assume_init() } as usize;
    (0..n).map(|n| data[number(&offsets, n)..][..number(&lengths, n)].to_vec()).collect()
}

/// The frame with the checksum that its device left to be done, by the book.
fn finished(header: NetHdr, mut frame: Vec<u8>) -> Vec<u8> {
    let covered = &mut frame[usize::from(header.csum_start)..];
    let words = covered.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = if sum == 0xffff { sum as u16 } else { !(sum as u16) };
    covered[usize::from(header.csum_offset)..][..2].copy_from_slice(&checksum.to_be_bytes());
    frame
}

#[test]
fn checksums_are_finished_in_copies_on_every_path() {
    for (simd, features) in kinds() {
        let options = RxOptions { vlan_strip: true, port: 7, sort: false, gate: 0, shift: 0 };
        let mut rig = Plan { options, ..Plan::new(simd, features | OFFLOADS) }.build();
        rig.rx.refill();
        let tcp = NetHdr { flags: 1, csum_start: 34, csum_offset: 16, ..NetHdr::default() };
        let udp = NetHdr { csum_start: 54, csum_offset: 6, ..tcp };
        let large = NetHdr { gso_type: 1, gso_size: 500, ..tcp };
        let (plain, good) = (NetHdr::default(), NetHdr { flags: 2, ..NetHdr::default() });
        // Segments of which nothing is said do not become better.
        let segments = NetHdr { flags: 0, ..large };
        let mut given: Vec<_> = [plain, tcp, udp, plain, large, good, segments]
            .into_iter()
            .enumerate()
            .map(|(n, header)| (header, frame(n, 200 + n)))
            .collect();
        given[1].1[12..14].copy_from_slice(&[0x81, 0]);
        if features.contains(Features::MRG_RXBUF) {
            given.push((tcp, frame(8, 7001)));
        }
        for (header, frame) in &given {
            assert!(rig.arrive(*header, frame));
        }
        rig.publish();
        let expected = |given: &[(NetHdr, Vec<u8>)]| -> Vec<Vec<u8>> {
            let one = |(h, f): &(NetHdr, Vec<u8>)| if h.flags == 1 { finished(*h, f.clone()) } else { f.clone() };
            given.iter().map(one).collect()
        };
        let mut got = Vec::new();
        while got.len() < given.len() {
            let some = copies(&mut rig);
            assert!(!some.is_empty(), "{features:?}: {} of {}", got.len(), given.len());
            got.extend(some);
        }
        assert_eq!(got, expected(&given), "{features:?}");
        rig.finish();
    }
}

#[test]
fn checksums_are_finished_of_frames_that_are_not_in_the_ring_any_more() {
    let merged = |f: &Features| f.contains(Features::MRG_RXBUF) && !f.contains(Features::IN_ORDER);
    for (simd, features) in kinds().into_iter().filter(|(_, f)| merged(f)) {
        // One that a burst had begun to receive, and one of more buffers than are looked at at once.
        for (len, data_size) in [(7001, 2048), (9001, 128)] {
            let plan = Plan::new(simd, features | OFFLOADS);
            let mut rig = Plan { data_size: data_size + 128, size: 256, ..plan }.build();
            rig.rx.refill();
            let header = NetHdr { flags: 1, csum_start: 34, csum_offset: 16, ..NetHdr::default() };
            let data = frame(1, len);
            let buffers = rig.fill(header, &data).unwrap();
            for (n, (chain, len)) in buffers.iter().enumerate() {
                rig.rx_side.ring.push_used(chain, *len);
                if n == 0 && data_size == 2048 {
                    rig.publish();
                    assert!(rig.receive(1).is_empty());
                }
            }
            rig.publish();
            assert_eq!(copies(&mut rig), [finished(header, data)], "{features:?}, {len} bytes");
            rig.finish();
        }
    }
}

#[test]
fn a_path_is_named_by_its_layout_and_lanes() {
    for simd in Simd::all() {
        let lanes = format!("{simd:?}").to_lowercase();
        for (features, layout) in [(Features::VERSION_1, "split"), (Features::RING_PACKED, "packed")] {
            assert_eq!(path::name(features, simd), format!("{layout} {lanes}"));
        }
    }
}

#[test]
fn what_was_sent_is_given_back_a_few_at_a_time_where_that_is_asked_for() {
    for (simd, features) in kinds() {
        let mut rig = Rig::new(simd, features);
        let data = frame(1, 200);
        let packets: Vec<_> = (0..12).map(|_| chained(&rig.pool, 128, &data, &[100, 100])).collect();
        assert_eq!(rig.send(&packets).len(), 12);
        let before = rig.pool.available();
        assert_eq!((rig.tx.done_cleanup(5), rig.pool.available() - before), (5, 10), "{features:?}");
        assert_eq!((rig.tx.done_cleanup(100), rig.pool.available() - before), (7, 24), "{features:?}");
        rig.finish();
    }
}

/// Sends frames by copying them: offsets and lengths in these bytes; how many were taken.
fn send_copies(rig: &mut Rig, data: &[u8], places: &[(u32, u32)]) -> usize {
    let (offsets, lengths): (Vec<u32>, Vec<u32>) = places.iter().copied().unzip();
    let from = Frames { data: data.as_ptr(), size: data.len(), offsets: &offsets, lengths: &lengths };
    // SAFETY: the memory is ours, of this size.
    unsafe { rig.tx.copy_in(from) }
}

#[test]
fn frames_that_do_not_lie_in_the_memory_are_counted_and_all_others_are_sent() {
    for (simd, features) in kinds() {
        let mut rig = Rig::new(simd, features);
        let data = frame(1, 70_000);
        let size = data.len() as u32;
        let good = [(0, 60), (size - 100, 100), (7, 9000)];
        // Beyond the end, from there on, from far behind it; longer than any frame; of no byte at all.
        let bad = [(size - 59, 60), (size, 60), (u32::MAX, 60), (0, 65_551), (5, u32::MAX), (60, 0)];
        let places = [&bad[..3], &good[..1], &bad[3..5], &good[1..], &bad[5..]].concat();
        assert_eq!(send_copies(&mut rig, &data, &places), 9, "{features:?}");
        let seen: Vec<_> = rig.sent().into_iter().map(|s| s.frame).collect();
        assert_eq!(seen, good.map(|(at, len)| data[at as usize..][..len as usize].to_vec()), "{features:?}");
        assert_eq!((rig.tx_stats().packets, rig.tx_stats().bad_packet), (3, 6), "{features:?}");
        rig.finish();
    }
}

#[test]
fn copies_are_sent_as_far_as_there_are_buffers() {
    for (simd, features) in kinds() {
        // Three frames of two buffers each take six of seven; the fourth would need another one.
        let mut rig = Plan { buffers: 7, ..Plan::new(simd, features) }.build();
        let data = frame(1, 3000);
        assert_eq!(send_copies(&mut rig, &data, &[(0, 3000); 5]), 3, "{features:?}");
        assert!(rig.tx_stats().no_buffer > 0, "{features:?}");
        assert_eq!(rig.pool.available(), 1, "{features:?}: what was begun is given back");
        assert!(rig.sent().iter().all(|s| s.frame == data));
        // What has been sent makes room.
        assert_eq!(send_copies(&mut rig, &data, &[(0, 3000); 2]), 2, "{features:?}");
        assert_eq!((rig.sent().len(), rig.tx_stats().packets), (2, 5), "{features:?}");
        rig.finish();
    }
}
