//! A back-end comes, and goes.
//!
//! ```text
//!                              start
//!    attached, stopped    <------------->   attached, running     link up
//!                              stop
//!         |   ^                                |   ^
//!    goes |   | comes                     goes |   | comes: what was under way is carried over
//!         v   |                                v   |
//!                              start
//!    detached, stopped    <------------->   detached, started     link down: nothing is sent,
//!                              stop                               what had come is still received
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::errno::Errno;

use super::dial::{Candidate, Errand, Missed};
use super::engine::{FORSAKEN, WAITING};
use super::events::{Event, Kind};
use super::start::LET_GO;
use super::{Device, Engine, Offloads, Parked, Way, negotiate};
use crate::backend::Notice;
use crate::error::{Error, Result};
use crate::spec::net::{MIN_MTU, NetConfig};
use crate::spec::virtio::{Features, Status};
use crate::sys::socket::Stream;

/// Connections that are looked at in one round.
const AT_ONCE: usize = 16;

impl Device {
    /// Sees to all that has happened. Each exchange with a back-end takes the configured time at most.
    pub fn process(&mut self) {
        while let Some(errand) = self.look() {
            let outcome = errand.run(&self.live.hook);
            self.finish(outcome);
        }
    }

    /// Looks at what has happened, without waiting for anybody but a back-end that comes back; what is to be done next,
    /// if something is. Whoever does it [`finish`](Self::finish)es it.
    pub fn look(&mut self) -> Option<Errand> {
        self.link.looked();
        self.hear();
        self.let_go();
        self.tell_link();
        self.next_errand()
    }

    /// An errand has ended.
    pub fn finish(&mut self, outcome: std::result::Result<Candidate, Missed>) {
        let again = self.link.number > 0;
        let result = outcome.and_then(|candidate| self.attach(candidate).map_err(Missed::Failed));
        self.live.hook.release();
        self.link.errand = false;
        match result {
            Ok(()) if again => {
                self.live.reconnects.fetch_add(1, Ordering::Relaxed);
                self.live.events.tell(Kind::Reconnected, self.describe());
            }
            Ok(()) => {}
            Err(Missed::Absent(e)) => log::debug!("{e}"),
            Err(Missed::Failed(e)) => self.refuse(&e),
        }
        if self.backend.is_none() {
            self.try_later();
        }
        self.tell_link();
    }

    /// Whether the back-end has gone, and nobody has looked after that yet.
    pub fn is_forsaken(&self) -> bool {
        self.backend.as_ref().is_some_and(|backend| !backend.is_alive())
    }

    /// Sees to a back-end that has gone, in case nobody has yet.
    pub fn note_loss(&mut self) {
        if self.is_forsaken() {
            self.hear();
            self.tell_link();
        }
    }

    /// Takes a back-end, if it suits. A started device goes on with it.
    pub(super) fn attach(&mut self, candidate: Candidate) -> Result<()> {
        let features = self.suits(&candidate)?;
        let Candidate { backend, loopback, offered, max_pairs, space } = candidate;
        let first = self.link.number == 0;
        self.link.attach(&*backend)?;
        self.offers = backend.offers();
        self.backend = Some(backend);
        if loopback.is_some() {
            self.loopback = loopback;
        }
        (self.offered, self.features, self.max_pairs) = (offered, features, max_pairs);
        self.status = Status::ACKNOWLEDGE | Status::DRIVER;
        self.note_space(space, first);
        log::info!("{}: offers {offered:?}, agreed {features:?}", self.describe());
        if self.started {
            self.come_back().inspect_err(|e| self.detach(e))?;
        }
        Ok(())
    }

