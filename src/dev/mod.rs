//! Floor 5: one virtio-user device, from connecting to closing.
//!
//! The order of what is said to the device is that of VIRTIO 3.1.1 and of what back-ends in the field depend on:
//! calls before features, because DPDK's vhost makes a queue when it hears of it first; features before rings,
//! because VPP forgets all rings at SET_FEATURES; the kick last, because it makes a ring ready.

pub mod config;
mod negotiate;
pub mod port;
mod rings;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

pub use config::{Config, Offloads};
use port::{Engine, Port, RxHandle, TxHandle};
use rings::RingMemory;

use crate::backend::vhost_user::VhostUser;
use crate::backend::{Backend, RingSetup};
use crate::buf::pool::{Cache, Pool};
use crate::buf::source::{Calls, Source};
use crate::device::{self, Loopback};
use crate::error::{Error, Result};
use crate::mem::lanes::Simd;
use crate::mem::map::{MemoryMap, Region};
use crate::net::rx::RxOptions;
use crate::net::tx::TxParts;
use crate::net::{Framing, path};
use crate::spec::net::{NET_S_LINK_UP, NetConfig};
use crate::spec::virtio::{Features, Status};
use crate::sys::socket::Stream;

/// How long a device that could not be stopped is given to close the connection.
const LET_GO: Duration = Duration::from_millis(500);

/// Where a queue is to take its buffers from.
#[derive(Clone, Debug)]
pub enum SourceSetup {
    /// A pool of ours. Its memory is given to the device.
    Pool(Arc<Pool>),
    /// The application's allocator. Its memory must have been registered.
    Calls(Calls),
}

impl SourceSetup {
    fn open(&self) -> Source {
        match self {
            Self::Pool(pool) => Source::Pool(Cache::new(pool.clone())),
            Self::Calls(calls) => Source::Calls(*calls, arrayvec::ArrayVec::new()),
        }
    }
}

/// A queue that has been set up.
struct Queue {
    port: Arc<Port>,
    size: u16,
    source: SourceSetup,
}

/// A virtio-user device.
pub struct Device {
    config: Config,
    backend: Box<dyn Backend>,
    offered: Features,
    features: Features,
    status: Status,
    mac: [u8; 6],
    mtu: u16,
    max_pairs: u16,
    /// By ring index: receive 2 × pair, transmit 2 × pair + 1.
    queues: Vec<Option<Queue>>,
    memory: MemoryMap,
    rings: Option<Arc<RingMemory>>,
    /// What the device was told of last. It is kept until the device has been told of something else: DPDK's vhost takes
    /// a region of the same address and size for the same memory, whatever file comes with it, and memory that is
    /// still there can't have its address taken.
    told: Option<Arc<MemoryMap>>,
    /// Queues that a silent device could not be made to stop: their buffers stay lent as long as we are connected.
    parked: Vec<(Engine, Arc<RingMemory>)>,
    /// Last, so that it outlives the back-end's connection to it.
    loopback: Option<Loopback>,
}

/// What is known of a device.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the C face documents them")]
pub struct Info {
    pub backend: String,
    pub path_name: &'static str,
    pub offered: Features,
    pub features: Features,
    pub protocol_features: u64,
    pub max_pairs: u16,
    pub mtu: u16,
    pub mac: [u8; 6],
    pub status: Status,
    pub framing: Framing,
    pub link_up: bool,
}

impl Device {
    /// Connects to the device and asks what it is.
    pub fn new(config: Config) -> Result<Self> {
        config.validate()?;
        let (mut backend, loopback) = connect(&config)?;
        let offered = backend.features()?;
        let max_pairs = backend.max_queue_pairs()?.unwrap_or(1);
        if config.queues > max_pairs {
            let (asked, has) = (config.queues, max_pairs);
            let message = format!("queues={asked}: the back-end has {has} queue pair(s); give queues={has} or less");
            return Err(Error::new(Errno::ENOTSUP, message));
        }
        // VIRTIO 3.1.1, steps 1 to 3.
        let status = Status::ACKNOWLEDGE | Status::DRIVER;
        for step in [Status::empty(), Status::ACKNOWLEDGE, status] {
            backend.set_status(step)?;
        }
        let mut device = Self {
            features: negotiate::agree(negotiate::wanted(&config), offered),
            queues: (0..2 * config.queues).map(|_| None).collect(),
            mac: config.mac.unwrap_or_else(random_mac),
            mtu: 1500,
            max_pairs,
            memory: MemoryMap::default(),
            rings: None,
            told: None,
            parked: Vec::new(),
            config,
            backend,
            offered,
            status,
            loopback,
        };
        device.read_config()?;
        device.check_layout()?;
        log::info!("{}: offers {:?}, agreed {:?}", device.backend.describe(), device.offered, device.features);
        Ok(device)
    }

