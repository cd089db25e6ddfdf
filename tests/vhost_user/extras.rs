//! What not every back-end has: MTU, MAC, announcements, notes on what is in flight, the log of written pages.

use std::os::fd::AsRawFd;

use super::*;
use vuser::backend::Inflight;
use vuser::mem::dirty::DirtyLog;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x2a];
const LOG_ALL: u64 = 1 << 26;
const MTU: u64 = 1 << 3;

fn logging() -> Offer {
    Offer { features: modern().features | LOG_ALL, ..modern() }
}

/// What is said of a few calls.
fn said(offer: &Offer, calls: impl FnOnce(&mut VhostUser)) -> Vec<String> {
    let mut peer = Peer::start(offer, honest());
    let mut backend = connect(&mut peer, PATIENT).unwrap();
    // What is not answered may still be under way: this is.
    let _ = backend.max_queue_pairs().unwrap();
    let _ = backend.stop_ring(255);
    let before = peer.seen().len();
    calls(&mut backend);
    drop(backend);
    peer.join();
    peer.lines().split_off(before)
}

fn ring(backend: &mut VhostUser, index: u16) {
    let bell = Bell::new().unwrap();
    let kick = bell.as_fd();
    backend.setup_ring(&RingSetup { index, size: 4, base: 0, desc: 1, driver: 2, device: 3, kick }).unwrap();
}

#[test]
fn what_has_an_ear_is_told_and_what_has_none_is_not() {
    let calls = |heard: bool| {
        move |backend: &mut VhostUser| {
            assert!(!backend.set_mtu(9000).unwrap(), "not before it was agreed that there is one");
            backend.set_features(Features::MTU).unwrap();
            assert_eq!(backend.set_mtu(9000).unwrap(), heard);
            assert_eq!(backend.announce(MAC).unwrap(), heard);
            assert_eq!(backend.set_mac(MAC).unwrap(), heard);
            assert_eq!(backend.inflight(2, 256).unwrap().is_some(), heard);
        }
    };
    let told = [
        "SET_FEATURES! [40000008]",
        "NET_SET_MTU! [2328]",
        "SEND_RARP! [2, 0, 0, 0, 0, 2a, 0, 0]",
        "SET_CONFIG! [0, 6, 0] [2, 0, 0, 0, 0, 2a]",
        "GET_INFLIGHT_FD [0, 0] [1000002, 0]",
    ];
    let offer = Offer { features: modern().features | MTU, ..modern() };
    assert_eq!(said(&offer, calls(true)), told);
    assert_eq!(said(&Offer { protocol: REPLY_ACK, ..offer }, calls(false)), ["SET_FEATURES! [40000008]"]);
    assert_eq!(said(&legacy(), calls(false)), ["SET_FEATURES [0]"]);
}

#[test]
fn a_refusal_that_means_no_is_no_and_any_other_is_an_error() {
    let no: Script = Box::new(|_, seen, _| match seen.request {
        19 | 20 | 25 | 32 => Deed::Say(message(seen.request, 5, &1u64.to_ne_bytes())),
        _ => Deed::Right,
    });
    let mut peer = Peer::start(&Offer { features: modern().features | MTU, ..modern() }, no);
    let mut backend = connect(&mut peer, PATIENT).unwrap();
    backend.set_features(Features::MTU).unwrap();
    assert!(!backend.announce(MAC).unwrap() && !backend.set_mac(MAC).unwrap());
    let error = backend.set_mtu(1400).unwrap_err();
    assert_eq!((error.errno(), error.to_string().as_str()), (Errno::EREMOTEIO, "the back-end refused NET_SET_MTU"));
    let notes = backend.inflight(2, 256).unwrap().unwrap();
    assert_eq!(backend.set_inflight(&notes).unwrap_err().errno(), Errno::EREMOTEIO);
    assert_eq!(backend.write_config(250, &[0; 8]).unwrap_err().errno(), Errno::EINVAL);
    backend.status().unwrap();
}

