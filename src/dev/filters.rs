//! Which frames are ours: what a device with a control queue of its own is told of addresses, VLANs, queue pairs and receive
//! side scaling (VIRTIO 5.1.6.5).
//!
//! What was wished for is kept, and told again at each start and to each back-end that comes, because a device forgets it at a
//! reset.

use nix::errno::Errno;

use super::Device;
use super::config::unicast;
use super::control::ControlQueue;
use crate::backend::RingSetup;
use crate::error::{Error, Result};
use crate::spec::net::{Control, NetConfig, VLANS};
use crate::spec::virtio::Features;

/// Addresses that a device can be told of: as many as one command has room for, by far.
const MAX_ADDRESSES: usize = 256;

/// What is wished for.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// The address was chosen here, and is not the device's own.
    mac: bool,
    promiscuous: Option<bool>,
    all_multicast: Option<bool>,
    addresses: Option<Vec<[u8; 6]>>,
    vlans: Vec<u16>,
    pub(super) rss: Option<Rss>,
}

/// How received frames are spread over the queues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rss {
    /// Which fields of which frames are hashed: VIRTIO_NET_RSS_HASH_TYPE_*, 5.1.6.4.3.1.
    pub types: u32,
    /// The key of the Toeplitz hash.
    pub key: Vec<u8>,
    /// Receive queue by hash: a power of two of entries.
    pub table: Vec<u16>,
}

impl Device {
    /// Chooses another MAC address, and tells the device where it can be told. Without a control queue it is the
    /// application's alone: the frames that come are what they were.
    pub fn set_mac(&mut self, mac: [u8; 6]) -> Result<()> {
        unicast(mac)?;
        if self.has(Features::CTRL_MAC_ADDR) {
            self.command(Control::MAC_ADDR_SET, &mac)?;
        } else if let Some(backend) = &mut self.backend {
            backend.set_mac(mac)?;
        }
        (self.mac, self.wishes.mac) = (mac, true);
        Ok(())
    }

    /// Receives all frames, or only those for our addresses.
    pub fn set_promiscuous(&mut self, on: bool) -> Result<()> {
        self.need(Features::CTRL_RX, "frames for other addresses can't be asked for")?;
        self.command(Control::RX_PROMISC, &[on.into()])?;
        self.wishes.promiscuous = Some(on);
        Ok(())
    }

    /// Receives all multicast frames, or only those for our addresses.
    pub fn set_all_multicast(&mut self, on: bool) -> Result<()> {
        self.need(Features::CTRL_RX, "multicast frames can't be asked for")?;
        self.command(Control::RX_ALLMULTI, &[on.into()])?;
        self.wishes.all_multicast = Some(on);
        Ok(())
    }

    /// Receives also frames for these addresses, and for no others that were given before.
    pub fn set_addresses(&mut self, addresses: &[[u8; 6]]) -> Result<()> {
        self.need(Features::CTRL_RX, "more addresses than one can't be had")?;
        if addresses.len() > MAX_ADDRESSES {
            let message = format!("{} addresses: {MAX_ADDRESSES} can be had at most", addresses.len());
            return Err(Error::new(Errno::E2BIG, message));
        }
        self.command(Control::MAC_TABLE_SET, &table(addresses))?;
        self.wishes.addresses = Some(addresses.to_vec());
        Ok(())
    }

    /// Receives frames of a VLAN too, or no longer. A device that filters VLANs, which is agreed on when it is started, gives
    /// only those that were asked for: the first wish, of a stopped device, makes it one.
    pub fn filter_vlan(&mut self, id: u16, pass: bool) -> Result<()> {
        if id >= VLANS {
            return Err(Error::invalid(format!("there is no VLAN {id}: 0 to {} can be", VLANS - 1)));
        }
        if !self.started && self.has_control() && self.offered.contains(Features::CTRL_VLAN | Features::CTRL_VQ) {
            self.chosen |= Features::CTRL_VLAN | Features::CTRL_VQ;
            self.features |= Features::CTRL_VLAN | Features::CTRL_VQ;
        }
        self.need(Features::CTRL_VLAN, "VLANs are not filtered (a device that can is asked for it before its start)")?;
        self.command(if pass { Control::VLAN_ADD } else { Control::VLAN_DEL }, &id.to_le_bytes())?;
        self.wishes.vlans.retain(|vlan| *vlan != id);
        if pass {
            self.wishes.vlans.push(id);
        }
        Ok(())
    }

