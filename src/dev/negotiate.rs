//! Which features we want, which we get, and why not the others.

use super::config::{Config, Offloads};
use crate::error::{Error, Result};
use crate::spec::virtio::Features;

/// All features that this driver can drive. The transport's own bit 30 is the back-end's business.
pub const SUPPORTED: Features = Features::CSUM
    .union(Features::GUEST_CSUM)
    .union(Features::MTU)
    .union(Features::MAC)
    .union(Features::GUEST_TSO4)
    .union(Features::GUEST_TSO6)
    .union(Features::GUEST_ECN)
    .union(Features::HOST_TSO4)
    .union(Features::HOST_TSO6)
    .union(Features::HOST_ECN)
    .union(Features::MRG_RXBUF)
    .union(Features::STATUS)
    .union(Features::MQ)
    .union(Features::CTRL_VQ)
    .union(OVER_CONTROL_QUEUE)
    .union(Features::ANY_LAYOUT)
    .union(Features::INDIRECT_DESC)
    .union(Features::EVENT_IDX)
    .union(Features::VERSION_1)
    .union(Features::RING_PACKED)
    .union(Features::IN_ORDER)
    .union(Features::GUEST_USO4)
    .union(Features::GUEST_USO6)
    .union(Features::HOST_USO)
    .union(Features::HASH_REPORT)
    .union(Features::GUEST_HDRLEN);

/// Features whose option, or other reason to be asked for, has this name.
const ASKED_BY: [(Features, &str); 7] = [
    (Features::MRG_RXBUF, "mrg_rxbuf=1"),
    (Features::IN_ORDER, "in_order=1"),
    (Features::RING_PACKED, "packed_vq=1"),
    (Features::EVENT_IDX, "event_idx=1"),
    (Features::INDIRECT_DESC, "indirect=1"),
    (Features::MQ, "queues=2 or more"),
    (Features::CTRL_VLAN, "vuser_dev_vlan_filter"),
];

/// Features that are of use only where there is a control queue of the device's own to speak over.
pub(super) const OVER_CONTROL_QUEUE: Features = Features::CTRL_RX
    .union(Features::CTRL_VLAN)
    .union(Features::GUEST_ANNOUNCE)
    .union(Features::CTRL_MAC_ADDR)
    .union(Features::RSS);

/// What each feature cannot do without (VIRTIO 5.1.3.1, 6; the last two lines are bits above 31, which legacy
/// devices do not have).
const NEEDS: [(Features, Features); 13] = [
    (OVER_CONTROL_QUEUE, Features::CTRL_VQ),
    (Features::GUEST_TSO4, Features::GUEST_CSUM),
    (Features::GUEST_TSO6, Features::GUEST_CSUM),
    (Features::GUEST_ECN, Features::GUEST_TSO4.union(Features::GUEST_TSO6)),
    (Features::GUEST_USO4, Features::GUEST_CSUM),
    (Features::GUEST_USO6, Features::GUEST_CSUM),
    (Features::HOST_TSO4, Features::CSUM),
    (Features::HOST_TSO6, Features::CSUM),
    (Features::HOST_ECN, Features::HOST_TSO4.union(Features::HOST_TSO6)),
    (Features::HOST_USO, Features::CSUM),
    (Features::GUEST_HDRLEN, Features::VERSION_1),
    (Features::HASH_REPORT, Features::VERSION_1),
    (Features::RING_PACKED.union(Features::IN_ORDER), Features::VERSION_1),
];

/// The features that are there for offloads: a choice of offloads decides on these, and on no other.
const FOR_OFFLOADS: Features = Features::CSUM
    .union(Features::GUEST_CSUM)
    .union(Features::GUEST_TSO4)
    .union(Features::GUEST_TSO6)
    .union(Features::GUEST_ECN)
    .union(Features::HOST_TSO4)
    .union(Features::HOST_TSO6)
    .union(Features::HOST_ECN)
    .union(Features::GUEST_USO4)
    .union(Features::GUEST_USO6)
    .union(Features::HOST_USO)
    .union(Features::HASH_REPORT)
    .union(Features::GUEST_HDRLEN);

