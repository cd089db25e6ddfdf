//! The hash of received frames: the device's where it reports one, else ours. Spreading frames over queues by it is the
//! device's alone: a queue is one thread's, and frames come to it as the device likes.

use std::sync::Arc;

use nix::errno::Errno;

use super::engine::Engine;
use super::filters::Rss;
use super::{Device, Offloads};
use crate::error::{Error, Result};
use crate::net::toeplitz::{DEFAULT_KEY, Toeplitz};
use crate::spec::net::{NetConfig, hash_type};
use crate::spec::virtio::Features;

/// Entries of a table that spreads frames evenly, where a device takes as many.
const ENTRIES: u16 = 128;

/// What can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RssLimits {
    /// Fields that can be hashed, `hash_type`.
    pub types: u32,
    /// Longest key.
    pub key: u16,
    /// Longest table; 0: frames are not spread by hash.
    pub table: u16,
}

impl Device {
    /// Chooses what is hashed of received frames, and, with a table, which queue they go to by it. An empty key is the default
    /// one. Now and after each start. While fewer queues are used than the table names, frames are spread evenly.
    pub fn set_rss(&mut self, mut rss: Rss) -> Result<()> {
        if rss.key.is_empty() {
            rss.key = DEFAULT_KEY.to_vec();
        }
        let limits = self.rss_limits()?;
        if rss.types & !limits.types != 0 || rss.key.len() > usize::from(limits.key) {
            let RssLimits { types, key, .. } = limits;
            let message = format!("a key of {key} bytes at most and the hash types {types:#x} can be had");
            return Err(Error::new(Errno::ENOTSUP, message));
        }
        if limits.table == 0 && !rss.table.is_empty() {
            let message = "the device does not spread frames by their hash; leave the table out for the hash alone";
            return Err(Error::new(Errno::ENOTSUP, message));
        }
        if limits.table > 0 && rss.table.is_empty() {
            rss.table = even_table(limits.table, self.active);
        }
        if self.is_told_of_hashes() {
            self.steer(&rss)?
        } else {
            self.wishes.rss = Some(rss)
        };
        self.rehash()
    }

    /// What the device can do, or, where it does nothing, what we can.
    pub fn rss_limits(&mut self) -> Result<RssLimits> {
        if !self.is_told_of_hashes() {
            if self.features.contains(Features::HASH_REPORT) {
                let message = "the device hashes by a key of its own, and has no control queue to change it";
                return Err(Error::new(Errno::ENOTSUP, message));
            }
            return Ok(RssLimits { types: hash_type::ALL, key: DEFAULT_KEY.len() as u16, table: 0 });
        }
        let mut bytes = [0; size_of::<NetConfig>()];
        if !self.backend()?.read_config(0, &mut bytes)? {
            return Err(Error::new(Errno::ENOTSUP, "the device does not say what it can hash"));
        }
        let space: NetConfig = zerocopy::transmute!(bytes);
        let table = if self.has_rss() { space.rss_max_indirection_table_length } else { 0 };
        Ok(RssLimits { types: space.supported_hash_types, key: space.rss_max_key_size.into(), table })
    }

    /// What a device is to be told that uses so many pairs, if anything: without a hash type chosen it would hash nothing.
    pub(super) fn wanted_rss(&mut self, pairs: u16) -> Option<Rss> {
        let unasked = self.config.offloads.contains(Offloads::HASH);
        if !self.is_told_of_hashes() || self.wishes.rss.is_none() && !unasked {
            return None;
        }
        let limits = self.rss_limits().ok()?;
        let mut rss = self.wishes.rss.clone().unwrap_or_else(|| {
            let key = DEFAULT_KEY.get(..DEFAULT_KEY.len().min(limits.key.into())).unwrap_or_default().to_vec();
            Rss { types: limits.types, key, table: Vec::new() }
        });
        // The choice may be of a time with more pairs, or with a device that took no table. It is kept for when it fits again.
        if self.has_rss() && (rss.table.is_empty() || rss.table.iter().any(|queue| *queue >= pairs)) {
            rss.table = even_table(limits.table, pairs);
        }
        (!self.has_rss() || !rss.table.is_empty()).then_some(rss)
    }

    fn is_told_of_hashes(&self) -> bool {
        self.has_rss() || self.has_control() && self.features.contains(Features::HASH_REPORT | Features::CTRL_VQ)
    }

    /// What computes hashes, if we are to.
    pub(super) fn hasher(&self) -> Option<Arc<Toeplitz>> {
        let ours = self.config.offloads.contains(Offloads::HASH) && !self.features.contains(Features::HASH_REPORT);
        let (key, types) = match &self.wishes.rss {
            Some(rss) => (&rss.key[..], rss.types),
            None => (&DEFAULT_KEY[..], hash_type::ALL),
        };
        ours.then(|| Arc::new(Toeplitz::new(key, types)))
    }

    /// Queues at work compute another hash.
    fn rehash(&mut self) -> Result<()> {
        let hasher = self.hasher();
        for queue in self.queues.iter().flatten() {
            let mut paused = queue.port.pause()?;
            match paused.engine() {
                Engine::Rx(rx) => rx.set_hasher(hasher.clone()),
                Engine::Halted(engine) => {
                    if let Engine::Rx(rx) = &mut **engine {
                        rx.set_hasher(hasher.clone());
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// All queues of so many pairs, evenly; no table for a device that takes none.
fn even_table(most: u16, pairs: u16) -> Vec<u16> {
    let entries = ENTRIES.min(most).checked_ilog2().map_or(0, |log| 1 << log);
    (0..entries).map(|entry| entry % pairs.max(1)).collect()
}
