//! What a back-end offers, what is used of it, and why not the rest, in words.

use super::{Device, Way, negotiate};
use crate::backend::vhost_user::choice::{SPOKEN, why_not};
use crate::spec::vhost_user::ProtocolFeatures;
use crate::spec::virtio::Features;

/// Bits that can be offered over vhost, virtio features or protocol features.
const BITS: u32 = 64;
/// How features are said to be there that no back-end has come for yet.
const NOBODY: &str = "no back-end has come yet that could offer it";

/// Whose feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of the virtio device.
    Virtio,
    /// Of the vhost-user protocol.
    Protocol,
}

/// One feature, and how it stands with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Whose.
    pub kind: Kind,
    /// Its number.
    pub bit: u32,
    /// Its name in small letters; `bit_48` for one without.
    pub name: String,
    /// The back-end offers it, or the last one did.
    pub offered: bool,
    /// It is used, or will be from the next start on.
    pub used: bool,
    /// We can make use of it.
    pub known: bool,
    /// Why it is not used although it is offered, or is not there although it is wanted.
    pub why: String,
}

fn names(features: Features) -> String {
    let names: Vec<_> = features.iter_names().map(|(name, _)| name.to_lowercase()).collect();
    names.join(" or ")
}

fn name(named: Option<(&str, impl Sized)>, bit: u32) -> String {
    named.map_or_else(|| format!("bit_{bit}"), |(name, _)| name.to_lowercase())
}

impl Device {
    /// The features that the back-end offers, or that have a name, those of virtio first.
    pub fn describe_features(&self) -> Vec<Feature> {
        let virtio = (0..BITS).filter_map(|bit| self.virtio_feature(bit));
        virtio.chain((0..BITS).filter_map(|bit| self.protocol_feature(bit))).collect()
    }

    /// Whether a back-end is there, or one was.
    fn has_met_one(&self) -> bool {
        self.link.number > 0
    }

    fn virtio_feature(&self, bit: u32) -> Option<Feature> {
        let feature = Features::from_bits_retain(1 << bit);
        let of_transport = self.backend.as_ref().map_or(Features::empty(), |b| b.transport_features());
        let (used, offers) = (self.features.union(of_transport), self.offered.union(self.offers.features));
        let (used, offered) = (used.contains(feature), self.has_met_one() && offers.contains(feature));
        let named = feature.iter_names().next();
        let transport = Features::PROTOCOL_FEATURES | Features::LOG_ALL | of_transport;
        let known = (negotiate::SUPPORTED | transport).contains(feature);
        let why = match used {
            true if self.has_met_one() => String::new(),
            true => NOBODY.to_owned(),
            false => self.why_not(feature, offered),
        };
        (offered || named.is_some()).then(|| {
            let name = name(named, bit);
            Feature { kind: Kind::Virtio, bit, name, offered, used, known, why }
        })
    }

    /// Why a feature is not used that is offered or wanted; nothing about any other.
    fn why_not(&self, feature: Features, offered: bool) -> String {
        let wanted = self.chosen.contains(feature) && negotiate::SUPPORTED.contains(feature);
        let by_messages = negotiate::by_messages(self.chosen);
        let told_by_messages = !self.has_control_ring() && !by_messages.contains(feature);
        match (offered, wanted) {
            (false, false) => String::new(),
            (_, true) if told_by_messages => {
                if !offered {
                    return String::new();
                }
                "this back-end has no control queue of its own: what goes over one is told by messages, as far as there are \
                 any"
                .to_owned()
            }
            (false, true) if !self.has_met_one() => NOBODY.to_owned(),
            (false, true) => match negotiate::asked_by(feature) {
                Some(option) => format!("asked for by {option}; the back-end does not offer it"),
                None => "always asked for; the back-end does not offer it".to_owned(),
            },
            (true, true) => self.why_lost(feature),
            (true, false) => self.why_unwanted(feature),
        }
    }

    /// Why a feature is not used that is offered and wanted.
    fn why_lost(&self, feature: Features) -> String {
        if feature == Features::MQ && !self.offered.contains(feature) {
            return "needs the protocol feature mq, which the back-end does not offer".to_owned();
        }
        match negotiate::lacks(feature, self.features) {
            Some(needs) if self.offered.intersects(needs) => format!("needs {}, which is not used", names(needs)),
            Some(needs) => format!("needs {}, which the back-end does not offer", names(needs)),
            None => "left out while the device runs; stop it and start it to use it".to_owned(),
        }
    }

    /// Why a feature is not used that is offered and not wanted.
    fn why_unwanted(&self, feature: Features) -> String {
        if feature == Features::LOG_ALL {
            return "used while a log of written pages is kept: vuser_dirty_log_start".to_owned();
        }
        if feature == Features::SPEED_DUPLEX {
            return "need not be agreed on: the speed is read from the configuration space all the same".to_owned();
        }
        if !negotiate::SUPPORTED.contains(feature) {
            return "this library does not drive it".to_owned();
        }
        if negotiate::wanted(&self.config).contains(feature) {
            return "left out by vuser_dev_set_features".to_owned();
        }
        match negotiate::asked_by(feature) {
            Some(option) => format!("not asked for: {option} asks for it"),
            None => "not asked for".to_owned(),
        }
    }

