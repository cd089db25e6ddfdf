//! What is said to a back-end while a device runs and something of it changes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use vuser::buf::pool::{Pool, PoolConfig};
use vuser::dev::{Config, Device, Side, SourceSetup};

use super::*;

/// Where the pieces are said to be mapped: nobody looks there.
const AT: u64 = 0x10_0000_0000;
const PAGE: u64 = 0x1000;

/// A device that is set up, its back-end, and a file of eight pages to give it pieces of.
struct Rig {
    device: Device,
    peer: Peer,
    pool: Arc<Pool>,
    file: SharedMemory,
    mark: usize,
}

impl Rig {
    fn new(devargs: &str, offer: &Offer, script: Script) -> Self {
        Self::with(devargs, offer, script, &[Side::Rx, Side::Tx])
    }

    fn with(devargs: &str, offer: &Offer, script: Script, sides: &[Side]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path: PathBuf = std::env::temp_dir().join(format!("vuser-running-{}-{number}", std::process::id()));
        let peer = Peer::listen(&path, offer, script);
        let mut config = Config::default();
        config.parse(&format!("path={},queue_size=64,huge=0,mrg_rxbuf=1{devargs}", path.display())).unwrap();
        let pairs = config.queues;
        let mut device = Device::new(config).unwrap();
        let pool = Pool::new(PoolConfig { count: 512, huge: false, ..PoolConfig::default() }).unwrap();
        for pair in 0..pairs {
            for side in sides {
                let setup = if *side == Side::Rx { Device::setup_rx } else { Device::setup_tx };
                setup(&mut device, pair, 0, SourceSetup::Pool(pool.clone())).unwrap();
            }
        }
        let file = SharedMemory::new("vuser-test", 8 * PAGE as usize, false).unwrap();
        let mark = peer.seen().len();
        Self { device, peer, pool, file, mark }
    }

    fn started(devargs: &str, offer: &Offer, script: Script) -> Self {
        let mut rig = Self::new(devargs, offer, script);
        rig.device.start().unwrap();
        rig.said();
        rig
    }

    /// What was said since this was last asked, without its marks of acknowledgement.
    fn said(&mut self) -> Vec<String> {
        // A message that is not acknowledged may still be under way: one with an answer is not.
        let _ = self.device.info();
        let lines = self.peer.lines().split_off(self.mark);
        self.mark += lines.len();
        lines.into_iter().filter(|line| !line.starts_with("GET_")).map(|line| line.replace('!', "")).collect()
    }

    /// The same, of what is about rings being enabled.
    fn enabled(&mut self) -> Vec<(u32, u32)> {
        let numbers = |line: String| {
            let (ring, on) = line.strip_prefix("SET_VRING_ENABLE [")?.strip_suffix(']')?.split_once(", ")?;
            Some((ring.parse().ok()?, on.parse().ok()?))
        };
        self.said().into_iter().filter_map(numbers).collect()
    }

    fn give(&mut self, page: u64, pages: u64) -> Result<()> {
        let fd = self.file.as_fd().try_clone_to_owned().unwrap();
        self.device.register_memory(fd, page * PAGE, pages * PAGE, AT + page * PAGE)
    }

    fn take(&mut self, page: u64) -> Result<()> {
        self.device.unregister_memory(AT + page * PAGE)
    }

    fn knows(&self, page: u64) -> bool {
        self.device.live().covers(AT + page * PAGE, PAGE)
    }

    /// The regions of a table that was told, those of our own memory by their kind.
    fn table(&self, line: &str) -> Vec<String> {
        let numbers = line.split(['[', ']']).nth(3).unwrap();
        let numbers: Vec<_> = numbers.split(", ").map(|n| u64::from_str_radix(n, 16).unwrap()).collect();
        let describe = |region: &[u64]| match region[0] {
            addr if addr == self.pool.memory().addr() as u64 => "pool".to_owned(),
            addr if (AT..AT + 8 * PAGE).contains(&addr) => {
                assert_eq!((region[2], region[3]), (addr, addr - AT));
                format!("{}+{}", (addr - AT) / PAGE, region[1] / PAGE)
            }
            _ => "rings".to_owned(),
        };
        let mut regions: Vec<_> = numbers.chunks(4).map(describe).collect();
        regions.sort();
        regions
    }
}

fn region(what: &str, page: u64, pages: u64) -> String {
    let fd = if what == "ADD" { " +1" } else { "" };
    let (addr, size, offset) = (AT + page * PAGE, pages * PAGE, page * PAGE);
    format!("{what}_MEM_REG [0, {addr:x}, {size:x}, {addr:x}, {offset:x}]{fd}")
}

