//! vhost-user, front-end side: the device is another process, reached over a Unix socket.
//!
//! Message order follows what back-ends in the field depend on:
//! SET_OWNER and the negotiation first; SET_VRING_CALL before SET_FEATURES, because some allocate a ring at the
//! first message that names it; SET_FEATURES before all else about rings, because some start afresh on it;
//! SET_VRING_KICK last of a ring's set-up, because it starts the ring; SET_VRING_ENABLE only with back-ends that
//! have protocol features, because only for these do rings begin disabled. The first part is done when a
//! [`VhostUser`] is made, the rest as the device asks for it.

mod channel;
pub mod choice;
mod extras;
mod memory;
mod wire;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use zerocopy::{FromBytes, IntoBytes};

use self::channel::Channel;
use self::choice::choose;
use self::wire::{LONGEST, Message, Wire};
use crate::backend::{Backend, Inflight, Notice, Offers, RingSetup, check_number};
use crate::error::{Error, Result};
use crate::mem::dirty::DirtyLog;
use crate::mem::doorbell::Doorbell;
use crate::mem::map::MemoryMap;
use crate::spec::net::NetConfig;
use crate::spec::vhost_user::{
    ConfigHeader, MAX_PAYLOAD, MAX_REGIONS, MAX_VRINGS, ProtocolFeatures, Request, VringAddr, VringState,
};
use crate::spec::virtio::{Features, Status};
use crate::sys::epoll::Until;
use crate::sys::eventfd::Bell;
use crate::sys::poll::{Ready, wait_any};
use crate::sys::socket::{Deadline, Stream};

/// How long an exchange may take where nobody says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Queue pairs that the protocol can name: SET_VRING_KICK and SET_VRING_CALL have one byte for the ring.
pub const MAX_QUEUE_PAIRS: u16 = MAX_VRINGS / 2;

const CONFIG_HEADER: usize = size_of::<ConfigHeader>();
/// Bytes of configuration space that one GET_CONFIG can carry.
const MAX_CONFIG: usize = 256;
const _: () = assert!(CONFIG_HEADER + MAX_CONFIG <= MAX_PAYLOAD);

/// A device behind a vhost-user socket.
///
/// It exists only when owner, features and protocol features have been agreed; after a loss a new one is made.
/// Errors: `ETIMEDOUT` no answer in time, `EPROTO` an answer that cannot be, `ECONNRESET` the back-end closed the
/// connection, `ENOTCONN` the same said again at later calls, `EREMOTEIO` the back-end refused a message,
/// `EINVAL` and `E2BIG` for what the protocol cannot express. After all but the last three the connection is
/// given up, and [`is_alive`](Backend::is_alive) is false.
#[derive(Debug)]
pub struct VhostUser {
    wire: Wire,
    /// What the back-end offers, its transport bit 30 among it: no other bit is ever sent.
    offered: Features,
    protocol: ProtocolFeatures,
    /// All that the back-end offers, what we make nothing of among it.
    offers: Offers,
    max_queue_pairs: Option<u16>,
    /// Regions that a back-end with CONFIGURE_MEM_SLOTS takes, once asked.
    slots: Option<usize>,
    /// What the back-end rings when a ring, of this index, is broken.
    errors: BTreeMap<u16, Bell>,
    /// The features that were told last, without those that are between us and the back-end.
    told: Features,
    /// Rings that are set up.
    rings: BTreeMap<u16, VringAddr>,
    /// The back-end notes what it writes.
    logs: bool,
    /// Guest addresses are ours less this.
    shift: u64,
}

impl VhostUser {
    /// Connects to a back-end that listens at `path`. Connecting and each exchange after it take `timeout` at most.
    pub fn connect(path: &Path, timeout: Duration) -> Result<Self> {
        let stream = Stream::connect(path, Deadline::after(timeout.min(LONGEST)))?;
        Self::on_stream(stream, path.display().to_string(), timeout)
    }

