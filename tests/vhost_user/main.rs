//! The vhost-user front-end against a scripted back-end: every message, every refusal, every lie.

mod device;
mod every;
mod extras;
mod faults;
mod messages;
mod notices;
mod peer;
mod running;

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use peer::{Deed, Offer, PROCESS, Peer, Script, Seen, message};
use vuser::backend::vhost_user::VhostUser;
use vuser::backend::{Backend, Notice, RingSetup};
use vuser::error::{Error, Result};
use vuser::mem::map::{MemoryMap, Region};
use vuser::spec::virtio::{Features, Status};
use vuser::sys::eventfd::Bell;
use vuser::sys::shm::SharedMemory;

/// Time for exchanges that are meant to fail by it; a busy machine answers the others within it too.
const QUICK: Duration = Duration::from_millis(900);
/// Time for all others: never reached, even on a busy machine.
const PATIENT: Duration = Duration::from_secs(20);

const BIT_30: u64 = 1 << 30;
const VERSION_1: u64 = 1 << 32;
const MQ: u64 = 1 << 22;
const MRG_RXBUF: u64 = 1 << 15;
/// Protocol features MQ, LOG_SHMFD, RARP, REPLY_ACK, NET_MTU, BACKEND_REQ, CONFIG, BACKEND_SEND_FD, HOST_NOTIFIER,
/// INFLIGHT_SHMFD, CONFIGURE_MEM_SLOTS, STATUS.
const OURS: u64 = 0x19e3f;
const REPLY_ACK: u64 = 1 << 3;
const CONFIG: u64 = 1 << 9;
const RESET_DEVICE: u64 = 1 << 13;
const SLOTS: u64 = 1 << 15;
const STATUS: u64 = 1 << 16;

fn modern() -> Offer {
    let mut config = vec![0; 24];
    config[8] = 4;
    let features = BIT_30 | VERSION_1 | MQ | MRG_RXBUF;
    Offer { features, protocol: 0xffff_ffff, queues: 6, config: Some(config), slots: 32 }
}

fn legacy() -> Offer {
    Offer { features: MRG_RXBUF, protocol: 0, queues: 0, config: None, slots: 0 }
}

fn honest() -> Script {
    Box::new(|_, _, _| Deed::Right)
}

/// At message `at` the deed, before and after it what is right.
fn at(at: usize, deed: impl Fn(&Seen, Option<&[u8]>) -> Deed + Send + 'static) -> Script {
    Box::new(move |n, seen, right| if n == at { deed(seen, right) } else { Deed::Right })
}

/// At each message with this number the deed.
fn on(request: u32, deed: impl Fn(&Seen, &[u8]) -> Deed + Send + 'static) -> Script {
    Box::new(move |_, seen, right| if seen.request == request { deed(seen, right.unwrap()) } else { Deed::Right })
}

fn memory(regions: usize) -> MemoryMap {
    let file = SharedMemory::new("vuser-test", 0x3000, false).unwrap();
    let mut map = MemoryMap::default();
    for n in 0..regions as u64 {
        let fd = file.as_fd().try_clone_to_owned().unwrap();
        map.add(Region::application(fd, 0x1000, 0x2000, 0x7000_0000_0000 + n * 0x10_0000).unwrap()).unwrap();
    }
    map
}

fn connect(peer: &mut Peer, timeout: Duration) -> Result<VhostUser> {
    VhostUser::on_stream(peer.stream(), "the test".into(), timeout)
}

/// Everything that a device asks of its back-end, from reset to reset.
fn live(backend: &mut dyn Backend, pairs: u16) -> Result<()> {
    let rings = 0..2 * pairs;
    let bell = Bell::new().unwrap();
    let features = backend.features()?;
    assert!(backend.max_queue_pairs()? >= Some(1));
    for status in [0, 1, 3] {
        backend.set_status(Status::from_bits_retain(status))?;
    }
    for index in rings.clone() {
        backend.set_call(index, bell.as_fd())?;
    }
    backend.set_features(features)?;
    backend.set_status(Status::from_bits_retain(11))?;
    if let Some(status) = backend.status()? {
        assert_eq!(status.bits(), 11);
    }
    backend.set_memory(&memory(1))?;
    for index in rings.clone() {
        let kick = bell.as_fd();
        let (desc, driver, device) = (0x1000, 0x2000, 0x3000);
        backend.setup_ring(&RingSetup { index, size: 256, base: 0x8000, desc, driver, device, kick })?;
    }
    for index in rings.clone() {
        backend.enable_ring(index, true)?;
    }
    backend.set_status(Status::from_bits_retain(15))?;
    for index in rings {
        backend.enable_ring(index, false)?;
        assert_eq!(backend.stop_ring(index)?, 0x1234 + u32::from(index));
    }
    backend.set_status(Status::empty())
}

/// A whole life with a back-end that misbehaves once: what came of it.
fn life(peer: &mut Peer, timeout: Duration) -> (Option<VhostUser>, Result<()>) {
    match connect(peer, timeout) {
        Ok(mut backend) => {
            let result = live(&mut backend, 1);
            (Some(backend), result)
        }
        Err(e) => (None, Err(e)),
    }
}

/// The messages of a whole life with an honest back-end.
fn trace_of(offer: &Offer, pairs: u16) -> Vec<Seen> {
    let mut peer = Peer::start(offer, honest());
    let mut backend = connect(&mut peer, PATIENT).unwrap();
    live(&mut backend, pairs).unwrap();
    assert!(backend.is_alive());
    drop(backend);
    peer.join();
    peer.seen()
}

fn lines(seen: &[Seen]) -> Vec<String> {
    seen.iter().map(Seen::line).collect()
}

/// The connection was given up: it says so, and nothing more is sent.
fn assert_dead(backend: &mut VhostUser, peer: &Peer, cause: &Error) {
    assert!(!backend.is_alive(), "{cause}");
    let (before, start) = (peer.seen().len(), Instant::now());
    let again = backend.set_features(Features::empty()).unwrap_err();
    assert_eq!(again.errno(), Errno::ENOTCONN, "{again}");
    assert!(again.to_string().contains(&cause.to_string()), "{again} does not name: {cause}");
    assert!(again.to_string().starts_with("SET_FEATURES cannot be sent"), "{again}");
    let other = backend.stop_ring(0).unwrap_err();
    assert!(other.to_string().contains(&cause.to_string()), "not the first cause: {other}");
    assert!(start.elapsed() < PATIENT / 2);
    assert_eq!(peer.seen().len(), before);
}
