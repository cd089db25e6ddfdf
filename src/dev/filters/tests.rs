//! A device whose control queue is answered by a thread of the test, and whose other rings nobody serves.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use zerocopy::IntoBytes;

use super::*;
use crate::backend::Backend;
use crate::buf::pool::{Pool, PoolConfig};
use crate::dev::dial::Candidate;
use crate::dev::rss::RssLimits;
use crate::dev::{Config, SourceSetup};
use crate::device::memory::{Identity, Memory};
use crate::device::ring::{Areas, Chain, Ring, Setup};
use crate::mem::map::MemoryMap;
use crate::net::toeplitz::DEFAULT_KEY;
use crate::spec::net::{CONTROL_ERR, CONTROL_OK};
use crate::spec::virtio::Status;
use crate::sys::eventfd::Bell;

const PAIRS: u16 = 2;
const CONTROL: u16 = 2 * PAIRS;

/// Commands that the device was given, header and data.
type Log = Arc<Mutex<Vec<Vec<u8>>>>;

#[derive(Default)]
struct Fake {
    log: Log,
    features: Features,
    memory: Vec<(u64, u64)>,
    bells: Vec<Bell>,
    ring: Option<Ring>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Its rings stay enabled while it runs.
    fixed: bool,
    /// Its longest ring; 0: any.
    most: u16,
}

impl Fake {
    /// Answers commands until it is reset.
    fn answer(&mut self) {
        let (mut ring, log) = (self.ring.take().unwrap(), self.log.clone());
        let mut memory = Identity::default();
        // SAFETY: the driver holds its memory until the device is reset.
        unsafe { self.memory.iter().for_each(|(addr, len)| memory.add(*addr as *mut u8, *len as usize)) };
        self.over = Arc::default();
        let [call, kick] = [0, 1].map(|i| bell(self.bells[i].as_fd()));
        let over = self.over.clone();
        self.thread = Some(std::thread::spawn(move || {
            let mut chain = Chain::default();
            while !over.load(Ordering::Acquire) {
                while ring.next(&memory, &mut chain).unwrap() {
                    let mut bytes = Vec::new();
                    for part in chain.segments().iter().filter(|s| !s.writable) {
                        let at = bytes.len();
                        bytes.resize(at + part.len as usize, 0);
                        assert!(memory.read(part.addr, &mut bytes[at..]));
                    }
                    let ack = if bytes == [0, 1, 1] { CONTROL_ERR } else { CONTROL_OK };
                    log.lock().push(bytes);
                    let place = chain.segments().iter().find(|s| s.writable).unwrap().addr;
                    assert!(memory.write(place, &[ack]));
                    ring.push_used(&chain, 1);
                    ring.publish();
                    call.ring();
                }
                if !ring.kicks(true) {
                    kick.wait(Duration::from_millis(50));
                    kick.take();
                }
            }
        }));
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        self.thread.take().map(JoinHandle::join);
    }
}

fn bell(fd: BorrowedFd<'_>) -> Bell {
    Bell::from_fd(fd.try_clone_to_owned().unwrap())
}