/// The features that offloads need, or are better with.
fn wanted_for(offloads: Offloads) -> Features {
    let mut wanted = offloads.features();
    wanted.set(Features::HOST_ECN, offloads.contains(Offloads::TSO));
    wanted.set(Features::GUEST_ECN, offloads.contains(Offloads::LRO));
    // hdr_len is always exact here.
    wanted.set(Features::GUEST_HDRLEN, offloads.intersects(Offloads::TSO | Offloads::USO));
    wanted
}

/// What asks for a feature, in the words of the configuration; nothing for those that are always asked for.
pub fn asked_by(feature: Features) -> Option<String> {
    if let Some((_, name)) = ASKED_BY.iter().find(|(features, _)| features.contains(feature)) {
        return Some((*name).to_owned());
    }
    let offloads = Offloads::all().iter().filter(|offload| wanted_for(*offload).contains(feature));
    let names: Vec<_> =
        offloads.flat_map(|o| o.iter_names()).map(|(name, _)| format!("{}=1", name.to_lowercase())).collect();
    (!names.is_empty()).then(|| names.join(" or "))
}

/// What a feature cannot do without and does not have, among these.
pub fn lacks(feature: Features, features: Features) -> Option<Features> {
    let needs = NEEDS.iter().find(|(f, needs)| f.contains(feature) && !features.intersects(*needs));
    needs.map(|(_, needs)| *needs)
}

/// The features that a configuration asks for.
pub fn wanted(config: &Config) -> Features {
    let always = Features::VERSION_1 | Features::ANY_LAYOUT | Features::MAC | Features::MTU | Features::STATUS;
    let mut wanted = always | wanted_for(config.offloads);
    wanted.set(Features::MRG_RXBUF, config.mrg_rxbuf);
    wanted.set(Features::IN_ORDER, config.in_order);
    wanted.set(Features::RING_PACKED, config.packed_vq);
    wanted.set(Features::EVENT_IDX, config.event_idx);
    wanted.set(Features::INDIRECT_DESC, config.indirect);
    // VLANs are filtered only when somebody says which: a device that agreed to it drops all others.
    wanted |= Features::CTRL_VQ | (OVER_CONTROL_QUEUE - Features::CTRL_VLAN);
    wanted.set(Features::MQ, config.queues > 1);
    wanted
}

/// What is wanted of a device that has no control queue of its own, and is told of everything by messages. MQ must not be
/// without CTRL_VQ (VIRTIO 5.1.3.1), on which nothing is sent then.
pub fn by_messages(mut wanted: Features) -> Features {
    wanted -= OVER_CONTROL_QUEUE;
    wanted.set(Features::CTRL_VQ, wanted.contains(Features::MQ));
    wanted
}

/// What comes of it with a device that offers these; each feature that was wanted and is not had is logged.
pub fn agree(wanted: Features, offered: Features) -> Features {
    for lost in (wanted & SUPPORTED & !offered).iter_names() {
        log::info!("no {}: the device does not offer it", lost.0);
    }
    settle(wanted & offered & SUPPORTED)
}

/// Takes away what cannot be without what is not there.
fn settle(mut agreed: Features) -> Features {
    // Dependencies are at most two deep (ECN needs TSO needs CSUM).
    for _ in 0..2 {
        for (feature, needs) in NEEDS {
            if agreed.intersects(feature) && !agreed.intersects(needs) {
                log::debug!("no {:?}: it needs {needs:?}, which the device does not offer", agreed & feature);
                agreed &= !feature;
            }
        }
    }
    agreed
}

/// The offloads that a device makes possible beside the features chosen for it that have nothing to do with offloads.
pub fn possible(chosen: Features, offered: Features) -> Offloads {
    // What no device does, we do.
    in_use(settle((chosen - FOR_OFFLOADS) | (offered & FOR_OFFLOADS & SUPPORTED))) | Offloads::HASH
}

/// The offloads that come with these features.
pub fn in_use(features: Features) -> Offloads {
    Offloads::all().iter().filter(|offload| features.contains(offload.features())).collect()
}

/// Of these features, those that are there for offloads.
pub fn of_offloads(features: Features) -> Features {
    features & FOR_OFFLOADS
}

