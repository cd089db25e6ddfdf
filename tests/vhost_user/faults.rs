//! Back-ends that refuse, lie, fall silent or go.

use super::*;

#[test]
fn a_refused_message_is_an_error_that_names_it() {
    let honest_trace = trace_of(&modern(), 1);
    let mut refused = 0;
    // We can do without the other two, see `notices`.
    let needed = |m: &Seen| m.needs_reply() && !["SET_BACKEND_REQ_FD", "SET_VRING_ERR"].contains(&m.name());
    for (n, expected) in honest_trace.iter().enumerate().filter(|(_, m)| needed(m)) {
        let no = |seen: &Seen| message(seen.request, 5, &(1u64 << (seen.request % 64)).to_ne_bytes());
        for closes in [false, true] {
            let script = at(n, move |seen, _| if closes { Deed::SayAndClose(no(seen)) } else { Deed::Say(no(seen)) });
            let mut peer = Peer::start(&modern(), script);
            let (backend, result) = life(&mut peer, PATIENT);
            let error = result.unwrap_err();
            assert_eq!(error.to_string(), format!("the back-end refused {}", expected.title()));
            assert_eq!(error.errno(), Errno::EREMOTEIO);
            let mut backend = backend.unwrap();
            if closes {
                peer.join();
                assert!(!backend.is_alive());
                assert_eq!(backend.status().unwrap_err().errno(), Errno::ECONNRESET);
            } else {
                // In step still: the next exchange works.
                assert!(backend.is_alive() && backend.status().is_ok());
            }
            refused += 1;
        }
    }
    assert_eq!(refused, 2 * 22);
}

/// Answers that are not what was asked for, made from the right one, and what the error says about each.
fn lies(right: &[u8]) -> Vec<(Vec<u8>, &'static str)> {
    let with = |at: usize, value: u32| {
        let mut bytes = right.to_vec();
        bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        bytes
    };
    let size = u32::from_ne_bytes(right[8..12].try_into().unwrap());
    let mut longer = with(8, size + 1);
    longer.push(0);
    vec![
        (with(0, 99), "it belongs to request 99"),
        (with(0, 6), "it belongs to request SET_LOG_BASE"),
        (with(0, 0), "it belongs to request 0"),
        (with(4, 1), "not those of a reply"),
        (with(4, 4), "protocol version 0"),
        (with(4, 6), "protocol version 2"),
        (with(4, 7), "protocol version 3"),
        (with(4, 0x15), "not those of a reply"),
        (with(4, 0x8000_0005), "not those of a reply"),
        (vec![0xff; right.len()], "protocol version 3"),
        (vec![0; right.len()], "protocol version 0"),
        (with(8, 0)[..12].to_vec(), "0 bytes"),
        (with(8, size - 1)[..right.len() - 1].to_vec(), "bytes"),
        (longer, "bytes"),
        (with(8, 4096), "4096 bytes"),
        (with(8, u32::MAX), "4294967295 bytes"),
    ]
}

#[test]
fn an_answer_that_cannot_be_ends_the_connection() {
    let honest_trace = trace_of(&modern(), 1);
    for (n, expected) in honest_trace.iter().enumerate() {
        let answered = expected.needs_reply() || expected.name().starts_with("GET_");
        // GET_CONFIG may be shorter; its lies have a test of their own.
        if !answered || expected.name() == "GET_CONFIG" {
            continue;
        }
        for (case, (_, says)) in lies(&message(0, 5, &[0; 8])).iter().enumerate() {
            let script = at(n, move |_, right| Deed::Say(lies(right.unwrap())[case].0.clone()));
            let mut peer = Peer::start(&modern(), script);
            let (backend, result) = life(&mut peer, PATIENT);
            let error = result.unwrap_err();
            assert_eq!(error.errno(), Errno::EPROTO, "{error}");
            let start = format!("bad answer to {}: ", expected.title());
            assert!(error.to_string().starts_with(&start), "case {case}: {error}");
            assert!(error.to_string().contains(says), "case {case}: {error}, not {says}");
            if let Some(mut backend) = backend {
                assert_dead(&mut backend, &peer, &error);
            }
        }
    }
}

#[test]
fn need_reply_in_an_answer_is_tolerated() {
    let script: Script = Box::new(|_, _, right| match right {
        Some(right) => Deed::Say([&right[..4], &[0xd], &right[5..]].concat()),
        None => Deed::Right,
    });
    let mut peer = Peer::start(&modern(), script);
    // And so is a timeout that no clock can hold.
    life(&mut peer, Duration::MAX).1.unwrap();
}