    /// MAC and MTU, from the configuration space where the back-end has one.
    fn read_config(&mut self) -> Result<()> {
        let mut bytes = [0; size_of::<NetConfig>()];
        // The oldest devices have ten bytes, and what is missing is not there to be read.
        let fields = if self.offered.contains(Features::MTU) { 12 } else { 10 };
        let fields = bytes.get_mut(..fields).unwrap_or(&mut []);
        if !self.backend.read_config(0, fields)? {
            return Ok(());
        }
        let space: NetConfig = zerocopy::transmute!(bytes);
        if self.config.mac.is_none() && self.offered.contains(Features::MAC) && space.mac != [0; 6] {
            self.mac = space.mac;
        }
        if self.offered.contains(Features::MTU) && space.mtu >= 68 {
            self.mtu = space.mtu;
        }
        Ok(())
    }

    /// Whether the queue sizes suit the layout that has been agreed.
    fn check_layout(&self) -> Result<()> {
        let packed = self.features.contains(Features::RING_PACKED);
        let sizes = self.queues.iter().flatten().map(|q| q.size).chain([self.config.queue_size]);
        match sizes.into_iter().find(|size| !packed && !size.is_power_of_two()) {
            Some(size) => Err(Error::invalid(format!(
                "queue_size={size}: the device offers split queues only, which have a power of two of descriptors"
            ))),
            None => Ok(()),
        }
    }

    /// Features that the device offers.
    pub fn offered(&self) -> Features {
        self.offered
    }

    /// Features that are, or will be at the next start, in use.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Chooses features, among those offered, for the next start.
    pub fn set_features(&mut self, features: Features) -> Result<()> {
        self.must_be_stopped("features can be chosen")?;
        negotiate::check(features, self.offered)?;
        let before = std::mem::replace(&mut self.features, features);
        self.check_layout().inspect_err(|_| self.features = before)
    }

    /// The device status as we have set it, and what the device adds to it.
    pub fn status(&mut self) -> Status {
        let told = self.backend.status().ok().flatten().unwrap_or_default();
        self.status | (told & (Status::NEEDS_RESET | Status::FAILED))
    }

    /// Sets the device status: DRIVER_OK starts, 0 resets; other bits are told to the device.
    pub fn set_status(&mut self, status: Status) -> Result<()> {
        if status.is_empty() {
            return self.reset();
        }
        if status.contains(Status::DRIVER_OK) && !self.is_started() {
            return self.start();
        }
        self.status |= status;
        self.backend.set_status(self.status)
    }

    fn is_started(&self) -> bool {
        self.rings.is_some()
    }

    fn must_be_stopped(&self, what: &str) -> Result<()> {
        if self.is_started() {
            return Err(Error::new(Errno::EBUSY, format!("{what} only while the device is stopped; stop it first")));
        }
        Ok(())
    }

    /// Gives memory of the application to the device: `len` bytes mapped at `addr`, from `offset` of the file.
    pub fn register_memory(&mut self, fd: OwnedFd, offset: u64, len: u64, addr: u64) -> Result<()> {
        self.must_be_stopped("memory can be registered")?;
        self.memory.add(Region::application(fd, offset, len, addr)?)
    }

    /// Takes memory of the application away from the device.
    pub fn unregister_memory(&mut self, addr: u64) -> Result<()> {
        self.must_be_stopped("memory can be unregistered")?;
        let gone = self.memory.remove(addr);
        gone.map(drop).ok_or_else(|| Error::new(Errno::ENOENT, format!("no memory is registered at {addr:#x}")))
    }

    /// Sets a receive queue up. Size 0 means the configuration's.
    pub fn setup_rx(&mut self, pair: u16, size: u16, source: SourceSetup) -> Result<()> {
        self.setup(2 * u32::from(pair), size, source)
    }

