//! What not every device can be told: the MTU that we use, that our address is here now, that a log is to be kept.

use std::sync::Arc;

use nix::errno::Errno;

use super::events::Kind;
use super::{Device, Way};
use crate::error::{Error, Result};
use crate::mem::dirty::DirtyLog;
use crate::spec::net::MIN_MTU;
use crate::spec::virtio::Features;

/// Device addresses are addresses of ours, which are below this. A log for all of them takes room only where it is written.
const ADDRESSES: u64 = 1 << 47;

/// What a device is told beyond the common, again at each start and to each back-end.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// The largest MTU of the device's, if it said so.
    pub(super) most: Option<u16>,
    /// What was chosen since the configuration was made.
    chosen: Option<u16>,
    log: Option<Arc<DirtyLog>>,
    /// The device asks for an announcement, and the application knows.
    asks: bool,
}

impl Device {
    /// The MTU that we use: what was chosen, else what the device has, else that of Ethernet.
    pub(super) fn mtu(&self) -> u16 {
        let chosen = self.extras.chosen.or((self.config.mtu > 0).then_some(self.config.mtu));
        match (chosen, self.extras.most) {
            (Some(chosen), Some(most)) => chosen.min(most),
            (Some(mtu), None) | (None, Some(mtu)) => mtu,
            (None, None) => 1500,
        }
    }

    /// What the device says of its MTU. That of the kernel's interface is no limit, but what it is.
    pub(super) fn note_mtu(&mut self, mtu: Option<u16>) {
        self.extras.most = mtu;
        if self.follows_mtu() && mtu.is_some() {
            self.extras.chosen = mtu;
        }
    }

    /// Whether the MTU is the interface's, so that a start leaves it alone: whoever owns a tap may not set it.
    pub(super) fn follows_mtu(&self) -> bool {
        self.config.way() == Way::VhostKernel
    }

    /// Chooses the MTU, and tells a back-end that wants to know. Frames are not measured: it is a word between the two
    /// ends of the link.
    pub fn set_mtu(&mut self, mtu: u16) -> Result<()> {
        let most = self.extras.most.filter(|_| !self.follows_mtu()).unwrap_or(u16::MAX);
        if !(MIN_MTU..=most).contains(&mtu) {
            return Err(Error::invalid(format!("an MTU of {mtu}: the device has {MIN_MTU} to {most}")));
        }
        let before = self.extras.chosen.replace(mtu);
        if self.backend.is_some() {
            self.tell_mtu().inspect_err(|_| self.extras.chosen = before)?;
        }
        if self.follows_mtu() {
            self.extras.most = Some(mtu);
        }
        Ok(())
    }

    /// Tells the MTU that was chosen, if one was. NET_SET_MTU is for those who agreed on the feature.
    pub(super) fn tell_mtu(&mut self) -> Result<()> {
        if self.config.mtu == 0 && self.extras.chosen.is_none() {
            return Ok(());
        }
        let chosen = self.extras.chosen.filter(|_| self.follows_mtu());
        let mtu = chosen.unwrap_or_else(|| self.mtu());
        if !self.backend()?.set_mtu(mtu)? {
            log::debug!("the back-end has no ear for an MTU of {mtu}");
        }
        Ok(())
    }

    /// Has the back-end tell the network that our address is here.
    pub fn announce(&mut self) -> Result<()> {
        let mac = self.mac;
        if self.backend()?.announce(mac)? {
            return Ok(());
        }
        let sentence =
            "the back-end does not announce addresses (RARP); send a gratuitous ARP or a neighbour advertisement";
        Err(Error::new(Errno::ENOTSUP, sentence))
    }

    /// Whether the device asks for an announcement. It is told once, until the device has taken it back.
    pub(super) fn note_announce(&mut self, asks: bool) {
        if asks && !self.extras.asks {
            self.live.events.tell(Kind::Announce, "");
        }
        self.extras.asks = asks;
    }

