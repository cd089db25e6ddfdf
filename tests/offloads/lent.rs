//! Frames that are lent in place, on every path.

use std::mem::MaybeUninit;

use vuser::buf::mbuf::flags;
use vuser::mem::lanes::Simd;
use vuser::net::lend::{CSUM_GOOD, LARGE, LentFrame, MORE, NEEDS_CSUM};
use vuser::net::rx::RxOptions;
use vuser::spec::net::NetHdr;
use vuser::spec::virtio::Features;

use super::rig::{Fields, OFFLOADS, Plan, Rig, frame, free, kinds};

const STRIP: RxOptions = RxOptions { vlan_strip: true, port: 7, sort: true, gate: 0, shift: 0 };

/// A frame that is lent: the bytes that are there, and what is said of it.
#[derive(Debug, PartialEq)]
pub struct Lent {
    pub bytes: Vec<u8>,
    pub says: u32,
    pub whole: bool,
    pub buffers: usize,
}

impl Lent {
    /// All frames that are lent in so many buffers at most.
    pub fn all(rig: &mut Rig, most: usize) -> Vec<Self> {
        let mut out = vec![MaybeUninit::<LentFrame>::uninit(); most];
        let n = rig.rx.peek(&mut out);
        let mut all = Vec::<Self>::new();
        for part in &out[..n] {
            // SAFETY: lent, so written; so many bytes are there until they are given back.
            let (part, bytes) = unsafe {
                let part = part.assume_init();
                (part, std::slice::from_raw_parts(part.data.cast::<u8>(), part.len as usize).to_vec())
            };
            match all.last_mut().filter(|last| !last.whole) {
                Some(last) => {
                    last.bytes.extend(bytes);
                    (last.whole, last.buffers) = (part.flags & MORE == 0, last.buffers + 1);
                }
                None => all.push(Self { bytes, says: part.flags & !MORE, whole: part.flags & MORE == 0, buffers: 1 }),
            }
        }
        all
    }
}

/// Kinds whose frames may have several buffers, and whose device may be interrupted among them.
pub fn merging() -> impl Iterator<Item = (Simd, Features)> {
    kinds().into_iter().filter(|(_, f)| f.contains(Features::MRG_RXBUF) && !f.contains(Features::IN_ORDER))
}

#[test]
fn frames_are_lent_and_what_is_none_is_dropped_and_counted() {
    for (simd, features) in kinds() {
        for offloads in [Features::empty(), OFFLOADS] {
            let mut rig = Rig::new(simd, features | offloads);
            rig.rx.refill();
            let header = |flags, gso_type, csum_start| NetHdr {
                flags,
                gso_type,
                gso_size: 300,
                csum_start,
                csum_offset: 16,
                ..NetHdr::default()
            };
            let mut multicast = frame(3, 64);
            multicast[0] |= 1;
            let mut broadcast = frame(6, 260);
            broadcast[..6].fill(0xff);
            let given = [
                (NetHdr::default(), frame(1, 60), 0),
                (NetHdr::default(), multicast, 0),
                (header(1, 0, 34), frame(2, 90), NEEDS_CSUM),
                (header(2, 0, 0), frame(4, 130), CSUM_GOOD),
                (header(1, 1, 34), frame(5, 1600), NEEDS_CSUM | LARGE),
                (NetHdr::default(), broadcast, 0),
            ];
            let plain = offloads.is_empty();
            let mut expected = Vec::new();
            for (header, frame, says) in given {
                if !plain {
                    // One that points outside of itself is in front of each.
                    assert!(rig.arrive(NetHdr { flags: 1, csum_start: 9000, ..NetHdr::default() }, &frame));
                }
                let mut runt = vec![0; rig.hdr_len() + 5];
                runt[10] = 1;
                rig.arrive_raw(&runt);
                let header = if plain { NetHdr::default() } else { header };
                assert!(rig.arrive(header, &frame));
                expected.push((frame, if plain { 0 } else { says }));
            }
            rig.publish();
            let mut got = Vec::new();
            while got.len() < expected.len() {
                let lent = Lent::all(&mut rig, 16);
                assert!(!lent.is_empty() && lent.iter().all(|l| l.whole), "{features:?}: {got:?}");
                rig.rx.release(lent.iter().map(|l| l.buffers).sum());
                got.extend(lent.into_iter().map(|l| (l.bytes, l.says)));
            }
            assert_eq!(got, expected, "{features:?}");
            let stats = rig.rx_stats();
            assert_eq!((stats.packets, stats.bytes, stats.runt), (6, 2204, 6), "{features:?}");
            assert_eq!((stats.multicast, stats.broadcast), (1, 1), "{features:?}");
            assert_eq!(stats.bad_header, if plain { 0 } else { 6 }, "{features:?}");
            assert_eq!(stats.size_bins(), [1, 1, 1, 1, 1, 0, 0, 1], "{features:?}");
            rig.finish();
        }
    }
}