    /// Sets a transmit queue up. Size 0 means the configuration's.
    pub fn setup_tx(&mut self, pair: u16, size: u16, source: SourceSetup) -> Result<()> {
        self.setup(2 * u32::from(pair) + 1, size, source)
    }

    fn setup(&mut self, index: u32, size: u16, source: SourceSetup) -> Result<()> {
        self.must_be_stopped("queues can be set up")?;
        let (pair, pairs) = (index / 2, self.config.queues);
        let packed = self.features.contains(Features::RING_PACKED);
        let size = if size == 0 { self.config.queue_size } else { size };
        Config { queue_size: size, packed_vq: packed, ..self.config.clone() }.validate()?;
        let room = source.open().room();
        if u32::from(room.0) < u32::from(room.1) + 64 {
            let message = format!("buffers of {} bytes hold no frame behind a headroom of {}", room.0, room.1);
            return Err(Error::invalid(message));
        }
        let place = self.queues.get_mut(index as usize).ok_or_else(|| {
            Error::invalid(format!("there is no queue pair {pair}: the device was made with queues={pairs}"))
        })?;
        let port = match place.take() {
            Some(queue) => queue.port,
            None => Port::new()?,
        };
        *place = Some(Queue { port, size, source });
        Ok(())
    }

    /// The port of a queue that has been set up, by ring index.
    pub fn port(&self, index: u32) -> Option<&Arc<Port>> {
        Some(&self.queues.get(index as usize)?.as_ref()?.port)
    }

    /// Both sides of each pair that is set up, for bursts. While they are borrowed the device cannot be stopped.
    pub fn pairs(&mut self) -> Vec<(RxHandle<'_>, TxHandle<'_>)> {
        let queues = self.queues.chunks(2);
        let both = queues.filter_map(|pair| match pair {
            [Some(rx), Some(tx)] => Some((RxHandle(&rx.port), TxHandle(&tx.port))),
            _ => None,
        });
        both.collect()
    }

    /// Brings the device up. On an error it is as it was before.
    pub fn start(&mut self) -> Result<()> {
        self.must_be_stopped("it can be started")?;
        if let Some(missing) = self.queues.iter().position(Option::is_none) {
            let (kind, pair) = (["rx", "tx"][missing % 2], missing / 2);
            let message = format!("{kind} queue {pair} has not been set up; call vuser_{kind}_queue_setup first");
            return Err(Error::invalid(message));
        }
        self.check_layout()?;
        self.check_rooms();
        self.bring_up().inspect_err(|e| {
            log::error!("start: {e}");
            let _ = self.take_down();
        })
    }

    /// Without merged buffers, a frame that does not fit one is dropped by the device.
    fn check_rooms(&self) {
        let framing = Framing::new(self.features);
        let need = u32::from(framing.hdr_len) + 14 + u32::from(self.mtu);
        for queue in self.queues.iter().flatten().step_by(2).filter(|_| !framing.mergeable) {
            let (len, headroom) = queue.source.open().room();
            if u32::from(len.saturating_sub(headroom)) < need {
                log::warn!("receive buffers have {len} bytes: too few for an MTU of {} without mrg_rxbuf=1", self.mtu);
            }
        }
    }

    fn bring_up(&mut self) -> Result<()> {
        let queues: Vec<_> = self.queues.iter().flatten().collect();
        for (index, queue) in (0..).zip(&queues) {
            self.backend.set_call(index, queue.port.call.as_fd())?;
        }
        self.backend.set_features(self.features)?;
        self.agree_status()?;
        let sizes: Vec<u16> = self.queues.iter().flatten().map(|q| q.size).collect();
        let rings = Arc::new(RingMemory::new(self.features, &sizes, self.config.huge)?);
        let mut map = self.memory.clone();
        map.add(rings.region())?;
        for queue in self.queues.iter().flatten() {
            if let SourceSetup::Pool(pool) = &queue.source {
                map.add(Region::ours(pool.memory().clone()))?;
            }
        }
        let map = Arc::new(map);
        self.make_engines(&rings, &map);
        let rings = self.rings.insert(rings).clone();
        self.backend.set_memory(&map)?;
        self.told = Some(map);
        for (index, queue) in (0..).zip(self.queues.iter().flatten()) {
            // SAFETY: the law of queues: nobody bursts while the device is being started.
            let base = match unsafe { queue.port.engine() } {
                Engine::Rx(rx) => rx.base(),
                Engine::Tx(tx) => tx.base(),
                Engine::Idle => 0,
            };
            let (desc, driver, device) = rings.addresses(usize::from(index));
            let kick = queue.port.kick.as_fd();
            self.backend.setup_ring(&RingSetup { index, size: queue.size, base, desc, driver, device, kick })?;
        }
        for index in 0..self.queues.len() as u16 {
            self.backend.enable_ring(index, true)?;
        }
        self.status |= Status::DRIVER_OK;
        self.backend.set_status(self.status)?;
        if self.status().intersects(Status::NEEDS_RESET | Status::FAILED) {
            return Err(Error::new(Errno::EIO, "the device failed when it was told to go"));
        }
        self.first_buffers();
        Ok(())
    }

