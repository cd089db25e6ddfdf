//! Floor 5: one virtio-user device, from connecting to closing.
//!
//! The order of what is said to the device is that of VIRTIO 3.1.1 and of what back-ends in the field depend on:
//! calls before features, because DPDK's vhost makes a queue when it hears of it first; features before rings,
//! because VPP forgets all rings at SET_FEATURES; the kick last, because it makes a ring ready.

//!
//! Here is the device and what is agreed with it; [`start`] brings it up and down, [`queues`] are its queues and which of
//! them run, [`memory`] is what it can reach.

pub mod config;
mod engine;
pub mod live;
mod memory;
mod negotiate;
pub mod port;
mod queues;
mod rings;
mod start;

use std::sync::Arc;

use nix::errno::Errno;

pub use config::{Config, Offloads, Way};
use engine::Engine;
use live::Live;
use queues::Queue;
pub use queues::{Side, SourceSetup};
use rings::RingMemory;

use crate::backend::Backend;
use crate::backend::vhost_user::VhostUser;
use crate::backend::vhost_vdpa::VhostVdpa;
use crate::device::{self, Loopback};
use crate::error::{Error, Result};
use crate::mem::map::MemoryMap;
use crate::net::{Framing, path};
use crate::spec::net::{NET_S_LINK_UP, NetConfig};
use crate::spec::virtio::{Features, Status};
use crate::sys::socket::Stream;

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
    /// Pairs that are used, of those that it was made with.
    pairs: u16,
    /// By ring index: receive 2 × pair, transmit 2 × pair + 1.
    queues: Vec<Option<Queue>>,
    /// It was told to be down.
    down: bool,
    /// What the device last said of its link, if it says something.
    carrier: bool,
    /// Memory of the application's.
    memory: MemoryMap,
    rings: Option<Arc<RingMemory>>,
    /// What the device was told of last. It is kept until the device has been told of something else: DPDK's vhost takes
    /// a region of the same address and size for the same memory, whatever file comes with it, and memory that is
    /// still there can't have its address taken.
    told: Option<Arc<MemoryMap>>,
    /// Queues that a silent device could not be made to stop: their buffers stay lent as long as we are connected.
    parked: Vec<(Engine, Arc<RingMemory>)>,
    live: Arc<Live>,
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
    pub offloads: Offloads,
    pub offload_capa: Offloads,
    pub pairs: u16,
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
            pairs: config.queues,
            down: false,
            carrier: true,
            memory: MemoryMap::default(),
            rings: None,
            told: None,
            parked: Vec::new(),
            live: Arc::new(Live::new(backend.control())?),
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

    /// Offloads that are, or will be at the next start, in use.
    fn offloads(&self) -> Offloads {
        // VLAN tags are taken out by ourselves, if that is wanted.
        (negotiate::in_use(self.features) - Offloads::VLAN_STRIP) | (self.config.offloads & Offloads::VLAN_STRIP)
    }

    /// Chooses offloads, among those that the device makes possible, for the next start: the features follow.
    pub fn set_offloads(&mut self, offloads: Offloads) -> Result<()> {
        self.must_be_stopped("offloads can be chosen")?;
        let missing = offloads - negotiate::possible(self.features, self.offered);
        if !missing.is_empty() {
            let names = missing.iter_names().map(|(name, _)| name.to_lowercase()).collect::<Vec<_>>().join(", ");
            return Err(Error::new(
                Errno::ENOTSUP,
                format!("the device does not make these offloads possible: {names}"),
            ));
        }
        self.features = negotiate::with_offloads(self.features, self.offered, offloads);
        self.config.offloads = offloads;
        Ok(())
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
            path_name: path::name(self.features, self.config.simd),
            offered: self.offered,
            features: self.features,
            protocol_features: self.backend.protocol_features(),
            max_pairs: self.max_pairs,
            mtu: self.mtu,
            mac: self.mac,
            status: self.status(),
            framing: Framing::new(self.features),
            link_up: self.look_at_link(),
            offloads: self.offloads(),
            offload_capa: negotiate::possible(self.features, self.offered),
            pairs: self.pairs,
        }
    }

    /// Asks the device how its link is, where it says.
    fn look_at_link(&mut self) -> bool {
        let mut status = [0xff; 2];
        if self.features.contains(Features::STATUS) && matches!(self.backend.read_config(6, &mut status), Ok(true)) {
            self.carrier = u16::from_ne_bytes(status) & NET_S_LINK_UP != 0;
        }
        self.note_link()
    }

    /// Says to those who do not wait for us how the link is, as far as is known.
    fn note_link(&self) -> bool {
        let up = self.is_started() && !self.down && self.carrier && self.backend.is_alive();
        self.live.set_up(up);
        up
    }

    /// What can be asked without waiting for this device.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// The configuration it was made with, and the offloads that were chosen since.
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
    match config.way() {
        Way::VhostVdpa => return Ok((Box::new(VhostVdpa::open(&config.path, config.timeout())?), None)),
        Way::VhostUser | Way::Kernel => {
            return Ok((Box::new(VhostUser::connect(&config.path, config.timeout())?), None));
        }
        Way::Loopback => {}
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
