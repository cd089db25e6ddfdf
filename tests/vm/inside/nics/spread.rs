//! Several queue pairs: how many are used, and which of them frames come by.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use vuser::buf::mbuf::flags;
use vuser::dev::Device;
use vuser::dev::filters::Rss;
use vuser::net::toeplitz::{DEFAULT_KEY, Toeplitz};
use vuser::spec::net::hash_type;
use vuser::spec::virtio::Features;

use super::SEVERAL;
use super::lab::{AT_BRIDGE, Neighbour, Nic, has_several_queues};
use crate::inside::lab::{config, device, pool, receive};
use crate::inside::vdpa::frames::take;

/// Datagrams of so many connections.
const FLOWS: u16 = 64;

/// A datagram from a port to another; its checksum is left out.
fn datagram(to: [u8; 6], from: u16) -> Vec<u8> {
    let mut frame = [&to[..], &[2, 0, 0, 0, 1, 4, 8, 0]].concat();
    frame.extend([0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 0, 2, 10, 9, 0, 1]);
    let sum: u32 = frame[14..34].chunks(2).map(|b| u32::from(u16::from_be_bytes([b[0], b[1]]))).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend([from.to_be_bytes(), 7000u16.to_be_bytes(), 26u16.to_be_bytes(), [0, 0]].concat());
    frame.resize(60, 0x5a);
    frame
}

/// The hash of such a frame, by addresses and ports.
fn hash(key: &[u8], frame: &[u8]) -> u32 {
    Toeplitz::new(key, hash_type::ALL).hash(&frame[26..38])
}

/// Sends one of each flow; by which queue each has come, with the right hash where frames have one.
fn queues_of(device: &mut Device, neighbour: &Neighbour, key: &[u8]) -> Vec<usize> {
    let mac = device.info().mac;
    let frames: Vec<_> = (0..FLOWS).map(|n| datagram(mac, 1000 + n * 37)).collect();
    frames.iter().for_each(|frame| neighbour.send(frame));
    let mut queues = vec![usize::MAX; frames.len()];
    let end = Instant::now() + Duration::from_secs(20);
    while queues.contains(&usize::MAX) {
        assert!(Instant::now() < end, "some do not come: {queues:?}");
        for queue in 0..device.pairs().len() {
            for m in receive(device, queue) {
                let (reported, has) = (m.hash_rss(), m.ol_flags() & flags::RX_RSS_HASH != 0);
                let bytes = take(m);
                let Some(n) = frames.iter().position(|frame| *frame == bytes) else { continue };
                assert!(queues[n] == usize::MAX, "flow {n} comes twice");
                assert!(has && reported == hash(key, &frames[n]), "flow {n}: {reported:#x}, {has}");
                queues[n] = queue;
            }
        }
    }
    queues
}

fn check(device: &mut Device, neighbour: &Neighbour, key: &[u8], table: &[u16]) {
    let mac = device.info().mac;
    let expected: Vec<_> = (0..FLOWS)
        .map(|n| usize::from(table[hash(key, &datagram(mac, 1000 + n * 37)) as usize % table.len()]))
        .collect();
    assert_eq!(queues_of(device, neighbour, key), expected);
}

#[test]
#[ignore = "inside"]
fn frames_are_spread_over_the_queues_in_use_by_their_hash() {
    if !has_several_queues("spread") {
        return;
    }
    let neighbour = Neighbour::at(AT_BRIDGE);
    let nic = Nic::new(SEVERAL);
    let devargs = format!("{},queues=4,hash=1,queue_size=128", nic.path);
    let pool = pool(&config(&devargs), 1);
    let all = pool.available();
    let mut device = device(&devargs, &pool);
    println!("{:?}, {:?}", device.features(), device.rss_limits());
    assert!(device.features().contains(Features::MQ | Features::RSS | Features::HASH_REPORT));
    assert_eq!(device.info().max_pairs, 4);
    let even = |pairs: u16| -> Vec<u16> { (0..128).map(|n| n % pairs).collect() };
    check(&mut device, &neighbour, &DEFAULT_KEY, &even(4));

    let key: Vec<u8> = (0..40u8).map(|n| n.wrapping_mul(37).wrapping_add(11)).collect();
    let table: Vec<u16> = (0..64).map(|n| 3 - n / 16).collect();
    let rss = Rss { types: hash_type::ALL, key: key.clone(), table: table.clone() };
    device.set_rss(rss).unwrap();
    check(&mut device, &neighbour, &key, &table);
    device.set_rss(Rss { types: hash_type::ALL, key: key.clone(), table: vec![2; 128] }).unwrap();
    check(&mut device, &neighbour, &key, &[2]);
    device.set_rss(Rss { types: hash_type::ALL, key: key.clone(), table: table.clone() }).unwrap();

    // This device does not say that it minds no changes while it runs.
    assert_eq!(device.set_queue_pairs(2).unwrap_err().errno(), Errno::ENOTSUP);
    // Fewer queues than the table has, and all of them again.
    for pairs in [2, 3, 1, 4] {
        device.stop().unwrap();
        assert_eq!(pool.available(), all);
        device.set_queue_pairs(pairs).unwrap();
        device.start().unwrap();
        check(&mut device, &neighbour, &key, &if pairs == 4 { table.clone() } else { even(pairs) });
    }
    drop(device);
    assert_eq!(pool.available(), all);
}