    /// The features to be used with a back-end, or why it can't be used.
    fn suits(&self, candidate: &Candidate) -> Result<Features> {
        let (asked, has) = (if self.started { self.pairs } else { self.config.queues }, candidate.max_pairs);
        if asked > has {
            let message = format!("queues={asked}: the back-end has {has} queue pair(s); give queues={has} or less");
            return Err(Error::new(Errno::ENOTSUP, message));
        }
        let mut wish = match candidate.backend.control_ring() {
            Some(_) => self.chosen,
            None => negotiate::by_messages(self.chosen),
        };
        if self.started {
            // What comes in frames, and what may go out in them, is what it was when the application started.
            wish = negotiate::without_offloads(wish) | self.promised;
        }
        let features = negotiate::agree(wish, candidate.offered);
        self.check_layout(features)?;
        let sent = Offloads::CSUM | Offloads::TSO | Offloads::USO;
        let missing = (negotiate::in_use(self.promised) & sent) - negotiate::in_use(features);
        if self.started && !missing.is_empty() {
            let names = missing.iter_names().map(|(name, _)| name.to_lowercase()).collect::<Vec<_>>().join(", ");
            let message = format!(
                "the back-end does not offer what packets under way may need: {names}; stop the device and start it to go \
                 on without"
            );
            return Err(Error::new(Errno::ENOTSUP, message));
        }
        Ok(features)
    }

    /// MAC and MTU, from the configuration space where the back-end has one. The address stays the first back-end's.
    pub(super) fn note_space(&mut self, space: Option<NetConfig>, first: bool) {
        let Some(space) = space else { return };
        let before = (self.mac, self.mtu());
        // The kernel's interface and we are one station: whoever gives it another address gives us one.
        let follows = self.config.way() == Way::VhostKernel || first && self.config.mac.is_none();
        if follows && self.offered.contains(Features::MAC) && space.mac != [0; 6] {
            self.mac = space.mac;
        }
        let says = self.offered.contains(Features::MTU) && space.mtu >= MIN_MTU;
        self.note_mtu(says.then_some(space.mtu));
        let is_new = !first || self.config.server;
        let now = (self.mac, self.mtu());
        if is_new && before != now {
            self.live.events.tell(Kind::Config, what_is_other(before, now));
        }
    }

    /// A started device goes on with the back-end that it has now.
    fn come_back(&mut self) -> Result<()> {
        self.bring_up()?;
        // The last thing that it was asked may have gone without an answer, which is no error of its own.
        for notice in self.backend()?.hear() {
            match notice {
                Notice::Gone(why) => return Err(why),
                other => self.heed(other),
            }
        }
        // What it said may have been reason to send it away.
        self.backend()?;
        log::info!("{}: the device goes on", self.describe());
        Ok(())
    }

    /// Takes out of the old rings what the last back-end had not done, to be carried over.
    pub(super) fn salvage(&mut self) -> Result<()> {
        let Some(rings) = self.rings.clone() else { return Ok(()) };
        let (lingers, sources) = (self.link.lingers(self.rings_of), self.sources());
        for queue in self.queues.iter_mut().flatten() {
            let engine = queue.port.pause()?.replace(Engine::Idle);
            if lingers {
                self.parked.push(Parked::new(engine, &queue.port, &rings, &sources, self.rings_of));
            } else if queue.carried.is_some() {
                // Nothing was put into these rings yet.
                engine.reclaim();
            } else {
                queue.carried = Some(engine.salvage());
            }
        }
        // Only when no engine works on it any more.
        self.rings = None;
        Ok(())
    }

    /// A device that was lost is stopped: what the rings have comes back, and what was carried over.
    pub(super) fn abandon(&mut self) -> Result<()> {
        let (lingers, sources) = (self.link.lingers(self.rings_of), self.sources());
        for queue in self.queues.iter_mut().flatten() {
            let engine = queue.port.pause()?.replace(Engine::Idle);
            match &self.rings {
                Some(rings) if lingers => {
                    self.parked.push(Parked::new(engine, &queue.port, rings, &sources, self.rings_of));
                }
                _ => engine.reclaim(),
            }
            let left = queue.carried.take().map_or(0, |carried| carried.frames());
            queue.port.board.counters.lost.add(left);
            queue.port.board.mend();
        }
        (self.rings, self.inflight) = (None, None);
        self.note_memory();
        Ok(())
    }