#[test]
fn notes_on_what_is_in_flight_are_given_on() {
    let offer = modern();
    let mut peer = Peer::start(&offer, honest());
    let notes: Inflight = connect(&mut peer, PATIENT).unwrap().inflight(4, 128).unwrap().unwrap();
    assert_eq!((notes.size, notes.offset, notes.rings, notes.ring_size), (0x1000, 0, 4, 128));
    let mut next = Peer::start(&offer, honest());
    assert!(connect(&mut next, PATIENT).unwrap().set_inflight(&notes).unwrap());
    let seen = next.seen().pop().unwrap();
    assert_eq!(seen.line(), "SET_INFLIGHT_FD! [1000, 0] [800004, 0] +1");
    assert_eq!(seen.inodes, [nix::sys::stat::fstat(&notes.fd).unwrap().st_ino]);
}

#[test]
fn notes_that_cannot_be_end_the_connection() {
    let answer = |size: u64, offset: u64| [size, offset, 0x0100_0002].map(u64::to_ne_bytes).concat();
    // None is needed: no error.
    let mut peer = Peer::start(&modern(), on(31, move |_, _| Deed::Say(message(31, 5, &answer(0, 0)))));
    assert!(connect(&mut peer, PATIENT).unwrap().inflight(2, 256).unwrap().is_none());
    // None were agreed: there is nobody to give them on to.
    let notes = connect(&mut Peer::start(&modern(), honest()), PATIENT).unwrap().inflight(2, 256).unwrap().unwrap();
    assert!(!connect(&mut Peer::start(&legacy(), honest()), PATIENT).unwrap().set_inflight(&notes).unwrap());
    let with_file =
        |size: u64, offset: u64| on(31, move |_, _| Deed::SayWithFd(message(31, 5, &answer(size, offset)))) as Script;
    let scripts: [(Script, &str); 7] = [
        (with_file(0, 0), "0 bytes at 0x0 of a file"),
        (with_file((1 << 30) + 1, 0), "1073741825 bytes at 0x0 of a file"),
        (with_file(0x1000, u64::MAX), "4096 bytes at 0xffffffffffffffff of a file"),
        (on(31, move |_, _| Deed::Say(message(31, 5, &answer(0x1000, 0)))), "0x1000 at 0x0 of no file"),
        (on(31, move |_, _| Deed::Say(message(31, 5, &[0; 16]))), "16 bytes, where 24 are due"),
        (on(31, |_, _| Deed::WithFds(2)), "2 file descriptors came with it"),
        (on(31, |_, _| Deed::WithFds(253)), "253 file descriptors came with it"),
    ];
    for (script, says) in scripts {
        let mut peer = Peer::start(&modern(), script);
        let mut backend = connect(&mut peer, PATIENT).unwrap();
        let error = backend.inflight(2, 256).unwrap_err();
        let says = says.replace("0x1000 at", "4096 bytes at");
        assert!(error.errno() == Errno::EPROTO && error.to_string().contains(&says), "{error}, not {says}");
        assert_dead(&mut backend, &peer, &error);
        if says.contains("descriptors") || says.contains("a file") {
            assert!(peer.sent_fds_are_closed());
        }
    }
}

#[test]
fn a_log_is_told_to_rings_that_run_and_to_those_that_come() {
    let lines = said(&logging(), |backend| {
        let log = DirtyLog::new(0x10_0000).unwrap();
        backend.set_features(Features::VERSION_1).unwrap();
        ring(backend, 0);
        backend.set_log(Some(&log)).unwrap();
        ring(backend, 1);
        backend.set_features(Features::VERSION_1 | Features::RING_PACKED).unwrap();
        backend.stop_ring(0).unwrap();
        backend.set_log(None).unwrap();
        backend.set_log(None).unwrap();
        ring(backend, 0);
    });
    let of: Vec<_> = lines.iter().filter(|line| !line.contains("NUM") && !line.contains("BASE [")).collect();
    let expected = [
        "SET_FEATURES! [140000000]",
        "SET_VRING_BASE! [0, 0]",
        "SET_VRING_ADDR! [0, 0] [1, 3, 2, 0]",
        "SET_VRING_ERR! [0] +1",
        "SET_VRING_KICK! [0] +1",
        "SET_LOG_BASE [1000, 0] +1",
        "SET_LOG_FD! +1",
        "SET_FEATURES! [144000000]",
        "SET_VRING_ADDR! [0, 1] [1, 3, 2, 3]",
        "SET_VRING_BASE! [1, 0]",
        "SET_VRING_ADDR! [1, 1] [1, 3, 2, 3]",
        "SET_VRING_ERR! [1] +1",
        "SET_VRING_KICK! [1] +1",
        "SET_FEATURES! [144000000]",
        "SET_VRING_ADDR! [1, 0] [1, 3, 2, 0]",
        "SET_FEATURES! [140000000]",
        "SET_VRING_BASE! [0, 0]",
        "SET_VRING_ADDR! [0, 0] [1, 3, 2, 0]",
        "SET_VRING_ERR! [0] +1",
        "SET_VRING_KICK! [0] +1",
    ];
    let expected: Vec<_> = expected.into_iter().filter(|line| !line.contains("BASE [")).collect();
    assert_eq!(of, expected);
}

