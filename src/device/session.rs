//! A vhost-user session, back-end side: what each request does.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use zerocopy::{FromBytes, IntoBytes};

use super::Options;
use super::asker::{Asker, Change};
use super::dirty::Log;
use super::inflight::Region;
use super::memory::{SLOTS, Table};
use super::message::Message;
use super::net::{Pair, Rings};
use super::queue::Queue;
use crate::error::{Error, Result};
use crate::spec::net::{NET_S_ANNOUNCE, NET_S_LINK_UP, NetConfig};
use crate::spec::vhost_user::backend_request::{CONFIG_CHANGE_MSG, VRING_HOST_NOTIFIER_MSG};
use crate::spec::vhost_user::{
    ConfigHeader, MemRegion, MemRegionMessage, ProtocolFeatures, Request, VRING_IDX_MASK, VRING_NOFD, VringAddr,
    VringArea, VringState,
};
use crate::spec::virtio::{Features, Status};
use crate::sys::shm::SharedMemory;
use crate::sys::socket::Stream;

/// Longest configuration space that the protocol knows.
const CONFIG_BYTES: usize = 256;

/// What a request comes to.
enum Answer {
    /// Done; acknowledged if the front-end asks for it.
    Done,
    /// A reply of its own, acknowledgement or not.
    Reply(Vec<u8>),
    /// The same, with the memory that it speaks of.
    Memory(Vec<u8>, SharedMemory),
    /// Cannot be done: told if the front-end asks, else the end of the session.
    Refused(Error),
}

impl Answer {
    fn number(value: u64) -> Self {
        Self::Reply(value.as_bytes().to_vec())
    }

    fn of(result: Result<()>) -> Self {
        result.map_or_else(Self::Refused, |()| Self::Done)
    }

    fn refused(what: impl Into<String>) -> Self {
        Self::Refused(Error::invalid(what))
    }
}

/// One front-end and what it has told us.
#[derive(Debug)]
pub(super) struct Session {
    stream: Stream,
    options: Options,
    features: Features,
    protocol: ProtocolFeatures,
    status: Status,
    /// Writable by the front-end within the rules (5.1.4).
    config: NetConfig,
    table: Option<Arc<Table>>,
    queues: Vec<Queue>,
    pairs: Vec<Pair>,
    /// Where we ask the front-end, once it has said so.
    asker: Option<Asker>,
    log: Option<Arc<Log>>,
    /// Where notes on what is in flight are kept.
    inflight: Option<Region>,
}