    /// The back-end is no longer used: it has gone, or it does not do what it should.
    pub(super) fn detach(&mut self, why: &Error) {
        let Some(backend) = self.backend.take() else { return };
        log::warn!("{}: {why}", backend.describe());
        self.link.reason = why.to_string();
        (self.running, self.status, self.control) = (false, Status::empty(), None);
        let state = self.without_device();
        for (index, queue) in (0..).zip(self.queues.iter_mut()) {
            let Some(queue) = queue else { continue };
            queue.on = false;
            if let Err(e) = queue.port.set_doorbell(index as u16, None) {
                log::warn!("ring {index} is woken by a doorbell of a device that has gone: {e}");
            }
            if self.started
                && let Err(e) = queue.wait(state)
            {
                log::warn!("ring {index}: {e}");
            }
        }
        backend.hang_up();
        let gone = backend.wait_gone(LET_GO);
        self.link.detach(backend, gone);
        self.note_link();
    }

    fn hear(&mut self) {
        let notices = self.backend.as_mut().map(|backend| backend.hear()).unwrap_or_default();
        notices.into_iter().for_each(|notice| self.heed(notice));
    }

    fn heed(&mut self, notice: Notice) {
        match notice {
            Notice::Gone(why) => {
                self.detach(&why);
                self.try_later();
            }
            Notice::ConfigChanged => self.config_changed(),
            Notice::RingError(index) => {
                let text = format!("the back-end cannot go on with ring {index}");
                self.live.events.push(Event { kind: Kind::QueueError, number: index.into(), text });
                self.look_at_status();
            }
            Notice::NeedsReset => self.needs_reset(),
            Notice::Doorbell(index) => self.use_doorbell(index),
            Notice::OutOfSight(text) => {
                self.link.out_of_sight();
                self.live.events.tell(Kind::Config, text);
                self.config_changed();
            }
        }
    }

    /// The configuration space is another.
    fn config_changed(&mut self) {
        let offered = self.offered;
        let space = self.backend.as_mut().map(|backend| super::dial::read_space(&mut **backend, offered));
        match space {
            Some(Ok(space)) => {
                self.note_space(space, false);
                self.look_at_link();
                self.look_at_status();
            }
            Some(Err(e)) => log::warn!("the configuration space has changed and cannot be read: {e}"),
            None => {}
        }
    }

    /// A device that has something to say may be one that cannot go on.
    fn look_at_status(&mut self) {
        if self.running && self.status().contains(Status::NEEDS_RESET) {
            self.needs_reset();
        }
    }

    /// VIRTIO 2.1: the device cannot go on before it is reset, and must be asked for everything again.
    fn needs_reset(&mut self) {
        self.live.events.tell(Kind::NeedsReset, "the device asks to be reset");
        if !self.running || !self.config.reconnect {
            return;
        }
        let result = match self.link.is_fresh() {
            true => Err(Error::new(Errno::EIO, "the device asks to be reset again and again")),
            false => self.begin_again(),
        };
        match result {
            Ok(()) => {
                self.live.reconnects.fetch_add(1, Ordering::Relaxed);
                self.live.events.tell(Kind::Reconnected, format!("{}: it was reset", self.describe()));
            }
            Err(e) => {
                self.detach(&e);
                self.try_later();
            }
        }
    }

    /// Resets the device and goes on, as with another one.
    fn begin_again(&mut self) -> Result<()> {
        self.running = false;
        self.link.begins();
        for index in 0..self.rings_used() as u16 {
            self.backend()?.stop_ring(index)?;
        }
        self.queues.iter_mut().flatten().for_each(|queue| queue.on = false);
        self.back_to_driver()?;
        // What it noted was before the reset.
        self.inflight = None;
        self.come_back()
    }

    /// Buffers come back from back-ends that have let go at last.
    fn let_go(&mut self) {
        self.link.let_go();
        let current = self.backend.as_ref().map(|_| self.link.number);
        for at in (0..self.parked.len()).rev() {
            let number = self.parked.get(at).map_or(0, |p| p.number);
            if current != Some(number) && !self.link.lingers(number) {
                let left = self.parked.swap_remove(at).come_home();
                self.parked.extend(left);
            }
        }
    }