    /// A ring has another doorbell, or none.
    pub(super) fn use_doorbell(&mut self, index: u16) {
        let Some(Some(queue)) = self.queues.get(usize::from(index)) else { return };
        let doorbell = self.backend.as_mut().and_then(|backend| backend.doorbell(index));
        if let Err(e) = queue.port.set_doorbell(index, doorbell) {
            log::warn!("ring {index}: another doorbell cannot be used: {e}");
        }
        // Whoever listens there may have missed the last one.
        queue.port.kick.ring();
    }

    /// From now on the device notes which memory it writes, also after it was stopped or has come back.
    pub fn start_log(&mut self) -> Result<()> {
        if self.extras.log.is_some() {
            return Err(Error::new(Errno::EALREADY, "the device keeps a log already"));
        }
        let log = Arc::new(DirtyLog::new(ADDRESSES)?);
        self.backend()?.set_log(Some(&log))?;
        self.extras.log = Some(log);
        Ok(())
    }

    /// Which of the pages that these bytes touch the device has written since this was last asked, in a bit each; how many.
    pub fn read_log(&self, addr: u64, len: u64, bits: &mut [u8]) -> Result<u64> {
        let log = self.extras.log.as_ref();
        let log =
            log.ok_or_else(|| Error::new(Errno::ENODATA, "the device keeps no log; call vuser_dirty_log_start"))?;
        // The log has a bit for each page of device addresses; the shift is whole pages.
        let at = addr.checked_sub(self.shift).ok_or_else(|| {
            Error::invalid(format!("with compact=1 the device reaches no memory below {:#x}", self.shift))
        })?;
        log.take(at, len, bits)
    }

    /// Device addresses will be larger by so much than they were: so are those of the pages that nobody has asked for yet.
    pub(super) fn move_log(&self, by: u64) -> Result<()> {
        let (Some(log), Some(told)) = (&self.extras.log, &self.told) else { return Ok(()) };
        let at = |addr: u64| addr.saturating_sub(self.shift);
        let mut ranges: Vec<_> = told.regions().iter().map(|r| (at(r.addr()), r.size())).collect();
        // From the highest down, so that none gets where another has not been read.
        ranges.sort_unstable_by(|a, b| b.cmp(a));
        ranges.into_iter().try_for_each(|(addr, len)| log.move_up(addr, len, by))
    }

    /// Whether the device keeps a log.
    pub(super) fn keeps_log(&self) -> bool {
        self.extras.log.is_some()
    }

    /// The device notes nothing any more.
    pub fn stop_log(&mut self) -> Result<()> {
        if self.extras.log.take().is_none() {
            return Ok(());
        }
        match &mut self.backend {
            Some(backend) => backend.set_log(None),
            None => Ok(()),
        }
    }

    /// Tells a back-end, whose rings are not told yet, of the log that is kept. One that keeps none writes what nobody notes.
    pub(super) fn tell_log(&mut self) -> Result<()> {
        let Some(log) = self.extras.log.clone() else { return Ok(()) };
        self.backend()?.set_log(Some(&log))
    }

    /// The speed of the link: what was configured, else what the device says.
    pub(super) fn speed(&mut self) -> u32 {
        const AT: u32 = std::mem::offset_of!(crate::spec::net::NetConfig, speed) as u32;
        let mut bytes = [0; 4];
        let unknown = self.config.speed == super::config::SPEED_UNKNOWN;
        let says = unknown && self.offered.contains(Features::SPEED_DUPLEX);
        match self.backend().and_then(|backend| if says { backend.read_config(AT, &mut bytes) } else { Ok(false) }) {
            // VIRTIO 5.1.4: any number up to 0x7fffffff, or unknown.
            Ok(true) if u32::from_le_bytes(bytes) <= 0x7fff_ffff => u32::from_le_bytes(bytes),
            _ => self.config.speed,
        }
    }
}
