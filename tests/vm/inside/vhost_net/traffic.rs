//! Traffic of the kernel's own, over a wire of ours.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::inside::lab::{Wire, config, device, in_namespace, pool, sh};

/// Two interfaces on a wire of ours, one of them in a namespace of its own, so that the kernel has to use the wire.
pub fn wire(more: &str) -> Wire {
    let a = format!("path=/dev/vhost-net,iface=near{more}");
    let b = format!("path=/dev/vhost-net,iface=far{more}");
    let pool = pool(&config(&a), 2);
    let wire = Wire::new([device(&a, &pool), device(&b, &pool)]);
    sh("ip addr add 10.9.0.1/24 dev near; ip link set near up");
    // What a test that failed has left.
    sh("ip netns del other 2> /dev/null || true; ip netns add other; ip link set far netns other");
    sh("ip -n other addr add 10.9.0.2/24 dev far; ip -n other link set far up");
    wire
}

pub fn end(wire: Wire) {
    drop(wire.cut());
    sh("ip netns del other");
    sh("! ip link show near 2> /dev/null");
}

const OFFLOADS: [&str; 4] = [
    "",
    ",csum=1,rx_csum=1",
    ",csum=1,rx_csum=1,tso=1,lro=1",
    ",csum=1,rx_csum=1,tso=1,lro=1,uso=1,rx_uso=1,mrg_rxbuf=1",
];

#[test]
#[ignore = "inside"]
fn pings_are_answered() {
    for more in ["", ",mrg_rxbuf=0", ",event_idx=0,indirect=0", ",queue_size=64,busyloop_us=50"] {
        let wire = wire(more);
        let told = sh("ping -c 10 -i 0.01 -W 5 10.9.0.2");
        assert!(told.contains("10 received"), "{more}: {told}");
        sh("ping -c 3 -i 0.01 -W 5 -s 1400 10.9.0.2");
        end(wire);
    }
}

/// A megabyte that is the same every time.
fn text() -> Vec<u8> {
    (0..1u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

/// A megabyte each way by TCP, to an address of the other namespace's.
fn there_and_back(to: &'static str) -> bool {
    let (listening, is_listening) = std::sync::mpsc::channel();
    let server = in_namespace("other", move || {
        let listener = TcpListener::bind(to).unwrap();
        listening.send(()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let mut got = vec![0; text().len()];
        stream.read_exact(&mut got).unwrap();
        // And back.
        stream.write_all(&got).unwrap();
        got
    });
    is_listening.recv().unwrap();
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(&text()).unwrap();
    let mut back = vec![0; text().len()];
    stream.read_exact(&mut back).unwrap();
    server.join().unwrap() == text() && back == text()
}

#[test]
#[ignore = "inside"]
fn tcp_goes_through_with_every_set_of_offloads() {
    let six = ",csum=1,rx_csum=1,tso=1,lro=1,mrg_rxbuf=1,busyloop_us=50";
    for (more, to) in OFFLOADS.map(|more| (more, "10.9.0.2:7000")).into_iter().chain([(six, "[fd00::2]:7000")]) {
        let wire = wire(more);
        if more == six {
            // The kernel under test has it off, so that it says nothing unasked.
            let on = |name: &str| format!("echo 0 > /proc/sys/net/ipv6/conf/{name}/disable_ipv6");
            sh(&format!("{}; ip addr add fd00::1/64 dev near nodad", on("near")));
            sh(&format!("ip netns exec other bash -c '{}'; ip -n other addr add fd00::2/64 dev far nodad", on("far")));
        }
        assert!(there_and_back(to), "{more}: other bytes arrived");
        let (large, partial) = (wire.seen.large.load(Ordering::Relaxed), wire.seen.partial.load(Ordering::Relaxed));
        println!("tcp{more}: {} frames, {large} large, {partial} partial", wire.seen.frames.load(Ordering::Relaxed));
        assert_eq!(large > 0, more.contains("lro"), "{more}: {large} large frames");
        assert_eq!(partial > 0, more.contains("rx_csum"), "{more}: {partial} frames with partial checksums");
        end(wire);
    }
}

#[test]
#[ignore = "inside"]
fn udp_goes_through_with_every_set_of_offloads() {
    for more in OFFLOADS {
        let wire = wire(more);
        let echo = {
            let (bound, is_bound) = std::sync::mpsc::channel();
            let echo = in_namespace("other", move || {
                let socket = UdpSocket::bind("10.9.0.2:7001").unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                bound.send(()).unwrap();
                let mut datagram = [0; 4096];
                for _ in 0..200 {
                    let (len, from) = socket.recv_from(&mut datagram).unwrap();
                    socket.send_to(&datagram[..len], from).unwrap();
                }
            });
            is_bound.recv().unwrap();
            echo
        };
        let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let text = text();
        for n in 0..200 {
            let datagram = &text[n..n + 1 + n * 17 % 3000];
            socket.send_to(datagram, "10.9.0.2:7001").unwrap();
            let mut back = [0; 4096];
            let len = socket.recv(&mut back).unwrap();
            assert!(back[..len] == *datagram, "{more}: other bytes came back");
        }
        echo.join().unwrap();
        end(wire);
    }
}

/// The kernel sends many datagrams as one, if the device is said to take that, and takes many as one.
#[test]
#[ignore = "inside"]
fn datagrams_go_through_by_twenty() {
    for (more, by_twenty) in [(",csum=1,rx_csum=1", false), (",csum=1,rx_csum=1,uso=1,rx_uso=1,mrg_rxbuf=1", true)] {
        let wire = wire(more);
        let (bound, is_bound) = std::sync::mpsc::channel();
        let receiver = in_namespace("other", move || {
            let socket = UdpSocket::bind("10.9.0.2:7001").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            bound.send(()).unwrap();
            for n in 0..200u8 {
                let mut datagram = [0; 4096];
                let len = socket.recv(&mut datagram).unwrap();
                assert_eq!(&datagram[..len], &[n; 1000][..]);
                if n % 20 == 19 {
                    bound.send(()).unwrap();
                }
            }
        });
        is_bound.recv().unwrap();
        let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
        let segment: libc::c_int = 1000;
        // SAFETY: a number that lives as long as the call.
        let result = unsafe {
            let (value, len) = ((&raw const segment).cast(), size_of_val(&segment) as u32);
            libc::setsockopt(std::os::fd::AsRawFd::as_raw_fd(&socket), libc::SOL_UDP, libc::UDP_SEGMENT, value, len)
        };
        assert_eq!(result, 0);
        for burst in 0..10u8 {
            let many: Vec<u8> = (0..20).flat_map(|n| [burst * 20 + n; 1000]).collect();
            assert_eq!(socket.send_to(&many, "10.9.0.2:7001").unwrap(), 20_000);
            // No more under way than a socket has room for.
            let all = is_bound.recv_timeout(Duration::from_secs(30));
            assert!(all.is_ok(), "{more}: burst {burst} did not arrive");
        }
        receiver.join().unwrap();
        let large = wire.seen.large.load(Ordering::Relaxed);
        println!("udp{more}: {} frames, {large} large", wire.seen.frames.load(Ordering::Relaxed));
        assert_eq!(large >= 10, by_twenty, "{more}: {large} large frames");
        end(wire);
    }
}
