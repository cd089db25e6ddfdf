//! What cannot be is refused, with a sentence that says what to do.

use std::thread;

use vuser::dev::Device;

use crate::inside::lab::{config, sh};

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
    says(",iface=mine,mac=02:00:00:00:00:01", &["MAC address of mine", "without CAP_NET_ADMIN", "leave mac away"]);
    says(",iface=mine,mac=02:00:00:00:00:01,persist=1", &["without CAP_NET_ADMIN"]);
    sh("ip link del mine; chmod 600 /dev/vhost-net /dev/net/tun");
}
