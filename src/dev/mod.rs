//! Floor 5: one virtio-user device, from connecting to closing.
//!
//! The order of what is said to the device is that of VIRTIO 3.1.1 and of what back-ends in the field depend on:
//! calls before features, because DPDK's vhost makes a queue when it hears of it first; features before rings,
//! because VPP forgets all rings at SET_FEATURES; the kick last, because it makes a ring ready.

//!
//! Here is the device and what is agreed with it; [`dial`] reaches its back-end and [`attach`] takes it and lets it go,
//! [`start`] brings the device up and down, [`queues`] are its queues and which of them run, [`memory`] is what it can
//! reach. [`handle`] is a device for many threads, with the one that looks after it.

mod attach;
pub mod capture;
pub mod config;
mod control;
pub mod dial;
mod engine;
pub mod events;
mod extras;
pub mod features;
mod files;
pub mod filters;
pub mod handle;
mod link;
pub mod live;
mod memory;
mod negotiate;
pub mod port;
mod queues;
mod rings;
pub mod rss;
mod start;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use nix::errno::Errno;

pub use config::{Config, Offloads, Way};
use control::ControlQueue;
use engine::Engine;
use extras::Extras;
use filters::Wishes;
use link::Link;
pub use link::Watch;
use live::Live;
use port::Port;
use queues::Queue;
pub use queues::{Side, SourceSetup};
use rings::RingMemory;

use crate::backend::{Backend, Inflight, Offers};
use crate::device::Loopback;
use crate::error::{Error, Result};
use crate::mem::map::MemoryMap;
use crate::net::{Framing, path};
use crate::spec::net::{NET_S_ANNOUNCE, NET_S_LINK_UP};
use crate::spec::virtio::{Features, Status};
use crate::sys::socket::Deadline;

/// A virtio-user device.
pub struct Device {
    config: Config,
    /// The way to the back-end.
    link: Link,
    /// None: none has come yet, or it has gone.
    backend: Option<Box<dyn Backend>>,
    /// It was started, and not stopped since.
    started: bool,
    /// Its rings are those of the back-end that is there.
    running: bool,
    /// What the back-end offers, or the last one did; before the first, all that can be driven.
    offered: Features,
    /// All that the back-end offers, or the last one did.
    offers: Offers,
    /// What was asked for: a back-end with more may come.
    chosen: Features,
    /// Of these, what is in use, or was with the last back-end.
    features: Features,
    /// The features for offloads that the application found when it started the device.
    promised: Features,
    status: Status,
    mac: [u8; 6],
    max_pairs: u16,
    /// Pairs that are used, of those that it was made with.
    pairs: u16,
    /// Of these, the pairs whose queues run: fewer when the number was changed since the start.
    active: u16,
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
    /// Queues that a silent device could not be made to stop: their buffers stay lent as long as it is connected.
    parked: Vec<Parked>,
    /// The connection that the rings were made for.
    rings_of: u64,
    /// The features that the rings were made for.
    rings_for: Features,
    /// What the back-end has noted of its work on the rings, if it does that.
    inflight: Option<Inflight>,
    /// Device addresses are ours less this, as long as the rings are the same.
    shift: u64,
    extras: Extras,
    live: Arc<Live>,
    /// How the link was when the application was last told, or changed it.
    link_told: bool,
    /// The control queue of a device that runs and has one.
    control: Option<ControlQueue>,
    wishes: Wishes,
    /// The capture that was started last, as long as somebody has it.
    capture: Weak<capture::Shared>,
    /// Last, so that it outlives the back-end's connection to it.
    loopback: Option<Loopback>,
}

/// A queue that a device may still use.
struct Parked {
    engine: Engine,
    /// Where another engine may work by now.
    port: Arc<Port>,
    _rings: Arc<RingMemory>,
    /// Packets to be sent may be of the pool of any queue.
    _sources: Vec<SourceSetup>,
    /// Of the connection.
    number: u64,
}

impl Parked {
    fn new(engine: Engine, port: &Arc<Port>, rings: &Arc<RingMemory>, sources: &[SourceSetup], number: u64) -> Self {
        Self { engine, port: port.clone(), _rings: rings.clone(), _sources: sources.to_vec(), number }
    }

    /// The device has let go: its buffers come back. The queue is paused meanwhile, whose counters and source they share,
    /// and is not to answer for what the device left behind. If it can't be paused now, all stays as it is.
    fn come_home(self) -> Option<Self> {
        let port = self.port.clone();
        let Ok(_paused) = port.pause() else { return Some(self) };
        let was_whole = !port.board.is_broken();
        self.engine.reclaim();
        if was_whole {
            port.board.mend();
        }
        None
    }
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
    pub protocol_features_offered: u64,
    pub max_pairs: u16,
    pub mtu: u16,
    pub speed: u32,
    pub mac: [u8; 6],
    pub status: Status,
    pub framing: Framing,
    pub link_up: bool,
    pub offloads: Offloads,
    pub offload_capa: Offloads,
    pub pairs: u16,
    pub attached: bool,
    pub reconnects: u64,
    pub refused: u64,
}