#[test]
fn values_that_cannot_be_end_the_connection() {
    let u64_of = |n: u64| n.to_ne_bytes().to_vec();
    let state = |index: u32| [index, 7].map(u32::to_ne_bytes).concat();
    for (request, payload, says) in [
        (11, state(1), "bad answer to GET_VRING_BASE of ring 0: it is about ring 1"),
        (11, state(u32::MAX), "it is about ring 4294967295"),
        (40, u64_of(0x100), "bad answer to GET_STATUS: status 0x100 is more than a byte"),
        (17, u64_of(0), "bad answer to GET_QUEUE_NUM: a device without queues"),
    ] {
        let offer = Offer { protocol: OURS & !CONFIG, ..modern() };
        let mut peer = Peer::start(&offer, on(request, move |_, _| Deed::Say(message(request, 5, &payload))));
        let (backend, result) = life(&mut peer, PATIENT);
        let error = result.unwrap_err();
        assert!(error.to_string().contains(says) && error.errno() == Errno::EPROTO, "{error}");
        assert_dead(&mut backend.unwrap(), &peer, &error);
    }
}

#[test]
fn configuration_space_is_read_refused_or_nonsense() {
    type Outcome = std::result::Result<bool, &'static str>;
    let answer = |words: [u32; 3], bytes: usize| [&words.map(u32::to_ne_bytes).concat()[..], &vec![7; bytes]].concat();
    let rows: [(Vec<u8>, Outcome); 11] = [
        (answer([0, 8, 0], 8), Ok(true)),
        (answer([0, 8, 1], 8), Ok(true)),
        (vec![], Ok(false)),
        (answer([0, 0, 0], 0), Ok(false)),
        (answer([6, 0, 0], 0), Ok(false)),
        (answer([0, 4, 0], 4), Ok(false)),
        (vec![0; 5], Err("5 bytes are no configuration space")),
        (answer([0, 9, 0], 8), Err("it speaks of 9 bytes and has 8")),
        (answer([0, u32::MAX, 0], 8), Err("it speaks of 4294967295 bytes")),
        (answer([6, 8, 0], 8), Err("it is about offset 6")),
        (answer([0, 9, 0], 9), Err("21 bytes, where 20 at most are due")),
    ];
    for (payload, outcome) in rows {
        let mut peer = Peer::start(&modern(), on(24, move |_, _| Deed::Say(message(24, 5, &payload))));
        let mut backend = connect(&mut peer, PATIENT).unwrap();
        let mut status = [0xaa; 2];
        match (backend.read_config(6, &mut status), outcome) {
            (Ok(got), Ok(expected)) => {
                assert_eq!((got, status), (expected, if expected { [7; 2] } else { [0xaa; 2] }));
                assert!(backend.is_alive());
            }
            (Err(e), Err(says)) => {
                assert!(e.errno() == Errno::EPROTO && e.to_string().contains(says), "{e}, not {says}");
                assert_dead(&mut backend, &peer, &e);
            }
            (result, expected) => panic!("{result:?}, not {expected:?}"),
        }
    }
}

#[test]
fn descriptors_that_nobody_asked_for_are_closed() {
    for count in [1, 8, 32] {
        let honest_trace = trace_of(&modern(), 1);
        for (n, expected) in honest_trace.iter().enumerate() {
            if !expected.needs_reply() && !expected.name().starts_with("GET_") {
                continue;
            }
            let mut peer = Peer::start(&modern(), at(n, move |_, _| Deed::WithFds(count)));
            let (backend, result) = life(&mut peer, PATIENT);
            let error = result.unwrap_err().to_string();
            let says = format!("bad answer to {}: {count} file descriptors came with it", expected.title());
            assert!(error.starts_with(&says), "{error}");
            assert!(peer.sent_fds_are_closed(), "while the back-end is held");
            drop(backend);
        }
    }
}

#[test]
fn more_descriptors_than_there_is_room_for_are_closed() {
    for count in [33, 253] {
        let mut peer = Peer::start(&modern(), on(1, move |_, _| Deed::WithFds(count)));
        assert!(connect(&mut peer, PATIENT).is_err());
        assert!(peer.sent_fds_are_closed(), "{count}");
    }
}

#[test]
fn no_way_out_leaves_a_descriptor_open() {
    let last = trace_of(&modern(), 1).len();
    let _alone = PROCESS.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    for n in 0..=last {
        for kind in 0..5 {
            let script = at(n, move |_, right| match (kind, right) {
                (0, _) => Deed::Right,
                (1, _) => Deed::Close,
                (2, Some(_)) => Deed::WithFds(3),
                (3, Some(right)) => Deed::Say(lies(right)[0].0.clone()),
                (4, Some(right)) => Deed::SayAndClose(right[..7].to_vec()),
                _ => Deed::Close,
            });
            let mut peer = Peer::start_alone(&modern(), script);
            let (backend, result) = life(&mut peer, PATIENT);
            assert!(result.is_err() || kind == 0 || n >= last - 1, "message {n}, kind {kind}");
            drop(backend);
            peer.join();
        }
    }
    assert_eq!(open(), before);
}

