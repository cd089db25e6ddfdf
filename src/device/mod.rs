//! A small virtio-net device of our own: the built-in loopback for demonstrations, tests and benchmarks.
//!
//! It is written from the *device* sections of VIRTIO 1.3 and from the vhost-user document, and shares nothing with
//! the driver but the constants of [`spec`](crate::spec): a misunderstanding would have to be made twice.
//!
//! - [`Loopback`] is the whole device, a thread that speaks vhost-user over a socket.
//! - [`net::Pair`] is what it does with frames, and [`ring::Ring`] its side of a virtqueue; both can be stepped by
//!   hand, without a thread and without a socket.

mod asker;
pub mod dirty;
pub mod frame;
mod inflight;
pub mod memory;
mod message;
pub mod net;
mod options;
mod packed;
mod queue;
pub mod ring;
mod server;
mod session;
mod split;

#[cfg(test)]
mod tests;

pub use asker::Change;
pub use net::{Mode, Stats};
pub use options::Options;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::error::Result;
use crate::sys::listener::Listener;
use crate::sys::socket::Stream;

/// A running device. Dropping it ends its thread and, with it, the session.
#[derive(Debug)]
pub struct Loopback {
    shared: Arc<server::Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Loopback {
    /// Serves the front-end at the other end of a connected stream, until it closes.
    pub fn on_stream(stream: Stream, options: Options) -> Result<Self> {
        options.check()?;
        Self::start(move |shared| server::serve(stream, &options, shared))
    }

    /// Listens at a path and serves one front-end at a time, again and again.
    pub fn listen(path: &Path, options: Options) -> Result<Self> {
        options.check()?;
        let listener = Listener::bind(path)?;
        Self::start(move |shared| server::listen(&listener, &options, shared))
    }

    fn start(f: impl FnOnce(&server::Shared) + Send + 'static) -> Result<Self> {
        let (shared, thread) = server::spawn(f)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What has been counted since the start, over all sessions.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Changes the device while it runs, soon; a front-end that has a channel for that is told. What is asked of a device
    /// between two sessions is for the next.
    pub fn change(&self, change: Change) {
        self.shared.change(change);
    }

    /// Whether the thread has ended by itself: after the only session of [`on_stream`](Self::on_stream).
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.shared.stop();
        if self.thread.take().is_some_and(|t| t.join().is_err()) {
            log::error!("loopback: the thread has panicked");
        }
    }
}