impl Session {
    pub(super) fn new(stream: Stream, options: &Options) -> Self {
        let pair = || Pair::new(options.mode, Features::empty(), options.mac, options.frame_len).holding(options.hold);
        let pairs: Vec<_> = (0..options.queue_pairs).map(|_| pair()).collect();
        let mut queues: Vec<_> = (0..2 * pairs.len()).map(|_| Queue::default()).collect();
        // Until bit 30 is negotiated rings start enabled.
        queues.iter_mut().for_each(|q| q.enable(true));
        Self {
            stream,
            options: options.clone(),
            features: Features::empty(),
            protocol: ProtocolFeatures::empty(),
            status: Status::empty(),
            config: config(options),
            table: None,
            queues,
            pairs,
            asker: None,
            log: None,
            inflight: None,
        }
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(super) fn queues(&self) -> &[Queue] {
        &self.queues
    }

    pub(super) fn queues_mut(&mut self) -> &mut [Queue] {
        &mut self.queues
    }

    pub(super) fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// Calls `f` for each pair of rings that may run, with its memory.
    pub(super) fn for_each_pair(&mut self, mut f: impl FnMut(&mut Pair, &Table, Rings<'_>)) {
        // With STATUS, a device does nothing before DRIVER_OK (3.1.1).
        let waits = self.protocol.contains(ProtocolFeatures::STATUS) && !self.status.contains(Status::DRIVER_OK);
        let Some(table) = self.table.as_deref().filter(|_| !waits) else { return };
        for (pair, queues) in self.pairs.iter_mut().zip(self.queues.chunks_exact_mut(2)) {
            let [receive, transmit] = queues else { continue };
            let discard = !transmit.is_enabled();
            // A disabled receive ring gets nothing (vhost-user, "Ring states").
            let receive = if receive.is_enabled() { receive.ring() } else { None };
            f(pair, table, Rings { receive, transmit: transmit.ring(), discard });
        }
    }

    /// A ring of ours was broken by the driver.
    pub(super) fn needs_reset(&mut self) {
        self.status |= Status::NEEDS_RESET;
    }

    /// The owner changes the device. The front-end is told if it can be.
    pub(super) fn change(&mut self, change: Change) {
        match change {
            Change::Link(up) => {
                self.config.status = self.config.status & !NET_S_LINK_UP | if up { NET_S_LINK_UP } else { 0 };
            }
            Change::Mtu(mtu) => self.config.mtu = mtu,
            Change::Speed(speed) => self.config.speed = speed,
            Change::Announce => self.config.status |= NET_S_ANNOUNCE,
            Change::NeedsReset => self.needs_reset(),
            Change::RingError(index) => {
                return self.queues.get(usize::from(index)).into_iter().for_each(Queue::report_error);
            }
        }
        let Some(asker) = &self.asker else { return };
        if let Err(e) = asker.ask(CONFIG_CHANGE_MSG, &[], None) {
            log::warn!("loopback: the front-end cannot be told of a change: {e}");
        }
    }

    fn set_backend_req(&mut self, message: &mut Message) -> Result<Answer> {
        let fd = message.take_fds(1)?.pop();
        if !self.protocol.contains(ProtocolFeatures::BACKEND_REQ) {
            return Ok(Answer::Refused(missing(ProtocolFeatures::BACKEND_REQ)));
        }
        self.asker = fd.map(Asker::new).transpose()?;
        Ok(Answer::Done)
    }

    fn set_log(&mut self, message: &mut Message) -> Result<Answer> {
        // It is answered in any case, so that it cannot be refused otherwise than by the end of the session.
        self.need(ProtocolFeatures::LOG_SHMFD)?;
        let place = message.body()?;
        let fd = message.take_fds(1)?.pop().ok_or_else(|| malformed("a log"))?;
        self.log = Some(Arc::new(Log::new(&place, &fd)?));
        self.use_log();
        Ok(Answer::number(0))
    }

    fn get_inflight(&self, message: &Message) -> Result<Answer> {
        self.need(ProtocolFeatures::INFLIGHT_SHMFD)?;
        let (answer, memory) = Region::offer(&message.body()?, self.features)?;
        Ok(Answer::Memory(answer.as_bytes().to_vec(), memory))
    }

    fn set_inflight(&mut self, message: &mut Message) -> Result<Answer> {
        let told = message.body()?;
        let fd = message.take_fds(1)?.pop().ok_or_else(|| malformed("notes on what is in flight"))?;
        if !self.protocol.contains(ProtocolFeatures::INFLIGHT_SHMFD) {
            return Ok(Answer::Refused(missing(ProtocolFeatures::INFLIGHT_SHMFD)));
        }
        Ok(Answer::of(Region::new(&told, &fd, self.features).map(|region| self.inflight = Some(region))))
    }

    /// Rings are about to stop, if only for a moment.
    fn settle(&mut self) {
        self.for_each_pair(|pair, table, rings| pair.finish(table, rings));
    }

    fn wanted_log(&self) -> Option<Arc<Log>> {
        self.log.clone().filter(|_| self.features.contains(Features::LOG_ALL))
    }

    /// From now on writes are noted as the features say.
    fn use_log(&mut self) {
        let log = self.wanted_log();
        self.table = self.table.take().map(|table| Arc::new(table.logged(log)));
    }

    /// Gives a ring a doorbell, if that was chosen and the front-end can have it.
    fn offer_doorbell(&mut self, index: u16) -> Result<()> {
        let needs = ProtocolFeatures::HOST_NOTIFIER | ProtocolFeatures::BACKEND_SEND_FD;
        let wanted = self.options.notifier && self.protocol.contains(needs);
        let (Some(asker), Some(queue)) =
            (self.asker.as_ref().filter(|_| wanted), self.queues.get_mut(usize::from(index)))
        else {
            return Ok(());
        };
        let page = queue.give_doorbell()?;
        let area = VringArea { ring: index.into(), size: page.len() as u64, offset: 0 };
        asker.ask(VRING_HOST_NOTIFIER_MSG, area.as_bytes(), Some(page.as_fd()))
    }

    /// What was written to rings is noted, where that is wanted.
    pub(super) fn note_rings(&self) {
        let Some(table) = self.table.as_deref().filter(|_| self.features.contains(Features::LOG_ALL)) else { return };
        for (addr, len) in self.queues.iter().filter_map(|queue| queue.logged(self.features)) {
            table.note(addr, len);
        }
    }

    /// There is no network to tell.
    fn send_rarp(&self, mac: [u8; 8]) -> Answer {
        if !self.protocol.contains(ProtocolFeatures::RARP) {
            return Answer::Refused(missing(ProtocolFeatures::RARP));
        }
        log::info!("loopback: {:02x?} announces itself", mac.split_at(6).0);
        Answer::Done
    }

    /// The driver's choice, which cannot be above ours.
    fn set_mtu(&self, mtu: u64) -> Answer {
        match mtu {
            _ if !self.protocol.contains(ProtocolFeatures::NET_MTU) => {
                Answer::Refused(missing(ProtocolFeatures::NET_MTU))
            }
            mtu if (68..=u64::from(self.config.mtu)).contains(&mtu) => Answer::Done,
            mtu => Answer::refused(format!("an MTU of {mtu}")),
        }
    }

    /// Receives and answers the request that has begun to arrive. An error ends the session.
    pub(super) fn serve(&mut self) -> Result<()> {
        let mut message = Message::receive(&self.stream)?;
        let answer = match message.request() {
            Some(request) => self.answer(request, &mut message)?,
            None => Answer::refused(format!("request {} is unknown", message.number())),
        };
        message.take_fds(0)?;
        let acknowledged = message.needs_reply() && self.protocol.contains(ProtocolFeatures::REPLY_ACK);
        match answer {
            Answer::Reply(bytes) => message.reply(&self.stream, &bytes),
            Answer::Memory(bytes, memory) => message.reply_with(&self.stream, &bytes, &[memory.as_fd().as_raw_fd()]),
            Answer::Done if acknowledged => message.reply(&self.stream, 0u64.as_bytes()),
            Answer::Done => Ok(()),
            Answer::Refused(e) if acknowledged => {
                log::warn!("loopback: request {} is refused: {e}", message.number());
                message.reply(&self.stream, 1u64.as_bytes())
            }
            Answer::Refused(e) => Err(e.context(format!("request {} cannot be done", message.number()))),
        }
    }

    fn answer(&mut self, request: Request, message: &mut Message) -> Result<Answer> {
        Ok(match request {
            Request::GET_FEATURES => Answer::number(self.options.features.bits() as u64),
            Request::SET_FEATURES => Answer::of(self.set_features(message.body()?)),
            Request::SET_OWNER => Answer::Done,
            Request::RESET_OWNER => self.disable_all(),
            Request::GET_PROTOCOL_FEATURES => self.get_protocol_features()?,
            Request::SET_PROTOCOL_FEATURES => Answer::of(self.set_protocol_features(message.body()?)),
            Request::GET_QUEUE_NUM => self.queue_num()?,
            Request::SET_MEM_TABLE => self.set_memory(message)?,
            Request::GET_MAX_MEM_SLOTS => {
                self.need(ProtocolFeatures::CONFIGURE_MEM_SLOTS)?;
                Answer::number(SLOTS as u64)
            }
            Request::ADD_MEM_REG | Request::REM_MEM_REG => self.change_memory(request, message)?,
            Request::SET_VRING_NUM
            | Request::SET_VRING_ADDR
            | Request::SET_VRING_BASE
            | Request::GET_VRING_BASE
            | Request::SET_VRING_ENABLE => self.vring(request, message)?,
            Request::SET_VRING_KICK | Request::SET_VRING_CALL | Request::SET_VRING_ERR => {
                self.vring_fd(request, message)?
            }
            Request::SET_BACKEND_REQ_FD => self.set_backend_req(message)?,
            Request::SET_LOG_BASE => self.set_log(message)?,
            Request::SET_LOG_FD => {
                // We do not ring it: whoever copies memory looks at the log again and again.
                drop(message.take_fds(1)?);
                Answer::Done
            }
            Request::SEND_RARP => self.send_rarp(message.body()?),
            Request::NET_SET_MTU => self.set_mtu(message.body()?),
            Request::GET_INFLIGHT_FD => self.get_inflight(message)?,
            Request::SET_INFLIGHT_FD => self.set_inflight(message)?,
            Request::GET_CONFIG => self.get_config(message)?,
            Request::SET_CONFIG => self.set_config(message)?,
            Request::RESET_DEVICE => self.reset_device(),
            Request::SET_STATUS => self.set_status(message.body()?),
            Request::GET_STATUS => {
                self.need(ProtocolFeatures::STATUS)?;
                Answer::number(self.status.bits().into())
            }
        })
    }

    /// A request that waits for its own reply is an error without the feature that it belongs to.
    fn need(&self, feature: ProtocolFeatures) -> Result<()> {
        if self.protocol.contains(feature) { Ok(()) } else { Err(missing(feature)) }
    }

    fn offers_protocol(&self) -> bool {
        self.options.features.contains(Features::PROTOCOL_FEATURES)
    }

    fn set_features(&mut self, bits: u64) -> Result<()> {
        let unknown = u128::from(bits) & !self.options.features.bits();
        if unknown != 0 {
            return Err(Error::invalid(format!("features {unknown:#x} were not offered")));
        }
        let features = Features::from_bits_retain(bits.into());
        if features == self.features {
            return Ok(());
        }
        let other = (features | self.features) - (features & self.features) - Features::LOG_ALL;
        if !other.is_empty() && self.queues.iter().any(Queue::is_live) {
            return Err(Error::new(Errno::EBUSY, "features cannot change while rings run"));
        }
        // With bit 30 rings start disabled, without it enabled (vhost-user, "Ring states").
        let enabled = !features.contains(Features::PROTOCOL_FEATURES);
        if enabled || !self.features.contains(Features::PROTOCOL_FEATURES) {
            self.queues.iter_mut().for_each(|q| q.enable(enabled));
        }
        self.features = features;
        self.pairs.iter_mut().for_each(|p| p.negotiate(features));
        self.use_log();
        Ok(())
    }

    fn get_protocol_features(&self) -> Result<Answer> {
        if self.offers_protocol() {
            Ok(Answer::number(self.options.protocol.bits()))
        } else {
            Err(Error::protocol("protocol features were not offered"))
        }
    }

    fn set_protocol_features(&mut self, bits: u64) -> Result<()> {
        let unknown = bits & !self.options.protocol.bits();
        if !self.offers_protocol() || unknown != 0 {
            return Err(Error::invalid(format!("protocol features {unknown:#x} were not offered")));
        }
        self.protocol = ProtocolFeatures::from_bits_retain(bits);
        Ok(())
    }

    fn queue_num(&self) -> Result<Answer> {
        // It may be asked as soon as the feature is offered. A network device counts pairs.
        if self.offers_protocol() && self.options.protocol.contains(ProtocolFeatures::MQ) {
            Ok(Answer::number(self.options.queue_num.unwrap_or(self.options.queue_pairs.into())))
        } else {
            Err(missing(ProtocolFeatures::MQ))
        }
    }

    fn set_memory(&mut self, message: &mut Message) -> Result<Answer> {
        let bytes = message.bytes();
        // Count and padding.
        let (head, rest) = <[u32; 2]>::read_from_prefix(bytes).map_err(|_| malformed("a memory table"))?;
        let regions: Vec<_> =
            rest.chunks(size_of::<MemRegion>()).filter_map(|r| MemRegion::read_from_bytes(r).ok()).collect();
        if rest.len() != regions.len() * size_of::<MemRegion>() || head[0] as usize != regions.len() {
            return Err(malformed("a memory table"));
        }
        let fds = message.take_fds(regions.len())?;
        Ok(Answer::of(self.use_memory(&regions, fds)))
    }

    fn use_memory(&mut self, regions: &[MemRegion], fds: Vec<OwnedFd>) -> Result<()> {
        let table = Arc::new(Table::new(regions, fds)?.logged(self.wanted_log()));
        self.settle();
        self.queues.iter_mut().for_each(Queue::pause);
        self.table = Some(table);
        self.start_all()
    }

    /// Rings go on where they are, in memory that stays mapped for them.
    fn change_memory(&mut self, request: Request, message: &mut Message) -> Result<Answer> {
        let MemRegionMessage { region, .. } = message.body()?;
        let fds = message.take_fds(usize::from(request == Request::ADD_MEM_REG))?;
        if !self.protocol.contains(ProtocolFeatures::CONFIGURE_MEM_SLOTS) {
            return Ok(Answer::Refused(missing(ProtocolFeatures::CONFIGURE_MEM_SLOTS)));
        }
        let table = self.table.clone().unwrap_or_default();
        let changed = match fds.first() {
            Some(fd) => table.with(&region, fd),
            None => table.without(&region),
        };
        Ok(match changed {
            Ok(table) => {
                self.table = Some(Arc::new(table));
                Answer::of(self.start_all())
            }
            Err(e) => Answer::Refused(e),
        })
    }

    /// Starts the rings of which all is known by now.
    fn start_all(&mut self) -> Result<()> {
        let Some(table) = &self.table else { return Ok(()) };
        let (region, features) = (self.inflight.as_ref(), self.features);
        self.queues.iter_mut().enumerate().try_for_each(|(index, queue)| {
            let notes = |size| region.map(|region| region.notes(index, size, features)).transpose();
            queue.start(table, self.features, &self.options, notes)
        })
    }

    fn vring(&mut self, request: Request, message: &Message) -> Result<Answer> {
        if matches!(request, Request::SET_VRING_ADDR | Request::GET_VRING_BASE) {
            self.settle();
        }
        if request == Request::SET_VRING_ADDR {
            let addr: VringAddr = message.body()?;
            return Ok(Answer::of(self.queue(addr.index).map(|q| q.set_addr(addr)).and_then(|()| self.start_all())));
        }
        let VringState { index, num } = message.body()?;
        let features = self.features;
        let queue = match self.queue(index) {
            Ok(queue) => queue,
            // The front-end waits for the position.
            Err(e) if request == Request::GET_VRING_BASE => return Err(e),
            Err(e) => return Ok(Answer::Refused(e)),
        };
        Ok(match request {
            Request::GET_VRING_BASE => {
                let num = queue.stop(features);
                Answer::Reply(VringState { index, num }.as_bytes().to_vec())
            }
            Request::SET_VRING_ENABLE if num > 1 => Answer::refused(format!("a ring cannot be enabled by {num}")),
            Request::SET_VRING_ENABLE => {
                queue.enable(num == 1);
                Answer::Done
            }
            Request::SET_VRING_BASE => Answer::of(queue.set_base(num)),
            _ => Answer::of(queue.set_size(num).and_then(|()| self.start_all())),
        })
    }

    fn queue(&mut self, index: u32) -> Result<&mut Queue> {
        let rings = self.queues.len();
        let found = usize::try_from(index).ok().and_then(|n| self.queues.get_mut(n));
        found.ok_or_else(|| Error::invalid(format!("there is no ring {index}: the device has {rings}")))
    }

    fn vring_fd(&mut self, request: Request, message: &mut Message) -> Result<Answer> {
        let value: u64 = message.body()?;
        if value & !(VRING_IDX_MASK | VRING_NOFD) != 0 {
            return Err(malformed("a ring's descriptor"));
        }
        let fd = message.take_fds(usize::from(value & VRING_NOFD == 0))?.pop();
        let queue = match self.queue((value & VRING_IDX_MASK) as u32) {
            Ok(queue) => queue,
            Err(e) => return Ok(Answer::Refused(e)),
        };
        Ok(match request {
            Request::SET_VRING_KICK => {
                queue.set_kick(fd);
                self.offer_doorbell((value & VRING_IDX_MASK) as u16)?;
                Answer::of(self.start_all())
            }
            Request::SET_VRING_CALL => {
                queue.set_call(fd);
                Answer::Done
            }
            _ => {
                queue.set_err(fd);
                Answer::Done
            }
        })
    }

    fn get_config(&self, message: &Message) -> Result<Answer> {
        self.need(ProtocolFeatures::CONFIG)?;
        let (header, range) = config_range(message)?;
        // A reply without payload says that there is no such place.
        let Some(range) = range else { return Ok(Answer::Reply(Vec::new())) };
        let mut space = [0; CONFIG_BYTES];
        space[..size_of::<NetConfig>()].copy_from_slice(self.config.as_bytes());
        Ok(Answer::Reply([header.as_bytes(), &space[range]].concat()))
    }

    fn set_config(&mut self, message: &Message) -> Result<Answer> {
        if !self.protocol.contains(ProtocolFeatures::CONFIG) {
            return Ok(Answer::Refused(missing(ProtocolFeatures::CONFIG)));
        }
        let (header, range) = config_range(message)?;
        // For a driver all is read-only, but the address of a legacy device; a migration (1) restores everything.
        let writable = match header.flags {
            0 if !self.features.contains(Features::VERSION_1) => self.config.mac.len(),
            1 => size_of::<NetConfig>(),
            _ => 0,
        };
        let bytes = &message.bytes()[size_of::<ConfigHeader>()..];
        match range.filter(|r| r.end <= writable) {
            Some(range) => {
                self.config.as_mut_bytes()[range].copy_from_slice(bytes);
                Ok(Answer::Done)
            }
            None => Ok(Answer::refused("this part of the configuration cannot be written")),
        }
    }

    fn disable_all(&mut self) -> Answer {
        self.queues.iter_mut().for_each(|q| q.enable(false));
        Answer::Done
    }

    fn reset_device(&mut self) -> Answer {
        if !self.options.protocol.contains(ProtocolFeatures::RESET_DEVICE) {
            return Answer::Refused(missing(ProtocolFeatures::RESET_DEVICE));
        }
        self.reset();
        Answer::Done
    }

    /// Back to the beginning, but for the memory and for what the session itself has agreed on.
    fn reset(&mut self) {
        self.queues.iter_mut().for_each(Queue::reset);
        self.pairs.iter_mut().for_each(Pair::forget);
        self.inflight = None;
        self.features = Features::empty();
        self.status = Status::empty();
        self.config = config(&self.options);
        self.queues.iter_mut().for_each(|q| q.enable(true));
    }

    fn set_status(&mut self, value: u64) -> Answer {
        let status = u8::try_from(value).map(Status::from_bits_retain);
        let (true, Ok(status)) = (self.protocol.contains(ProtocolFeatures::STATUS), status) else {
            return Answer::Refused(missing(ProtocolFeatures::STATUS));
        };
        if status.is_empty() {
            // Writing zero resets the device (2.1).
            self.reset();
        } else {
            // The driver cannot take back our own bit (2.1.2).
            self.status = status | (self.status & Status::NEEDS_RESET);
        }
        Answer::Done
    }
}

fn missing(feature: ProtocolFeatures) -> Error {
    Error::protocol(format!("protocol feature {feature:?} was not negotiated"))
}

fn malformed(what: &str) -> Error {
    Error::protocol(format!("{what} is malformed"))
}

/// The configuration space of a device that nobody has written to.
fn config(options: &Options) -> NetConfig {
    NetConfig {
        mac: options.mac,
        status: NET_S_LINK_UP,
        max_virtqueue_pairs: options.queue_pairs,
        mtu: options.mtu,
        // Unknown, as for every device without a wire (5.1.4).
        speed: u32::MAX,
        duplex: 0xff,
        ..NetConfig::default()
    }
}

/// The part of configuration space that a message speaks of; `None` when there is no such part.
fn config_range(message: &Message) -> Result<(ConfigHeader, Option<std::ops::Range<usize>>)> {
    let found = ConfigHeader::read_from_prefix(message.bytes());
    let (header, rest) = found.map_err(|_| malformed("an access to configuration space"))?;
    let (offset, size) = (header.offset as usize, header.size as usize);
    if rest.len() != size {
        return Err(malformed("an access to configuration space"));
    }
    let end = offset.checked_add(size).filter(|&end| end <= CONFIG_BYTES);
    Ok((header, end.map(|end| offset..end)))
}