/// Of these features, those that are not there for offloads.
pub fn without_offloads(features: Features) -> Features {
    features - FOR_OFFLOADS
}

/// Features that were chosen, with another choice of offloads.
pub fn with_offloads(chosen: Features, offered: Features, offloads: Offloads) -> Features {
    settle((chosen - FOR_OFFLOADS) | (wanted_for(offloads) & offered & SUPPORTED))
}

/// Looks whether a choice of the caller's can be.
pub fn check(chosen: Features, offered: Features) -> Result<()> {
    let refuse = |which: Features, why: &str| Err(Error::invalid(format!("features {:#x} {why}", which.bits())));
    // `difference`, because `!` leaves out bits that have no name.
    let (strange, unsupported) = (chosen.difference(offered), chosen.difference(SUPPORTED));
    if !strange.is_empty() {
        return refuse(strange, "are not offered by the device");
    }
    if !unsupported.is_empty() {
        return refuse(unsupported, "are not supported by this driver");
    }
    for (feature, needs) in NEEDS {
        if chosen.intersects(feature) && !chosen.intersects(needs) {
            return refuse(chosen & feature, &format!("need one of {:#x} as well", needs.bits()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_dpdks() {
        let all = agree(wanted(&Config::default()), Features::all());
        assert!(all.contains(Features::MRG_RXBUF | Features::IN_ORDER | Features::VERSION_1));
        assert!(!all.intersects(Features::RING_PACKED | Features::CSUM | Features::GUEST_CSUM | Features::MQ));
    }

    #[test]
    fn offloads_are_chosen_among_those_that_can_be() {
        let all = agree(wanted(&Config::default()), Features::all());
        assert_eq!(possible(all, Features::all()), Offloads::all());
        let no_csum = Features::all() - Features::CSUM;
        let receive = Offloads::RX_CSUM | Offloads::LRO | Offloads::RX_USO | Offloads::HASH | Offloads::VLAN_STRIP;
        assert_eq!(possible(all, no_csum), receive);
        assert_eq!(possible(all - Features::VERSION_1, no_csum), receive);
        assert_eq!(possible(all, Features::VERSION_1), Offloads::VLAN_STRIP | Offloads::HASH);
        // All else that was chosen stays, and what is in use says what was chosen.
        let chosen = with_offloads(all - Features::MRG_RXBUF, Features::all(), Offloads::TSO);
        assert!(chosen.contains(Features::HOST_TSO4 | Features::CSUM | Features::HOST_ECN | Features::GUEST_HDRLEN));
        assert_eq!(chosen - FOR_OFFLOADS, all - Features::MRG_RXBUF);
        assert_eq!(in_use(chosen), Offloads::TSO | Offloads::CSUM | Offloads::VLAN_STRIP);
        assert_eq!(with_offloads(chosen, Features::all(), Offloads::empty()), all - Features::MRG_RXBUF);
        for offload in Offloads::all().iter() {
            assert!(FOR_OFFLOADS.contains(wanted_for(offload)), "{offload:?}");
        }
    }

    #[test]
    fn what_a_feature_needs_decides() {
        let mut config = Config::default();
        config.parse("packed_vq=1,tso=1,lro=1").unwrap();
        let legacy = agree(wanted(&config), Features::all() & !Features::VERSION_1);
        assert!(!legacy.intersects(Features::RING_PACKED | Features::IN_ORDER));
        let plain = agree(wanted(&config), Features::all() & !Features::CSUM);
        assert!(!plain.intersects(Features::HOST_TSO4 | Features::HOST_TSO6 | Features::HOST_ECN));
        assert!(plain.contains(Features::GUEST_TSO4 | Features::GUEST_ECN));
        assert!(check(plain, Features::all()).is_ok());
        assert!(check(Features::HOST_TSO4, Features::all()).is_err());
        assert!(check(Features::CSUM, Features::GUEST_CSUM).is_err());
        assert!(check(Features::NOTIFY_ON_EMPTY, Features::all()).is_err());
        let nameless = Features::from_bits_retain(1 << 48);
        assert!(check(nameless, Features::all()).is_err() && check(nameless, nameless).is_err());
    }
}
