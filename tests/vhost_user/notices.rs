//! What a back-end says by itself.

use std::os::fd::AsRawFd;
use std::sync::Mutex;

use super::*;
use vuser::sys::poll;
use vuser::sys::socket::{Deadline, Stream};

/// What is heard, once there is something to hear.
fn heard(backend: &mut VhostUser) -> Vec<Notice> {
    let fds = backend.watched();
    let found = poll::wait_any(&fds, Some(PATIENT));
    assert!(found.iter().any(|ready| *ready != poll::Ready::No), "nothing to hear");
    backend.hear()
}

fn gone(notices: &[Notice]) -> &Error {
    let [Notice::Gone(why)] = notices else { panic!("{notices:?}") };
    why
}

#[test]
fn a_back_end_that_goes_is_heard() {
    let mut peer = Peer::start(&modern(), on(40, |_, right| Deed::SayAndClose(right.to_vec())));
    let mut backend = connect(&mut peer, PATIENT).unwrap();
    assert_eq!(backend.hear(), []);
    backend.status().unwrap();
    let notices = heard(&mut backend);
    assert_eq!(gone(&notices).errno(), Errno::ECONNRESET);
    assert_eq!(gone(&notices).to_string(), "the back-end at the test closed the connection");
    // It stays so, and is said at each call.
    assert_eq!(gone(&backend.hear()).errno(), Errno::ENOTCONN);
    assert_eq!(backend.status().unwrap_err().errno(), Errno::ENOTCONN);
}

#[test]
fn words_that_nobody_asked_for_end_the_connection() {
    let twice = on(40, |_, right| Deed::Say([right, right].concat()));
    let mut peer = Peer::start(&modern(), twice);
    let mut backend = connect(&mut peer, PATIENT).unwrap();
    backend.status().unwrap();
    let notices = heard(&mut backend);
    assert_eq!(gone(&notices).errno(), Errno::EPROTO);
    assert!(!backend.is_alive());
}

#[test]
fn a_connection_that_was_given_up_is_heard_of_too() {
    let mut peer = Peer::start(&modern(), on(40, |_, _| Deed::Silence));
    let mut backend = connect(&mut peer, QUICK).unwrap();
    assert_eq!(backend.status().unwrap_err().errno(), Errno::ETIMEDOUT);
    let notices = backend.hear();
    assert!(gone(&notices).to_string().contains("no answer to GET_STATUS within"), "{notices:?}");
}

#[test]
fn a_ring_that_the_back_end_cannot_go_on_with_is_heard_of() {
    let mut peer = Peer::start(&legacy(), honest());
    let mut backend = connect(&mut peer, PATIENT).unwrap();
    let bell = Bell::new().unwrap();
    for index in [0, 3] {
        let kick = bell.as_fd();
        backend.setup_ring(&RingSetup { index, size: 4, base: 0, desc: 1, driver: 2, device: 3, kick }).unwrap();
        backend.stop_ring(index).unwrap();
    }
    assert_eq!(backend.hear(), []);
    peer.break_ring(3);
    peer.break_ring(3);
    assert_eq!(heard(&mut backend), [Notice::RingError(3)]);
    assert_eq!(backend.hear(), []);
}

/// A request of the back-end.
fn ask(channel: &Stream, request: u32, flags: u32, payload: &[u8], fds: &[i32]) {
    channel.send(&message(request, flags, payload), fds, Deadline::after(PATIENT)).unwrap();
}

/// The answer to a request.
fn answer(channel: &Stream) -> (u32, u32, u64) {
    let mut bytes = [0; 20];
    channel.recv(&mut bytes, &mut Vec::new(), Deadline::after(PATIENT)).unwrap();
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(word(8), 8);
    (word(0), word(4), u64::from_ne_bytes(bytes[12..].try_into().unwrap()))
}