impl Backend for Fake {
    fn describe(&self) -> String {
        "a device of the test's".into()
    }
    fn features(&mut self) -> Result<Features> {
        Ok(Features::all() - Features::RING_PACKED)
    }
    fn max_queue_pairs(&mut self) -> Result<Option<u16>> {
        Ok(Some(PAIRS))
    }
    fn protocol_features(&self) -> u64 {
        0
    }
    fn set_call(&mut self, index: u16, call: BorrowedFd<'_>) -> Result<()> {
        if index == CONTROL {
            self.bells = vec![bell(call)];
        }
        Ok(())
    }
    fn set_features(&mut self, features: Features) -> Result<()> {
        self.features = features;
        Ok(())
    }
    fn set_memory(&mut self, map: &MemoryMap) -> Result<()> {
        self.memory = map.regions().iter().map(|r| (r.addr(), r.size())).collect();
        Ok(())
    }
    fn max_regions(&mut self) -> Result<usize> {
        Ok(64)
    }
    fn has_memory_slots(&self) -> bool {
        false
    }
    fn change_memory(&mut self, _: &MemoryMap, to: &MemoryMap) -> Result<()> {
        self.set_memory(to)
    }
    fn setup_ring(&mut self, ring: &RingSetup<'_>) -> Result<()> {
        assert!(self.most == 0 || ring.size <= self.most, "ring {} has {}", ring.index, ring.size);
        if ring.index == CONTROL {
            let at = |addr: u64| addr as *mut u8;
            let areas = Areas { desc: at(ring.desc), driver: at(ring.driver), device: at(ring.device) };
            // SAFETY: the driver holds its memory until the device is reset.
            self.ring = Some(unsafe { Ring::new(&Setup::new(areas, ring.size, self.features)) }?);
            self.bells.push(bell(ring.kick));
        }
        Ok(())
    }
    fn can_disable_rings(&self) -> bool {
        !self.fixed
    }
    fn max_ring_size(&self) -> u16 {
        if self.most == 0 { 0x8000 } else { self.most }
    }
    fn enable_ring(&mut self, _: u16, _: bool) -> Result<()> {
        Ok(())
    }
    fn stop_ring(&mut self, _: u16) -> Result<u32> {
        Ok(0)
    }
    fn set_status(&mut self, status: Status) -> Result<()> {
        if status.is_empty() {
            self.over.store(true, Ordering::Release);
            self.thread.take().map(JoinHandle::join);
        } else if status.contains(Status::DRIVER_OK) && self.ring.is_some() {
            self.answer();
        }
        Ok(())
    }
    fn status(&mut self) -> Result<Option<Status>> {
        Ok(None)
    }
    fn read_config(&mut self, offset: u32, bytes: &mut [u8]) -> Result<bool> {
        let space = NetConfig {
            mac: [2, 0, 0, 0, 0, 7],
            status: 1,
            max_virtqueue_pairs: PAIRS,
            mtu: 1500,
            rss_max_key_size: 40,
            rss_max_indirection_table_length: 128,
            supported_hash_types: 0x3f,
            ..NetConfig::default()
        };
        let from = offset as usize;
        bytes.copy_from_slice(&space.as_bytes()[from..from + bytes.len()]);
        Ok(true)
    }
    fn wait_gone(&self, _: Duration) -> bool {
        true
    }
    fn control(&self) -> BorrowedFd<'_> {
        unreachable!("nothing is heard of this device")
    }
    fn is_alive(&self) -> bool {
        true
    }
    fn watched(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }
    fn control_ring(&self) -> Option<u16> {
        Some(CONTROL)
    }
}

fn candidate(log: &Log) -> Candidate {
    candidate_of(Fake::default(), log)
}

fn candidate_of(mut backend: Fake, log: &Log) -> Candidate {
    backend.log = log.clone();
    let (offered, space) = (backend.features().unwrap(), None);
    Candidate { backend: Box::new(backend), loopback: None, offered, max_pairs: PAIRS, space }
}

fn device(devargs: &str, log: &Log) -> Device {
    device_of(Fake::default(), devargs, log)
}

fn device_of(backend: Fake, devargs: &str, log: &Log) -> Device {
    let mut config = Config::default();
    config.parse(devargs).unwrap();
    // A device whose back-end has not come yet; then ours comes.
    let path = std::env::temp_dir().join(format!("vuser-filters-{}-{devargs}", std::process::id()));
    (config.path, config.server) = (path, true);
    let mut device = Device::new(config).unwrap();
    device.attach(candidate_of(backend, log)).unwrap();
    let pool = Pool::new(PoolConfig { count: 64, huge: false, ..PoolConfig::default() }).unwrap();
    device.setup_rx(0, 0, SourceSetup::Pool(pool.clone())).unwrap();
    device.setup_tx(0, 0, SourceSetup::Pool(pool)).unwrap();
    device
}

fn taken(log: &Log) -> Vec<Vec<u8>> {
    std::mem::take(&mut *log.lock())
}

const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GROUP: [u8; 6] = [1, 0, 0x5e, 0, 0, 1];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 5];

fn mac_table() -> Vec<u8> {
    [&[1, 0, 1, 0, 0, 0][..], &OTHER, &[1, 0, 0, 0], &GROUP].concat()
}

