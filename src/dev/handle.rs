//! A device that many threads have, and the thread that looks after it.

use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::errno::Errno;
use parking_lot::Mutex;

use super::Device;
use super::config::{Config, EventMode};
use super::events::Event;
use super::link::Watch;
use super::live::Live;
use crate::error::{Error, Result};
use crate::sys::thread::spawn;

struct Shared {
    device: Mutex<Device>,
    live: Arc<Live>,
    watch: Arc<Watch>,
    closing: AtomicBool,
}

impl Shared {
    /// Sees to all that has happened. The device is not held while a back-end is looked for.
    fn process(&self) {
        while let Some(errand) = self.look() {
            let outcome = errand.run(&self.live.hook);
            self.device.lock().finish(outcome);
        }
    }

    fn look(&self) -> Option<super::dial::Errand> {
        if self.closing.load(Ordering::Acquire) { None } else { self.device.lock().look() }
    }

    fn run(&self) {
        while !self.closing.load(Ordering::Acquire) {
            self.watch.sleep();
            self.process();
        }
    }
}

/// A device whose control calls take turns. Dropped, it is stopped and its connection closed.
pub struct Handle {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    manual: bool,
    /// A child that was forked has neither the thread nor a say in the connection.
    process: u32,
}

impl Handle {
    /// Makes a device, and, unless the application wants to do that, sees to its events.
    pub fn new(config: Config) -> Result<Self> {
        let manual = config.events == EventMode::Manual;
        let device = Device::new(config)?;
        let (live, watch) = (device.live().clone(), device.watch().clone());
        if manual {
            watch.add(live.events.as_fd())?;
        }
        let shared = Arc::new(Shared { device: Mutex::new(device), live, watch, closing: AtomicBool::new(false) });
        let thread = if manual {
            None
        } else {
            let shared = shared.clone();
            let run = move || {
                if catch_unwind(AssertUnwindSafe(|| shared.run())).is_err() {
                    log::error!("a bug in this library: nobody looks after the device any more");
                }
            };
            Some(spawn("vuser-events", run)?)
        };
        Ok(Self { shared, thread, manual, process: std::process::id() })
    }

    /// Runs a control call.
    pub fn with<T>(&self, call: impl FnOnce(&mut Device) -> T) -> T {
        let mut device = self.shared.device.lock();
        device.note_loss();
        let result = call(&mut device);
        // Nothing else would tell of a back-end that has merely stopped to answer.
        if device.has_news() {
            self.shared.watch.wake();
        }
        result
    }

    /// What can be asked without waiting for other control calls.
    pub fn live(&self) -> &Live {
        &self.shared.live
    }

    /// Readable when [`process`](Self::process) has something to do or to tell.
    pub fn fd(&self) -> BorrowedFd<'_> {
        if self.manual { self.shared.watch.as_fd() } else { self.shared.live.events.as_fd() }
    }

    /// Does what there is to do, if nobody else does, and hands out what has happened: `most` events at most.
    pub fn process(&self, most: usize) -> Vec<Event> {
        if self.manual {
            self.shared.process();
        }
        self.shared.live.events.take(most)
    }

    /// Whether this is the process that made it.
    pub fn is_ours(&self) -> Result<()> {
        if self.process == std::process::id() {
            return Ok(());
        }
        Err(Error::new(Errno::ECHILD, "the device belongs to the process that this one was forked from"))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.is_ours().is_err() {
            // Whatever was said on the connection, the parent would not know of. It ends with this process.
            std::mem::forget(self.shared.clone());
            std::mem::forget(self.thread.take());
            return;
        }
        self.shared.closing.store(true, Ordering::Release);
        self.shared.live.hook.cut();
        self.shared.watch.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
