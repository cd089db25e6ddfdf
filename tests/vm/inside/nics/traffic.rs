//! Frames.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use vuser::dev::Device;
use vuser::spec::virtio::Features;

use super::lab::{AT_HUB, Neighbour, Nic, neighbour_name};
use super::{PACKED, SPLIT};
use crate::inside::lab::{Wire, cat, config, device, in_namespace, pool, sh};
use crate::inside::vdpa::frames::echo;

const EVERYBODY: [u8; 6] = [0xff; 6];

/// Doorbells that this process has mapped.
fn doorbells(nic: &Nic) -> usize {
    cat("/proc/self/maps").lines().filter(|line| line.ends_with(&nic.file)).count()
}

fn lives(nic: &Nic, options: &str, packed: bool) {
    let devargs = format!("{},packed_vq=1{options}", nic.path);
    let pool = pool(&config(&devargs), 1);
    let all = pool.available();
    let mut device: Device = device(&devargs, &pool);
    let info = device.info();
    assert_eq!(info.features.contains(Features::RING_PACKED), packed, "{options}: {:?}", info.features);
    assert!(info.link_up && info.mac[..5] == [2, 0, 0, 0, 1], "{info:?}");
    assert_eq!(doorbells(nic), 2, "{options}: a page for each ring");
    echo(&mut device, &pool, EVERYBODY, 0..1000);
    for _ in 0..2 {
        device.stop().unwrap();
        assert_eq!(pool.available(), all, "{options}");
        device.start().unwrap();
        echo(&mut device, &pool, EVERYBODY, 0..200);
    }
    let kicks = device.port(1).unwrap().stats().kicks;
    println!("{}{options}: {kicks} rings of the doorbell", nic.name);
    assert!(kicks > 0);
    drop(device);
    assert_eq!(pool.available(), all, "{options}");
    assert_eq!(doorbells(nic), 0);
}

#[test]
#[ignore = "inside"]
fn frames_go_to_the_neighbour_and_back_by_every_layout() {
    let _neighbour = Neighbour::new().echo();
    for number in [SPLIT, PACKED] {
        let nic = Nic::new(number);
        // Not fewer buffers than there are frames on their way: one that waits in QEMU until a ring has room again may be
        // overtaken by the next.
        for options in ["", ",event_idx=0,indirect=0", ",mrg_rxbuf=0,queue_size=128"] {
            lives(&nic, options, number == PACKED);
        }
    }
}

/// The kernel's network stack at one end, by a tap, and at the other, by QEMU's devices; we carry what is between.
#[test]
#[ignore = "inside"]
fn pings_and_tcp_go_through() {
    let far = neighbour_name(AT_HUB);
    for number in [SPLIT, PACKED] {
        let nic = Nic::new(number);
        let near = "path=/dev/vhost-net,iface=near";
        let pool = pool(&config(near), 2);
        let outside = format!("{},packed_vq=1", nic.path);
        let mut ends = [device(near, &pool), device(&outside, &pool)];
        ends[1].set_promiscuous(true).unwrap();
        let wire = Wire::new(ends);
        sh("ip addr add 10.9.0.1/24 dev near; ip link set near up; ip netns add other");
        sh(&format!(
            "ip link set {far} netns other; ip -n other addr add 10.9.0.2/24 dev {far}; ip -n other link set {far} up"
        ));
        // By a deadline: otherwise a busy machine makes it give the last one up after two round trips.
        let told = sh("ping -c 10 -i 0.02 -w 20 10.9.0.2");
        assert!(told.contains(" 10 received"), "{told}");
        sh("ping -c 3 -i 0.02 -w 20 -s 1400 10.9.0.2");
        let text: Vec<u8> = (0..1u32 << 16).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let len = text.len();
        let (listening, is_listening) = std::sync::mpsc::channel();
        let server = in_namespace("other", move || {
            let listener = TcpListener::bind("10.9.0.2:7000").unwrap();
            listening.send(()).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let mut got = vec![0; len];
            stream.read_exact(&mut got).unwrap();
            stream.write_all(&got).unwrap();
        });
        is_listening.recv().unwrap();
        let mut stream = TcpStream::connect("10.9.0.2:7000").unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(&text).unwrap();
        let mut back = vec![0; len];
        stream.read_exact(&mut back).unwrap();
        server.join().unwrap();
        assert!(back == text, "other bytes came back");
        drop(wire.cut());
        // It comes back to us.
        sh(&format!("ip -n other link set {far} netns 1; ip netns del other"));
    }
}
