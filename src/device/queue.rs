//! One vring as vhost-user configures it, piece by piece, until it can start.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::errno::Errno;

use super::Options;
use super::inflight::Notes;
use super::memory::Table;
use super::ring::{Areas, Ring, Setup, area_bytes, first_base};
use crate::error::{Error, Result};
use crate::mem::shared::Shared;
use crate::spec::ring::MAX_QUEUE_SIZE;
use crate::spec::vhost_user::{VRING_F_LOG, VringAddr};
use crate::spec::virtio::Features;
use crate::sys::eventfd::Bell;
use crate::sys::poll::is_writable;
use crate::sys::shm::SharedMemory;

/// How the front-end says that there is something to do.
#[derive(Debug)]
enum Kick {
    Bell(Bell),
    /// Not at all: we must look (SET_VRING_KICK without a descriptor).
    Never,
}

/// What no front-end writes to a doorbell: there is no such ring.
const NOT_RUNG: u16 = u16::MAX;

/// A ring that runs, and the memory it lies in.
#[derive(Debug)]
struct Live {
    ring: Ring,
    /// Keeps the ring's memory mapped.
    _table: Arc<Table>,
}

/// A vring.
#[derive(Debug, Default)]
pub(super) struct Queue {
    size: Option<u16>,
    base: Option<u32>,
    addr: Option<VringAddr>,
    kick: Option<Kick>,
    call: Option<Bell>,
    err: Option<Bell>,
    /// A page that is written to for a kick.
    doorbell: Option<SharedMemory>,
    enabled: bool,
    reported: bool,
    live: Option<Live>,
}

impl Queue {
    /// SET_VRING_NUM.
    pub(super) fn set_size(&mut self, size: u32) -> Result<()> {
        self.idle("its size")?;
        let fits = u16::try_from(size).ok().filter(|n| (1..=MAX_QUEUE_SIZE).contains(n));
        self.size = Some(fits.ok_or_else(|| Error::invalid(format!("a ring cannot have {size} descriptors")))?);
        Ok(())
    }

    /// SET_VRING_BASE.
    pub(super) fn set_base(&mut self, base: u32) -> Result<()> {
        self.idle("its position")?;
        self.base = Some(base);
        Ok(())
    }

    fn idle(&self, what: &str) -> Result<()> {
        let running = || Error::new(Errno::EBUSY, format!("a ring that runs cannot change {what}"));
        if self.live.is_some() { Err(running()) } else { Ok(()) }
    }

    /// SET_VRING_ADDR. A ring that runs goes on at the new place.
    pub(super) fn set_addr(&mut self, addr: VringAddr) {
        self.pause();
        self.addr = Some(addr);
    }

    /// SET_VRING_KICK: this, when all else is there, starts the ring. A kick need not be waited for: what a ring
    /// holds may be looked at any time.
    pub(super) fn set_kick(&mut self, fd: Option<OwnedFd>) {
        self.kick = Some(fd.map_or(Kick::Never, |fd| Kick::Bell(Bell::from_fd(fd))));
    }

    /// SET_VRING_CALL.
    pub(super) fn set_call(&mut self, fd: Option<OwnedFd>) {
        self.call = fd.map(Bell::from_fd);
    }

    /// SET_VRING_ERR.
    pub(super) fn set_err(&mut self, fd: Option<OwnedFd>) {
        self.err = fd.map(Bell::from_fd);
    }

    /// SET_VRING_ENABLE, or what stands for it.
    pub(super) fn enable(&mut self, on: bool) {
        self.enabled = on;
    }

    /// Whether frames may have effects.
    pub(super) fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Whether it runs.
    pub(super) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// The ring, if it runs.
    pub(super) fn ring(&mut self) -> Option<&mut Ring> {
        self.live.as_mut().map(|l| &mut l.ring)
    }

    /// Starts the ring if all that it needs has been told. If it cannot be, its addresses must be told again.
    /// `notes` gives those on what is in flight, for a ring of so many descriptors.
    pub(super) fn start(
        &mut self,
        table: &Arc<Table>,
        features: Features,
        options: &Options,
        notes: impl FnOnce(u16) -> Result<Option<Notes>>,
    ) -> Result<()> {
        self.try_start(table, features, options, notes).inspect_err(|_| self.addr = None)
    }