/// A life with a back-end that does this instead of answering message `n`, which is this one.
fn late(n: usize, expected: &Seen, deed: fn(&[u8]) -> Deed) {
    let mut peer = Peer::start(&modern(), at(n, move |_, right| deed(right.unwrap())));
    let start = Instant::now();
    let (backend, result) = life(&mut peer, QUICK);
    let (took, error) = (start.elapsed(), result.unwrap_err());
    assert_eq!(error.to_string(), format!("no answer to {} within {} ms", expected.title(), QUICK.as_millis()));
    assert_eq!(error.errno(), Errno::ETIMEDOUT);
    assert!(took >= QUICK && took < PATIENT, "{took:?}");
    if let Some(mut backend) = backend {
        assert_dead(&mut backend, &peer, &error);
    }
}

#[test]
fn silence_and_dripping_end_at_the_deadline_and_name_the_message() {
    let silence: fn(&[u8]) -> Deed = |_| Deed::Silence;
    let half: fn(&[u8]) -> Deed = |right| Deed::Say(right[..right.len() - 1].to_vec());
    // Each of the 20 bytes is in time, the whole is not.
    let drip: fn(&[u8]) -> Deed = |right| Deed::Drip(right.to_vec(), QUICK / 10);
    let trace = trace_of(&modern(), 1);
    let answered = |m: &Seen| m.needs_reply() || m.name().starts_with("GET_");
    // All at once: they do nothing but wait.
    std::thread::scope(|scope| {
        for (n, expected) in trace.iter().enumerate().filter(|(_, m)| answered(m)) {
            for deed in [silence, half, drip] {
                scope.spawn(move || late(n, expected, deed));
            }
        }
    });
}

#[test]
fn a_deadline_is_told_as_people_say_it() {
    for (timeout, says) in [(1000, "1 s"), (1100, "1100 ms")] {
        let mut peer = Peer::start(&modern(), on(1, |_, _| Deed::Silence));
        let error = connect(&mut peer, Duration::from_millis(timeout)).unwrap_err();
        assert_eq!(error.to_string(), format!("no answer to GET_FEATURES within {says}"));
    }
}

#[test]
fn an_answer_that_comes_too_late_is_never_taken_for_the_next() {
    let script: Script = Box::new(|_, seen, right| {
        if seen.name() == "SET_STATUS" {
            std::thread::sleep(QUICK * 2);
        }
        right.map_or(Deed::Right, |r| Deed::Say(r.to_vec()))
    });
    let mut peer = Peer::start(&modern(), script);
    let (backend, result) = life(&mut peer, QUICK);
    let error = result.unwrap_err();
    assert_eq!(error.to_string(), format!("no answer to SET_STATUS within {} ms", QUICK.as_millis()));
    std::thread::sleep(QUICK * 2);
    assert_dead(&mut backend.unwrap(), &peer, &error);
}

#[test]
fn a_back_end_that_closes_at_any_message_is_an_error() {
    for offer in [modern(), legacy()] {
        let honest_trace = trace_of(&offer, 1);
        for (n, expected) in honest_trace.iter().enumerate() {
            let mut peer = Peer::start(&offer, at(n, |_, _| Deed::Close));
            let (backend, result) = life(&mut peer, PATIENT);
            // What was sent last without asking for an answer is lost unseen: there must be a later message.
            let error = result.unwrap_err();
            assert_eq!(error.errno(), Errno::ECONNRESET, "{n}: {error}");
            assert!(error.to_string().contains("the back-end closed the connection"), "{error}");
            if expected.needs_reply() || expected.name().starts_with("GET_") {
                let says = format!("no answer to {}", expected.title());
                assert!(error.to_string().starts_with(&says), "{error}, not {says}");
            }
            if let Some(mut backend) = backend {
                assert_dead(&mut backend, &peer, &error);
            }
        }
    }
}

#[test]
fn a_back_end_that_never_reads_ends_at_the_deadline() {
    let mut peer = Peer::start(&modern(), at(0, |_, _| Deed::Freeze));
    let says = format!("no answer to GET_FEATURES within {} ms", QUICK.as_millis());
    assert_eq!(connect(&mut peer, QUICK).unwrap_err().to_string(), says);
    drop(peer);

    // A legacy back-end owes no answers: what we send fills the socket first.
    let mut peer = Peer::start(&legacy(), at(2, |_, _| Deed::Freeze));
    let mut backend = connect(&mut peer, QUICK).unwrap();
    let bell = Bell::new().unwrap();
    let start = Instant::now();
    let error = (0..100_000).find_map(|_| backend.set_call(1, bell.as_fd()).err()).unwrap();
    assert!(start.elapsed() < PATIENT);
    let says = format!(
        "SET_VRING_CALL of ring 1 could not be sent within {} ms: the back-end does not read",
        QUICK.as_millis()
    );
    assert_eq!((error.to_string(), error.errno()), (says, Errno::ETIMEDOUT));
    assert!(!backend.is_alive());
}