#[test]
fn what_is_wished_for_is_told_at_once_and_again_at_each_start_and_to_each_back_end() {
    let log = Log::default();
    let mut device = device("path=x,queues=2,in_order=0", &log);
    device.filter_vlan(5, true).unwrap();
    assert!(device.features().contains(Features::CTRL_VLAN | Features::MQ | Features::RSS | Features::CTRL_MAC_ADDR));
    device.start().unwrap();
    assert_eq!(taken(&log), [vec![4, 0, 2, 0], vec![2, 0, 5, 0]]);
    device.set_mac(OURS).unwrap();
    device.set_promiscuous(false).unwrap();
    assert_eq!(device.set_all_multicast(true).unwrap_err().errno(), Errno::EREMOTEIO);
    device.set_addresses(&[GROUP, OTHER]).unwrap();
    device.filter_vlan(4095, true).unwrap();
    device.filter_vlan(5, false).unwrap();
    device.acknowledge_announcement().unwrap();
    let mac = [&[1, 1][..], &OURS].concat();
    let told = [&mac[..], &[0, 0, 0], &[0, 1, 1], &mac_table(), &[2, 0, 0xff, 0x0f], &[2, 1, 5, 0], &[3, 0]];
    assert_eq!(taken(&log), told);
    device.stop().unwrap();
    device.set_promiscuous(true).unwrap();
    assert!(taken(&log).is_empty());
    let again = [&[4, 0, 2, 0][..], &mac, &[0, 0, 1], &mac_table(), &[2, 0, 0xff, 0x0f]];
    device.start().unwrap();
    assert_eq!(taken(&log), again);
    assert_eq!(device.info().mac, OURS);
    device.detach(&Error::new(Errno::ENODEV, "it is taken away"));
    device.set_promiscuous(true).unwrap_err();
    device.attach(candidate(&log)).unwrap();
    assert_eq!(taken(&log), again);
    device.filter_vlan(4096, true).unwrap_err();
}

#[test]
fn frames_are_spread_as_the_device_can() {
    let log = Log::default();
    let mut device = device("path=x,queues=2,in_order=1", &log);
    let rss = Rss { types: 0x3, key: vec![0x6d; 40], table: vec![0, 1, 1, 0] };
    device.steer(&rss).unwrap();
    device.start().unwrap();
    let head = [4, 1, 3, 0, 0, 0, 3, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 2, 0, 40];
    let config = [&head[..], &[0x6d; 40]].concat();
    assert_eq!(taken(&log), [vec![4, 0, 2, 0], config.clone()]);
    device.steer(&rss).unwrap();
    assert_eq!(taken(&log), [config]);
    for (wrong, errno) in [
        (Rss { key: vec![0; 41], ..rss.clone() }, Errno::ENOTSUP),
        (Rss { types: 0x40, ..rss.clone() }, Errno::ENOTSUP),
        (Rss { table: vec![0; 3], ..rss.clone() }, Errno::ENOTSUP),
        (Rss { table: vec![0; 256], ..rss.clone() }, Errno::ENOTSUP),
        (Rss { table: vec![2], ..rss.clone() }, Errno::EINVAL),
    ] {
        assert_eq!(device.steer(&wrong).unwrap_err().errno(), errno, "{wrong:?}");
    }
    device.stop().unwrap();
    let features = (device.features() - Features::RSS) | Features::HASH_REPORT;
    device.set_features(features).unwrap();
    device.start().unwrap();
    let hash = [&[4, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 40][..], &[0x6d; 40]].concat();
    assert_eq!(taken(&log), [vec![4, 0, 2, 0], hash]);
}

#[test]
fn what_is_left_out_of_a_choice_of_hashes_is_the_usual() {
    let log = Log::default();
    let mut device = device("path=x,queues=2,in_order=1,hash=1", &log);
    // Without a choice, all that the device can, so that there are hashes.
    device.start().unwrap();
    let even: Vec<u8> = (0..128).flat_map(|n| [n % 2, 0]).collect();
    let told = |types: u8| [&[4, 1, types, 0, 0, 0, 127, 0, 0, 0][..], &even, &[2, 0, 40], &DEFAULT_KEY].concat();
    assert_eq!(taken(&log), [vec![4, 0, 2, 0], told(0x3f)]);
    device.set_rss(Rss { types: 0x6, ..Rss::default() }).unwrap();
    assert_eq!(taken(&log), [told(0x6)]);
    let limits = RssLimits { types: 0x3f, key: 40, table: 128 };
    assert_eq!(device.rss_limits().unwrap(), limits);
    assert_eq!(device.set_rss(Rss { types: 0x40, ..Rss::default() }).unwrap_err().errno(), Errno::ENOTSUP);
    assert!(taken(&log).is_empty());
}