    fn has_control_ring(&self) -> bool {
        self.backend.as_ref().is_some_and(|backend| backend.control_ring().is_some())
    }

    fn protocol_feature(&self, bit: u32) -> Option<Feature> {
        if !matches!(self.config.way(), Way::VhostUser | Way::Loopback) {
            return None;
        }
        let offers = ProtocolFeatures::from_bits_retain(self.offers.protocol);
        let feature = ProtocolFeatures::from_bits_retain(1 << bit);
        let in_use = self.backend.as_ref().map_or(0, |backend| backend.protocol_features());
        let (offered, used) = (offers.contains(feature), in_use & feature.bits() != 0);
        let named = feature.iter_names().next();
        let known = SPOKEN.contains(feature);
        let why = match used {
            true => "",
            false if known && !self.has_met_one() => NOBODY,
            false if offered && self.backend.is_none() => "the back-end has gone",
            false => why_not(feature, offers),
        };
        (offered || named.is_some()).then(|| {
            let name = name(named, bit);
            Feature { kind: Kind::Protocol, bit, name, offered, used, known, why: why.to_owned() }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::Config;

    fn device(text: &str) -> Device {
        let mut config = Config { huge: false, ..Config::default() };
        config.parse(text).unwrap();
        Device::new(config).unwrap()
    }

    fn find(device: &Device, kind: Kind, name: &str) -> Feature {
        let found = device.describe_features().into_iter().find(|f| f.kind == kind && f.name == name);
        found.unwrap_or_else(|| panic!("no {name}"))
    }

    #[test]
    fn the_table_says_what_the_masks_say_and_why_not() {
        let mut device = device("path=loopback,tso=1,in_order=0");
        let (offered, features) = (device.offered(), device.features());
        let protocol = (device.info().protocol_features, device.info().protocol_features_offered);
        let all = device.describe_features();
        for f in &all {
            match f.kind {
                Kind::Virtio if ![26, 30].contains(&f.bit) => {
                    assert_eq!(f.offered, offered.bits() >> f.bit & 1 == 1, "{f:?}");
                    assert_eq!(f.used, features.bits() >> f.bit & 1 == 1, "{f:?}");
                }
                Kind::Virtio => assert!(f.offered && f.used == (f.bit == 30), "{f:?}"),
                Kind::Protocol => {
                    assert_eq!(f.used, protocol.0 >> f.bit & 1 == 1, "{f:?}");
                    assert_eq!(f.offered, protocol.1 >> f.bit & 1 == 1, "{f:?}");
                }
            }
            assert!(f.used || !f.offered || !f.why.is_empty(), "{f:?}");
            assert!(!f.used || f.why.is_empty() && f.known, "{f:?}");
            assert!(f.why.len() < 160 && f.name.len() < 32, "{f:?}");
        }
        let why = |name| find(&device, Kind::Virtio, name).why;
        assert_eq!(why("ring_packed"), "not asked for: packed_vq=1 asks for it");
        assert_eq!(why("in_order"), "not asked for: in_order=1 asks for it");
        assert_eq!(why("host_uso"), "not asked for: uso=1 asks for it");
        assert_eq!(why("guest_csum"), "not asked for: rx_csum=1 or lro=1 or rx_uso=1 asks for it");
        assert_eq!(why("mq"), "not asked for: queues=2 or more asks for it");
        assert_eq!(why("host_tso4"), "");
        let reset = find(&device, Kind::Protocol, "reset_device");
        assert!(reset.offered && !reset.used && reset.why.starts_with("not needed"), "{reset:?}");
        let inflight = find(&device, Kind::Protocol, "inflight_shmfd");
        assert!(!inflight.offered && inflight.why.ends_with("does not offer it"), "{inflight:?}");

        device.set_features(Features::VERSION_1).unwrap();
        assert_eq!(find(&device, Kind::Virtio, "mrg_rxbuf").why, "left out by vuser_dev_set_features");
    }

    #[test]
    fn a_device_without_a_back_end_says_so() {
        let path = std::env::temp_dir().join(format!("vuser-features-{}", std::process::id()));
        let device = device(&format!("path={},server=1,packed_vq=1", path.display()));
        let all = device.describe_features();
        assert!(all.iter().all(|f| !f.offered), "{all:?}");
        let packed = find(&device, Kind::Virtio, "ring_packed");
        assert!(packed.used && packed.known && packed.why == NOBODY, "{packed:?}");
        assert_eq!(find(&device, Kind::Protocol, "config").why, NOBODY);
        drop(device);
        let _ = std::fs::remove_file(path);
    }
}
