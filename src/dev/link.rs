//! The way to a device's back-end: who watches it, who comes by it, and when it is tried again.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::Config;
use crate::backend::Backend;
use crate::error::Result;
use crate::sys::epoll::{Epoll, Until};
use crate::sys::eventfd::Bell;
use crate::sys::listener::Listener;
use crate::sys::socket::Stream;
use crate::sys::timer::Timer;

/// Pause before the first attempt to reach a back-end that has gone; it doubles from attempt to attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// A back-end that stays so long is a good one: when it goes it is looked for at once.
const GOOD: Duration = Duration::from_millis(100);

/// What whoever looks after a device sleeps on. Its descriptor is readable when there is something to do.
#[derive(Debug)]
pub struct Watch {
    epoll: Epoll,
    wake: Bell,
    timer: Timer,
}

impl Watch {
    fn new() -> Result<Self> {
        let watch = Self { epoll: Epoll::new()?, wake: Bell::new()?, timer: Timer::new()? };
        watch.epoll.add(watch.wake.as_fd(), Until::Readable)?;
        watch.epoll.add(watch.timer.as_fd(), Until::Readable)?;
        Ok(watch)
    }

    /// Sleeps until there is something to do, or perhaps a little less.
    pub fn sleep(&self) {
        self.epoll.wait(None);
    }

    /// There is something to do.
    pub fn wake(&self) {
        self.wake.ring();
    }

    /// Watches something else too, as long as that lives.
    pub fn add(&self, fd: BorrowedFd<'_>) -> Result<()> {
        self.epoll.add(fd, Until::Readable)
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// A connection that we gave up, and that the other side has not closed yet: what it was lent, it may still use.
struct Lingering {
    number: u64,
    backend: Box<dyn Backend>,
}

/// The way to the back-end.
pub(super) struct Link {
    listener: Option<Listener>,
    watch: Arc<Watch>,
    pause: Duration,
    longest: Duration,
    /// When the back-end came.
    since: Instant,
    /// When the way is to be tried again.
    next: Option<Instant>,
    /// Somebody is under way to the back-end.
    pub(super) errand: bool,
    /// Number of the connection, from 1; 0 when there was none yet.
    pub(super) number: u64,
    lingering: Vec<Lingering>,
    /// The back-end says nothing by itself, not even that it goes.
    out_of_sight: bool,
    /// Why there is no back-end.
    pub(super) reason: String,
}

impl Link {
    pub(super) fn new(config: &Config) -> Result<Self> {
        let watch = Watch::new()?;
        let listener = config.server.then(|| Listener::bind_as(&config.path, config.socket_mode)).transpose()?;
        if let Some(listener) = &listener {
            watch.add(listener.as_fd())?;
        }
        Ok(Self {
            listener,
            watch: Arc::new(watch),
            pause: FIRST_PAUSE,
            longest: Duration::from_millis(config.reconnect_ms.into()),
            since: Instant::now(),
            next: None,
            errand: false,
            number: 0,
            lingering: Vec::new(),
            out_of_sight: false,
            reason: "none has come yet".to_owned(),
        })
    }

    pub(super) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    pub(super) fn listener(&self) -> Option<&Listener> {
        self.listener.as_ref()
    }

    /// Whoever looks is about to see all that there was to wake him for.
    pub(super) fn looked(&self) {
        self.watch.wake.take();
    }

    /// A back-end is there.
    pub(super) fn attach(&mut self, backend: &dyn Backend) -> Result<()> {
        for fd in backend.watched() {
            self.watch.add(fd)?;
        }
        if let Some(listener) = &self.listener {
            // It is not watched while it could not accept.
            let _ = self.watch.add(listener.as_fd());
        }
        self.number += 1;
        self.begins();
        self.next = None;
        self.look_again();
        Ok(())
    }

    /// The back-end has to be looked at from time to time.
    pub(super) fn out_of_sight(&mut self) {
        self.out_of_sight = true;
        self.look_again();
    }

    /// The back-end begins again.
    pub(super) fn begins(&mut self) {
        self.since = Instant::now();
    }

    /// Whether the back-end began so lately that nobody can say yet whether it is good.
    pub(super) fn is_fresh(&self) -> bool {
        self.since.elapsed() < GOOD
    }

    /// The back-end is no longer used; `gone` when its own side has let go, too.
    pub(super) fn detach(&mut self, backend: Box<dyn Backend>, gone: bool) {
        for fd in backend.watched() {
            self.watch.epoll.remove(fd);
        }
        self.out_of_sight = false;
        if !self.is_fresh() {
            self.pause = FIRST_PAUSE;
        }
        if gone {
            return;
        }
        // What it may still say is of no interest, but that it goes is.
        if let Err(e) = self.watch.epoll.add(backend.control(), Until::HungUp) {
            log::warn!("{}: {e}", backend.describe());
        }
        self.lingering.push(Lingering { number: self.number, backend });
        self.look_again();
    }

    /// A device that is not a program hangs nothing up: whether it has let go, or gone, has to be looked for.
    fn look_again(&self) {
        if self.next.is_some() {
            // It is looked at then.
        } else if !self.must_look() {
            self.watch.timer.clear();
        } else if let Err(e) = self.watch.timer.set(self.longest) {
            log::error!("a back-end that has let go, or gone, is noticed when something else happens: {e}");
        }
    }

    fn must_look(&self) -> bool {
        self.out_of_sight || !self.lingering.is_empty()
    }

    /// Whether the back-end of that connection may still use what it was lent.
    pub(super) fn lingers(&self, number: u64) -> bool {
        self.lingering.iter().any(|l| l.number == number)
    }

    /// Forgets back-ends that have let go.
    pub(super) fn let_go(&mut self) {
        if self.must_look() {
            self.lingering.retain(|l| !l.backend.wait_gone(Duration::ZERO));
            self.look_again();
        }
    }

    /// Closes all connections on our side.
    pub(super) fn close(&mut self) {
        self.lingering.clear();
    }

    /// The way is to be tried again, after a pause that grows.
    pub(super) fn try_later(&mut self) {
        self.next = Some(Instant::now() + self.pause);
        if let Err(e) = self.watch.timer.set(self.pause) {
            log::error!("the back-end will not be looked for again: {e}");
        }
        self.pause = (2 * self.pause).min(self.longest);
    }

    /// Whether it is time to try again.
    pub(super) fn is_due(&mut self) -> bool {
        if self.next.is_none_or(|next| Instant::now() < next) {
            return false;
        }
        self.watch.timer.clear();
        self.next = None;
        // A listener that could not accept is watched again.
        if let Some(listener) = &self.listener {
            let _ = self.watch.add(listener.as_fd());
        }
        true
    }

    /// Somebody who has come, if somebody has.
    pub(super) fn accept(&mut self) -> Option<Stream> {
        let listener = self.listener.as_ref()?;
        match listener.accept(Duration::ZERO) {
            Ok(stream) => stream,
            Err(e) => {
                log::error!("{e}; it is tried again");
                // It would be ready, and fail, without end.
                self.watch.epoll.remove(listener.as_fd());
                self.try_later();
                None
            }
        }
    }
}
