//! Devices come up and down, queues come and go, memory comes and goes.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vuser::buf::pool::Pool;
use vuser::dev::{Device, Side};

use super::traffic;
use crate::inside::lab::{bytes, config, device, pool, receive, send, sh, until};

/// A device, and a pool for packets to be sent over it.
pub struct Talker {
    pub device: Device,
    pub pool: Arc<Pool>,
}

impl Talker {
    pub fn new(devargs: &str) -> Self {
        let pool = pool(&config(devargs), 1);
        Self { device: device(devargs, &pool), pool }
    }

    /// Asks the kernel for the address of its interface by ARP, and gets it: one frame each way.
    pub fn talk(&mut self, interface: &str) {
        sh(&format!("ip addr replace 10.8.0.1/24 dev {interface}"));
        let info = self.device.info();
        // The address of the device can't be the sender's: it is the interface's, too.
        let station = [2, 1, 1, 1, 1, 1];
        let m = self.pool.get().expect("a buffer");
        m.receive(vuser::buf::mbuf::rearm(128, 0), 42);
        let frame = bytes(m);
        frame[..6].fill(0xff);
        frame[6..12].copy_from_slice(&station);
        frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame[22..28].copy_from_slice(&station);
        frame[28..32].copy_from_slice(&[10, 8, 0, 2]);
        frame[32..38].fill(0);
        frame[38..42].copy_from_slice(&[10, 8, 0, 1]);
        assert_eq!(send(&mut self.device, 0, &[m]), 1);
        until("an answer to ARP", || {
            let mut answered = false;
            for m in (0..usize::from(info.pairs)).flat_map(|pair| receive(&mut self.device, pair)).collect::<Vec<_>>() {
                let frame = bytes(m);
                answered |= frame[12..14] == [8, 6] && frame[20..22] == [0, 2] && frame[22..28] == info.mac;
                // SAFETY: received, so ours.
                unsafe { Pool::free(m) };
            }
            answered
        });
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
#[ignore = "inside"]
fn a_hundred_starts_and_stops_leave_nothing_behind() {
    for devargs in ["path=/dev/vhost-net,iface=tap4", "path=/dev/vhost-net,iface=tap4,queues=3,queue_size=64"] {
        let before = descriptors();
        let mut end = Talker::new(devargs);
        sh("ip link set tap4 up");
        end.talk("tap4");
        end.device.stop().unwrap();
        let (fds, all) = (descriptors(), end.pool.available());
        for round in 0..100 {
            end.device.start().unwrap();
            if round % 10 == 0 {
                end.talk("tap4");
            }
            end.device.stop().unwrap();
            assert_eq!((descriptors(), end.pool.available()), (fds, all), "round {round}");
        }
        drop(end);
        assert_eq!(descriptors(), before);
    }
}

#[test]
#[ignore = "inside"]
fn a_hundred_devices_come_and_go() {
    let before = descriptors();
    for _ in 0..100 {
        let mut end = Talker::new("path=/dev/vhost-net,iface=tap4");
        sh("ip link set tap4 up");
        end.talk("tap4");
    }
    assert_eq!(descriptors(), before);
}

#[test]
#[ignore = "inside"]
fn flows_are_spread_over_the_queues_that_are_used() {
    let wire = traffic::wire(",queues=4");
    let flows = |n: u32| {
        for _ in 0..n {
            // A flow each, for every socket has a port of its own.
            let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
            socket.send_to(b"hello", "10.9.0.2:9").unwrap();
        }
    };
    sh("ping -c 1 -W 5 10.9.0.2");
    let pair = |pair: usize| wire.seen.pairs[pair].load(Ordering::Relaxed);
    until("frames in all four queues", || {
        flows(10);
        (0..4).all(|p| pair(p) > 0)
    });
    traffic::end(wire);

    // With two pairs of four in use, the kernel uses two queues, and nothing gets lost in the others.
    let devargs = "path=/dev/vhost-net,iface=near,queues=4";
    let mut end = Talker::new(devargs);
    for pairs in [2, 1, 3, 4] {
        end.device.stop().unwrap();
        end.device.set_queue_pairs(pairs).unwrap();
        end.device.start().unwrap();
        sh("ip addr replace 10.9.0.1/24 dev near; ip link set near up");
        sh("ip neigh replace 10.9.0.2 lladdr 02:00:00:00:00:99 dev near");
        flows(64);
        let mut seen = [0; 4];
        until("all flows are here", || {
            for (p, seen) in (0..usize::from(pairs)).zip(&mut seen) {
                for m in receive(&mut end.device, p) {
                    *seen += u32::from(bytes(m)[..6] == [2, 0, 0, 0, 0, 0x99]);
                    // SAFETY: received, so ours.
                    unsafe { Pool::free(m) };
                }
            }
            seen.iter().sum::<u32>() == 64
        });
        println!("{pairs} pairs: {seen:?}");
        assert!(seen[..usize::from(pairs)].iter().all(|&n| n > 0), "{pairs} pairs: {seen:?}");
    }
}

#[test]
#[ignore = "inside"]
fn one_direction_is_stopped_and_started() {
    let mut end = Talker::new("path=/dev/vhost-net,iface=tap4");
    sh("ip link set tap4 up");
    end.talk("tap4");
    for side in [Side::Rx, Side::Tx] {
        for _ in 0..10 {
            end.device.run_queue(side, 0, false).unwrap();
            end.device.run_queue(side, 0, true).unwrap();
            end.talk("tap4");
        }
    }
}

#[test]
#[ignore = "inside"]
fn memory_comes_and_goes_while_it_runs() {
    let mut end = Talker::new("path=/dev/vhost-net,iface=tap4");
    sh("ip link set tap4 up");
    for _ in 0..20 {
        let memory = vuser::sys::shm::SharedMemory::new("extra", 1 << 20, false).unwrap();
        let (addr, len) = (memory.addr() as u64, memory.len() as u64);
        let fd = memory.as_fd().try_clone_to_owned().unwrap();
        end.device.register_memory(fd, 0, len, addr).unwrap();
        end.talk("tap4");
        end.device.unregister_memory(addr).unwrap();
        end.talk("tap4");
    }
}

#[test]
#[ignore = "inside"]
fn an_interface_stays_if_it_is_to() {
    let end = Talker::new("path=/dev/vhost-net,iface=stays,persist=1");
    drop(end);
    sh("ip link show stays");
    // One that is there is taken as it is, and stays.
    let mut end = Talker::new("path=/dev/vhost-net,iface=stays");
    sh("ip link set stays up");
    end.talk("stays");
    drop(end);
    sh("ip link show stays; ip link del stays");
    // Without a name the kernel chooses one.
    let mut end = Talker::new("path=/dev/vhost-net");
    assert!(end.device.info().backend.ends_with("interface tap0"), "{}", end.device.info().backend);
    sh("ip link set tap0 up");
    end.talk("tap0");
}
