//! What is said to a back-end that behaves, and in which order.

use vuser::backend::vhost_user::choice::why_not;
use vuser::spec::vhost_user::ProtocolFeatures;

use super::*;

#[test]
fn golden_trace_of_one_pair() {
    let golden = "\
SET_OWNER
GET_FEATURES
GET_PROTOCOL_FEATURES
SET_PROTOCOL_FEATURES [19e3f]
SET_BACKEND_REQ_FD! +1
GET_CONFIG [0, a, 0] [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
SET_STATUS! [0]
SET_STATUS! [1]
SET_STATUS! [3]
SET_VRING_CALL! [0] +1
SET_VRING_CALL! [1] +1
SET_FEATURES! [140408000]
SET_STATUS! [b]
GET_STATUS
SET_MEM_TABLE! [1, 0] [700000000000, 2000, 700000000000, 1000] +1
SET_VRING_NUM! [0, 100]
SET_VRING_BASE! [0, 8000]
SET_VRING_ADDR! [0, 0] [1000, 3000, 2000, 0]
SET_VRING_ERR! [0] +1
SET_VRING_KICK! [0] +1
SET_VRING_NUM! [1, 100]
SET_VRING_BASE! [1, 8000]
SET_VRING_ADDR! [1, 0] [1000, 3000, 2000, 0]
SET_VRING_ERR! [1] +1
SET_VRING_KICK! [1] +1
SET_VRING_ENABLE! [0, 1]
SET_VRING_ENABLE! [1, 1]
SET_STATUS! [f]
SET_VRING_ENABLE! [0, 0]
GET_VRING_BASE [0, 0]
SET_VRING_ENABLE! [1, 0]
GET_VRING_BASE [1, 0]
SET_STATUS! [0]";
    assert_eq!(lines(&trace_of(&modern(), 1)).join("\n"), golden);
}

#[test]
fn golden_trace_of_two_pairs() {
    let mut golden: Vec<String> = Vec::new();
    let mut add = |line: &str| golden.push(line.into());
    for line in ["SET_OWNER", "GET_FEATURES", "GET_PROTOCOL_FEATURES", "SET_PROTOCOL_FEATURES [18c3f]"] {
        add(line);
    }
    for line in ["SET_BACKEND_REQ_FD! +1", "GET_QUEUE_NUM", "SET_STATUS! [0]", "SET_STATUS! [1]", "SET_STATUS! [3]"] {
        add(line);
    }
    (0..4).for_each(|r| add(&format!("SET_VRING_CALL! [{r}] +1")));
    for line in ["SET_FEATURES! [140408000]", "SET_STATUS! [b]", "GET_STATUS"] {
        add(line);
    }
    add("SET_MEM_TABLE! [1, 0] [700000000000, 2000, 700000000000, 1000] +1");
    for r in 0..4 {
        add(&format!("SET_VRING_NUM! [{r}, 100]"));
        add(&format!("SET_VRING_BASE! [{r}, 8000]"));
        add(&format!("SET_VRING_ADDR! [{r}, 0] [1000, 3000, 2000, 0]"));
        add(&format!("SET_VRING_ERR! [{r}] +1"));
        add(&format!("SET_VRING_KICK! [{r}] +1"));
    }
    (0..4).for_each(|r| add(&format!("SET_VRING_ENABLE! [{r}, 1]")));
    add("SET_STATUS! [f]");
    for r in 0..4 {
        add(&format!("SET_VRING_ENABLE! [{r}, 0]"));
        add(&format!("GET_VRING_BASE [{r}, 0]"));
    }
    add("SET_STATUS! [0]");
    // What DPDK's back-end offers: no CONFIG.
    let offer = Offer { protocol: 0x18cbf, ..modern() };
    assert_eq!(lines(&trace_of(&offer, 2)), golden);
}

#[test]
fn golden_trace_without_protocol_features() {
    let golden = |features: &str| {
        let mut lines = vec!["SET_OWNER".into(), "GET_FEATURES".into()];
        lines.extend((0..2).map(|r| format!("SET_VRING_CALL [{r}] +1")));
        lines.push(format!("SET_FEATURES [{features}]"));
        lines.push("SET_MEM_TABLE [1, 0] [700000000000, 2000, 700000000000, 1000] +1".into());
        for r in 0..2 {
            lines.push(format!("SET_VRING_NUM [{r}, 100]"));
            lines.push(format!("SET_VRING_BASE [{r}, 8000]"));
            lines.push(format!("SET_VRING_ADDR [{r}, 0] [1000, 3000, 2000, 0]"));
            lines.push(format!("SET_VRING_ERR [{r}] +1"));
            lines.push(format!("SET_VRING_KICK [{r}] +1"));
        }
        lines.extend((0..2).map(|r| format!("GET_VRING_BASE [{r}, 0]")));
        lines
    };
    assert_eq!(lines(&trace_of(&legacy(), 1)), golden("8000"));
    let modern_rings = Offer { features: VERSION_1 | MRG_RXBUF, ..legacy() };
    assert_eq!(lines(&trace_of(&modern_rings, 1)), golden("100008000"));
}

#[test]
fn without_reply_ack_nothing_is_acknowledged_and_all_else_stays() {
    let with = trace_of(&modern(), 1);
    let without = trace_of(&Offer { protocol: OURS & !REPLY_ACK, ..modern() }, 1);
    assert!(without.iter().all(|m| !m.needs_reply()));
    let same = |m: &Seen| m.line().replace('!', "").replace("[19e3f]", "[19e37]");
    assert_eq!(lines(&without), with.iter().map(same).collect::<Vec<_>>());
    // And each message without an answer of its own asks for an acknowledgement where there is one.
    for m in &with[4..] {
        assert_eq!(m.needs_reply(), !m.name().starts_with("GET_"), "{}", m.line());
    }
}

#[test]
fn protocol_features_that_need_the_other_bits_are_not_negotiated_alone() {
    // Bit 30 with nothing behind it.
    let bare = trace_of(&Offer { protocol: 0, ..modern() }, 1);
    assert_eq!(bare[3].line(), "SET_PROTOCOL_FEATURES [0]");
    assert!(bare.iter().all(|m| !["GET_CONFIG", "GET_QUEUE_NUM", "SET_STATUS", "GET_STATUS"].contains(&m.name())));
    // MQ has gone from the features, because queues cannot be counted; ENABLE is there, because of bit 30.
    assert!(lines(&bare).contains(&"SET_FEATURES [140008000]".into()));
    assert!(lines(&bare).contains(&"SET_VRING_ENABLE [0, 1]".into()));
}

#[test]
fn a_reset_is_said_in_the_way_that_the_back_end_knows() {
    let resets = |protocol| {
        let seen = trace_of(&Offer { protocol, ..modern() }, 1);
        let at = |name| seen.iter().filter(|m| m.name() == name).count();
        (at("SET_STATUS"), at("RESET_DEVICE"), seen[3].line())
    };
    assert_eq!(resets(STATUS | RESET_DEVICE), (6, 0, "SET_PROTOCOL_FEATURES [10000]".into()));
    assert_eq!(resets(RESET_DEVICE | REPLY_ACK), (0, 2, "SET_PROTOCOL_FEATURES [2008]".into()));
    assert_eq!(resets(REPLY_ACK), (0, 0, "SET_PROTOCOL_FEATURES [8]".into()));
}

#[test]
fn only_features_that_were_offered_are_sent() {
    let all = Features::all();
    for (offer, told) in [
        (modern(), "SET_FEATURES! [140408000]"),
        (legacy(), "SET_FEATURES [8000]"),
        (Offer { features: u64::MAX, ..modern() }, "SET_FEATURES!"),
    ] {
        let mut peer = Peer::start(&offer, honest());
        let mut backend = connect(&mut peer, PATIENT).unwrap();
        assert!(!backend.features().unwrap().contains(Features::PROTOCOL_FEATURES));
        // All features there are, among them MAC, STATUS, CTRL_VQ, and such above 64 bits.
        backend.set_features(all | Features::from_bits_retain(1 << 65)).unwrap();
        drop(backend);
        peer.join();
        let seen = peer.seen();
        let last = seen.last().unwrap();
        assert!(last.line().starts_with(told), "{}", last.line());
        let told = u64::from_ne_bytes(last.payload.clone().try_into().unwrap());
        assert_eq!(told & !offer.features, 0);
        assert_eq!(told & BIT_30, offer.features & BIT_30);
    }
}

#[test]
fn descriptors_that_we_send_are_the_right_ones_in_the_right_order() {
    let mut peer = Peer::start(&modern(), honest());
    let mut backend = connect(&mut peer, PATIENT).unwrap();
    // The peer rings each bell once when it gets it.
    let (call, kick) = (Bell::new().unwrap(), Bell::new().unwrap());
    backend.set_call(3, call.as_fd()).unwrap();
    assert_eq!((call.take(), kick.take()), (true, false));
    let ring = RingSetup { index: 3, size: 4, base: 1, desc: 2, driver: 3, device: 4, kick: kick.as_fd() };
    backend.setup_ring(&ring).unwrap();
    assert_eq!((call.take(), kick.take()), (false, true));

    let files: Vec<_> = (0..3).map(|_| SharedMemory::new("vuser-test", 0x1000, false).unwrap()).collect();
    let mut map = MemoryMap::default();
    for (n, file) in files.iter().enumerate() {
        let fd = file.as_fd().try_clone_to_owned().unwrap();
        map.add(Region::application(fd, 0, 0x1000, 0x10_0000 * (1 + n as u64)).unwrap()).unwrap();
    }
    backend.set_memory(&map).unwrap();
    let inodes: Vec<_> = files.iter().map(|f| nix::sys::stat::fstat(f).unwrap().st_ino).collect();
    let seen = peer.seen().pop().unwrap();
    assert_eq!(seen.inodes, inodes);
    assert_eq!(
        seen.line(),
        "SET_MEM_TABLE! [3, 0] [100000, 1000, 100000, 0, 200000, 1000, 200000, 0, 300000, 1000, 300000, 0] +3"
    );
}

#[test]
fn queue_pairs_are_counted_in_every_dialect() {
    let config = |pairs: u16| {
        let mut space = vec![0; 24];
        space[8..10].copy_from_slice(&pairs.to_le_bytes());
        Some(space)
    };
    const QUESTIONS: [&str; 2] = ["GET_CONFIG", "GET_QUEUE_NUM"];
    let mq = BIT_30 | MQ;
    for (features, protocol, config, queues, pairs, questions) in [
        (mq, OURS, config(4), 8, 4, "GET_CONFIG"),
        (mq, OURS, config(300), 8, 128, "GET_CONFIG"),
        // Configuration that says nothing sensible, or is refused.
        (mq, OURS, config(0), 3, 3, "GET_CONFIG GET_QUEUE_NUM"),
        (mq, OURS, config(0x8001), 3, 3, "GET_CONFIG GET_QUEUE_NUM"),
        (mq, OURS, None, 128, 128, "GET_CONFIG GET_QUEUE_NUM"),
        (mq, OURS & !CONFIG, config(4), 7, 7, "GET_QUEUE_NUM"),
        (mq, OURS & !CONFIG, None, 65535, 128, "GET_QUEUE_NUM"),
        (mq, OURS & !CONFIG, None, u64::MAX, 128, "GET_QUEUE_NUM"),
        // No MQ of one kind or the other.
        (mq, OURS & !1, config(4), 8, 1, ""),
        (BIT_30, OURS, config(4), 8, 1, ""),
        (MQ, OURS, config(4), 8, 1, ""),
    ] {
        let mut peer = Peer::start(&Offer { features, protocol, queues, config, slots: 0 }, honest());
        let mut backend = connect(&mut peer, PATIENT).unwrap();
        assert_eq!(backend.max_queue_pairs().unwrap(), Some(pairs), "{questions} {queues}");
        assert_eq!(backend.max_queue_pairs().unwrap(), Some(pairs));
        let questions_of = |seen: Vec<Seen>| seen.into_iter().map(|m| m.name()).filter(|n| QUESTIONS.contains(n));
        let asked: Vec<_> = questions_of(peer.seen()).collect();
        assert_eq!(asked.join(" "), questions, "asked once, and only what there is");
    }
}

#[test]
fn what_the_protocol_cannot_say_is_refused_before_it_is_sent() {
    // Nine regions can be told where there are slots.
    let mut peer = Peer::start(&Offer { protocol: OURS & !SLOTS, ..modern() }, honest());
    let mut backend = connect(&mut peer, PATIENT).unwrap();
    let bell = Bell::new().unwrap();
    backend.set_status(Status::empty()).unwrap();
    let before = peer.seen().len();
    let ring = |index| RingSetup { index, size: 2, base: 0, desc: 0, driver: 0, device: 0, kick: bell.as_fd() };
    for error in [
        backend.set_call(256, bell.as_fd()).unwrap_err(),
        backend.setup_ring(&ring(256)).unwrap_err(),
        backend.enable_ring(u16::MAX, true).unwrap_err(),
        backend.stop_ring(256).unwrap_err(),
    ] {
        assert!(error.errno() == Errno::EINVAL && error.to_string().contains("128 queue pairs at most"), "{error}");
    }
    let error = backend.set_memory(&memory(9)).unwrap_err();
    assert!(error.errno() == Errno::E2BIG && error.to_string().contains("9 regions"), "{error}");
    assert_eq!(backend.set_memory(&memory(0)).unwrap_err().errno(), Errno::EINVAL);
    assert_eq!(backend.read_config(250, &mut [0; 8]).unwrap_err().errno(), Errno::EINVAL);
    assert_eq!(backend.read_config(u32::MAX, &mut [0; 8]).unwrap_err().errno(), Errno::EINVAL);
    assert_eq!(peer.seen().len(), before);
    // All of that harms nothing, and the last that can be said is said.
    backend.set_call(255, bell.as_fd()).unwrap();
    backend.set_memory(&memory(8)).unwrap();
    assert!(peer.lines().last().unwrap().ends_with("+8"));
}

#[test]
fn connecting_says_what_to_do() {
    let _together = PROCESS.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let path = Path::new("/nonexistent/vuser");
    let error = VhostUser::connect(path, Duration::MAX).unwrap_err();
    assert!(error.errno() == Errno::ENOENT && error.to_string().contains("is the back-end running?"), "{error}");

    let path = std::env::temp_dir().join(format!("vuser-test-{}", std::process::id()));
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    // Connected, but nobody accepts and so nobody answers.
    let error = VhostUser::connect(&path, QUICK).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(error.to_string(), format!("no answer to GET_FEATURES within {} ms", QUICK.as_millis()));
}

#[test]
fn every_exchange_is_told_to_the_log() {
    thread_local!(static TOLD: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) });
    struct Log;
    impl log::Log for Log {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            if record.target() == "vuser::vhost_user" {
                TOLD.with_borrow_mut(|t| t.push(record.args().to_string()));
            }
        }
        fn flush(&self) {}
    }
    log::set_logger(&Log).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
    let seen = trace_of(&modern(), 1);
    let told = TOLD.take();
    assert_eq!(told.len(), seen.len());
    for (told, seen) in told.iter().zip(&seen) {
        assert!(told.starts_with(&format!("the test: {}", seen.title())), "{told}");
    }
    assert_eq!(told[1], "the test: GET_FEATURES -> 0x140408000");
    assert_eq!(told[3], "the test: SET_PROTOCOL_FEATURES (0x19e3f) -> sent");
    assert_eq!(told[15], "the test: SET_VRING_NUM of ring 0 (256) -> acknowledged");
    assert_eq!(told[29], "the test: GET_VRING_BASE of ring 0 (stop) -> ring 0 at 0x1234");
    let mut peer = Peer::start(&modern(), at(1, |_, _| Deed::Close));
    let error = connect(&mut peer, PATIENT).unwrap_err();
    assert_eq!(TOLD.take()[1], format!("the test: GET_FEATURES -> {error}"));
}

#[test]
fn why_a_protocol_feature_is_not_in_use_is_said() {
    use ProtocolFeatures as P;
    let doorbells = "doorbells need backend_req and backend_send_fd, which the back-end does not offer both";
    for (feature, offered, says) in [
        (P::RESET_DEVICE, P::RESET_DEVICE | P::STATUS, "not needed: with status, status 0 is the reset"),
        (P::HOST_NOTIFIER, P::HOST_NOTIFIER | P::BACKEND_REQ, doorbells),
        (P::BACKEND_SEND_FD, P::BACKEND_SEND_FD, doorbells),
        (P::MQ, P::MQ, "not in use"),
        (P::MQ, P::STATUS, "would be used; the back-end does not offer it"),
        (P::PAGEFAULT, P::PAGEFAULT, "this library does not speak it"),
        (P::PAGEFAULT, P::MQ, ""),
    ] {
        assert_eq!(why_not(feature, offered), says, "{feature:?} of {offered:?}");
    }
}