fn without_slots() -> Offer {
    Offer { protocol: OURS & !SLOTS, ..modern() }
}

/// Refuses the n-th message of this number.
fn refuse(request: u32, nth: usize) -> Script {
    let mut seen_so_far = 0;
    Box::new(move |_, seen, _| {
        seen_so_far += usize::from(seen.request == request);
        if seen.request == request && seen_so_far == nth {
            return Deed::Say(message(request, 5, &1u64.to_ne_bytes()));
        }
        Deed::Right
    })
}

#[test]
fn with_slots_regions_come_and_go_and_nothing_stops() {
    let mut rig = Rig::started("", &modern(), honest());
    rig.give(1, 1).unwrap();
    assert_eq!(rig.said(), [region("ADD", 1, 1)]);
    // What goes on where another ends is a region of its own as long as rings run.
    rig.give(2, 2).unwrap();
    rig.give(0, 1).unwrap();
    rig.give(0, 1).unwrap();
    assert_eq!(rig.said(), [region("ADD", 2, 2), region("ADD", 0, 1)]);
    rig.take(2).unwrap();
    assert_eq!(rig.said(), [region("REM", 2, 2)]);
    assert!(rig.knows(0) && rig.knows(1) && !rig.knows(2));
    // At the next start they are told as one, and to take the middle away is to tell them anew.
    rig.give(2, 1).unwrap();
    rig.device.stop().unwrap();
    rig.said();
    rig.device.start().unwrap();
    let table = rig.said().into_iter().find(|line| line.starts_with("SET_MEM_TABLE")).unwrap();
    assert_eq!(rig.table(&table), ["0+3", "pool", "rings"]);
    rig.take(1).unwrap();
    let off = ["SET_VRING_ENABLE [1, 0]", "SET_VRING_ENABLE [0, 0]"].map(String::from);
    let on = ["SET_VRING_ENABLE [0, 1]", "SET_VRING_ENABLE [1, 1]"].map(String::from);
    let regions = [region("REM", 0, 3), region("ADD", 0, 1), region("ADD", 2, 1)];
    assert_eq!(rig.said(), [&off[..], &regions, &on].concat());
    assert!(rig.knows(0) && !rig.knows(1) && rig.knows(2));
}

#[test]
fn without_slots_the_table_is_told_while_rings_are_disabled() {
    let mut rig = Rig::new("", &without_slots(), honest());
    rig.give(0, 1).unwrap();
    rig.device.start().unwrap();
    rig.said();
    type Step = fn(&mut Rig) -> Result<()>;
    let steps: [(Step, &[&str]); 5] = [
        (|rig| rig.give(1, 1), &["0+2", "pool", "rings"]),
        (|rig| rig.give(3, 2), &["0+2", "3+2", "pool", "rings"]),
        (|rig| rig.give(2, 1), &["0+5", "pool", "rings"]),
        (|rig| rig.take(1), &["0+1", "2+3", "pool", "rings"]),
        (|rig| rig.take(0), &["2+3", "pool", "rings"]),
    ];
    for (step, regions) in steps {
        step(&mut rig).unwrap();
        let said = rig.said();
        assert_eq!(said[..2], ["SET_VRING_ENABLE [1, 0]", "SET_VRING_ENABLE [0, 0]"]);
        assert_eq!(rig.table(&said[2]), regions);
        assert!(said[2].ends_with(&format!("+{}", regions.len())));
        assert_eq!(said[3..], ["SET_VRING_ENABLE [0, 1]", "SET_VRING_ENABLE [1, 1]"]);
    }
    // What is not enabled is not enabled by that.
    rig.device.run_queue(Side::Rx, 0, false).unwrap();
    rig.said();
    rig.give(6, 1).unwrap();
    assert_eq!(rig.enabled(), [(1, 0), (1, 1)]);
}