    /// Begins on a stream that is connected already; `name` is for people.
    pub fn on_stream(stream: Stream, name: String, timeout: Duration) -> Result<Self> {
        let mut wire = Wire::new(stream, name, timeout)?;
        wire.tell(&Message::new(Request::SET_OWNER))?;
        let features = ask_u64(&mut wire, Request::GET_FEATURES)?;
        let mut offered = Features::from_bits_retain(features.into());
        let mut protocol = ProtocolFeatures::empty();
        let mut offers = Offers { features: offered, protocol: 0 };
        if offered.contains(Features::PROTOCOL_FEATURES) {
            let theirs = ask_u64(&mut wire, Request::GET_PROTOCOL_FEATURES)?;
            offers.protocol = theirs;
            protocol = choose(ProtocolFeatures::from_bits_truncate(theirs));
            tell_u64(&mut wire, Request::SET_PROTOCOL_FEATURES, protocol.bits())?;
            if protocol.contains(ProtocolFeatures::REPLY_ACK) {
                wire.acknowledge();
            }
            if protocol.contains(ProtocolFeatures::BACKEND_REQ) {
                open_channel(&mut wire, protocol)?;
            }
        }
        if offered.contains(Features::MQ) && !protocol.contains(ProtocolFeatures::MQ) {
            log::debug!("{}: MQ is not used: the back-end has no protocol feature for it", wire.name());
            offered.remove(Features::MQ);
        }
        let (errors, told, rings) = (BTreeMap::new(), Features::empty(), BTreeMap::new());
        Ok(Self {
            wire,
            offered,
            protocol,
            offers,
            max_queue_pairs: None,
            slots: None,
            errors,
            told,
            rings,
            logs: false,
            shift: 0,
        })
    }

    fn ring_state(&mut self, request: Request, index: u16, num: u32) -> Result<()> {
        let state = VringState { index: index.into(), num };
        let words = match request {
            // Of a packed ring these are bits, not a number.
            Request::SET_VRING_BASE => format!("{num:#x}"),
            _ => num.to_string(),
        };
        self.wire.tell(&Message::new(request).ring(index).payload(state.as_bytes(), words))
    }

    /// Gives a ring a bell that the back-end rings when it cannot go on with it. One that does not like that has none.
    fn give_error_bell(&mut self, index: u16) -> Result<()> {
        let bell = match self.errors.entry(index) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let bell = Bell::new()?;
                self.wire.ears().add(bell.as_fd(), Until::Readable)?;
                entry.insert(bell)
            }
        };
        unless_refused(ring_bell(&mut self.wire, Request::SET_VRING_ERR, index, bell.as_fd())).map(drop)
    }

    /// Rings of which the bell has been rung.
    fn broken_rings(&self) -> impl Iterator<Item = Notice> {
        let fds: Vec<_> = self.errors.values().map(Bell::as_fd).collect();
        let found = wait_any(&fds, Some(Duration::ZERO));
        let rung = self.errors.iter().zip(found).filter(|((_, bell), ready)| *ready == Ready::Readable && bell.take());
        rung.map(|((index, _), _)| Notice::RingError(*index))
    }

    /// Pairs by the configuration space, if there is one and it says something that can be.
    fn pairs_by_config(&mut self) -> Result<Option<u16>> {
        const AT: usize = std::mem::offset_of!(NetConfig, max_virtqueue_pairs);
        let mut pairs = [0; 2];
        if !self.read_config(AT as u32, &mut pairs)? {
            return Ok(None);
        }
        let pairs = u16::from_le_bytes(pairs);
        // VIRTIO 5.1.5: 1 to 0x8000.
        let known = (1..=0x8000).contains(&pairs).then_some(pairs);
        if known.is_none() {
            log::debug!("{}: the configuration space says {pairs} queue pairs, which cannot be", self.wire.name());
        }
        Ok(known)
    }

    /// Pairs by GET_QUEUE_NUM.
    ///
    /// Back-ends disagree on what they count: DPDK answers pairs, and so QEMU reads it; rust-vmm answers rings.
    /// Nothing in the answer tells which (an odd number is pairs, or rings with a control queue among them), so it
    /// is taken as pairs. If it was rings, asking for more pairs than there are ends with the back-end refusing
    /// a message about a ring that it does not have.
    fn pairs_by_queue_num(&mut self) -> Result<u16> {
        let queues = ask_u64(&mut self.wire, Request::GET_QUEUE_NUM)?;
        if queues == 0 {
            return Err(self.wire.nonsense(&Message::new(Request::GET_QUEUE_NUM), "a device without queues"));
        }
        let name = self.wire.name();
        log::debug!("{name}: the back-end has {queues} queues, taken as pairs (some back-ends count rings)");
        Ok(u16::try_from(queues).unwrap_or(u16::MAX))
    }
}