    /// Tells the device that its address has been announced, as it had asked.
    pub fn acknowledge_announcement(&mut self) -> Result<()> {
        self.need(Features::GUEST_ANNOUNCE, "no announcement is asked for")?;
        self.command(Control::ANNOUNCE_ACK, &[])?;
        // The device has taken it back by that, and says nothing of it.
        self.note_announce(false);
        Ok(())
    }

    /// Whether received frames can be spread over the queues by the device.
    pub fn has_rss(&self) -> bool {
        self.has(Features::RSS)
    }

    /// Spreads received frames over the queues by their hash; with HASH_REPORT alone, chooses what is hashed.
    pub fn steer(&mut self, rss: &Rss) -> Result<()> {
        if !self.has(Features::RSS) {
            self.need(Features::HASH_REPORT, "received frames can't be spread over queues by their hash")?;
        }
        self.check_rss(rss)?;
        self.tell_rss(rss, self.active)?;
        self.wishes.rss = Some(rss.clone());
        Ok(())
    }

    fn check_rss(&mut self, rss: &Rss) -> Result<()> {
        let mut bytes = [0; size_of::<NetConfig>()];
        if !self.backend()?.read_config(0, &mut bytes)? {
            return Err(Error::new(Errno::ENOTSUP, "the device does not say what it can hash"));
        }
        let space: NetConfig = zerocopy::transmute!(bytes);
        let (key, table) = (usize::from(space.rss_max_key_size), usize::from(space.rss_max_indirection_table_length));
        if rss.key.len() > key || rss.types & !space.supported_hash_types != 0 {
            return Err(Error::new(
                Errno::ENOTSUP,
                format!(
                    "RSS: the device takes a key of {key} bytes at most and the hash types {:#x}",
                    space.supported_hash_types
                ),
            ));
        }
        if self.has(Features::RSS) && (rss.table.len() > table || !rss.table.len().is_power_of_two()) {
            let message = format!("RSS: the device takes a table of a power of two of entries, {table} at most");
            return Err(Error::new(Errno::ENOTSUP, message));
        }
        match rss.table.iter().find(|queue| **queue >= self.active) {
            Some(queue) => Err(Error::invalid(format!("RSS: there is no receive queue {queue}"))),
            None => Ok(()),
        }
    }

    fn tell_rss(&mut self, rss: &Rss, pairs: u16) -> Result<()> {
        if !self.has(Features::RSS) {
            // `struct virtio_net_hash_config`.
            let data = [&rss.types.to_le_bytes()[..], &[0; 8], &[rss.key.len() as u8], &rss.key].concat();
            return self.command(Control::MQ_HASH_CONFIG, &data);
        }
        // `struct virtio_net_rss_config`.
        let table: Vec<u8> = rss.table.iter().flat_map(|queue| queue.to_le_bytes()).collect();
        let mask = (rss.table.len() as u16).wrapping_sub(1).to_le_bytes();
        let head = [&rss.types.to_le_bytes()[..], &mask, &[0; 2], &table];
        let data = [&head.concat()[..], &pairs.to_le_bytes(), &[rss.key.len() as u8], &rss.key].concat();
        self.command(Control::MQ_RSS_CONFIG, &data)
    }

    /// Whether the back-end has a control queue of its own.
    pub(super) fn has_control(&self) -> bool {
        self.backend.as_ref().is_some_and(|backend| backend.control_ring().is_some())
    }

    /// Whether this can be asked for over the control queue.
    fn has(&self, feature: Features) -> bool {
        self.has_control() && self.features.contains(feature | Features::CTRL_VQ)
    }

    fn need(&self, feature: Features, without: &str) -> Result<()> {
        if self.has(feature) {
            return Ok(());
        }
        let names: Vec<_> = feature.iter_names().map(|(name, _)| name).collect();
        Err(Error::new(Errno::ENOTSUP, format!("the device has no control queue with {}: {without}", names.join(", "))))
    }

    /// Gives a command to a device that runs, or is coming up; a stopped one gets it when it is started.
    fn command(&mut self, command: Control, data: &[u8]) -> Result<()> {
        self.control.as_mut().map_or(Ok(()), |control| control.command(command, data))
    }