#[test]
fn without_protocol_features_the_table_is_told_and_that_is_all() {
    let mut rig = Rig::started("", &legacy(), honest());
    rig.give(0, 1).unwrap();
    for side in [Side::Rx, Side::Tx] {
        let error = rig.device.run_queue(side, 0, false).unwrap_err();
        assert!(error.errno() == Errno::ENOTSUP && error.to_string().contains("protocol features"), "{error}");
        rig.device.run_queue(side, 0, true).unwrap();
    }
    assert_eq!(rig.device.set_link(false).unwrap_err().errno(), Errno::ENOTSUP);
    rig.device.set_link(true).unwrap();
    // A message with an answer, so that all before it has been heard.
    rig.device.stop().unwrap();
    let lines = rig.peer.lines();
    let kick = lines.iter().rposition(|line| line.starts_with("SET_VRING_KICK")).unwrap();
    assert_eq!(rig.table(&lines[kick + 1]), ["0+1", "pool", "rings"]);
    assert_eq!(lines[kick + 2..], ["GET_VRING_BASE [0, 0]", "GET_VRING_BASE [1, 0]"]);
}

#[test]
fn after_a_refusal_the_former_memory_holds() {
    // A region.
    let mut rig = Rig::started("", &modern(), refuse(37, 1));
    let error = rig.give(0, 1).unwrap_err();
    assert!(error.errno() == Errno::EREMOTEIO && error.to_string().contains("ADD_MEM_REG"), "{error}");
    assert!(!rig.knows(0));
    rig.give(0, 1).unwrap();
    assert_eq!(rig.said(), [region("ADD", 0, 1), region("ADD", 0, 1)]);
    // The second half of a region that is split.
    let mut rig = Rig::new("", &modern(), refuse(37, 2));
    (0..3).for_each(|page| rig.give(page, 1).unwrap());
    rig.device.start().unwrap();
    rig.said();
    assert_eq!(rig.take(1).unwrap_err().errno(), Errno::EREMOTEIO);
    let told = [region("REM", 0, 3), region("ADD", 0, 1), region("ADD", 2, 1)];
    let taken_back = [region("REM", 0, 1), region("ADD", 0, 3)];
    assert_eq!(rig.said()[2..7], [&told[..], &taken_back].concat());
    assert!((0..3).all(|page| rig.knows(page)));
    rig.take(1).unwrap();
    assert!(!rig.knows(1));
    // And what was told of it can't be taken back: that is the error then.
    let (mut comes, mut goes) = (refuse(37, 2), refuse(38, 2));
    let script: Script = Box::new(move |n, seen, right| match comes(n, seen, right) {
        Deed::Right => goes(n, seen, right),
        deed => deed,
    });
    let mut rig = Rig::new("", &modern(), script);
    (0..3).for_each(|page| rig.give(page, 1).unwrap());
    rig.device.start().unwrap();
    rig.said();
    let error = rig.take(1).unwrap_err();
    assert!(error.errno() == Errno::EREMOTEIO && error.to_string().contains("REM_MEM_REG"), "{error}");
    assert_eq!(rig.said()[2..6], [&told[..], &taken_back[..1]].concat());
    // A table. DPDK's vhost has none at all then.
    let mut rig = Rig::started("", &without_slots(), refuse(5, 2));
    assert_eq!(rig.give(0, 1).unwrap_err().errno(), Errno::EREMOTEIO);
    let said = rig.said();
    assert_eq!((said.len(), rig.table(&said[2]).len(), rig.table(&said[3]).len()), (6, 3, 2));
    assert_eq!(said[4..], ["SET_VRING_ENABLE [0, 1]", "SET_VRING_ENABLE [1, 1]"]);
    assert!(!rig.knows(0) && rig.device.live().link());
}

#[test]
fn more_regions_than_fit_are_refused_before_anything_is_said() {
    for (offer, most) in [(without_slots(), 8), (Offer { slots: 9, ..modern() }, 9)] {
        let mut rig = Rig::started("", &offer, honest());
        let gap = |n: u64| AT + n * 16 * PAGE;
        let give = |rig: &mut Rig, n| {
            let fd = rig.file.as_fd().try_clone_to_owned().unwrap();
            rig.device.register_memory(fd, 0, PAGE, gap(n))
        };
        (2..most).for_each(|n| give(&mut rig, n).unwrap());
        rig.said();
        let error = give(&mut rig, 50).unwrap_err();
        let sentence = format!("has {} regions, and the back-end takes {most} at most", most + 1);
        assert!(error.errno() == Errno::E2BIG && error.to_string().contains(&sentence), "{error}");
        assert_eq!(rig.said(), Vec::<String>::new());
        // Room is made.
        rig.device.unregister_memory(gap(2)).unwrap();
        give(&mut rig, 50).unwrap();
        assert!(!rig.said().is_empty());
        // And a start tells as many.
        rig.device.stop().unwrap();
        rig.said();
        rig.device.start().unwrap();
        let said = rig.said();
        let told = said.iter().filter(|l| l.starts_with("SET_MEM_TABLE") || l.starts_with("ADD_MEM_REG"));
        assert_eq!(told.count() as u64, 1 + most - 8);
        rig.device.stop().unwrap();
        give(&mut rig, 60).unwrap();
        assert_eq!(rig.device.start().unwrap_err().errno(), Errno::E2BIG);
    }
}