    fn next_errand(&mut self) -> Option<Errand> {
        if self.link.errand {
            return None;
        }
        let due = self.link.is_due();
        if self.link.listener().is_some() {
            // The others come in another round: whoever keeps coming must not keep the device.
            for _ in 0..AT_ONCE {
                let Some(stream) = self.link.accept() else { break };
                if self.backend.is_none() && (self.link.number == 0 || self.config.reconnect) {
                    self.link.errand = true;
                    return Some(Errand::Greet(stream, Arc::new(self.config.clone())));
                }
                self.turn_away(stream);
            }
            return None;
        }
        if self.backend.is_some() || !due || !self.config.reconnect {
            return None;
        }
        self.link.errand = true;
        let mut config = self.config.clone();
        if config.way() == Way::VhostKernel {
            // An interface that has to be made again is what the former was.
            (config.mac, config.mtu) = (Some(self.mac), self.mtu());
        }
        Some(Errand::Dial(Arc::new(config)))
    }

    /// There can be one back-end only.
    fn turn_away(&self, stream: Stream) {
        drop(stream);
        let why = match self.backend {
            Some(_) => "there is one already",
            None => "the first one has gone, and reconnect=0",
        };
        self.live.refused.fetch_add(1, Ordering::Relaxed);
        self.live.events.tell(Kind::Refused, format!("another back-end has come and was sent away: {why}"));
    }

    fn refuse(&mut self, why: &Error) {
        self.link.reason = why.to_string();
        self.live.refused.fetch_add(1, Ordering::Relaxed);
        self.live.events.tell(Kind::Refused, why.to_string());
    }

    /// What a queue says that is to run and has no device.
    pub(super) fn without_device(&self) -> u8 {
        let may_come = self.config.reconnect || self.link.number == 0;
        if may_come { WAITING } else { FORSAKEN }
    }

    fn try_later(&mut self) {
        if self.config.reconnect && self.link.listener().is_none() {
            self.link.try_later();
        }
    }

    /// Whether there is something to be seen to that nobody has been woken for.
    pub fn has_news(&self) -> bool {
        self.is_forsaken() || self.link_told != self.live.link()
    }

    /// Tells of a link that has changed without being asked to.
    fn tell_link(&mut self) {
        let (before, now) = (std::mem::replace(&mut self.link_told, self.live.link()), self.live.link());
        let why = match &self.backend {
            Some(_) => "the device says that its link is down",
            None => &self.link.reason,
        };
        match (before, now) {
            (false, true) => self.live.events.tell(Kind::LinkUp, ""),
            (true, false) => self.live.events.tell(Kind::LinkDown, why),
            _ => {}
        }
    }

    /// With server=1: waits for the first back-end, if that was asked for.
    pub(super) fn wait_for_first(&mut self) -> Result<()> {
        let wait = Duration::from_millis(self.config.server_wait_ms.into());
        let end = std::time::Instant::now() + wait;
        while self.backend.is_none() && !wait.is_zero() {
            let left = end.saturating_duration_since(std::time::Instant::now());
            let Some(listener) = self.link.listener() else { break };
            let came = if left.is_zero() { None } else { listener.accept(left)? };
            let Some(stream) = came else {
                let (path, ms) = (self.config.path.display(), self.config.server_wait_ms);
                let sentence = format!("no back-end came to {path} within {ms} ms: {}", self.link.reason);
                return Err(Error::new(Errno::ETIMEDOUT, sentence));
            };
            let config = Arc::new(self.config.clone());
            let outcome = Errand::Greet(stream, config).run(&self.live.hook);
            self.finish(outcome);
        }
        Ok(())
    }
}

/// MAC address and MTU are others than before, in a sentence. What is under way stays as it is.
fn what_is_other(before: ([u8; 6], u16), now: ([u8; 6], u16)) -> String {
    let mut other = Vec::new();
    if before.0 != now.0 {
        other.push(format!("the MAC address is {}", now.0.map(|byte| format!("{byte:02x}")).join(":")));
    }
    if before.1 != now.1 {
        let (was, is) = (before.1, now.1);
        let less = if is < was { ": the device may drop what is larger, also what is under way" } else { "" };
        other.push(format!("the MTU is {is}, after {was}{less}"));
    }
    other.join("; ")
}