#[test]
fn of_a_packed_ring_the_descriptors_are_logged() {
    let offer = Offer { features: logging().features | 1 << 34, ..modern() };
    let lines = said(&offer, |backend| {
        let log = DirtyLog::new(0x10_0000).unwrap();
        backend.set_log(Some(&log)).unwrap();
        backend.set_features(Features::VERSION_1 | Features::RING_PACKED).unwrap();
        ring(backend, 2);
    });
    assert!(lines.contains(&"SET_VRING_ADDR! [2, 1] [1, 3, 2, 1]".into()), "{lines:?}");
}

#[test]
fn a_back_end_without_a_log_says_so_and_one_that_refuses_goes_on() {
    for offer in [modern(), legacy(), Offer { protocol: OURS & !2, ..logging() }] {
        let mut peer = Peer::start(&offer, honest());
        let log = DirtyLog::new(0x10_0000).unwrap();
        let mut backend = connect(&mut peer, PATIENT).unwrap();
        let error = backend.set_log(Some(&log)).unwrap_err();
        assert!(error.errno() == Errno::ENOTSUP && error.to_string().contains("keeps no log"), "{error}");
        backend.set_log(None).unwrap();
    }
    // DPDK's answer to SET_LOG_BASE is empty; and a ring's addresses are refused.
    let mut told = 0;
    let script: Script = Box::new(move |_, seen, _| {
        told += usize::from(seen.request == 9);
        match seen.request {
            6 => Deed::Say(message(6, 5, &[])),
            9 if told == 2 => Deed::Say(message(9, 5, &1u64.to_ne_bytes())),
            _ => Deed::Right,
        }
    });
    let mut peer = Peer::start(&logging(), script);
    let log = DirtyLog::new(0x10_0000).unwrap();
    let mut backend = connect(&mut peer, PATIENT).unwrap();
    ring(&mut backend, 0);
    assert_eq!(backend.set_log(Some(&log)).unwrap_err().errno(), Errno::EREMOTEIO);
    let lines = peer.lines();
    assert_eq!(lines[lines.len() - 2..], ["SET_VRING_ADDR! [0, 0] [1, 3, 2, 0]", "SET_FEATURES! [40000000]"]);
    backend.set_log(Some(&log)).unwrap();
    // The log itself is refused; then nothing more is told of it, and where no ring was told, nothing is at its end.
    let mut peer = Peer::start(&logging(), on(6, |_, _| Deed::Say(message(6, 5, &1u64.to_ne_bytes()))));
    let mut backend = connect(&mut peer, PATIENT).unwrap();
    let error = backend.set_log(Some(&log)).unwrap_err();
    assert_eq!((error.errno(), error.to_string().as_str()), (Errno::EREMOTEIO, "the back-end refused SET_LOG_BASE"));
    assert!(backend.is_alive() && peer.lines().last().unwrap().starts_with("SET_LOG_BASE"));
    let told = said(&logging(), |backend| {
        backend.set_log(Some(&log)).unwrap();
        backend.set_log(None).unwrap();
    });
    assert_eq!(told, ["SET_LOG_BASE [1000, 0] +1", "SET_LOG_FD! +1"]);
}

#[test]
fn the_log_that_is_told_is_the_one_that_is_read() {
    let mut peer = Peer::start(&logging(), honest());
    let log = DirtyLog::new(0x10_0000).unwrap();
    connect(&mut peer, PATIENT).unwrap().set_log(Some(&log)).unwrap();
    let seen = peer.seen();
    let told = |request: u32| seen.iter().find(|m| m.request == request).unwrap().inodes[0];
    assert_eq!(told(6), nix::sys::stat::fstat(log.as_fd()).unwrap().st_ino);
    assert!(told(7) != told(6) && log.bell().as_raw_fd() > 2);
}
