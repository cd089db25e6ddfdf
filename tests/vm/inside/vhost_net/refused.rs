//! What cannot be is refused, with a sentence that says what to do.

use std::thread;

use vuser::dev::Device;

use crate::inside::lab::{cat, config, device, pool, receive, send, sh, until};

/// The sentence.
fn refused(devargs: &str) -> String {
    match Device::new(config(devargs)) {
        Ok(_) => panic!("{devargs}: it was taken"),
        Err(e) => e.to_string(),
    }
}

/// Runs something as a user without privileges.
fn unprivileged<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(move || {
        // The system call, not the C library's function, which would take all threads with it.
        // SAFETY: numbers as arguments; what it changes is this thread's.
        let result = unsafe { libc::syscall(libc::SYS_setresuid, 1000, 1000, 1000) };
        assert_eq!(result, 0);
        work()
    });
    thread.join().unwrap()
}

const NET: &str = "path=/dev/vhost-net";

#[test]
#[ignore = "inside"]
fn every_refusal_has_its_sentence() {
    let says = |devargs: &str, parts: &[&str]| {
        let sentence = refused(&format!("{NET}{devargs}"));
        assert!(parts.iter().all(|part| sentence.contains(part)), "{devargs}: {sentence}");
        println!("{devargs}: {sentence}");
    };
    let before = sh("ls /sys/class/net");
    says(",iface=lo", &["it is no tap", "another iface"]);
    says(",iface=a/b", &["does not like the name"]);
    sh("ip tuntap add dev one mode tap");
    says(",iface=one,queues=2", &["queues=2: one is there already and has one queue", "multi_queue"]);
    let first = Device::new(config(&format!("{NET},iface=one"))).unwrap();
    says(",iface=one", &["Device or resource busy", "(process ", "has it", "another iface"]);
    drop(first);
    sh("ip link del one; ip tuntap add dev many mode tap multi_queue");
    drop(Device::new(config(&format!("{NET},iface=many"))).expect("one queue of several"));
    drop(Device::new(config(&format!("{NET},iface=many,queues=8"))).expect("eight queues"));
    sh("ip link del many");

    sh("mv /dev/vhost-net /dev/vhost-net-away");
    says("", &["cannot open /dev/vhost-net", "modprobe vhost_net"]);
    sh("mv /dev/vhost-net-away /dev/vhost-net; mv /dev/net/tun /dev/net/tun-away");
    says("", &["cannot open /dev/net/tun", "modprobe tun"]);
    sh("mv /dev/net/tun-away /dev/net/tun");
    // Nothing was left behind by any of them.
    assert_eq!(sh("ls /sys/class/net"), before);
}

#[test]
#[ignore = "inside"]
fn a_user_without_privileges_is_told_which_he_needs() {
    let says = |devargs: &'static str, parts: &[&str]| {
        let sentence = unprivileged(move || refused(&format!("{NET}{devargs}")));
        assert!(parts.iter().all(|part| sentence.contains(part)), "{devargs}: {sentence}");
        println!("{devargs}: {sentence}");
    };
    sh("chmod 600 /dev/vhost-net /dev/net/tun");
    says(",iface=mine", &["cannot open /dev/vhost-net", "read and write permission"]);
    sh("chmod 666 /dev/vhost-net");
    says(",iface=mine", &["cannot open /dev/net/tun", "read and write permission"]);
    sh("chmod 666 /dev/net/tun");
    says(",iface=mine", &["CAP_NET_ADMIN", "ip tuntap add dev NAME mode tap user 1000"]);
    // What it says is what helps.
    sh("ip tuntap add dev mine mode tap user 1000");
    unprivileged(|| drop(Device::new(config(&format!("{NET},iface=mine"))).expect("an interface of his own")));
    says(",iface=mine,mtu=1400", &["MTU of mine", "without CAP_NET_ADMIN", "leave mtu away"]);
    says(",iface=mine,mtu=1400,persist=1", &["without CAP_NET_ADMIN"]);
    let mut device = unprivileged(|| {
        let devargs = format!("{NET},iface=mine,mac=02:00:00:00:00:01,mtu=1500");
        let mut device = device(&devargs, &pool(&config(&devargs), 1));
        device.set_mac([2, 0, 0, 0, 0, 2]).expect("an address of his own");
        device.set_mtu(1500).expect("the MTU that it has");
        assert!(device.set_mtu(1400).is_err());
        device
    });
    assert_eq!(cat("/sys/class/net/mine/address"), "02:00:00:00:00:02");
    sh("ip addr add 10.9.0.1/24 dev mine; ip link set mine mtu 1300 up");
    // A start leaves alone what he may not set.
    device = unprivileged(move || {
        device.stop().expect("a stop");
        device.start().expect("a start");
        device
    });
    assert_eq!(cat("/sys/class/net/mine/mtu"), "1300");
    // Whoever is asked for is asked by ARP, and what comes back is a frame as well.
    sh("ping -c 1 -W 1 10.9.0.2 || true");
    let mut frames = Vec::new();
    until("a frame of the kernel's", || {
        frames.extend(receive(&mut device, 0));
        !frames.is_empty()
    });
    assert_eq!(send(&mut device, 0, &frames), frames.len());
    until("a frame at the kernel", || cat("/sys/class/net/mine/statistics/rx_packets") != "0");
    drop(device);
    sh("ip link del mine; chmod 600 /dev/vhost-net /dev/net/tun");
}
