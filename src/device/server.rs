//! The device's thread: it polls while there is traffic, and sleeps when there is none.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Options;
use super::asker::Change;
use super::net::Stats;
use super::queue::Queue;
use super::session::Session;
use crate::error::Result;
use crate::sys::eventfd::Bell;
use crate::sys::listener::Listener;
use crate::sys::poll::{Ready, is_readable, wait_any};
use crate::sys::socket::Stream;
use crate::sys::thread;

/// Turns of the loop between looks at the socket, under load.
const TURNS: u32 = 32;
/// How long a device sleeps whose driver never kicks.
const NAP: Duration = Duration::from_millis(1);
/// How long a listener waits before it looks whether it shall stop.
const ACCEPT: Duration = Duration::from_millis(50);

/// What a device's thread shares with its owner.
#[derive(Debug)]
pub(super) struct Shared {
    stop: AtomicBool,
    wake: Bell,
    /// There may be changes.
    changed: AtomicBool,
    changes: Mutex<Vec<Change>>,
    counters: Counters,
}

impl Shared {
    pub(super) fn new() -> Result<Self> {
        let (stop, changed, changes) = (AtomicBool::new(false), AtomicBool::new(false), Mutex::default());
        Ok(Self { stop, wake: Bell::new()?, changed, changes, counters: Counters::default() })
    }

    /// Ends the thread soon.
    pub(super) fn stop(&self) {
        self.stop.store(true, Relaxed);
        self.wake.ring();
    }

    /// Has the device changed soon.
    pub(super) fn change(&self, change: Change) {
        self.changes.lock().push(change);
        self.changed.store(true, Release);
        self.wake.ring();
    }

    fn take_changes(&self) -> Vec<Change> {
        if !self.changed.swap(false, Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut *self.changes.lock())
    }

    fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    pub(super) fn stats(&self) -> Stats {
        self.counters.read()
    }
}

macro_rules! counters {
    ($($name:ident)*) => {
        /// [`Stats`] over all sessions, written by the thread and read by anybody.
        #[derive(Debug, Default)]
        struct Counters { $($name: AtomicU64,)* }

        impl Counters {
            fn read(&self) -> Stats {
                Stats { $($name: self.$name.load(Relaxed),)* }
            }

            /// Adds what has been counted in a session since `before`.
            fn add(&self, now: &Stats, before: &Stats) {
                $(self.$name.fetch_add(now.$name.wrapping_sub(before.$name), Relaxed);)*
            }
        }

        impl std::ops::Add for Stats {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self { $($name: self.$name + other.$name,)* }
            }
        }
    };
}

counters!(received received_dropped sent sent_dropped kicks calls broken);

/// Serves one peer at a time, again and again.
pub(super) fn listen(listener: &Listener, options: &Options, shared: &Shared) {
    while !shared.stopped() {
        match listener.accept(ACCEPT) {
            Ok(Some(stream)) => serve(stream, options, shared),
            Ok(None) => {}
            Err(e) => {
                log::error!("loopback: {e}");
                std::thread::sleep(ACCEPT);
            }
        }
    }
}

/// Serves one peer until it goes or breaks the protocol.
pub(super) fn serve(stream: Stream, options: &Options, shared: &Shared) {
    let mut server = Server {
        session: Session::new(stream, options),
        spin: options.spin,
        shared,
        told: Stats::default(),
        bells: Stats::default(),
    };
    log::info!("loopback: a session begins");
    match server.run() {
        Ok(()) => log::info!("loopback: the session is over"),
        Err(e) => log::error!("loopback: the session ends: {e}"),
    }
    server.tell();
}

struct Server<'a> {
    session: Session,
    spin: Duration,
    shared: &'a Shared,
    /// What the shared counters have been told of this session.
    told: Stats,
    /// Kicks and calls, which the pairs know nothing of.
    bells: Stats,
}

