//! The queues of a device: how they are set up, and which of them run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::engine::{Engine, HALTED, Salvage};
use super::port::{Port, RxHandle, TxHandle};
use super::{Config, Device};
use crate::buf::pool::{Cache, Pool};
use crate::buf::source::{Calls, Source};
use crate::error::{Error, Result};
use crate::spec::virtio::Features;

/// How long a transmit queue that is stopped waits for the device to send what it has.
const DRAIN: Duration = Duration::from_millis(100);
/// How often it looks meanwhile.
const LOOK: Duration = Duration::from_micros(100);

/// Where a queue is to take its buffers from.
#[derive(Clone, Debug)]
pub enum SourceSetup {
    /// A pool of ours. Its memory is given to the device.
    Pool(Arc<Pool>),
    /// The application's allocator. Its memory must have been registered.
    Calls(Calls),
}

impl SourceSetup {
    pub(super) fn open(&self) -> Source {
        match self {
            Self::Pool(pool) => Source::Pool(Cache::new(pool.clone())),
            Self::Calls(calls) => Source::Calls(*calls, arrayvec::ArrayVec::new()),
        }
    }
}

/// Receive or transmit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Side {
    Rx,
    Tx,
}

impl Side {
    pub(super) fn of(index: usize) -> Self {
        if index.is_multiple_of(2) { Self::Rx } else { Self::Tx }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rx => "rx",
            Self::Tx => "tx",
        }
    }

    /// Ring index of this side of a pair.
    fn index(self, pair: u16) -> usize {
        2 * usize::from(pair) + usize::from(self == Self::Tx)
    }
}

/// One ring of a device, and the queue over it.
pub(super) struct Queue {
    pub(super) port: Arc<Port>,
    pub(super) size: u16,
    /// None: nobody has set it up. Its pair is used all the same, so that the device must hear of the ring.
    pub(super) source: Option<SourceSetup>,
    /// It is not to run from the start on.
    deferred: bool,
    /// It runs, or is to run as soon as rings are enabled.
    pub(super) run: bool,
    /// The device was told that the ring is enabled.
    pub(super) on: bool,
    /// What the last back-end had not done, until there are rings again.
    pub(super) carried: Option<Salvage>,
}

impl Queue {
    fn new(port: Arc<Port>, size: u16, source: Option<SourceSetup>) -> Self {
        Self { port, size, source, deferred: false, run: false, on: false, carried: None }
    }

    /// Puts what was carried over into a ring that is enabled, and lets the queue run if it is to.
    pub(super) fn fill(&mut self, resend: bool) -> Result<()> {
        let mut paused = self.port.pause()?;
        let mut engine = paused.replace(Engine::Idle);
        if let Some(carried) = self.carried.take() {
            engine.restore(carried, resend);
        }
        paused.replace(if self.run { engine.working() } else { engine });
        drop(paused);
        self.offer_all()
    }

    /// Lets bursts find the ring again.
    fn work(&self) -> Result<()> {
        let mut paused = self.port.pause()?;
        let engine = paused.replace(Engine::Idle);
        paused.replace(engine.working());
        Ok(())
    }

    /// There is no device. What nobody takes shall not be offered; what had come is still to be had. A queue that is to run
    /// and has nothing says `state` meanwhile.
    pub(super) fn wait(&self, state: u8) -> Result<()> {
        let mut paused = self.port.pause()?;
        let engine = match paused.replace(Engine::Idle) {
            engine @ Engine::Rx(_) if self.run => engine,
            other => other.halted(),
        };
        let has_frames = matches!(engine, Engine::Rx(_));
        paused.replace(engine);
        if !has_frames {
            paused.says(if self.run { state } else { HALTED });
        }
        Ok(())
    }

    /// Goes on with a ring as it was, which another device has taken over.
    pub(super) fn go_on(&self) -> Result<()> {
        let mut paused = self.port.pause()?;
        let mut engine = paused.replace(Engine::Idle);
        engine.resume();
        paused.replace(if self.run { engine.working() } else { engine.halted() });
        self.port.kick.ring();
        Ok(())
    }

    /// Offers all receive buffers and wakes the device once, in case it looks at rings only when kicked.
    pub(super) fn offer_all(&self) -> Result<()> {
        if let Engine::Rx(rx) = self.port.pause()?.engine() {
            // Each call offers a few bulks; the ring has 32768 slots at most.
            (0..=self.size / 32).for_each(|_| rx.refill());
            self.port.kick.ring();
        }
        Ok(())
    }
}

impl Device {
    /// Sets a receive queue up. Size 0 means the configuration's.
    pub fn setup_rx(&mut self, pair: u16, size: u16, source: SourceSetup) -> Result<()> {
        self.setup(Side::Rx, pair, size, source)
    }

    /// Sets a transmit queue up. Size 0 means the configuration's.
    pub fn setup_tx(&mut self, pair: u16, size: u16, source: SourceSetup) -> Result<()> {
        self.setup(Side::Tx, pair, size, source)
    }