impl Device {
    /// Connects to the device and asks what it is; with server=1, listens for it.
    pub fn new(config: Config) -> Result<Self> {
        config.validate()?;
        files::there_is_room(&config)?;
        let link = Link::new(&config)?;
        let chosen = negotiate::wanted(&config);
        let offered = negotiate::SUPPORTED;
        let mut device = Self {
            link,
            backend: None,
            started: false,
            running: false,
            offered,
            offers: Offers::default(),
            chosen,
            features: negotiate::agree(negotiate::by_messages(chosen), offered),
            promised: Features::empty(),
            status: Status::empty(),
            queues: (0..2 * config.queues).map(|_| None).collect(),
            mac: config.mac.unwrap_or_else(random_mac),
            max_pairs: config.queues,
            pairs: config.queues,
            active: config.queues,
            down: false,
            carrier: true,
            memory: MemoryMap::default(),
            rings: None,
            told: None,
            parked: Vec::new(),
            rings_of: 0,
            rings_for: Features::empty(),
            inflight: None,
            shift: 0,
            extras: Extras::default(),
            live: Arc::new(Live::new()?),
            link_told: false,
            control: None,
            wishes: Wishes::default(),
            capture: Weak::new(),
            loopback: None,
            config,
        };
        if device.config.server {
            device.wait_for_first()?;
        } else {
            let deadline = Deadline::after(device.config.timeout());
            let candidate = dial::dial(&device.config, deadline, &device.live.hook).map_err(dial::Missed::error)?;
            device.attach(candidate)?;
            device.live.hook.release();
        }
        Ok(device)
    }

    /// The back-end, or why there is none.
    fn backend(&mut self) -> Result<&mut dyn Backend> {
        match &mut self.backend {
            Some(backend) => Ok(&mut **backend),
            None => Err(Error::new(Errno::ENOTCONN, format!("there is no back-end: {}", self.link.reason))),
        }
    }

    /// Whether the queue sizes suit the layout that these features make.
    fn check_layout(&self, features: Features) -> Result<()> {
        let packed = features.contains(Features::RING_PACKED);
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
        self.check_layout(features)?;
        (self.chosen, self.features) = (features, features);
        Ok(())
    }

    /// Offloads that are, or will be at the next start, in use.
    fn offloads(&self) -> Offloads {
        // What we do ourselves, if it is wanted.
        let ours = Offloads::VLAN_STRIP | Offloads::HASH;
        (negotiate::in_use(self.features) - Offloads::VLAN_STRIP) | (self.config.offloads & ours)
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
        self.chosen = negotiate::with_offloads(self.chosen, negotiate::SUPPORTED, offloads);
        self.config.offloads = offloads;
        Ok(())
    }

    /// The device status as we have set it, and what the device adds to it.
    pub fn status(&mut self) -> Status {
        let told = self.backend().and_then(|b| b.status()).ok().flatten().unwrap_or_default();
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
        let status = self.status;
        self.backend()?.set_status(status)
    }

    fn is_started(&self) -> bool {
        self.started
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
        self.chosen = negotiate::wanted(&self.config);
        let wish = if self.has_control() { self.chosen } else { negotiate::by_messages(self.chosen) };
        self.features = negotiate::agree(wish, self.offered);
        result
    }

    /// What is known of the device.
    pub fn info(&mut self) -> Info {
        Info {
            backend: self.describe(),
            path_name: path::name(self.features, self.config.simd),
            offered: self.offered,
            features: self.features,
            protocol_features: self.backend.as_ref().map_or(0, |b| b.protocol_features()),
            protocol_features_offered: self.offers.protocol,
            max_pairs: self.max_pairs,
            mtu: self.mtu(),
            speed: self.speed(),
            mac: self.mac,
            status: self.status(),
            framing: Framing::new(self.features),
            link_up: self.look_at_link(),
            offloads: self.offloads(),
            offload_capa: negotiate::possible(self.features, self.offered),
            pairs: self.active,
            attached: self.backend.is_some(),
            reconnects: self.live.reconnects.load(Ordering::Relaxed),
            refused: self.live.refused.load(Ordering::Relaxed),
        }
    }

    /// The back-end, for people.
    fn describe(&self) -> String {
        match &self.backend {
            Some(backend) => backend.describe(),
            None => format!("no back-end at {}: {}", self.config.path.display(), self.link.reason),
        }
    }

    /// Asks the device how its link is, where it says.
    fn look_at_link(&mut self) -> bool {
        let mut status = [0xff; 2];
        let says = self.features.contains(Features::STATUS);
        if says && matches!(self.backend().and_then(|b| b.read_config(6, &mut status)), Ok(true)) {
            let status = u16::from_le_bytes(status);
            self.carrier = status & NET_S_LINK_UP != 0;
            self.note_announce(status & NET_S_ANNOUNCE != 0);
        }
        self.note_link()
    }

    /// Says to those who do not wait for us how the link is, as far as is known.
    fn note_link(&self) -> bool {
        let up = self.running && !self.down && self.carrier && self.backend.as_ref().is_some_and(|b| b.is_alive());
        self.live.set_up(up);
        up
    }

    /// The link is as the application has made it.
    fn link_is_known(&mut self) {
        self.link_told = self.live.link();
    }

    /// What can be asked without waiting for this device.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// What its events are waited for with.
    pub fn watch(&self) -> &Arc<Watch> {
        self.link.watch()
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
        // Nobody is connected any more who could use what was lent.
        drop(self.backend.take());
        self.link.close();
        // What a thread is still working on must be there for ever.
        self.parked.drain(..).filter_map(Parked::come_home).for_each(std::mem::forget);
    }
}

/// A locally administered unicast address.
fn random_mac() -> [u8; 6] {
    use std::hash::{BuildHasher, Hasher};
    // The standard library seeds each of these from the system's source of randomness.
    let random = std::hash::RandomState::new().build_hasher().finish().to_ne_bytes();
    let [a, b, c, d, e, f, ..] = random;
    [a & 0xfc | 2, b, c, d, e, f]
}