#[test]
fn what_a_burst_has_received_meanwhile_is_not_given_back() {
    for (simd, features) in kinds() {
        let mut rig = Rig::new(simd, features);
        rig.rx.refill();
        (0..5).for_each(|n| assert!(rig.arrive(NetHdr::default(), &frame(n, 100))));
        rig.publish();
        assert_eq!(Lent::all(&mut rig, 8).len(), 5, "{features:?}");
        let burst = rig.receive(2);
        // What is lent now is the burst's: nothing is given back, and nothing is counted twice.
        rig.rx.release(5);
        assert_eq!(rig.rx_stats().packets, 2, "{features:?}");
        let rest = Lent::all(&mut rig, 8);
        assert_eq!(rest.iter().map(|l| l.bytes.clone()).collect::<Vec<_>>(), [2, 3, 4].map(|n| frame(n, 100)));
        rig.rx.release(3);
        assert_eq!(rig.rx_stats().packets, 5, "{features:?}");
        for (n, m) in burst.into_iter().enumerate() {
            assert_eq!(Fields::of(m).bytes, frame(n, 100), "{features:?}");
            free(m);
        }
        rig.finish();
    }
}

/// Others have no counter that a burst could read.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_queue_that_found_little_leaves_the_ring_alone_for_a_moment() {
    for layout in [Features::empty(), Features::RING_PACKED] {
        let options = RxOptions { gate: u16::MAX, ..STRIP };
        let mut rig = Plan { options, ..Plan::new(Simd::Auto, Features::VERSION_1 | layout) }.build();
        rig.rx.refill();
        // The moment is some microseconds, in which this thread may not run: one of many must be met.
        let (mut received, mut lent, mut rounds) = (false, false, 0);
        while !(received && lent) {
            for borrows in [false, true] {
                assert!(rounds < 100_000, "{layout:?}: received {received}, lent {lent}");
                rounds += 1;
                // An empty burst, and a frame that comes just after it.
                assert!(rig.receive(4).is_empty() && rig.arrive(NetHdr::default(), &frame(1, 80)));
                rig.publish();
                let there = if borrows { Lent::all(&mut rig, 4).len() } else { 0 };
                let mut got = if borrows { Vec::new() } else { rig.receive(4) };
                if there + got.len() == 0 {
                    *(if borrows { &mut lent } else { &mut received }) = true;
                    // Who sleeps is told at once, and finds it.
                    assert!(rig.rx.set_calls(true));
                    rig.rx.set_calls(false);
                    got = rig.receive(1);
                    assert_eq!(got.len(), 1, "{layout:?}");
                }
                rig.rx.release(there);
                got.into_iter().for_each(free);
            }
        }
        rig.finish();
    }
}

#[test]
fn a_frame_that_a_burst_had_begun_is_lent_with_its_tag_or_received_without_it() {
    for (simd, features) in merging() {
        let mut rig = Plan { options: STRIP, ..Plan::new(simd, features) }.build();
        rig.rx.refill();
        for received in [false, true] {
            let mut data = frame(1, 7000);
            data[12..16].copy_from_slice(&[0x81, 0, 0, 7]);
            let buffers = rig.fill(NetHdr::default(), &data).unwrap();
            for (k, (chain, len)) in buffers.iter().enumerate() {
                rig.rx_side.ring.push_used(chain, *len);
                if k == 0 {
                    rig.publish();
                    assert!(rig.receive(4).is_empty() && Lent::all(&mut rig, 9).is_empty(), "{features:?}");
                }
            }
            assert!(rig.arrive(NetHdr::default(), &frame(2, 80)));
            rig.publish();
            let lent = Lent::all(&mut rig, 9);
            assert_eq!((lent[0].bytes.len(), lent[0].buffers, lent.len()), (7000, buffers.len(), 1), "{features:?}");
            assert_eq!(lent[0].bytes, data, "{features:?}");
            if received {
                let got = rig.receive(1).remove(0);
                let fields = Fields::of(got);
                assert_eq!((fields.vlan_tci, fields.pkt_len), (7, 6996), "{features:?}");
                assert_eq!(fields.ol_flags, flags::RX_VLAN | flags::RX_VLAN_STRIPPED, "{features:?}");
                assert_eq!(fields.bytes, [&data[..12], &data[16..]].concat(), "{features:?}");
                free(got);
            } else {
                rig.rx.release(lent[0].buffers);
            }
            // The next one is in the ring, and as ever.
            assert_eq!(Lent::all(&mut rig, 9)[0].bytes, frame(2, 80), "{features:?}");
            rig.rx.release(1);
        }
        assert_eq!(rig.rx_stats().packets, 4, "{features:?}");
        rig.finish();
    }
}