    /// VIRTIO 3.1.1, steps 5 and 6. A legacy device has neither.
    fn agree_status(&mut self) -> Result<()> {
        if !self.features.contains(Features::VERSION_1) {
            return Ok(());
        }
        self.status |= Status::FEATURES_OK;
        self.backend.set_status(self.status)?;
        match self.backend.status()? {
            Some(status) if !status.contains(Status::FEATURES_OK) => {
                let message = format!("the device does not accept the features {:#x}", self.features.bits());
                Err(Error::new(Errno::ENOTSUP, message))
            }
            _ => Ok(()),
        }
    }

    fn make_engines(&self, rings: &RingMemory, map: &Arc<MemoryMap>) {
        for (index, queue) in self.queues.iter().flatten().enumerate() {
            let (board, kick) = (queue.port.board.clone(), queue.port.kick.clone());
            board.mend();
            let (source, features) = (queue.source.open(), self.features);
            // SAFETY: the ring memory lives until the engines are gone (`take_down`), and each has its own place.
            let engine = unsafe {
                if index % 2 == 0 {
                    let vlan_strip = self.config.offloads.contains(Offloads::VLAN_STRIP);
                    let options = RxOptions { vlan_strip, sort: self.config.stats, ..RxOptions::default() };
                    Engine::Rx(path::rx(rings.place(index), source, features, options, board, kick))
                } else {
                    let extras = rings.extras(index);
                    let map = map.clone();
                    let parts = TxParts { source, features, extras, map, board, kick, sort: self.config.stats };
                    Engine::Tx(path::tx(rings.place(index), parts))
                }
            };
            // SAFETY: the law of queues: nobody bursts while the device is being started.
            unsafe { queue.port.replace(engine) };
        }
    }

    /// Offers all receive buffers and wakes the device once, in case it looks at rings only when kicked.
    fn first_buffers(&self) {
        for queue in self.queues.iter().flatten() {
            // SAFETY: the law of queues: nobody bursts while the device is being started.
            if let Engine::Rx(rx) = unsafe { queue.port.engine() } {
                // Each call offers a few bulks; the ring has 32768 slots at most.
                (0..=queue.size / 32).for_each(|_| rx.refill());
                queue.port.kick.ring();
            }
        }
    }

    /// Stops the device. All buffers come back; it can be started again. An error is reported, and the device is
    /// stopped all the same.
    pub fn stop(&mut self) -> Result<()> {
        if !self.is_started() {
            return Ok(());
        }
        self.take_down()
    }

    fn take_down(&mut self) -> Result<()> {
        if self.rings.is_none() {
            return self.back_to_driver();
        }
        let mut first = Ok(());
        let mut keep = |result: Result<()>| {
            if first.is_ok() {
                first = result;
            }
        };
        let mut stopped = Vec::new();
        for index in 0..self.queues.len() as u16 {
            keep(self.backend.enable_ring(index, false));
            let result = self.stop_queue(index);
            stopped.push(result.is_ok());
            keep(result);
        }
        // A device that has closed the connection has let go of everything, too.
        let gone = stopped.contains(&false) && self.backend.wait_gone(LET_GO);
        for (queue, stopped) in self.queues.iter().flatten().zip(stopped) {
            queue.port.board.mend();
            // SAFETY: the law of queues: nobody bursts while the device is being stopped.
            let engine = unsafe { queue.port.replace(Engine::Idle) };
            match &self.rings {
                Some(rings) if !stopped && !gone => self.parked.push((engine, rings.clone())),
                _ => engine.reclaim(),
            }
        }
        if !self.parked.is_empty() {
            log::warn!("the device was not stopped: the buffers that it has stay with it until uninit");
        }
        self.rings = None;
        keep(self.back_to_driver());
        first
    }

