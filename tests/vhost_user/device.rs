//! A whole device, and what its back-end says by itself or is told beyond the common.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};

use vuser::buf::pool::{Pool, PoolConfig};
use vuser::dev::events::Kind;
use vuser::dev::handle::Handle;
use vuser::dev::{Config, SourceSetup};
use vuser::device::{Change, Loopback, Options};

use super::*;

/// A device that runs, and the built-in back-end behind a socket. Events are seen to by the test.
struct Pair {
    handle: Handle,
    loopback: Loopback,
    pool: Arc<Pool>,
    _together: std::sync::RwLockReadGuard<'static, ()>,
}

impl Pair {
    fn new(devargs: &str, options: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let together = PROCESS.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vuser-device-{}-{number}", std::process::id()));
        let loopback = Loopback::listen(&path, Options::parse(options).unwrap()).unwrap();
        let mut config = Config::default();
        config.parse(&format!("path={},queue_size=64,huge=0,events=manual{devargs}", path.display())).unwrap();
        let handle = Handle::new(config).unwrap();
        let pool = Pool::new(PoolConfig { count: 512, huge: false, ..PoolConfig::default() }).unwrap();
        handle.with(|device| {
            device.setup_rx(0, 0, SourceSetup::Pool(pool.clone())).unwrap();
            device.setup_tx(0, 0, SourceSetup::Pool(pool.clone())).unwrap();
            device.start().unwrap();
        });
        let pair = Self { handle, loopback, pool, _together: together };
        pair.handle.process(100);
        pair
    }

    /// Events until one of this kind comes: its number.
    fn hear(&self, kind: Kind) -> u64 {
        let end = Instant::now() + PATIENT;
        loop {
            assert!(Instant::now() < end, "no {kind:?}");
            vuser::sys::poll::wait_any(&[self.handle.fd()], Some(PATIENT));
            if let Some(event) = self.handle.process(100).into_iter().find(|event| event.kind == kind) {
                return event.number;
            }
        }
    }

    /// Sends a frame and waits until it is back; where its bytes are.
    fn echo(&self) -> u64 {
        let (rx, tx) = self.handle.with(|d| (d.port(0).unwrap().clone(), d.port(1).unwrap().clone()));
        let mut one = [None];
        self.pool.get_bulk(&mut one).unwrap();
        let m = one[0].unwrap();
        m.set_data_len(64);
        m.set_pkt_len(64);
        // SAFETY: the test alone uses the queues, the packet is valid and goes to the queue.
        assert_eq!(unsafe { tx.tx_burst(&[m]) }, 1);
        let (end, mut out) = (Instant::now() + PATIENT, [MaybeUninit::uninit()]);
        // SAFETY: as above.
        while unsafe { rx.rx_burst(&mut out) } == 0 {
            assert!(Instant::now() < end, "the frame does not come back");
            std::thread::yield_now();
        }
        // SAFETY: a burst of one has written it.
        let m = unsafe { out[0].assume_init() };
        let at = m.data() as u64;
        // SAFETY: a packet of ours.
        unsafe { Pool::free(m) };
        at
    }
}

#[test]
fn what_changes_in_the_back_end_is_heard_by_its_channel() {
    let pair = Pair::new("", "mtu=9000");
    let info = || pair.handle.with(|d| d.info());
    assert!(info().link_up && info().mtu == 9000 && info().speed == u32::MAX);
    pair.loopback.change(Change::Link(false));
    pair.hear(Kind::LinkDown);
    assert!(!pair.handle.live().link());
    pair.loopback.change(Change::Link(true));
    pair.hear(Kind::LinkUp);
    pair.loopback.change(Change::Speed(25_000));
    pair.loopback.change(Change::Mtu(1400));
    pair.hear(Kind::Config);
    assert_eq!((info().mtu, info().speed), (1400, 25_000));
    pair.loopback.change(Change::Announce);
    pair.hear(Kind::Announce);
    pair.loopback.change(Change::RingError(1));
    assert_eq!(pair.hear(Kind::QueueError), 1);
    pair.echo();
}

#[test]
fn a_channel_is_not_needed() {
    // MQ, REPLY_ACK, CONFIG, STATUS: what has changed is seen when it is asked for.
    let pair = Pair::new("", "protocol=10209");
    pair.loopback.change(Change::Link(false));
    let end = Instant::now() + PATIENT;
    while pair.handle.with(|d| d.info().link_up) {
        assert!(Instant::now() < end);
    }
    assert!(!pair.handle.live().link());
}

#[test]
fn an_mtu_is_chosen_and_told() {
    let pair = Pair::new(",mtu=1400", "mtu=9000");
    let mtu = || pair.handle.with(|d| d.info().mtu);
    assert_eq!(mtu(), 1400);
    pair.handle.with(|d| d.set_mtu(9000)).unwrap();
    assert_eq!(mtu(), 9000);
    for wrong in [67, 9001] {
        let error = pair.handle.with(|d| d.set_mtu(wrong)).unwrap_err();
        assert!(error.errno() == Errno::EINVAL && error.to_string().contains("68 to 9000"), "{error}");
    }
    assert_eq!(mtu(), 9000);
    // The back-end's word, in the end.
    pair.loopback.change(Change::Mtu(1500));
    pair.hear(Kind::Config);
    assert_eq!(mtu(), 1500);
}