#[test]
fn queues_are_stopped_and_started_one_by_one() {
    let mut rig = Rig::started(",queues=2", &modern(), honest());
    for (side, pair, ring) in [(Side::Rx, 0, 0), (Side::Tx, 0, 1), (Side::Rx, 1, 2), (Side::Tx, 1, 3)] {
        rig.device.run_queue(side, pair, false).unwrap();
        rig.device.run_queue(side, pair, false).unwrap();
        assert_eq!(rig.said(), [format!("SET_VRING_ENABLE [{ring}, 0]")]);
        assert!(rig.device.port(ring).unwrap().status().is_err());
        rig.device.run_queue(side, pair, true).unwrap();
        rig.device.run_queue(side, pair, true).unwrap();
        assert_eq!(rig.said(), [format!("SET_VRING_ENABLE [{ring}, 1]")]);
        rig.device.port(ring).unwrap().status().unwrap();
    }
    assert_eq!(rig.device.run_queue(Side::Rx, 2, false).unwrap_err().errno(), Errno::EINVAL);
}

#[test]
fn a_queue_that_waits_is_enabled_later() {
    let mut rig = Rig::new(",queues=2", &modern(), honest());
    rig.device.run_queue(Side::Rx, 0, false).unwrap();
    rig.device.run_queue(Side::Tx, 1, false).unwrap();
    rig.device.start().unwrap();
    // The first pair is enabled for a moment, because DPDK's vhost waits for it.
    assert_eq!(rig.enabled(), [(0, 1), (2, 1), (1, 1), (0, 0)]);
    rig.device.run_queue(Side::Tx, 1, true).unwrap();
    rig.device.run_queue(Side::Rx, 0, true).unwrap();
    assert_eq!(rig.enabled(), [(3, 1), (0, 1)]);
    // It waits at each start, until it is said otherwise.
    rig.device.stop().unwrap();
    rig.enabled();
    rig.device.run_queue(Side::Rx, 0, true).unwrap();
    rig.device.start().unwrap();
    assert_eq!(rig.enabled(), [(0, 1), (2, 1), (1, 1)]);
}

#[test]
fn pairs_that_are_not_used_are_not_spoken_of() {
    let mut rig = Rig::new(",queues=3", &modern(), honest());
    for pairs in [1, 3, 2] {
        rig.device.set_queue_pairs(pairs).unwrap();
        rig.device.start().unwrap();
        let rings = rig.said().iter().filter(|line| line.starts_with("SET_VRING_NUM")).count();
        assert_eq!(rings, 2 * usize::from(pairs));
        rig.device.stop().unwrap();
        let seen = rig.peer.seen();
        let asked =
            seen.iter().rev().take_while(|m| m.name() != "SET_VRING_KICK").filter(|m| m.name() == "GET_VRING_BASE");
        assert_eq!(asked.count(), 2 * usize::from(pairs));
        rig.said();
    }
}

#[test]
fn a_queue_that_was_not_set_up_is_a_ring_that_stays_disabled() {
    let mut rig = Rig::with(",queues=2", &modern(), honest(), &[Side::Rx]);
    rig.device.start().unwrap();
    let rings = rig.said().into_iter().filter(|line| line.starts_with("SET_VRING_KICK")).count();
    assert_eq!(rings, 4);
    rig.device.stop().unwrap();
    rig.said();
    rig.device.start().unwrap();
    assert_eq!(rig.enabled(), [(0, 1), (2, 1), (1, 1), (1, 0)]);
    assert!(rig.device.port(1).is_none() && rig.device.port(3).is_none());
    let error = rig.device.run_queue(Side::Tx, 0, true).unwrap_err();
    assert!(error.to_string().contains("tx queue 0 has not been set up"), "{error}");
}