    /// Resets the device, as far as it has a status, and takes VIRTIO 3.1.1's steps 2 and 3 again.
    fn back_to_driver(&mut self) -> Result<()> {
        self.status = Status::ACKNOWLEDGE | Status::DRIVER;
        for step in [Status::empty(), Status::ACKNOWLEDGE, self.status] {
            self.backend.set_status(step)?;
        }
        Ok(())
    }

    /// Stops one ring; the device says how far it got, which must be possible.
    fn stop_queue(&mut self, index: u16) -> Result<()> {
        let base = self.backend.stop_ring(index)?;
        let Some(Some(queue)) = self.queues.get(usize::from(index)) else { return Ok(()) };
        // SAFETY: the law of queues: nobody bursts while the device is being stopped.
        let untouched = match unsafe { queue.port.engine() } {
            Engine::Rx(rx) => rx.untouched(base),
            Engine::Tx(tx) => tx.untouched(base),
            Engine::Idle => return Ok(()),
        };
        match untouched {
            Some(n) => log::debug!("ring {index} stopped at {base:#x}, {n} buffers before the end"),
            None => log::warn!("ring {index}: the device says it stopped at {base:#x}, where it cannot have been"),
        }
        Ok(())
    }

    /// Stops the device and forgets the choice of features.
    pub fn reset(&mut self) -> Result<()> {
        let result = self.stop();
        self.features = negotiate::agree(negotiate::wanted(&self.config), self.offered);
        result
    }

    /// What is known of the device.
    pub fn info(&mut self) -> Info {
        Info {
            backend: self.backend.describe(),
            path_name: path::name(self.features, Simd::Auto),
            offered: self.offered,
            features: self.features,
            protocol_features: self.backend.protocol_features(),
            max_pairs: self.max_pairs,
            mtu: self.mtu,
            mac: self.mac,
            status: self.status(),
            framing: Framing::new(self.features),
            link_up: self.is_started() && self.link_up(),
        }
    }

    fn link_up(&mut self) -> bool {
        if !self.backend.is_alive() {
            return false;
        }
        let mut status = [0xff; 2];
        if self.features.contains(Features::STATUS) && matches!(self.backend.read_config(6, &mut status), Ok(true)) {
            return u16::from_ne_bytes(status) & NET_S_LINK_UP != 0;
        }
        true
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The built-in back-end of `path=loopback`.
    pub fn loopback(&self) -> Option<&Loopback> {
        self.loopback.as_ref()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Err(e) = self.stop() {
            log::warn!("the device was closed although it could not be stopped: {e}");
        }
        for (engine, _rings) in self.parked.drain(..) {
            engine.reclaim();
        }
    }
}

fn connect(config: &Config) -> Result<(Box<dyn Backend>, Option<Loopback>)> {
    if !config.is_loopback() {
        return Ok((Box::new(VhostUser::connect(&config.path, config.timeout())?), None));
    }
    let (ours, theirs) = Stream::pair()?;
    let mode = match config.mode.unwrap_or_default() {
        config::Mode::Echo => device::Mode::Echo,
        config::Mode::Sink => device::Mode::Sink,
        config::Mode::Source => device::Mode::Source,
    };
    let options = device::Options { mode, queue_pairs: config.queues, ..device::Options::default() };
    let loopback = Loopback::on_stream(theirs, options)?;
    Ok((Box::new(VhostUser::on_stream(ours, config::LOOPBACK.to_owned(), config.timeout())?), Some(loopback)))
}

/// A locally administered unicast address.
fn random_mac() -> [u8; 6] {
    use std::hash::{BuildHasher, Hasher};
    // The standard library seeds each of these from the system's source of randomness.
    let random = std::hash::RandomState::new().build_hasher().finish().to_ne_bytes();
    let [a, b, c, d, e, f, ..] = random;
    [a & 0xfc | 2, b, c, d, e, f]
}