impl Backend for VhostUser {
    fn describe(&self) -> String {
        format!("vhost-user back-end at {}", self.wire.name())
    }

    /// Without bits 26 and 30, which are between the transport's two ends, and without MQ where the back-end cannot say
    /// which queues it has.
    fn features(&mut self) -> Result<Features> {
        Ok(self.offered - Features::PROTOCOL_FEATURES - Features::LOG_ALL)
    }

    /// One without MQ; the configuration space's word where there is one; else the answer to GET_QUEUE_NUM, which
    /// some back-ends give in rings: then it is too large, and the first ring too many is refused. Never more than
    /// [`MAX_QUEUE_PAIRS`].
    fn max_queue_pairs(&mut self) -> Result<Option<u16>> {
        if self.max_queue_pairs.is_none() {
            // The MQ feature stands for its protocol feature too, see `on_stream`.
            let pairs = match self.offered.contains(Features::MQ) {
                false => 1,
                true => match self.pairs_by_config()? {
                    Some(pairs) => pairs,
                    None => self.pairs_by_queue_num()?,
                },
            };
            if pairs > MAX_QUEUE_PAIRS {
                let name = self.wire.name();
                log::info!("{name}: of {pairs} queue pairs {MAX_QUEUE_PAIRS} can be used, vhost-user names no more");
            }
            self.max_queue_pairs = Some(pairs.min(MAX_QUEUE_PAIRS));
        }
        Ok(self.max_queue_pairs)
    }

    fn protocol_features(&self) -> u64 {
        self.protocol.bits()
    }

    fn offers(&self) -> Offers {
        self.offers
    }

    fn transport_features(&self) -> Features {
        let mut own = self.offered & Features::PROTOCOL_FEATURES;
        own.set(Features::LOG_ALL, self.logs);
        own
    }

    fn set_call(&mut self, index: u16, call: BorrowedFd<'_>) -> Result<()> {
        nameable(index)?;
        ring_bell(&mut self.wire, Request::SET_VRING_CALL, index, call)
    }

    /// Sends what the back-end offered of `features`, and bit 30 if it offered that. A bit that it did not offer is
    /// ours alone (a MAC address from the configuration, a link state that we make up): it is not told.
    fn set_features(&mut self, features: Features) -> Result<()> {
        let features = features - Features::PROTOCOL_FEATURES - Features::LOG_ALL;
        self.told = features & self.offered;
        let ours = features - self.offered;
        if !ours.is_empty() {
            log::debug!("{}: not told to the back-end, which did not offer it: {ours:?}", self.wire.name());
        }
        self.tell_features()
    }

    /// SET_MEM_TABLE carries [`MAX_REGIONS`]; a back-end with slots gets what is beyond that by ADD_MEM_REG.
    fn set_memory(&mut self, map: &MemoryMap) -> Result<()> {
        let regions = map.regions();
        if regions.is_empty() {
            return Err(Error::invalid("there is no memory to tell the back-end of"));
        }
        if regions.len() > MAX_REGIONS {
            let most = self.max_regions()?;
            check_number(regions.len(), most)?;
        }
        let (first, rest) = regions.split_at(regions.len().min(MAX_REGIONS));
        self.shift = map.shift();
        memory::set_table(&mut self.wire, first, map.shift())?;
        rest.iter().try_for_each(|region| memory::add(&mut self.wire, region, map.shift()))
    }

    fn max_regions(&mut self) -> Result<usize> {
        if !self.has_memory_slots() {
            return Ok(MAX_REGIONS);
        }
        if self.slots.is_none() {
            let slots = ask_u64(&mut self.wire, Request::GET_MAX_MEM_SLOTS)?;
            self.slots = Some(usize::try_from(slots).unwrap_or(usize::MAX));
        }
        Ok(self.slots.unwrap_or(MAX_REGIONS))
    }

    fn has_memory_slots(&self) -> bool {
        self.protocol.contains(ProtocolFeatures::CONFIGURE_MEM_SLOTS)
    }

    fn change_memory(&mut self, from: &MemoryMap, to: &MemoryMap) -> Result<()> {
        let most = self.max_regions()?;
        check_number(to.regions().len(), most)?;
        memory::change(&mut self.wire, from, to)
    }