    /// The control queue for the next start, if there is to be one. Its memory is for the device too.
    pub(super) fn make_control(&mut self) -> Result<()> {
        let index = self.backend.as_ref().and_then(|backend| backend.control_ring());
        let index = index.filter(|_| self.features.contains(Features::CTRL_VQ));
        let timeout = self.config.timeout();
        let most = self.backend.as_ref().map_or(0, |backend| backend.max_ring_size());
        self.control = index.map(|index| ControlQueue::new(index, most, self.features, timeout)).transpose()?;
        Ok(())
    }

    /// Tells the device of its control queue, which may be used when it is told to go.
    pub(super) fn set_up_control(&mut self) -> Result<()> {
        let (Some(control), Some(backend)) = (&self.control, &mut self.backend) else { return Ok(()) };
        let (index, size, base, kick) = (control.index, control.size(), control.base(), control.kick());
        let (desc, driver, device) = control.addresses();
        backend.set_call(index, control.call())?;
        backend.setup_ring(&RingSetup { index, size, base, desc, driver, device, kick })?;
        backend.enable_ring(index, true)
    }

    /// Tells a device that has a control queue how many pairs are used.
    fn tell_pairs(&mut self, pairs: u16) -> Result<()> {
        if self.control.is_none() || !self.has(Features::MQ) {
            return Ok(());
        }
        self.command(Control::MQ_VQ_PAIRS_SET, &pairs.to_le_bytes())
    }

    /// Tells a running device of another number of pairs, and then how frames are spread over these: a device that is told of a
    /// number may end receive side scaling by that (VIRTIO 5.1.6.5.5), as QEMU does.
    pub(super) fn tell_change_of_pairs(&mut self, pairs: u16) -> Result<()> {
        self.tell_pairs(pairs)?;
        self.tell_wanted_rss(pairs)
    }

    fn tell_wanted_rss(&mut self, pairs: u16) -> Result<()> {
        match self.wanted_rss(pairs) {
            Some(rss) => self.tell_rss(&rss, pairs).or_else(refused),
            None => Ok(()),
        }
    }

    /// Tells a device that has just come up what is wished for. What it refuses, it goes on without.
    pub(super) fn tell_wishes(&mut self) -> Result<()> {
        if self.control.is_none() {
            return Ok(());
        }
        // VIRTIO 5.1.6.5.5: until then there is one pair.
        self.tell_pairs(self.active)?;
        let Wishes { mac, promiscuous, all_multicast, .. } = self.wishes;
        let (mac, own) = ((mac || self.config.mac.is_some()).then_some(self.mac), self.wishes.vlans.clone());
        let mut all: Vec<(Features, Control, Vec<u8>)> = Vec::new();
        all.extend(mac.map(|mac| (Features::CTRL_MAC_ADDR, Control::MAC_ADDR_SET, mac.to_vec())));
        all.extend(promiscuous.map(|on| (Features::CTRL_RX, Control::RX_PROMISC, vec![on.into()])));
        all.extend(all_multicast.map(|on| (Features::CTRL_RX, Control::RX_ALLMULTI, vec![on.into()])));
        all.extend(self.wishes.addresses.iter().map(|a| (Features::CTRL_RX, Control::MAC_TABLE_SET, table(a))));
        all.extend(own.iter().map(|id| (Features::CTRL_VLAN, Control::VLAN_ADD, id.to_le_bytes().to_vec())));
        for (feature, command, data) in all {
            if self.has(feature) {
                self.command(command, &data).or_else(refused)?;
            }
        }
        self.tell_wanted_rss(self.active)
    }
}

/// `struct virtio_net_ctrl_mac`, twice: unicast, then multicast addresses.
fn table(addresses: &[[u8; 6]]) -> Vec<u8> {
    let mut data = Vec::new();
    for multicast in [0, 1] {
        let some: Vec<_> = addresses.iter().filter(|[first, ..]| first & 1 == multicast).collect();
        data.extend((some.len() as u32).to_le_bytes());
        data.extend(some.into_iter().flatten());
    }
    data
}

/// A device that refuses a command goes on without it.
fn refused(e: Error) -> Result<()> {
    if e.errno() != Errno::EREMOTEIO {
        return Err(e);
    }
    log::warn!("{e}");
    Ok(())
}

#[cfg(test)]
mod tests;
