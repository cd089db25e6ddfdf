//! Every message that there is: whichever a back-end hangs at, or closes the connection at, the call ends in time with
//! an error that names it.

use super::*;
use vuser::mem::dirty::DirtyLog;

/// Bit 26, LOG_ALL.
const LOG_ALL: u64 = 1 << 26;

/// All that can be said by this front-end.
const ALL: [&str; 29] = [
    "ADD_MEM_REG",
    "GET_CONFIG",
    "GET_FEATURES",
    "GET_INFLIGHT_FD",
    "GET_MAX_MEM_SLOTS",
    "GET_PROTOCOL_FEATURES",
    "GET_QUEUE_NUM",
    "GET_STATUS",
    "GET_VRING_BASE",
    "NET_SET_MTU",
    "REM_MEM_REG",
    "RESET_DEVICE",
    "SEND_RARP",
    "SET_BACKEND_REQ_FD",
    "SET_CONFIG",
    "SET_FEATURES",
    "SET_INFLIGHT_FD",
    "SET_LOG_BASE",
    "SET_LOG_FD",
    "SET_MEM_TABLE",
    "SET_OWNER",
    "SET_PROTOCOL_FEATURES",
    "SET_STATUS",
    "SET_VRING_ADDR",
    "SET_VRING_BASE",
    "SET_VRING_CALL",
    "SET_VRING_ENABLE",
    "SET_VRING_ERR",
    "SET_VRING_KICK",
];
/// Numbered apart, since a ring's set-up has it too.
const NUM: &str = "SET_VRING_NUM";

/// Back-ends that between them are told everything.
fn offers() -> [Offer; 2] {
    let full = Offer { features: modern().features | LOG_ALL | 1 << 3, ..modern() };
    // One that counts its queues by a message, and has no status to write for a reset.
    let other = Offer { protocol: OURS & !CONFIG & !STATUS | RESET_DEVICE, ..full.clone() };
    [full, other]
}

/// A life in which all is asked of a back-end that can be.
fn everything(backend: &mut dyn Backend) -> Result<()> {
    let (log, mac) = (DirtyLog::new(1 << 30).unwrap(), [2, 0, 0, 0, 0, 7]);
    backend.set_log(Some(&log))?;
    backend.set_features(Features::MTU)?;
    if let Some(inflight) = backend.inflight(2, 256)? {
        backend.set_inflight(&inflight)?;
    }
    assert!(backend.set_mtu(1400)? && backend.announce(mac)?);
    backend.set_mac(mac)?;
    backend.set_memory(&memory(1))?;
    backend.change_memory(&memory(1), &memory(2))?;
    backend.change_memory(&memory(2), &memory(1))?;
    live(backend, 1)
}

fn full_life(peer: &mut Peer, timeout: Duration) -> (Option<VhostUser>, Result<()>) {
    match connect(peer, timeout) {
        Ok(mut backend) => {
            let result = everything(&mut backend);
            (Some(backend), result)
        }
        Err(e) => (None, Err(e)),
    }
}

fn trace(offer: &Offer) -> Vec<Seen> {
    let mut peer = Peer::start(offer, honest());
    let (backend, result) = full_life(&mut peer, PATIENT);
    result.unwrap();
    assert!(backend.unwrap().is_alive());
    peer.join();
    peer.seen()
}

/// What is waited for.
fn answered(m: &Seen) -> bool {
    m.needs_reply() || m.name().starts_with("GET_") || m.name() == "SET_LOG_BASE"
}

#[test]
fn the_table_is_complete() {
    let mut said: Vec<_> = offers().iter().flat_map(trace).map(|m| m.name()).filter(|name| *name != NUM).collect();
    said.sort_unstable();
    said.dedup();
    assert_eq!(said, ALL);
}

#[test]
fn what_is_not_waited_for_is_told_before_answers_can_be_asked() {
    let said: Vec<_> = offers().iter().flat_map(trace).filter(|m| !answered(m)).map(|m| m.name()).collect();
    assert_eq!(said, ["SET_OWNER", "SET_PROTOCOL_FEATURES"].repeat(2));
}

#[test]
fn a_back_end_that_hangs_at_any_message_is_named() {
    for offer in offers() {
        let trace = trace(&offer);
        // All at once: they do nothing but wait.
        std::thread::scope(|scope| {
            for (n, expected) in trace.iter().enumerate().filter(|(_, m)| answered(m)) {
                let offer = &offer;
                scope.spawn(move || {
                    let mut peer = Peer::start(offer, at(n, |_, _| Deed::Silence));
                    let start = Instant::now();
                    let (backend, result) = full_life(&mut peer, QUICK);
                    let error = result.unwrap_err();
                    assert_eq!(
                        error.to_string(),
                        format!("no answer to {} within {} ms", expected.title(), QUICK.as_millis())
                    );
                    assert_eq!(error.errno(), Errno::ETIMEDOUT);
                    assert!(start.elapsed() < PATIENT);
                    if let Some(mut backend) = backend {
                        assert!(matches!(backend.hear()[..], [Notice::Gone(_)]));
                    }
                });
            }
        });
    }
}

#[test]
fn a_back_end_that_goes_at_any_message_is_named() {
    for offer in offers() {
        for (n, expected) in trace(&offer).iter().enumerate().filter(|(_, m)| answered(m)) {
            let mut peer = Peer::start(&offer, at(n, |_, _| Deed::Close));
            let error = full_life(&mut peer, PATIENT).1.unwrap_err();
            let says = format!("no answer to {}: the back-end closed the connection", expected.title());
            assert!(error.errno() == Errno::ECONNRESET && error.to_string().starts_with(&says), "{error}, not {says}");
        }
    }
}