#[test]
fn an_address_is_announced_where_that_can_be() {
    let pair = Pair::new("", "");
    pair.handle.with(|d| d.announce()).unwrap();
    let pair = Pair::new("", "protocol=10209");
    let error = pair.handle.with(|d| d.announce()).unwrap_err();
    assert!(error.errno() == Errno::ENOTSUP && error.to_string().contains("gratuitous ARP"), "{error}");
}

#[test]
fn pages_that_the_back_end_writes_are_known() {
    for devargs in ["", ",packed_vq=1", ",compact=1", ",compact=1,packed_vq=1"] {
        let pair = Pair::new(devargs, "");
        let memory = pair.pool.memory();
        let (begin, len) = (memory.addr() as u64, memory.len() as u64);
        let mut bits = vec![0; (len / PAGE).div_ceil(8) as usize];
        let mut written = |pair: &Pair| {
            let count = pair.handle.with(|d| d.read_log(begin, len, &mut bits)).unwrap();
            let pages: Vec<_> = (0..len / PAGE).filter(|p| bits[(p / 8) as usize] & 1 << (p % 8) != 0).collect();
            assert_eq!(pages.len() as u64, count);
            pages
        };
        pair.echo();
        assert_eq!(pair.handle.with(|d| d.read_log(begin, len, &mut [0; 64])).unwrap_err().errno(), Errno::ENODATA);
        pair.handle.with(|d| d.start_log()).unwrap();
        assert_eq!(pair.handle.with(|d| d.start_log()).unwrap_err().errno(), Errno::EALREADY);
        assert_eq!(written(&pair), []);
        let page = |at: u64| (at - begin) / PAGE;
        let at = pair.echo();
        // The header is in front of the frame, perhaps on the page before.
        let pages = written(&pair);
        assert!(pages.contains(&page(at)) && pages.iter().all(|p| page(at) - p <= 1), "{pages:?}, not {}", page(at));
        assert_eq!(written(&pair), []);
        // It goes on after a stop.
        pair.handle.with(|d| d.stop().and_then(|()| d.start())).unwrap();
        let at = pair.echo();
        assert!(written(&pair).contains(&page(at)));
        // Also when memory comes below all that there was, which with compact=1 gives all of it other addresses.
        let at = pair.echo();
        pair.handle.with(|d| d.stop()).unwrap();
        let low = SharedMemory::new("vuser-low", PAGE as usize, false).unwrap();
        let fd = low.as_fd().try_clone_to_owned().unwrap();
        pair.handle.with(|d| d.register_memory(fd, 0, PAGE, begin - (1 << 30))).unwrap();
        pair.handle.with(|d| d.start()).unwrap();
        assert!(written(&pair).contains(&page(at)));
        let at = pair.echo();
        assert!(written(&pair).contains(&page(at)));
        pair.handle.with(|d| d.stop_log()).unwrap();
        pair.echo();
        pair.handle.with(|d| d.start_log()).unwrap();
        assert_eq!(written(&pair), []);
    }
}

const PAGE: u64 = 4096;

#[test]
fn a_device_that_is_told_less_runs_all_the_same() {
    // Without LOG_SHMFD.
    let pair = Pair::new("", "protocol=10209");
    assert_eq!(pair.handle.with(|d| d.start_log()).unwrap_err().errno(), Errno::ENOTSUP);
    pair.handle.with(|d| d.stop_log()).unwrap();
    pair.echo();
}

#[test]
fn a_device_with_doorbells_is_woken_by_them() {
    for devargs in ["", ",packed_vq=1"] {
        // It does not poll before it sleeps: without a kick it would see nothing for a while.
        let pair = Pair::new(devargs, "notifier=1,spin_us=0");
        let kick = pair.handle.with(|d| d.port(1).unwrap().kick.clone());
        let before = pair.loopback.stats().kicks;
        for _ in 0..20 {
            pair.echo();
        }
        assert!(!vuser::sys::poll::is_readable(kick.as_fd()), "the bell was rung");
        assert!(pair.loopback.stats().kicks > before);
        // And again after a stop.
        pair.handle.with(|d| d.stop().and_then(|()| d.start())).unwrap();
        pair.echo();
    }
}

#[test]
fn frames_pass_with_compact_addresses() {
    for devargs in ["", ",packed_vq=1", ",indirect=0", ",in_order=0", ",mrg_rxbuf=0"] {
        let pair = Pair::new(&format!(",compact=1{devargs}"), "");
        // More than once around the ring.
        (0..200).for_each(|_| assert!(pair.echo() > 0));
        pair.handle.with(|d| d.stop().and_then(|()| d.start())).unwrap();
        pair.echo();
    }
}