impl Server<'_> {
    fn run(&mut self) -> Result<()> {
        let mut idle_since = None;
        let mut turns: u32 = 0;
        while !self.shared.stopped() {
            turns = turns.wrapping_add(1);
            if turns.is_multiple_of(TURNS) && is_readable(self.session.stream().as_fd()) && !self.talk()? {
                return Ok(());
            }
            if turns.is_multiple_of(TURNS) {
                self.make_changes();
            }
            if self.step() > 0 {
                idle_since = None;
                continue;
            }
            if idle_since.get_or_insert_with(Instant::now).elapsed() < self.spin {
                std::thread::yield_now();
                continue;
            }
            if !self.arm() && !self.sleep()? {
                return Ok(());
            }
            self.session.for_each_pair(|pair, _, rings| pair.disarm(rings));
            idle_since = None;
        }
        Ok(())
    }

    /// Serves a request; false when the peer has gone.
    fn talk(&mut self) -> Result<bool> {
        if self.session.stream().is_closed() {
            return Ok(false);
        }
        self.session.serve()?;
        Ok(true)
    }

    fn make_changes(&mut self) {
        for change in self.shared.take_changes() {
            self.session.change(change);
        }
    }

    /// Moves frames on all pairs once, and calls where that is wanted.
    fn step(&mut self) -> usize {
        let mut moved = 0;
        self.session.for_each_pair(|pair, memory, rings| moved += pair.step(memory, rings));
        if moved == 0 {
            return 0;
        }
        self.session.note_rings();
        let mut broken = false;
        for queue in self.session.queues_mut() {
            self.bells.calls += u64::from(queue.call_if_wanted());
            broken |= queue.report_broken();
        }
        if broken {
            self.session.needs_reset();
        }
        self.tell();
        moved
    }

    /// Brings the shared counters up to date.
    fn tell(&mut self) {
        let now = self.session.pairs().iter().fold(self.bells, |sum, pair| sum + pair.stats());
        self.shared.counters.add(&now, &self.told);
        self.told = now;
    }

    /// Asks for kicks; true when something has arrived meanwhile.
    fn arm(&mut self) -> bool {
        let mut awake = false;
        self.session.for_each_pair(|pair, _, rings| awake |= pair.arm(rings));
        awake
    }

    /// Sleeps until a kick, a request or the owner wakes us; false when the peer has gone.
    fn sleep(&mut self) -> Result<bool> {
        let found = {
            let mut fds: Vec<BorrowedFd<'_>> = vec![self.session.stream().as_fd(), self.shared.wake.as_fd()];
            fds.extend(self.session.queues().iter().filter_map(Queue::kick_fd));
            let polled = self.session.queues().iter().any(Queue::is_polled);
            wait_any(&fds, polled.then_some(NAP))
        };
        self.shared.wake.take();
        self.make_changes();
        let mut kicks = 0;
        let with_fd = self.session.queues_mut().iter_mut().filter(|q| q.kick_fd().is_some());
        for (queue, ready) in with_fd.zip(found.iter().skip(2)) {
            match ready {
                Ready::Readable => kicks += u64::from(queue.take_kick()),
                Ready::Dead => queue.drop_kick(),
                Ready::No => {}
            }
        }
        kicks += self.session.queues().iter().filter(|queue| queue.take_ring()).count() as u64;
        self.bells.kicks += kicks;
        match found.first() {
            Some(Ready::No) => Ok(true),
            _ => self.talk(),
        }
    }
}

/// Runs `f` with what the thread shares with its owner, in a thread of its own.
pub(super) fn spawn(f: impl FnOnce(&Shared) + Send + 'static) -> Result<(Arc<Shared>, std::thread::JoinHandle<()>)> {
    let shared = Arc::new(Shared::new()?);
    let theirs = shared.clone();
    let thread = thread::spawn("vuser-loopback", move || f(&theirs))?;
    Ok((shared, thread))
}