    fn setup(&mut self, side: Side, pair: u16, size: u16, source: SourceSetup) -> Result<()> {
        self.must_be_stopped("queues can be set up")?;
        let pairs = self.config.queues;
        let packed = self.features.contains(Features::RING_PACKED);
        let size = if size == 0 { self.config.queue_size } else { size };
        Config { queue_size: size, packed_vq: packed, ..self.config.clone() }.validate()?;
        let room = source.open().room();
        if u32::from(room.0) < u32::from(room.1) + 64 {
            let message = format!("buffers of {} bytes hold no frame behind a headroom of {}", room.0, room.1);
            return Err(Error::invalid(message));
        }
        let place = self.queues.get_mut(side.index(pair)).ok_or_else(|| {
            Error::invalid(format!("there is no queue pair {pair}: the device was made with queues={pairs}"))
        })?;
        let port = match place.take() {
            Some(queue) => queue.port,
            None => Port::new()?,
        };
        port.set_size(size);
        *place = Some(Queue::new(port, size, Some(source)));
        self.note_memory();
        Ok(())
    }

    /// Chooses how many of the pairs that the device was made with are used: from the next start on, or, of a device that is
    /// started, at once, as far as they were used when it was started.
    pub fn set_queue_pairs(&mut self, pairs: u16) -> Result<()> {
        if pairs == 0 || pairs > self.config.queues {
            let most = self.config.queues;
            return Err(Error::invalid(format!(
                "{pairs} queue pairs: the device was made with {most}, use 1 to {most}"
            )));
        }
        if self.started {
            return self.change_pairs(pairs);
        }
        (self.pairs, self.active) = (pairs, pairs);
        self.note_memory();
        Ok(())
    }

    /// Starts or stops the queues of the pairs that make the difference. What the device sends to is taken off first, and
    /// told of last.
    fn change_pairs(&mut self, pairs: u16) -> Result<()> {
        let (before, most) = (self.active, self.pairs);
        if pairs > most {
            let message = format!("{pairs} queue pairs: the device was started with {most}; for more, stop it first");
            return Err(Error::new(Errno::EBUSY, message));
        }
        if pairs < before && !self.can_disable_rings() {
            // Before the device hears of it.
            return Err(no_disabling());
        }
        let more = pairs > before;
        if !more {
            self.tell_change_of_pairs(pairs)?;
        }
        let (range, sides) =
            if more { (before..pairs, [Side::Rx, Side::Tx]) } else { (pairs..before, [Side::Tx, Side::Rx]) };
        for (pair, side) in range.flat_map(|pair| sides.map(|side| (pair, side))) {
            if self.port(side.index(pair) as u32).is_some() {
                self.run_queue(side, pair, more)?;
            }
        }
        self.active = pairs;
        if more { self.tell_change_of_pairs(pairs) } else { Ok(()) }
    }

    /// Rings of the pairs that are used.
    pub(super) fn rings_used(&self) -> usize {
        2 * usize::from(self.pairs)
    }

    /// Of the pairs that are used, the queues that have been set up.
    pub(super) fn set_up(&self) -> impl Iterator<Item = (Side, &SourceSetup)> {
        let used = self.queues.iter().enumerate().take(self.rings_used());
        used.filter_map(|(index, queue)| Some((Side::of(index), queue.as_ref()?.source.as_ref()?)))
    }

    /// Where the buffers in any queue may be from.
    pub(super) fn sources(&self) -> Vec<SourceSetup> {
        self.queues.iter().flatten().filter_map(|queue| queue.source.clone()).collect()
    }

    /// Puts a ring without a queue wherever a used pair has none, and decides which queues run.
    pub(super) fn fill_gaps(&mut self) -> Result<()> {
        let (used, size) = (self.rings_used(), self.config.queue_size);
        for place in self.queues.iter_mut().take(used) {
            let queue = match place {
                Some(queue) => queue,
                None => place.insert(Queue::new(Port::new()?, size, None)),
            };
            queue.run = queue.source.is_some() && !queue.deferred;
        }
        Ok(())
    }

    /// Makes a queue run or not: at once, or, of a device that is stopped, from its next start on.
    pub fn run_queue(&mut self, side: Side, pair: u16, run: bool) -> Result<()> {
        let (index, name) = (side.index(pair), side.name());
        let (started, running) = (self.started, self.running);
        let (can_disable, state) = (self.can_disable_rings(), self.without_device());
        let used = index < self.rings_used();
        let queue = self.queues.get_mut(index).and_then(Option::as_mut).filter(|q| q.source.is_some());
        let queue = queue.ok_or_else(|| Error::invalid(format!("{name} queue {pair} has not been set up")))?;
        if !run && !can_disable {
            return Err(no_disabling());
        }
        if !started {
            queue.deferred = !run;
            return Ok(());
        }
        if !used {
            return Err(Error::invalid(format!("queue pair {pair} is not among the {} that are used", self.pairs)));
        }
        if !running {
            // The rings are made anew when a back-end comes.
            queue.run = run;
            if run && side == Side::Rx {
                queue.work()?;
            }
            return queue.wait(state);
        }
        if queue.run != run {
            if run { self.start_queue(index) } else { self.stop_queue_alone(index) }?;
            self.note_link();
        }
        Ok(())
    }