/// How RSS is told, with the default key.
fn told_rss(types: u8, table: &[u8], pairs: u8) -> Vec<u8> {
    let entries: Vec<u8> = table.iter().flat_map(|queue| [*queue, 0]).collect();
    let mask = (table.len() - 1) as u8;
    [&[4, 1, types, 0, 0, 0, mask, 0, 0, 0][..], &entries, &[pairs, 0, 40], &DEFAULT_KEY].concat()
}

#[test]
fn frames_are_spread_over_the_pairs_that_are_used() {
    let log = Log::default();
    let mut device = device("path=x,queues=2,in_order=1,mac=02:00:00:00:00:07", &log);
    let rss = Rss { types: 0x3, key: Vec::new(), table: vec![0, 1, 1, 0] };
    let mac = vec![1, 1, 2, 0, 0, 0, 0, 7];
    device.set_rss(rss.clone()).unwrap();
    device.set_queue_pairs(1).unwrap();
    device.start().unwrap();
    assert_eq!(taken(&log), [vec![4, 0, 1, 0], mac.clone(), told_rss(0x3, &[0; 128], 1)]);
    assert_eq!(device.set_rss(rss.clone()).unwrap_err().errno(), Errno::EINVAL);
    device.stop().unwrap();
    // What was chosen holds again when there are as many pairs again.
    device.set_queue_pairs(2).unwrap();
    device.start().unwrap();
    let whole = told_rss(0x3, &[0, 1, 1, 0], 2);
    assert_eq!(taken(&log), [vec![4, 0, 2, 0], mac, whole.clone()]);
    // The same while it runs: a device ends RSS when it is told of pairs.
    device.set_queue_pairs(1).unwrap();
    assert_eq!(taken(&log), [vec![4, 0, 1, 0], told_rss(0x3, &[0; 128], 1)]);
    assert_eq!(device.set_rss(rss).unwrap_err().errno(), Errno::EINVAL);
    device.set_queue_pairs(2).unwrap();
    assert_eq!(taken(&log), [vec![4, 0, 2, 0], whole]);
}

#[test]
fn a_choice_of_hashes_without_a_device_gets_a_table_when_one_comes() {
    let log = Log::default();
    let mut device = device("path=x,queues=2,in_order=0,csum=0", &log);
    device.start().unwrap();
    assert_eq!(taken(&log), [[4, 0, 2, 0]]);
    device.detach(&Error::new(Errno::ENODEV, "it is taken away"));
    device.set_rss(Rss { types: 0x6, ..Rss::default() }).unwrap();
    device.attach(candidate(&log)).unwrap();
    let even: Vec<u8> = (0..128).map(|n| n % 2).collect();
    assert_eq!(taken(&log), [vec![4, 0, 2, 0], told_rss(0x6, &even, 2)]);
}

#[test]
fn a_device_that_keeps_its_rings_is_not_told_of_fewer_pairs() {
    let log = Log::default();
    let mut fixed = Fake::default();
    fixed.fixed = true;
    let mut device = device_of(fixed, "path=x,queues=2,in_order=1,csum=0", &log);
    device.start().unwrap();
    taken(&log);
    let error = device.set_queue_pairs(1).unwrap_err();
    assert!(error.errno() == Errno::ENOTSUP && error.to_string().contains("vDPA"), "{error}");
    assert!(taken(&log).is_empty());
    assert_eq!(device.info().pairs, 2);
}

#[test]
fn a_control_queue_is_no_longer_than_the_devices_rings() {
    let log = Log::default();
    let mut short = Fake::default();
    short.most = 32;
    let mut device = device_of(short, "path=x,queues=2,in_order=1,queue_size=32", &log);
    device.start().unwrap();
    device.set_promiscuous(true).unwrap();
    assert_eq!(taken(&log), [vec![4, 0, 2, 0], vec![0, 0, 1]]);
}
