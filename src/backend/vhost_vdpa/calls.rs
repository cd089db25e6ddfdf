//! Calls that may hang.
//!
//! A vDPA device may be a program (VDUSE), or hardware with a mind of its own, and the kernel lets nobody leave a call before it
//! is answered: thirty seconds by default, or never. So one thread makes the calls, in turn, and whoever wants one waits no
//! longer than the deadline. After a call that hung the device is given up. The thread has the descriptor, because opening and
//! closing it reset the device and may hang as well.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use nix::errno::Errno;
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::sys::thread;
use crate::sys::vhost::Vhost;

/// The log target under which every call is told.
const TRACE: &str = "vuser::vhost_vdpa";

type Job = Box<dyn FnOnce(&Vhost) + Send>;

/// The way to a device.
pub(super) struct Calls {
    name: String,
    timeout: Duration,
    /// None: the device is given up, and is closed as soon as the call under way ends.
    jobs: Mutex<Option<Sender<Job>>>,
    /// Tells, by being disconnected, that the device is closed.
    closed: Mutex<Receiver<()>>,
    /// Why it was given up.
    dead: Mutex<Option<String>>,
    /// A call took too long. Whoever waited for that waits no more when the device is closed.
    hung: AtomicBool,
}

impl Calls {
    /// Opens a device; `name` is for people.
    pub(super) fn open(path: &Path, name: String, timeout: Duration) -> Result<Self> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (open, closed) = mpsc::channel::<()>();
        let (answer, opened) = mpsc::sync_channel(1);
        let file = path.to_owned();
        thread::spawn("vuser-vdpa", move || {
            let device = match Vhost::open(&file) {
                Ok(device) if answer.send(Ok(())).is_ok() => device,
                // Too late: nobody waits for it any more.
                Ok(_) => return,
                Err(e) => return answer.send(Err(e)).unwrap_or_default(),
            };
            inbox.into_iter().for_each(|job| job(&device));
            // Closing it does that too, but not as long as a doorbell of it is mapped.
            let _ = device.set_status(0);
            drop(device);
            drop(open);
        })?;
        match opened.recv_timeout(timeout) {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Err(super::cannot_open(e, &name)),
            Err(_) => return Err(hangs(&name, "open", timeout)),
        }
        let (jobs, closed) = (Mutex::new(Some(jobs)), Mutex::new(closed));
        Ok(Self { name, timeout, jobs, closed, dead: Mutex::new(None), hung: AtomicBool::new(false) })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Makes a call; `what` is its name. Errors: the kernel's, `ETIMEDOUT` when it hangs, `ENOTCONN` once the device was
    /// given up.
    pub(super) fn call<T: Send + 'static>(
        &self,
        what: &str,
        job: impl FnOnce(&Vhost) -> nix::Result<T> + Send + 'static,
    ) -> Result<T> {
        let Some(jobs) = self.jobs.lock().clone() else {
            let why = self.why_dead().unwrap_or_default();
            return Err(Error::new(Errno::ENOTCONN, format!("{}: {what}: the device was given up: {why}", self.name)));
        };
        let (answer, result) = mpsc::sync_channel(1);
        let run = move |device: &Vhost| {
            // Nobody listens any more when the call took too long.
            let _ = answer.send(job(device));
        };
        let gone = || Err(RecvTimeoutError::Disconnected);
        match jobs.send(Box::new(run)).map_or_else(|_| gone(), |()| result.recv_timeout(self.timeout)) {
            Ok(Ok(value)) => {
                log::trace!(target: TRACE, "{}: {what}", self.name);
                Ok(value)
            }
            Ok(Err(e)) => {
                log::debug!(target: TRACE, "{}: {what}: {}", self.name, e.desc());
                Err(Error::sys(e, format!("{}: {what}", self.name)))
            }
            Err(_) => {
                let error = hangs(&self.name, what, self.timeout);
                self.hung.store(true, Ordering::Relaxed);
                self.give_up(&error.to_string());
                Err(error)
            }
        }
    }

    /// Asks nothing more of the device, and lets it be closed.
    pub(super) fn give_up(&self, why: &str) {
        self.dead.lock().get_or_insert_with(|| why.to_owned());
        self.jobs.lock().take();
    }

    /// Why it was given up, if it was.
    pub(super) fn why_dead(&self) -> Option<String> {
        self.dead.lock().clone()
    }

    /// Whether it was not given up.
    pub(super) fn is_alive(&self) -> bool {
        self.jobs.lock().is_some()
    }

    /// Waits until the device that was given up is closed, and so reset; false when it is not within the time.
    pub(super) fn wait_closed(&self, at_most: Duration) -> bool {
        matches!(self.closed.lock().recv_timeout(at_most), Err(RecvTimeoutError::Disconnected))
    }
}

fn hangs(name: &str, what: &str, timeout: Duration) -> Error {
    let sentence = format!(
        "{name}: {what}: no answer within {} ms (a VDUSE device's program hangs or has gone, or the hardware does not answer)",
        timeout.as_millis()
    );
    Error::new(Errno::ETIMEDOUT, sentence)
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.give_up("it is closed");
        let patience = if self.hung.load(Ordering::Relaxed) { Duration::ZERO } else { self.timeout };
        if !self.wait_closed(patience) {
            log::warn!("{}: the device hangs while it is closed; the kernel closes it when it ends", self.name);
        }
    }
}