#[test]
fn what_the_back_end_asks_is_done_or_refused() {
    let mut peer = Peer::start(&modern(), honest());
    let mut backend = connect(&mut peer, PATIENT).unwrap();
    let channel = peer.channel();
    // Without and with a wish for an answer.
    ask(&channel, 2, 1, &[], &[]);
    assert_eq!(heard(&mut backend), [Notice::ConfigChanged]);
    ask(&channel, 2, 9, &[], &[]);
    ask(&channel, 5, 9, &[5u32, 0].map(u32::to_ne_bytes).concat(), &[]);
    ask(&channel, 2, 9, &[], &[]);
    assert_eq!(heard(&mut backend), [Notice::ConfigChanged, Notice::RingError(5)]);
    assert_eq!([2, 5, 2].map(|request| (request, 5, 0)), [(); 3].map(|()| answer(&channel)));
    // What is unknown, or wrong: an IOTLB miss, a shared object, a configuration change with a body, a ring that is none.
    let file = SharedMemory::new("vuser-test", 0x1000, false).unwrap();
    for (request, payload, fds) in [
        (1, vec![0; 32], vec![]),
        (6, vec![0; 16], vec![file.as_fd().as_raw_fd()]),
        (77, vec![], vec![]),
        (2, vec![0; 8], vec![]),
        (5, [256u32, 0].map(u32::to_ne_bytes).concat(), vec![]),
        (5, vec![], vec![]),
    ] {
        ask(&channel, request, 9, &payload, &fds);
        assert_eq!(heard(&mut backend), []);
        assert_eq!(answer(&channel), (request, 5, 1));
    }
    backend.status().unwrap();
}

#[test]
fn requests_come_in_pieces_and_in_floods() {
    let mut peer = Peer::start(&modern(), honest());
    let mut backend = connect(&mut peer, PATIENT).unwrap();
    let channel = peer.channel();
    let request = message(5, 1, &[7u32, 0].map(u32::to_ne_bytes).concat());
    for byte in &request[..request.len() - 1] {
        channel.send(&[*byte], &[], Deadline::after(PATIENT)).unwrap();
        assert_eq!(heard(&mut backend), []);
    }
    channel.send(&request[request.len() - 1..], &[], Deadline::after(PATIENT)).unwrap();
    assert_eq!(heard(&mut backend), [Notice::RingError(7)]);
    // More than are taken at a time, and none is lost.
    for _ in 0..20 {
        (0..10).for_each(|_| ask(&channel, 2, 1, &[], &[]));
    }
    ask(&channel, 5, 1, &[9u32, 0].map(u32::to_ne_bytes).concat(), &[]);
    let mut turns = 0;
    while !heard(&mut backend).contains(&Notice::RingError(9)) {
        turns += 1;
    }
    assert_eq!(turns, 3);
}

#[test]
fn a_back_end_that_asks_before_it_answers_is_answered() {
    // As one does whose configuration changes while a message is under way: it goes on when we have answered.
    let notes: Arc<Mutex<Option<Stream>>> = Arc::default();
    let theirs = notes.clone();
    let script: Script = Box::new(move |_, seen, _| {
        if let (40, Some(channel)) = (seen.request, theirs.lock().unwrap().as_ref()) {
            ask(channel, 2, 9, &[], &[]);
            assert_eq!(answer(channel), (2, 5, 0));
        }
        Deed::Right
    });
    let mut peer = Peer::start(&modern(), script);
    let mut backend = connect(&mut peer, PATIENT).unwrap();
    *notes.lock().unwrap() = Some(peer.channel());
    backend.status().unwrap();
    assert_eq!(backend.hear(), [Notice::ConfigChanged]);
}

#[test]
fn a_flood_of_requests_does_not_outlast_the_deadline() {
    let notes: Arc<Mutex<Option<Stream>>> = Arc::default();
    let theirs = notes.clone();
    let script: Script = Box::new(move |_, seen, _| {
        if seen.request != 40 {
            return Deed::Right;
        }
        let (channel, start) = (theirs.lock().unwrap().take().unwrap(), Instant::now());
        let request = message(2, 1, &[]);
        while start.elapsed() < 2 * PATIENT && channel.send(&request, &[], Deadline::after(QUICK)).is_ok() {}
        Deed::Silence
    });
    let mut peer = Peer::start(&modern(), script);
    let mut backend = connect(&mut peer, QUICK).unwrap();
    *notes.lock().unwrap() = Some(peer.channel());
    let start = Instant::now();
    assert_eq!(
        backend.status().unwrap_err().to_string(),
        format!("no answer to GET_STATUS within {} ms", QUICK.as_millis())
    );
    assert!(start.elapsed() < PATIENT);
}