    fn setup_ring(&mut self, ring: &RingSetup<'_>) -> Result<()> {
        let RingSetup { index, size, base, desc, driver, device, kick } = *ring;
        nameable(index)?;
        self.ring_state(Request::SET_VRING_NUM, index, size.into())?;
        self.ring_state(Request::SET_VRING_BASE, index, base)?;
        let addr = VringAddr { index: index.into(), flags: 0, desc, used: device, avail: driver, log: 0 };
        self.tell_addresses(index, addr)?;
        self.rings.insert(index, addr);
        self.give_error_bell(index)?;
        ring_bell(&mut self.wire, Request::SET_VRING_KICK, index, kick)
    }

    fn can_disable_rings(&self) -> bool {
        self.offered.contains(Features::PROTOCOL_FEATURES)
    }

    /// Without bit 30 the message does not exist: a ring runs from SET_VRING_KICK to GET_VRING_BASE.
    fn enable_ring(&mut self, index: u16, on: bool) -> Result<()> {
        nameable(index)?;
        if !self.can_disable_rings() {
            return Ok(());
        }
        self.ring_state(Request::SET_VRING_ENABLE, index, on.into())
    }

    fn stop_ring(&mut self, index: u16) -> Result<u32> {
        nameable(index)?;
        let state = VringState { index: index.into(), num: 0 };
        let message = Message::new(Request::GET_VRING_BASE).ring(index).payload(state.as_bytes(), "stop");
        let answer = self.wire.ask(&message, |s: &VringState| format!("ring {} at {:#x}", s.index, s.num))?;
        if answer.index != u32::from(index) {
            return Err(self.wire.nonsense(&message, format_args!("it is about ring {}", answer.index)));
        }
        self.rings.remove(&index);
        Ok(answer.num)
    }

    /// A back-end without STATUS is told of a reset only, if it can be reset at all.
    fn set_status(&mut self, status: Status) -> Result<()> {
        if self.protocol.contains(ProtocolFeatures::STATUS) {
            tell_u64(&mut self.wire, Request::SET_STATUS, status.bits().into())
        } else if status.is_empty() && self.protocol.contains(ProtocolFeatures::RESET_DEVICE) {
            self.wire.tell(&Message::new(Request::RESET_DEVICE))
        } else {
            Ok(())
        }
    }

    fn status(&mut self) -> Result<Option<Status>> {
        if !self.protocol.contains(ProtocolFeatures::STATUS) {
            return Ok(None);
        }
        let status = ask_u64(&mut self.wire, Request::GET_STATUS)?;
        match u8::try_from(status) {
            Ok(bits) => Ok(Some(Status::from_bits_retain(bits))),
            Err(_) => {
                let message = Message::new(Request::GET_STATUS);
                Err(self.wire.nonsense(&message, format_args!("status {status:#x} is more than a byte")))
            }
        }
    }

    /// Always asks from offset zero, because there are back-ends that ignore the offset.
    fn read_config(&mut self, offset: u32, bytes: &mut [u8]) -> Result<bool> {
        if !self.protocol.contains(ProtocolFeatures::CONFIG) {
            return Ok(false);
        }
        let (from, len) = (offset as usize, bytes.len());
        let end = from.checked_add(len).filter(|&end| end <= MAX_CONFIG).ok_or_else(|| {
            Error::invalid(format!("the configuration space has {MAX_CONFIG} bytes at most: not {len} at {from}"))
        })?;
        let header = ConfigHeader { offset: 0, size: end as u32, flags: 0 };
        let question = [header.as_bytes(), &vec![0; end]].concat();
        let message = Message::new(Request::GET_CONFIG).payload(&question, format_args!("{end} bytes"));
        let mut answer = vec![0; question.len()];
        let got = self.wire.ask_bytes(&message, &mut answer)?;
        answer.truncate(got);
        let space = config_answer(&answer).map_err(|what| self.wire.nonsense(&message, what))?;
        // An answer that is empty or too short is how back-ends say no.
        let Some(space) = space.get(from..end) else {
            log::debug!("{}: the back-end does not give its configuration space", self.wire.name());
            return Ok(false);
        };
        bytes.copy_from_slice(space);
        Ok(true)
    }

    fn wait_gone(&self, at_most: Duration) -> bool {
        self.wire.wait_closed(at_most)
    }

    fn hang_up(&self) {
        self.wire.hang_up();
    }

    fn control(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }

    fn is_alive(&self) -> bool {
        self.wire.is_alive()
    }

