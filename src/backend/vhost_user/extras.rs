//! What not every back-end has: an ear for the MTU and the MAC address, announcements, notes on what is in flight, the log
//! of written pages. Each is asked only where its protocol feature was negotiated.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use zerocopy::IntoBytes;

use super::wire::Message;
use super::{MAX_CONFIG, VhostUser, tell_u64, unless_refused};
use crate::backend::Inflight;
use crate::error::{Error, Result};
use crate::mem::dirty::DirtyLog;
use crate::spec::vhost_user::{
    ConfigHeader, InflightMessage, LogMessage, ProtocolFeatures, Request, VRING_F_LOG, VringAddr,
};
use crate::spec::virtio::Features;

/// Most bytes of notes that are taken from a back-end: DPDK's are 16 bytes a descriptor and a few a ring.
const MOST_NOTES: u64 = 1 << 30;

impl VhostUser {
    fn has(&self, feature: ProtocolFeatures) -> bool {
        self.protocol.contains(feature)
    }

    /// SET_CONFIG, as a driver's write: false where the back-end does not take it.
    pub(super) fn send_config(&mut self, offset: u32, bytes: &[u8]) -> Result<bool> {
        if !self.has(ProtocolFeatures::CONFIG) {
            return Ok(false);
        }
        if (offset as usize).saturating_add(bytes.len()) > MAX_CONFIG {
            let sentence = format!("the configuration space has {MAX_CONFIG} bytes at most");
            return Err(Error::invalid(sentence));
        }
        let header = ConfigHeader { offset, size: bytes.len() as u32, flags: 0 };
        let payload = [header.as_bytes(), bytes].concat();
        let words = format_args!("{} bytes at {offset}", bytes.len());
        unless_refused(self.wire.tell(&Message::new(Request::SET_CONFIG).payload(&payload, words)))
    }

    /// The document keeps it for those who agreed on the feature of that name.
    pub(super) fn send_mtu(&mut self, mtu: u16) -> Result<bool> {
        if !self.has(ProtocolFeatures::NET_MTU) || !self.told.contains(Features::MTU) {
            return Ok(false);
        }
        tell_u64(&mut self.wire, Request::NET_SET_MTU, mtu.into()).map(|()| true)
    }

    pub(super) fn send_rarp(&mut self, mac: [u8; 6]) -> Result<bool> {
        if !self.has(ProtocolFeatures::RARP) {
            return Ok(false);
        }
        let mut payload = [0; 8];
        payload.iter_mut().zip(mac).for_each(|(to, from)| *to = from);
        let words = mac.map(|byte| format!("{byte:02x}")).join(":");
        unless_refused(self.wire.tell(&Message::new(Request::SEND_RARP).payload(&payload, words)))
    }

    /// The back-end may say that it needs none, by a size of zero.
    pub(super) fn ask_inflight(&mut self, rings: u16, ring_size: u16) -> Result<Option<Inflight>> {
        if !self.has(ProtocolFeatures::INFLIGHT_SHMFD) {
            return Ok(None);
        }
        let question = InflightMessage { rings, ring_size, ..InflightMessage::default() };
        let words = format_args!("{rings} rings of {ring_size}");
        let message = Message::new(Request::GET_INFLIGHT_FD).payload(question.as_bytes(), words);
        let (answer, fd) = self.wire.ask_file::<InflightMessage>(&message)?;
        let InflightMessage { size, offset, .. } = answer;
        match (size, fd) {
            (0, None) => Ok(None),
            (1..=MOST_NOTES, Some(fd)) if size.checked_add(offset).is_some() => {
                Ok(Some(Inflight { fd, size, offset, rings, ring_size }))
            }
            (_, fd) => {
                let files = if fd.is_some() { "a file" } else { "no file" };
                Err(self.wire.nonsense(&message, format_args!("{size} bytes at {offset:#x} of {files}")))
            }
        }
    }

