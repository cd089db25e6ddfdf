//! What can be chosen of the device.

use std::time::Duration;

use super::frame::FRAME_LENGTHS;
use super::net::Mode;
use crate::error::{Error, Result};
use crate::spec::vhost_user::{MAX_VRINGS, ProtocolFeatures};
use crate::spec::virtio::Features;

/// What the device offers and how it behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What it does with frames.
    pub mode: Mode,
    /// Features that it offers.
    pub features: Features,
    /// Protocol features that it offers, if [`Features::PROTOCOL_FEATURES`] is among its features.
    pub protocol: ProtocolFeatures,
    /// Pairs of rings that it has.
    pub queue_pairs: u16,
    /// Answer to GET_QUEUE_NUM, if it shall not be the truth.
    pub queue_num: Option<u64>,
    /// MAC address in configuration space; generated frames go to it.
    pub mac: [u8; 6],
    /// MTU in configuration space.
    pub mtu: u16,
    /// Bytes of a generated frame, without a frame check sequence.
    pub frame_len: u16,
    /// Without IN_ORDER: buffers are handed back out of order, each at most so many frames away. Frames of one burst
    /// then arrive in that order, too.
    pub shuffle: u16,
    /// So many frames that were sent are always in hand before they are done, as with a device that works on many.
    pub hold: u16,
    /// With HOST_NOTIFIER: kicks go to a page of each ring's, which it looks at every millisecond when it sleeps.
    pub notifier: bool,
    /// With IN_ORDER: of a batch of buffers only the last is told (2.7.9, 2.8.8).
    pub batch_used: bool,
    /// With IN_ORDER and a split ring: refuse a driver whose descriptors are not in ring order (2.7.5).
    pub strict: bool,
    /// How long an idle device polls before it sleeps.
    pub spin: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Mode::Echo,
            features: default_features(),
            protocol: default_protocol(),
            queue_pairs: 1,
            queue_num: None,
            mac: [0x02, 0, 0, 0, 0, 0x01],
            mtu: 1500,
            frame_len: 64,
            shuffle: 0,
            hold: 0,
            notifier: false,
            batch_used: false,
            strict: false,
            spin: Duration::from_micros(75),
        }
    }
}

fn default_features() -> Features {
    let ring = Features::VERSION_1
        | Features::RING_PACKED
        | Features::IN_ORDER
        | Features::EVENT_IDX
        | Features::INDIRECT_DESC
        | Features::ANY_LAYOUT
        | Features::LOG_ALL
        | Features::PROTOCOL_FEATURES;
    let config = Features::MAC | Features::MTU | Features::STATUS | Features::MQ | Features::SPEED_DUPLEX;
    let send = Features::CSUM | Features::HOST_TSO4 | Features::HOST_TSO6 | Features::HOST_ECN | Features::HOST_USO;
    let receive = Features::MRG_RXBUF
        | Features::GUEST_CSUM
        | Features::GUEST_TSO4
        | Features::GUEST_TSO6
        | Features::GUEST_ECN
        | Features::GUEST_USO4
        | Features::GUEST_USO6;
    ring | config | send | receive
}

fn default_protocol() -> ProtocolFeatures {
    ProtocolFeatures::MQ
        | ProtocolFeatures::LOG_SHMFD
        | ProtocolFeatures::RARP
        | ProtocolFeatures::REPLY_ACK
        | ProtocolFeatures::NET_MTU
        | ProtocolFeatures::BACKEND_REQ
        | ProtocolFeatures::CONFIG
        | ProtocolFeatures::BACKEND_SEND_FD
        | ProtocolFeatures::HOST_NOTIFIER
        | ProtocolFeatures::RESET_DEVICE
        | ProtocolFeatures::CONFIGURE_MEM_SLOTS
        | ProtocolFeatures::STATUS
}

/// Features that can be switched by name.
const SWITCHES: [(&str, Features); 8] = [
    ("version_1", Features::VERSION_1),
    ("packed", Features::RING_PACKED),
    ("in_order", Features::IN_ORDER),
    ("event_idx", Features::EVENT_IDX),
    ("indirect", Features::INDIRECT_DESC),
    ("mrg_rxbuf", Features::MRG_RXBUF),
    ("hash_report", Features::HASH_REPORT),
    ("protocol_features", Features::PROTOCOL_FEATURES),
];