    fn start_queue(&mut self, index: usize) -> Result<()> {
        let Some(Some(queue)) = self.queues.get_mut(index) else { return Ok(()) };
        queue.work()?;
        queue.run = true;
        queue.offer_all()?;
        self.resume_rings()
    }

    fn stop_queue_alone(&mut self, index: usize) -> Result<()> {
        let Some(Some(queue)) = self.queues.get_mut(index) else { return Ok(()) };
        let (port, end) = (queue.port.clone(), Instant::now() + DRAIN);
        // Nothing more comes in while what is there goes out.
        let mut paused = port.pause()?;
        queue.run = false;
        while !paused.is_drained() && queue.on && port.status().is_ok() && Instant::now() < end {
            std::thread::sleep(LOOK);
        }
        let result = self.resume_rings();
        let engine = paused.replace(Engine::Idle);
        paused.replace(engine.halted());
        result
    }

    /// What nobody is there to refuse is possible.
    fn can_disable_rings(&self) -> bool {
        self.backend.as_ref().is_none_or(|backend| backend.can_disable_rings())
    }

    /// Sets the link up or down: when it is down no ring is enabled, whichever queues run.
    pub fn set_link(&mut self, up: bool) -> Result<()> {
        if !up && !self.can_disable_rings() {
            return Err(no_disabling());
        }
        self.down = !up;
        let result =
            if self.running { self.resume_rings().and_then(|()| self.backend()?.set_carrier(up)) } else { Ok(()) };
        self.note_link();
        self.link_is_known();
        result
    }

    /// Enables what must be when the device is told to go: all that is to run, and the first pair, since DPDK's vhost
    /// waits for that and then never again.
    pub(super) fn enable_first(&mut self) -> Result<()> {
        let down = self.down;
        self.tell_rings(|index, queue| index < 2 || queue.run && !down)
    }

    /// Enables all rings that are to run, and disables all others.
    pub(super) fn resume_rings(&mut self) -> Result<()> {
        let down = self.down;
        self.tell_rings(|_, queue| queue.run && !down)
    }

    /// Disables all rings.
    pub(super) fn pause_rings(&mut self) -> Result<()> {
        self.tell_rings(|_, _| false)
    }

    /// Tells the device which rings are enabled, where that changes. What we send is cut off first and let in last: a
    /// device that forwards it must have somewhere to go with it.
    fn tell_rings(&mut self, on: impl Fn(usize, &Queue) -> bool) -> Result<()> {
        let used = self.rings_used();
        for (change, side) in [(false, Side::Tx), (false, Side::Rx), (true, Side::Rx), (true, Side::Tx)] {
            for index in (side.index(0)..used).step_by(2) {
                let Some(Some(queue)) = self.queues.get_mut(index) else { continue };
                if queue.on != change && on(index, queue) == change {
                    let Some(backend) = &mut self.backend else { return Ok(()) };
                    backend.enable_ring(index as u16, change)?;
                    queue.on = change;
                    if change {
                        // A device that sleeps has not heard of what came while the ring was disabled.
                        queue.port.kick.ring();
                    }
                }
            }
        }
        Ok(())
    }

    /// The port of a queue that has been set up, by ring index.
    pub fn port(&self, index: u32) -> Option<&Arc<Port>> {
        let queue = self.queues.get(index as usize)?.as_ref()?;
        queue.source.is_some().then_some(&queue.port)
    }

    /// Both sides of each pair that is set up, for bursts. While they are borrowed the device cannot be stopped.
    pub fn pairs(&mut self) -> Vec<(RxHandle<'_>, TxHandle<'_>)> {
        let both = (0..u32::from(self.pairs))
            .filter_map(|pair| Some((RxHandle(self.port(2 * pair)?), TxHandle(self.port(2 * pair + 1)?))));
        both.collect()
    }
}

/// All rings of the pairs that are used, once there are no gaps.
pub(super) fn running(queues: &[Option<Queue>], pairs: u16) -> impl Iterator<Item = (u16, &Queue)> {
    (0..).zip(queues.iter().take(2 * usize::from(pairs)).flatten())
}

fn no_disabling() -> Error {
    let sentence = "single rings of this device cannot be disabled while it runs (a vhost-user back-end needs protocol \
                    features, bit 30, for that, a vDPA device ENABLE_AFTER_DRIVER_OK); stop the whole device";
    Error::new(Errno::ENOTSUP, sentence)
}