#[test]
fn a_link_that_is_down_is_down_until_it_is_up() {
    let mut config = vec![0; 24];
    (config[6], config[8]) = (1, 4);
    let offer = Offer { features: modern().features | 1 << 16, config: Some(config), ..modern() };
    let mut rig = Rig::new(",queues=2", &offer, honest());
    rig.device.set_link(false).unwrap();
    rig.device.start().unwrap();
    assert_eq!(rig.enabled(), [(0, 1), (1, 1), (1, 0), (0, 0)]);
    assert!(!rig.device.live().link() && !rig.device.info().link_up);
    rig.device.set_link(true).unwrap();
    rig.device.set_link(true).unwrap();
    assert_eq!(rig.enabled(), [(0, 1), (2, 1), (1, 1), (3, 1)]);
    assert!(rig.device.live().link() && rig.device.info().link_up);
    rig.device.run_queue(Side::Tx, 0, false).unwrap();
    rig.device.set_link(false).unwrap();
    // Stopped and started while the link is down: that is for later.
    rig.device.run_queue(Side::Rx, 1, false).unwrap();
    rig.device.run_queue(Side::Tx, 0, true).unwrap();
    assert_eq!(rig.enabled(), [(1, 0), (3, 0), (0, 0), (2, 0)]);
    rig.device.set_link(true).unwrap();
    assert_eq!(rig.enabled(), [(0, 1), (1, 1), (3, 1)]);
    // A device that says that its link is down is believed.
    let mut config = vec![0; 24];
    config[8] = 4;
    let mut rig = Rig::started("", &Offer { config: Some(config), ..offer }, honest());
    assert!(!rig.device.live().link() && !rig.device.info().link_up);
}

#[test]
fn compact_addresses_begin_near_zero_and_stay() {
    let mut rig = Rig::new(",compact=1", &modern(), honest());
    rig.device.start().unwrap();
    let said = rig.said();
    let table = said.iter().find(|line| line.starts_with("SET_MEM_TABLE")).unwrap();
    let numbers = table.split(['[', ']']).nth(3).unwrap().split(", ");
    let numbers: Vec<_> = numbers.map(|n| u64::from_str_radix(n, 16).unwrap()).collect();
    let guests: Vec<_> = numbers.chunks(4).map(|region| (region[0], region[2])).collect();
    let shift = guests[0].1 - guests[0].0;
    assert!(guests[0].0 < 2 << 20 && guests.iter().all(|(guest, user)| user - guest == shift), "{guests:x?}");
    // What lies below cannot be told any more, until the next start.
    let error = rig.give(0, 1).unwrap_err();
    assert!(error.errno() == Errno::EINVAL && error.to_string().contains("compact=1"), "{error}");
    rig.device.stop().unwrap();
    rig.give(0, 1).unwrap();
    rig.said();
    rig.device.start().unwrap();
    let said = rig.said();
    let table = said.iter().find(|line| line.starts_with("SET_MEM_TABLE")).unwrap();
    assert!(table.contains("[0, 1000, 1000000000, 0, "), "{table}");
}

#[test]
fn pools_stay_as_long_as_a_device_may_use_their_buffers() {
    // It neither says where it stopped to send nor closes, until it may. The other queue, and its hold on the pool, has gone.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let script: Script = Box::new(move |_, seen, _| {
        if seen.name() == "GET_VRING_BASE" && seen.payload[0] == 1 {
            let _ = wait.recv();
        }
        Deed::Right
    });
    let mut rig = Rig::with(",reconnect=0,timeout_ms=3000", &modern(), script, &[Side::Rx]);
    let sends = Pool::new(PoolConfig { count: 512, huge: false, ..PoolConfig::default() }).unwrap();
    rig.device.setup_tx(0, 0, SourceSetup::Pool(sends.clone())).unwrap();
    rig.device.start().unwrap();
    // Its pool is that of the other queue.
    let packet = rig.pool.get().unwrap();
    packet.set_data_len(60);
    packet.set_pkt_len(60);
    // SAFETY: this is the only thread that uses the queue, and the packet is ours.
    assert_eq!(unsafe { rig.device.port(1).unwrap().tx_burst(&[packet]) }, 1);
    assert_eq!(rig.device.stop().unwrap_err().errno(), Errno::ETIMEDOUT);
    rig.device.setup_rx(0, 0, SourceSetup::Pool(sends)).unwrap();
    let pool = Arc::downgrade(&rig.pool);
    let Rig { device, mut peer, pool: last, .. } = rig;
    drop(last);
    let kept = pool.upgrade().is_some();
    // First, since the peer waits for it whatever is found.
    drop(go);
    assert!(kept, "the packet is with the device still, and its pool has gone");
    drop(device);
    peer.join();
    assert!(pool.upgrade().is_none(), "the pool is there for ever");
}