    fn try_start(
        &mut self,
        table: &Arc<Table>,
        features: Features,
        options: &Options,
        notes: impl FnOnce(u16) -> Result<Option<Notes>>,
    ) -> Result<()> {
        let (None, Some(size), Some(addr), Some(_)) = (&self.live, self.size, self.addr, &self.kick) else {
            return Ok(());
        };
        let base = self.base.unwrap_or_else(|| first_base(features));
        let (desc, driver, device) = area_bytes(size, features);
        let local = |user: u64, len: u64| {
            let missing = || Error::protocol(format!("{len} bytes of a ring at {user:#x} are not in shared memory"));
            table.local_of_user(user, len).ok_or_else(missing)
        };
        let areas = Areas {
            desc: local(addr.desc, desc)?,
            driver: local(addr.avail, driver)?,
            device: local(addr.used, device)?,
        };
        let Options { shuffle, batch_used, strict, .. } = *options;
        let setup = Setup { areas, size, features, base, shuffle, batch_used, strict };
        // SAFETY: the table has found the whole areas in its mappings, and it is kept beside the ring.
        let mut ring = unsafe { Ring::new(&setup)? };
        if let Some(notes) = notes(size)? {
            ring.keep_notes(notes)?;
        }
        let _ = ring.kicks(false);
        self.live = Some(Live { ring, _table: table.clone() });
        self.reported = false;
        // A device before us may have used buffers and died before it called: one call too many does no harm (2.7.7).
        if base != first_base(features) {
            self.call();
        }
        Ok(())
    }

    /// Stops the ring for a moment, to go on at the same position.
    pub(super) fn pause(&mut self) {
        if let Some(live) = self.live.take() {
            self.base = Some(live.ring.position());
        }
    }

    /// GET_VRING_BASE: stops the ring until it gets a new kick; says where it stands.
    pub(super) fn stop(&mut self, features: Features) -> u32 {
        self.pause();
        self.kick = None;
        self.base.unwrap_or_else(|| first_base(features))
    }

    /// Forgets all but the bells that we ring.
    pub(super) fn reset(&mut self) {
        *self = Self { call: self.call.take(), err: self.err.take(), ..Self::default() };
    }

    /// Calls the driver if it wants that; whether it did.
    pub(super) fn call_if_wanted(&mut self) -> bool {
        let wanted = self.ring().is_some_and(Ring::should_call);
        if wanted {
            self.call();
        }
        wanted && self.call.is_some()
    }

    fn call(&self) {
        ring_without_waiting(self.call.as_ref());
    }

    /// Where writes to the ring are to be noted: the address of what is written, and how long that is.
    pub(super) fn logged(&self, features: Features) -> Option<(u64, u64)> {
        let (addr, size) = (self.addr.filter(|a| a.flags & VRING_F_LOG != 0)?, self.size?);
        let (desc, _, device) = area_bytes(size, features);
        self.live.as_ref().map(|_| (addr.log, if features.contains(Features::RING_PACKED) { desc } else { device }))
    }

    /// Whether the driver has broken the ring; told to the front-end once.
    pub(super) fn report_broken(&mut self) -> bool {
        let broken = self.ring().is_some_and(|r| r.is_broken());
        if broken && !self.reported {
            self.reported = true;
            self.report_error();
        }
        broken
    }

    /// Says to the front-end that the ring is broken.
    pub(super) fn report_error(&self) {
        ring_without_waiting(self.err.as_ref());
    }

    /// Gives the ring a doorbell: the page that the front-end is to map.
    pub(super) fn give_doorbell(&mut self) -> Result<&SharedMemory> {
        let page = SharedMemory::new("vuser-doorbell", 4096, false)?;
        place(&page).store(NOT_RUNG, Ordering::Relaxed);
        Ok(self.doorbell.insert(page))
    }

    /// Whether the doorbell was rung since this was last asked.
    pub(super) fn take_ring(&self) -> bool {
        let Some(page) = &self.doorbell else { return false };
        let rung = place(page).load(Ordering::Acquire) != NOT_RUNG;
        if rung {
            place(page).store(NOT_RUNG, Ordering::Relaxed);
        }
        rung
    }

    /// The descriptor that kicks arrive on, if it runs and has one.
    pub(super) fn kick_fd(&self) -> Option<BorrowedFd<'_>> {
        match (&self.live, &self.kick) {
            (Some(_), Some(Kick::Bell(bell))) => Some(bell.as_fd()),
            _ => None,
        }
    }

    /// Whether it runs without kicks.
    pub(super) fn is_polled(&self) -> bool {
        self.live.is_some() && (self.doorbell.is_some() || matches!(self.kick, Some(Kick::Never)))
    }

    /// Takes a kick.
    pub(super) fn take_kick(&self) -> bool {
        matches!(&self.kick, Some(Kick::Bell(bell)) if bell.take())
    }

    /// The kick's descriptor is of no use any more: look instead.
    pub(super) fn drop_kick(&mut self) {
        self.kick = Some(Kick::Never);
    }
}

fn place(page: &SharedMemory) -> Shared<u16> {
    // SAFETY: the first bytes of a page, used as long as the page is borrowed, and by doors only.
    unsafe { Shared::new(page.addr().cast()) }
}

/// Rings, unless that would block: the front-end can make its eventfd blocking and its counter full.
fn ring_without_waiting(bell: Option<&Bell>) {
    if let Some(bell) = bell.filter(|b| is_writable(b.as_fd())) {
        bell.ring();
    }
}