#[test]
fn a_channel_that_cannot_be_followed_is_closed_and_all_else_goes_on() {
    for (bytes, fds) in [
        (message(2, 2, &[]), 0),
        (message(2, 5, &[]), 0),
        (message(2, 1, &[0; 257]), 0),
        (vec![0xff; 12], 0),
        (message(2, 1, &[]), 9),
    ] {
        let mut peer = Peer::start(&modern(), honest());
        let mut backend = connect(&mut peer, PATIENT).unwrap();
        let channel = peer.channel();
        channel.send(&bytes, &vec![0; fds], Deadline::after(PATIENT)).unwrap();
        assert_eq!(heard(&mut backend), []);
        assert!(channel.wait_closed(PATIENT));
        backend.status().unwrap();
        assert!(backend.is_alive() && backend.hear().is_empty());
    }
    // One that is closed by the back-end, and one whose answers nobody reads.
    let mut peer = Peer::start(&modern(), honest());
    let mut backend = connect(&mut peer, PATIENT).unwrap();
    drop(peer.channel());
    assert_eq!(heard(&mut backend), []);
    assert!(poll::wait_any(&backend.watched(), Some(Duration::ZERO)) == [poll::Ready::No], "not told for ever");
    let mut peer = Peer::start(&modern(), honest());
    let mut backend = connect(&mut peer, PATIENT).unwrap();
    let channel = peer.channel();
    let start = Instant::now();
    while channel.send(&message(2, 9, &[]), &[], Deadline::after(Duration::from_millis(20))).is_ok() {
        backend.hear();
        assert!(start.elapsed() < PATIENT, "answers are sent for ever to nobody");
    }
    backend.status().unwrap();
}

#[test]
fn a_back_end_without_ears_for_these_is_served_without_them() {
    // SET_BACKEND_REQ_FD and SET_VRING_ERR are refused.
    let no = |seen: &Seen, _: Option<&[u8]>| match seen.request {
        14 | 21 => Deed::Say(message(seen.request, 5, &1u64.to_ne_bytes())),
        _ => Deed::Right,
    };
    let mut peer = Peer::start(&modern(), Box::new(move |_, seen, right| no(seen, right)));
    let (backend, result) = life(&mut peer, PATIENT);
    result.unwrap();
    assert!(backend.unwrap().is_alive());
}

#[test]
fn a_doorbell_comes_and_goes() {
    let mut peer = Peer::start(&modern(), honest());
    let mut backend = connect(&mut peer, PATIENT).unwrap();
    let channel = peer.channel();
    let page = SharedMemory::new("vuser-test", 0x2000, false).unwrap();
    let fd = page.as_fd().as_raw_fd();
    let area = |ring: u64, size: u64, offset: u64| [ring, size, offset].map(u64::to_ne_bytes).concat();
    ask(&channel, 3, 9, &area(4, 0x1000, 0x1000), &[fd]);
    assert_eq!(heard(&mut backend), [Notice::Doorbell(4)]);
    assert_eq!(answer(&channel), (3, 5, 0));
    backend.doorbell(4).unwrap().ring(4);
    // SAFETY: within the mapping, which the test holds.
    assert_eq!(unsafe { page.addr().add(0x1000).cast::<u16>().read_volatile() }, 4);
    assert!(backend.doorbell(5).is_none());
    // Not in a file, without a file, with two, of a ring that is none.
    for (area, fds) in [
        (area(4, 0x1000, 1), vec![fd]),
        (area(4, 0, 0), vec![fd]),
        (area(4, 0x1000, 0x2000), vec![fd]),
        (area(4, 0x1000, !0xfff), vec![fd]),
        (area(4, 0x1000, 0), vec![]),
        (area(4, 0x1000, 0), vec![fd, fd]),
        (area(0x204, 0x1000, 0), vec![fd]),
        (area(0x104, 0, 0), vec![fd]),
    ] {
        ask(&channel, 3, 9, &area, &fds);
        assert_eq!(heard(&mut backend), []);
        assert_eq!(answer(&channel), (3, 5, 1));
    }
    ask(&channel, 3, 1, &area(0x104, 0, 0), &[]);
    assert_eq!(heard(&mut backend), [Notice::Doorbell(4)]);
    assert!(backend.doorbell(4).is_none());
    // Where that was not agreed upon, it is refused.
    let mut peer = Peer::start(&Offer { protocol: OURS & !0x400, ..modern() }, honest());
    let mut backend = connect(&mut peer, PATIENT).unwrap();
    let channel = peer.channel();
    ask(&channel, 3, 9, &area(4, 0x1000, 0x1000), &[fd]);
    assert_eq!(heard(&mut backend), []);
    assert_eq!(answer(&channel), (3, 5, 1));
}

#[test]
fn a_channel_that_is_no_more_when_it_is_refused_is_no_more() {
    let refused = message(21, 5, &1u64.to_ne_bytes());
    let mut peer = Peer::start(&modern(), on(21, move |_, _| Deed::SayOnChannel(vec![0xff; 12], refused.clone())));
    let mut backend = connect(&mut peer, PATIENT).unwrap();
    backend.status().unwrap();
    assert!(backend.is_alive() && backend.hear().is_empty() && backend.doorbell(0).is_none());
}