    pub(super) fn send_inflight(&mut self, inflight: &Inflight) -> Result<bool> {
        if !self.has(ProtocolFeatures::INFLIGHT_SHMFD) {
            return Ok(false);
        }
        let Inflight { fd, size, offset, rings, ring_size } = inflight;
        let (size, offset, rings, ring_size) = (*size, *offset, *rings, *ring_size);
        let payload = InflightMessage { size, offset, rings, ring_size, padding: 0 };
        let words = format_args!("{size} bytes for {rings} rings of {ring_size}");
        let message = Message::new(Request::SET_INFLIGHT_FD).payload(payload.as_bytes(), words);
        self.wire.tell(&message.fds(&[fd.as_raw_fd()])).map(|()| true)
    }

    /// Features as they are to be now, with those that are between us and the back-end.
    pub(super) fn tell_features(&mut self) -> Result<()> {
        let mut features = self.told | (self.offered & Features::PROTOCOL_FEATURES);
        features.set(Features::LOG_ALL, self.logs);
        // What was offered came in 64 bits.
        tell_u64(&mut self.wire, Request::SET_FEATURES, features.bits() as u64)
    }

    /// Addresses of a ring. With a log, where its writes to the ring are noted: for a split ring that is the used ring, for
    /// a packed one the descriptors, since back-ends count from the beginning of what they write.
    pub(super) fn tell_addresses(&mut self, index: u16, mut addr: VringAddr) -> Result<()> {
        if self.logs {
            let packed = self.told.contains(Features::RING_PACKED);
            let at = if packed { addr.desc } else { addr.used };
            (addr.flags, addr.log) = (VRING_F_LOG, at.wrapping_sub(self.shift));
        }
        let VringAddr { desc, avail, used, .. } = addr;
        let logs = if self.logs { ", logged" } else { "" };
        let words = format!("descriptors {desc:#x}, driver {avail:#x}, device {used:#x}{logs}");
        self.wire.tell(&Message::new(Request::SET_VRING_ADDR).ring(index).payload(addr.as_bytes(), words))
    }

    /// Tells where the log is, then that it is to be kept: the features, and each ring anew. DPDK's vhost takes this one
    /// change of features under rings that run.
    pub(super) fn begin_log(&mut self, log: &DirtyLog) -> Result<()> {
        if !self.has(ProtocolFeatures::LOG_SHMFD) || !self.offered.contains(Features::LOG_ALL) {
            let name = self.wire.name();
            let sentence = format!("the back-end at {name} keeps no log of what it writes (LOG_ALL, LOG_SHMFD)");
            return Err(Error::new(Errno::ENOTSUP, sentence));
        }
        let place = LogMessage { size: log.size(), offset: 0 };
        let words = format_args!("{} bytes", place.size);
        let message = Message::new(Request::SET_LOG_BASE).payload(place.as_bytes(), words);
        let fd = [log.as_fd().as_raw_fd()];
        // It has an answer of its own, with a number or, as DPDK's vhost has it, with nothing.
        let mut answer = 0u64;
        self.wire.ask_bytes(&message.fds(&fd), answer.as_mut_bytes())?;
        if answer != 0 {
            return Err(Error::new(Errno::EREMOTEIO, "the back-end refused SET_LOG_BASE"));
        }
        let bell = [log.bell().as_raw_fd()];
        unless_refused(self.wire.tell(&Message::new(Request::SET_LOG_FD).fds(&bell)))?;
        self.switch_log(true)
    }

    pub(super) fn end_log(&mut self) -> Result<()> {
        if self.logs { self.switch_log(false) } else { Ok(()) }
    }

    /// A back-end that refuses a part of it goes on as before, as far as it lets us.
    fn switch_log(&mut self, on: bool) -> Result<()> {
        self.logs = on;
        self.tell_log().inspect_err(|_| {
            self.logs = !on;
            let _ = self.tell_log();
        })
    }

    /// Tells all rings there are, and the features: a ring is logged only while the features say so. Where there are no
    /// rings all that is for the start.
    fn tell_log(&mut self) -> Result<()> {
        let rings = self.rings.clone();
        if self.logs && !rings.is_empty() {
            self.tell_features()?;
        }
        for (&index, &addr) in &rings {
            self.tell_addresses(index, addr)?;
        }
        if !self.logs && !rings.is_empty() { self.tell_features() } else { Ok(()) }
    }
}