    fn watched(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.wire.ears().as_fd()]
    }

    fn hear(&mut self) -> Vec<Notice> {
        // What it said before it went is heard before it is known to be gone.
        self.wire.serve_channel();
        let mut notices = self.wire.channel().map(Channel::take_notices).unwrap_or_default();
        notices.extend(self.broken_rings());
        notices.extend(self.wire.fate().map(Notice::Gone));
        notices
    }

    /// A driver may write only what the standard lets it (VIRTIO 5.1.4): of a device with VERSION_1 that is nothing, and a
    /// back-end that knows it refuses.
    fn write_config(&mut self, offset: u32, bytes: &[u8]) -> Result<bool> {
        self.send_config(offset, bytes)
    }

    fn set_mtu(&mut self, mtu: u16) -> Result<bool> {
        self.send_mtu(mtu)
    }

    fn set_mac(&mut self, mac: [u8; 6]) -> Result<bool> {
        self.send_config(std::mem::offset_of!(NetConfig, mac) as u32, &mac)
    }

    fn announce(&mut self, mac: [u8; 6]) -> Result<bool> {
        self.send_rarp(mac)
    }

    fn inflight(&mut self, rings: u16, ring_size: u16) -> Result<Option<Inflight>> {
        self.ask_inflight(rings, ring_size)
    }

    fn set_inflight(&mut self, inflight: &Inflight) -> Result<bool> {
        self.send_inflight(inflight)
    }

    fn set_log(&mut self, log: Option<&DirtyLog>) -> Result<()> {
        match log {
            Some(log) => self.begin_log(log),
            None => self.end_log(),
        }
    }

    fn doorbell(&mut self, index: u16) -> Option<Arc<Doorbell>> {
        self.wire.channel()?.doorbell(index)
    }
}

/// Makes the channel on which the back-end has requests of its own, and tells it.
fn open_channel(wire: &mut Wire, protocol: ProtocolFeatures) -> Result<()> {
    let (ours, theirs) = Stream::pair()?;
    let notifiers = protocol.contains(ProtocolFeatures::HOST_NOTIFIER);
    wire.open_channel(Channel::new(ours, wire.name().to_owned(), notifiers)?)?;
    let message = Message::new(Request::SET_BACKEND_REQ_FD);
    if !unless_refused(wire.tell(&message.fds(&[theirs.as_fd().as_raw_fd()])))? {
        wire.close_channel();
    }
    Ok(())
}

/// Whether the back-end took a message that we can do without.
fn unless_refused(result: Result<()>) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(e) if e.errno() == Errno::EREMOTEIO => {
            log::info!("{e}; we go on without it");
            Ok(false)
        }
        Err(e) => Err(e),
    }
}

fn ring_bell(wire: &mut Wire, request: Request, index: u16, bell: BorrowedFd<'_>) -> Result<()> {
    let fd = bell.as_raw_fd();
    let payload = u64::from(index);
    let words = format_args!("descriptor {fd}");
    wire.tell(&Message::new(request).ring(index).payload(payload.as_bytes(), words).fds(&[fd]))
}

fn nameable(index: u16) -> Result<()> {
    if index < MAX_VRINGS {
        return Ok(());
    }
    let sentence = format!("ring {index} does not exist: vhost-user has {MAX_QUEUE_PAIRS} queue pairs at most");
    Err(Error::invalid(sentence))
}

fn ask_u64(wire: &mut Wire, request: Request) -> Result<u64> {
    wire.ask(&Message::new(request), |n| format!("{n:#x}"))
}

fn tell_u64(wire: &mut Wire, request: Request, value: u64) -> Result<()> {
    wire.tell(&Message::new(request).payload(value.as_bytes(), format_args!("{value:#x}")))
}

/// The bytes of configuration space in an answer to GET_CONFIG, or what is wrong with it.
fn config_answer(answer: &[u8]) -> std::result::Result<&[u8], String> {
    if answer.is_empty() {
        return Ok(&[]);
    }
    let Ok((header, space)) = ConfigHeader::read_from_prefix(answer) else {
        return Err(format!("{} bytes are no configuration space", answer.len()));
    };
    if header.size as usize != space.len() {
        return Err(format!("it speaks of {} bytes and has {}", header.size, space.len()));
    }
    if !space.is_empty() && header.offset != 0 {
        return Err(format!("it is about offset {}", header.offset));
    }
    Ok(space)
}