impl Options {
    /// Reads `key=value` pairs, separated by commas, for example `mode=echo,queues=2,packed=0`.
    ///
    /// Keys: `mode` (echo, sink, source), `queues`, `queue_num`, `mac`, `mtu`, `frame`, `shuffle`, `hold`, `inflight` (notes
    /// of what is in flight), `batch_used`, `notifier`, `strict`, `spin_us`, `features` and `protocol` (hexadecimal, the whole set), and switches for single features:
    /// `version_1`, `packed`, `in_order`, `event_idx`, `indirect`, `mrg_rxbuf`, `hash_report`, `protocol_features`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut options = Self::default();
        for pair in text.split(',').filter(|p| !p.is_empty()) {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| Error::invalid(format!("loopback option {pair} has no value")))?;
            options.set(key, value)?;
        }
        options.check()?;
        Ok(options)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "mode" => self.mode = mode(value)?,
            "queues" => self.queue_pairs = number(key, value)?,
            "queue_num" => self.queue_num = Some(number(key, value)?),
            "mac" => self.mac = mac(value)?,
            "mtu" => self.mtu = number(key, value)?,
            "frame" => self.frame_len = number(key, value)?,
            "shuffle" => self.shuffle = number(key, value)?,
            "hold" => self.hold = number(key, value)?,
            "inflight" => self.protocol.set(ProtocolFeatures::INFLIGHT_SHMFD, switch(key, value)?),
            "notifier" => self.notifier = switch(key, value)?,
            "batch_used" => self.batch_used = switch(key, value)?,
            "strict" => self.strict = switch(key, value)?,
            "spin_us" => self.spin = Duration::from_micros(number(key, value)?),
            "features" => self.features = Features::from_bits_retain(hexadecimal(key, value)?.into()),
            "protocol" => self.protocol = ProtocolFeatures::from_bits_truncate(hexadecimal(key, value)?),
            _ => {
                let found = SWITCHES.iter().find(|(name, _)| *name == key);
                let (_, feature) = found.ok_or_else(|| Error::invalid(format!("unknown loopback option {key}")))?;
                self.features.set(*feature, switch(key, value)?);
            }
        }
        Ok(())
    }

    /// Whether a device can be like that.
    pub(super) fn check(&self) -> Result<()> {
        if self.queue_pairs == 0 || self.queue_pairs > MAX_VRINGS / 2 {
            let message = format!("a loopback has 1 to {} queue pairs, not {}", MAX_VRINGS / 2, self.queue_pairs);
            return Err(Error::invalid(message));
        }
        if !FRAME_LENGTHS.contains(&self.frame_len) {
            let (least, most) = FRAME_LENGTHS.into_inner();
            let message = format!("generated frames have {least} to {most} bytes, not {}", self.frame_len);
            return Err(Error::invalid(message));
        }
        if self.mac[0] & 1 != 0 {
            return Err(Error::invalid("a device cannot have a multicast address"));
        }
        Ok(())
    }
}

fn wrong(key: &str, value: &str, what: &str) -> Error {
    Error::invalid(format!("loopback option {key}={value}: {what}"))
}

fn mode(value: &str) -> Result<Mode> {
    match value {
        "echo" => Ok(Mode::Echo),
        "sink" => Ok(Mode::Sink),
        "source" => Ok(Mode::Source),
        _ => Err(wrong("mode", value, "echo, sink or source")),
    }
}

fn number<T: std::str::FromStr>(key: &str, value: &str) -> Result<T> {
    value.parse().map_err(|_| wrong(key, value, "not a number, or out of range"))
}

fn switch(key: &str, value: &str) -> Result<bool> {
    match value {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(wrong(key, value, "0 or 1")),
    }
}

fn hexadecimal(key: &str, value: &str) -> Result<u64> {
    let digits = value.strip_prefix("0x").unwrap_or(value);
    u64::from_str_radix(digits, 16).map_err(|_| wrong(key, value, "not a hexadecimal number"))
}

fn mac(value: &str) -> Result<[u8; 6]> {
    let bytes: Option<Vec<u8>> = value.split(':').map(|b| u8::from_str_radix(b, 16).ok()).collect();
    bytes.and_then(|b| b.try_into().ok()).ok_or_else(|| wrong("mac", value, "not like 02:00:00:00:00:01"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_by_name() {
        let text = "mode=source,queues=2,mac=02:00:00:00:00:2a,frame=128,packed=0,hash_report=1,shuffle=3";
        let options = Options::parse(text).unwrap();
        assert_eq!((options.mode, options.queue_pairs, options.mac[5]), (Mode::Source, 2, 42));
        assert_eq!((options.frame_len, options.shuffle), (128, 3));
        assert!(!options.features.contains(Features::RING_PACKED) && options.features.contains(Features::HASH_REPORT));
        assert_eq!(Options::parse("").unwrap(), Options::default());
        let bits = Options::parse("features=0x100000000,protocol=9").unwrap();
        assert_eq!(bits.features, Features::VERSION_1);
        assert_eq!(bits.protocol, ProtocolFeatures::MQ | ProtocolFeatures::REPLY_ACK);
    }

    #[test]
    fn wrong_options_are_named() {
        for text in ["mode=ping", "queues", "queues=0", "queues=129", "nonsense=1", "frame=59", "mac=1:2", "packed=2"] {
            let error = Options::parse(text).unwrap_err().to_string();
            assert!(error.contains("loopback") || error.contains("frames"), "{text}: {error}");
        }
        assert!(Options::parse("mac=01:00:00:00:00:00").is_err());
    }
}
