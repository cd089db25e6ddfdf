//! Reaching a device, and asking it what it is. Nothing here needs the [`Device`](super::Device), so that nobody who wants
//! it waits meanwhile.

use std::os::fd::AsFd;
use std::sync::Arc;

use parking_lot::Mutex;

use super::config::{self, Config, Way};
use crate::backend::Backend;
use crate::backend::vhost_kernel::{self, VhostKernel};
use crate::backend::vhost_user::VhostUser;
use crate::backend::vhost_vdpa::VhostVdpa;
use crate::device::{self, Loopback};
use crate::error::{Error, Result};
use crate::spec::net::NetConfig;
use crate::spec::virtio::{Features, Status};
use crate::sys::socket::{Deadline, Stream};

/// A device that was reached, and what it says it is. Dropped, the connection ends.
pub struct Candidate {
    pub(super) backend: Box<dyn Backend>,
    pub(super) loopback: Option<Loopback>,
    pub(super) offered: Features,
    pub(super) max_pairs: u16,
    /// Its configuration space, where it has one.
    pub(super) space: Option<NetConfig>,
}

/// Why there is no candidate.
#[derive(Debug)]
pub enum Missed {
    /// Nobody is there.
    Absent(Error),
    /// Somebody is there, with whom we could not speak.
    Failed(Error),
}

impl Missed {
    pub(super) fn error(self) -> Error {
        match self {
            Self::Absent(e) | Self::Failed(e) => e,
        }
    }
}

/// The connection on which somebody waits for an answer, so that another can end the waiting.
#[derive(Debug, Default)]
pub struct Hook(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    stream: Option<Stream>,
    /// Whatever begins from now on ends at once.
    cut: bool,
}

impl Hook {
    /// From now on a [`cut`](Self::cut) is about this connection.
    fn hold(&self, stream: &Stream) -> Result<()> {
        let ours = Stream::share(stream.as_fd())?;
        let mut state = self.0.lock();
        if state.cut {
            ours.cut();
        }
        state.stream = Some(ours);
        Ok(())
    }

    /// Nobody waits any more.
    pub(super) fn release(&self) {
        self.0.lock().stream = None;
    }

    /// Ends the waiting, now and in future.
    pub(super) fn cut(&self) {
        let mut state = self.0.lock();
        state.cut = true;
        if let Some(stream) = &state.stream {
            stream.cut();
        }
    }
}

/// What is to be done about a connection, without holding the device.
pub enum Errand {
    /// To look for the back-end.
    Dial(Arc<Config>),
    /// To ask a back-end that has come who it is.
    Greet(Stream, Arc<Config>),
}

impl Errand {
    /// Does it. Each exchange takes the configured time at most, and all end when the hook is cut.
    pub fn run(self, hook: &Hook) -> std::result::Result<Candidate, Missed> {
        match self {
            Self::Dial(config) => dial(&config, Deadline::after(std::time::Duration::ZERO), hook),
            Self::Greet(stream, config) => greet(stream, &config, hook).map_err(Missed::Failed),
        }
    }
}

/// Looks for the device where the configuration says it is; connecting may take until the deadline.
pub(super) fn dial(config: &Config, deadline: Deadline, hook: &Hook) -> std::result::Result<Candidate, Missed> {
    match config.way() {
        Way::Loopback => built_in(config).map_err(Missed::Failed),
        Way::VhostVdpa => {
            let backend = VhostVdpa::open(&config.path, config.timeout()).map_err(Missed::Absent)?;
            meet(Box::new(backend), None).map_err(Missed::Failed)
        }
        Way::VhostKernel => {
            let backend = VhostKernel::open(&kernel_options(config)).map_err(Missed::Absent)?;
            meet(Box::new(backend), None).map_err(Missed::Failed)
        }
        Way::VhostUser => {
            let stream = Stream::connect(&config.path, deadline).map_err(Missed::Absent)?;
            greet(stream, config, hook).map_err(Missed::Failed)
        }
    }
}

/// Speaks with a vhost-user back-end at the other end of a stream.
fn greet(stream: Stream, config: &Config, hook: &Hook) -> Result<Candidate> {
    hook.hold(&stream)?;
    let backend = VhostUser::on_stream(stream, config.path.display().to_string(), config.timeout())?;
    meet(Box::new(backend), None)
}

fn built_in(config: &Config) -> Result<Candidate> {
    let (ours, theirs) = Stream::pair()?;
    let mode = match config.mode.unwrap_or_default() {
        config::Mode::Echo => device::Mode::Echo,
        config::Mode::Sink => device::Mode::Sink,
        config::Mode::Source => device::Mode::Source,
    };
    let options = device::Options { mode, queue_pairs: config.queues, ..device::Options::default() };
    let loopback = Loopback::on_stream(theirs, options)?;
    let backend = VhostUser::on_stream(ours, config::LOOPBACK.to_owned(), config.timeout())?;
    meet(Box::new(backend), Some(loopback))
}

fn kernel_options(config: &Config) -> vhost_kernel::Options {
    vhost_kernel::Options {
        path: config.path.clone(),
        iface: config.iface.clone(),
        mac: config.mac,
        mtu: Some(config.mtu).filter(|mtu| *mtu != 0),
        pairs: config.queues,
        persist: config.persist,
        busyloop_us: config.busyloop_us,
    }
}

/// Asks a device what it is, and takes VIRTIO 3.1.1's steps 1 to 3 with it.
fn meet(mut backend: Box<dyn Backend>, loopback: Option<Loopback>) -> Result<Candidate> {
    let offered = backend.features()?;
    let max_pairs = backend.max_queue_pairs()?.unwrap_or(1);
    for step in [Status::empty(), Status::ACKNOWLEDGE, Status::ACKNOWLEDGE | Status::DRIVER] {
        backend.set_status(step)?;
    }
    let space = read_space(&mut *backend, offered)?;
    Ok(Candidate { backend, loopback, offered, max_pairs, space })
}

/// The configuration space, as much of it as matters here, where the device has one.
pub(super) fn read_space(backend: &mut dyn Backend, offered: Features) -> Result<Option<NetConfig>> {
    let mut bytes = [0; size_of::<NetConfig>()];
    // The oldest devices have ten bytes, and what is missing is not there to be read.
    let fields = if offered.contains(Features::MTU) { 12 } else { 10 };
    let there = backend.read_config(0, bytes.get_mut(..fields).unwrap_or(&mut []))?;
    Ok(there.then(|| zerocopy::transmute!(bytes)))
}
