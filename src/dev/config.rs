//! What a device shall be: DPDK's device arguments under DPDK's names, and ours beside them.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bitflags::bitflags;

use crate::error::{Error, Result};
use crate::mem::lanes::Simd;
use crate::spec::net::MIN_MTU;
use crate::spec::ring::MAX_QUEUE_SIZE;
use crate::spec::vhost_user::MAX_VRINGS;
use crate::spec::virtio::Features;

/// `path` of the device that is built into this library.
pub const LOOPBACK: &str = "loopback";
/// `speed` of a link of which nothing is known.
pub const SPEED_UNKNOWN: u32 = u32::MAX;
/// Link speeds in Mb/s that can be reported: those that DPDK has names for.
pub const SPEEDS: [u32; 15] =
    [10, 100, 1000, 2500, 5000, 10_000, 20_000, 25_000, 40_000, 50_000, 56_000, 100_000, 200_000, 400_000, 800_000];

/// Queue pairs that can be asked for: vhost-user has one byte for a ring's index.
const MAX_PAIRS: u16 = MAX_VRINGS / 2;
/// Smallest queue: a frame takes two descriptors with devices that want its header in one of its own.
const MIN_QUEUE_SIZE: u16 = 2;
/// Longest wait that can be asked for: an hour.
const MAX_TIMEOUT_MS: u32 = 3_600_000;
/// Shortest pause between two attempts to reach a back-end.
const MIN_PAUSE_MS: u32 = 10;
/// Permission bits of a file.
const PERMISSIONS: u32 = 0o777;
const PERMISSIONS_ARE: &str = "it is the permissions of a file in octal digits, 0660 for example";
/// Longest time for which a thread of the kernel's may look again: a second.
const MAX_BUSYLOOP_US: u32 = 1_000_000;
/// Longest name of a network interface (`IFNAMSIZ` less its final zero).
const MAX_IFACE: usize = 15;

bitflags! {
    /// Work on frames that is left to the device, or that its frames may still need when we receive them.
    ///
    /// The names of DPDK's ethdev offloads are given for comparison.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Offloads: u64 {
        /// `csum`: the device computes TCP and UDP checksums (TX TCP_CKSUM, UDP_CKSUM).
        const CSUM = 1 << 0;
        /// `tso`: the device segments TCP (TX TCP_TSO).
        const TSO = 1 << 1;
        /// `uso`: the device segments UDP (TX UDP_TSO).
        const USO = 1 << 2;
        /// `rx_csum`: received frames carry a verdict on their checksum, or a part of it (RX TCP_CKSUM, UDP_CKSUM).
        const RX_CSUM = 1 << 3;
        /// `lro`: received TCP frames may be larger than the MTU (RX TCP_LRO).
        const LRO = 1 << 4;
        /// `rx_uso`: received UDP frames may be several in one.
        const RX_USO = 1 << 5;
        /// `vlan_strip`: VLAN tags are taken out of received frames (RX VLAN_STRIP). We do it; no device need know.
        const VLAN_STRIP = 1 << 6;
        /// `hash`: received frames carry a hash (RX RSS_HASH), the device's or, where it has none, ours.
        const HASH = 1 << 7;
    }
}

impl Offloads {
    /// The virtio features that these need, with the features that those require in turn (VIRTIO 5.1.3.1).
    pub fn features(self) -> Features {
        const TABLE: [(Offloads, Features); 7] = [
            (Offloads::CSUM, Features::CSUM),
            (Offloads::TSO, Features::CSUM.union(Features::HOST_TSO4).union(Features::HOST_TSO6)),
            (Offloads::USO, Features::CSUM.union(Features::HOST_USO)),
            (Offloads::RX_CSUM, Features::GUEST_CSUM),
            (Offloads::LRO, Features::GUEST_CSUM.union(Features::GUEST_TSO4).union(Features::GUEST_TSO6)),
            (Offloads::RX_USO, Features::GUEST_CSUM.union(Features::GUEST_USO4).union(Features::GUEST_USO6)),
            (Offloads::HASH, Features::HASH_REPORT),
        ];
        TABLE.iter().filter(|(o, _)| self.contains(*o)).fold(Features::empty(), |all, (_, f)| all | *f)
    }
}

/// What the built-in device does with frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// It returns them.
    #[default]
    Echo,
    /// It takes them.
    Sink,
    /// It makes them.
    Source,
}

impl Mode {
    /// All modes, by name.
    pub const NAMES: [(&str, Self); 3] = [("echo", Self::Echo), ("sink", Self::Sink), ("source", Self::Source)];
}

/// Who looks after what happens to a device: a back-end that goes or comes, or has something to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum EventMode {
    /// A thread of ours.
    #[default]
    Thread,
    /// The application, whenever the device's descriptor is readable.
    Manual,
}

impl EventMode {
    /// All modes, by name.
    pub const NAMES: [(&str, Self); 2] = [("thread", Self::Thread), ("manual", Self::Manual)];
}

/// How a device is reached, which its path says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is built into this library.
    Loopback,
    /// Over a socket.
    VhostUser,
    /// Through the kernel's vhost-vdpa: `/dev/vhost-vdpa-N`.
    VhostVdpa,
    /// Through the kernel's vhost-net, with a tap at the other end: `/dev/vhost-net`.
    VhostKernel,
}

/// What a device shall be. [`Default`] is DPDK's default; [`parse`](Self::parse) changes it, and
/// [`validate`](Self::validate) looks at the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Socket of the back-end, or [`LOOPBACK`].
    pub path: PathBuf,
    /// MAC address; otherwise the device's, otherwise a random one.
    pub mac: Option<[u8; 6]>,
    /// A control queue is wanted.
    pub cq: bool,
    /// Queue pairs.
    pub queues: u16,
    /// Descriptors of each queue.
    pub queue_size: u16,
    /// Name of the network interface, with a kernel back-end.
    pub iface: String,
    /// We listen, the back-end connects.
    pub server: bool,
    /// Received frames may span several buffers.
    pub mrg_rxbuf: bool,
    /// Buffers may be used in order.
    pub in_order: bool,
    /// Packed virtqueues are wanted.
    pub packed_vq: bool,
    /// Vector code is wanted.
    pub vectorized: bool,
    /// Link speed to report in Mb/s, or [`SPEED_UNKNOWN`].
    pub speed: u32,
    /// Kick and call thresholds by ring index may be used.
    pub event_idx: bool,
    /// Tables of descriptors may be used.
    pub indirect: bool,
    /// Memory in huge pages when there are any.
    pub huge: bool,
    /// Count frames by length and by kind of address too, which reads a line of each.
    pub stats: bool,
    /// Longest wait for the back-end, in milliseconds.
    pub timeout_ms: u32,
    /// What the built-in device does; for no other.
    pub mode: Option<Mode>,
    /// Offloads that are wanted.
    pub offloads: Offloads,
    /// Written to the `port` of received packets.
    pub port: u16,
    /// The widest lanes that may be used.
    pub simd: Simd,
    /// With `server`: how long the making of the device waits for the first back-end, in milliseconds; 0 not at all.
    pub server_wait_ms: u32,
    /// With `server`: permissions of the socket's file; otherwise what the umask leaves.
    pub socket_mode: Option<u32>,
    /// A back-end that has gone is looked for again.
    pub reconnect: bool,
    /// Longest pause between two attempts to reach a back-end that has gone, in milliseconds.
    pub reconnect_ms: u32,
    /// Packets that a back-end that has gone was given, and did not mark used, are sent again to the next one.
    pub resend: bool,
    /// MTU to be used; 0: the device's.
    pub mtu: u16,
    /// With vhost-user: device addresses begin near zero.
    pub compact: bool,
    /// Who looks after events.
    pub events: EventMode,
    /// With vhost-net: the tap stays when we go.
    pub persist: bool,
    /// With vhost-net: microseconds for which the kernel's threads look again before they sleep.
    pub busyloop_us: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            mac: None,
            cq: false,
            queues: 1,
            queue_size: 256,
            iface: String::new(),
            server: false,
            mrg_rxbuf: true,
            in_order: true,
            packed_vq: false,
            vectorized: false,
            speed: SPEED_UNKNOWN,
            event_idx: true,
            indirect: true,
            huge: true,
            stats: false,
            timeout_ms: 10_000,
            mode: None,
            offloads: Offloads::empty(),
            port: 0,
            simd: Simd::Auto,
            server_wait_ms: 0,
            socket_mode: None,
            reconnect: true,
            reconnect_ms: 1000,
            resend: true,
            mtu: 0,
            compact: false,
            events: EventMode::Thread,
            persist: false,
            busyloop_us: 0,
        }
    }
}

type Set = fn(&mut Config, &Given<'_>) -> Result<()>;

/// Every option that there is: the parser, and the list in its complaint, are this table.
const OPTIONS: [(&str, Set); 37] = [
    ("path", |c, g| g.path(&mut c.path)),
    ("mac", |c, g| g.mac(&mut c.mac)),
    ("cq", |c, g| g.switch(&mut c.cq)),
    ("queues", |c, g| g.number(&mut c.queues, 1..=MAX_PAIRS, "queue pairs")),
    ("queue_size", |c, g| g.number(&mut c.queue_size, MIN_QUEUE_SIZE..=MAX_QUEUE_SIZE, "descriptors")),
    ("iface", |c, g| g.iface(&mut c.iface)),
    ("server", |c, g| g.switch(&mut c.server)),
    ("mrg_rxbuf", |c, g| g.switch(&mut c.mrg_rxbuf)),
    ("in_order", |c, g| g.switch(&mut c.in_order)),
    ("packed_vq", |c, g| g.switch(&mut c.packed_vq)),
    ("vectorized", |c, g| g.switch(&mut c.vectorized)),
    ("speed", |c, g| g.speed(&mut c.speed)),
    ("event_idx", |c, g| g.switch(&mut c.event_idx)),
    ("indirect", |c, g| g.switch(&mut c.indirect)),
    ("huge", |c, g| g.switch(&mut c.huge)),
    ("stats", |c, g| g.switch(&mut c.stats)),
    ("timeout_ms", |c, g| g.number(&mut c.timeout_ms, 1..=MAX_TIMEOUT_MS, "milliseconds")),
    ("mode", |c, g| g.mode(&mut c.mode)),
    ("persist", |c, g| g.switch(&mut c.persist)),
    ("busyloop_us", |c, g| g.number(&mut c.busyloop_us, 0..=MAX_BUSYLOOP_US, "microseconds")),
    ("csum", |c, g| g.offload(&mut c.offloads, Offloads::CSUM)),
    ("tso", |c, g| g.offload(&mut c.offloads, Offloads::TSO)),
    ("uso", |c, g| g.offload(&mut c.offloads, Offloads::USO)),
    ("rx_csum", |c, g| g.offload(&mut c.offloads, Offloads::RX_CSUM)),
    ("lro", |c, g| g.offload(&mut c.offloads, Offloads::LRO)),
    ("rx_uso", |c, g| g.offload(&mut c.offloads, Offloads::RX_USO)),
    ("vlan_strip", |c, g| g.offload(&mut c.offloads, Offloads::VLAN_STRIP)),
    ("hash", |c, g| g.offload(&mut c.offloads, Offloads::HASH)),
    ("simd", |c, g| g.simd(&mut c.simd)),
    ("server_wait_ms", |c, g| g.number(&mut c.server_wait_ms, 0..=MAX_TIMEOUT_MS, "milliseconds")),
    ("socket_mode", |c, g| g.permissions(&mut c.socket_mode)),
    ("mtu", |c, g| g.number(&mut c.mtu, MIN_MTU..=u16::MAX, "bytes")),
    ("compact", |c, g| g.switch(&mut c.compact)),
    ("reconnect", |c, g| g.switch(&mut c.reconnect)),
    ("reconnect_ms", |c, g| g.number(&mut c.reconnect_ms, MIN_PAUSE_MS..=MAX_TIMEOUT_MS, "milliseconds")),
    ("resend", |c, g| g.switch(&mut c.resend)),
    ("events", |c, g| g.events(&mut c.events)),
];

impl Config {
    /// Reads options in the form of DPDK's device arguments: `path=/tmp/s,queues=2,packed_vq=1`.
    ///
    /// Numbers are decimal, or hexadecimal with `0x`; switches are 0 or 1; a value has no comma. Nothing changes
    /// unless everything is right. Options not named keep their value, and no options at all are right too.
    pub fn parse(&mut self, devargs: &str) -> Result<()> {
        let mut config = self.clone();
        let mut seen = Vec::new();
        for item in devargs.split(',').filter(|_| !devargs.is_empty()) {
            let Some((name, value)) = item.split_once('=') else {
                return Err(Error::invalid(format!("\"{item}\" is no option: write name=value, with commas between")));
            };
            let Some((name, set)) = OPTIONS.iter().find(|(n, _)| *n == name) else {
                let known = OPTIONS.map(|(n, _)| n).join(", ");
                return Err(Error::invalid(format!("\"{name}\" is an unknown option; there are: {known}")));
            };
            if seen.contains(name) {
                return Err(Error::invalid(format!("{item}: {name} is given twice; give it once")));
            }
            seen.push(*name);
            set(&mut config, &Given { name, value })?;
        }
        *self = config;
        Ok(())
    }

    /// Looks whether the fields can be, each alone and all together: whoever sets them without
    /// [`parse`](Self::parse) has every check of it made here.
    pub fn validate(&self) -> Result<()> {
        within("queues", self.queues, 1..=MAX_PAIRS, "queue pairs")?;
        within("queue_size", self.queue_size, MIN_QUEUE_SIZE..=MAX_QUEUE_SIZE, "descriptors")?;
        within("timeout_ms", self.timeout_ms, 1..=MAX_TIMEOUT_MS, "milliseconds")?;
        within("server_wait_ms", self.server_wait_ms, 0..=MAX_TIMEOUT_MS, "milliseconds")?;
        if self.mtu != 0 {
            within("mtu", self.mtu, MIN_MTU..=u16::MAX, "bytes")?;
        }
        within("reconnect_ms", self.reconnect_ms, MIN_PAUSE_MS..=MAX_TIMEOUT_MS, "milliseconds")?;
        if let Some(mode) = self.socket_mode.filter(|mode| !(1..=PERMISSIONS).contains(mode)) {
            return Err(Error::invalid(format!("socket_mode={mode:04o}: {PERMISSIONS_ARE}")));
        }
        within("busyloop_us", self.busyloop_us, 0..=MAX_BUSYLOOP_US, "microseconds")?;
        if self.speed != SPEED_UNKNOWN && !SPEEDS.contains(&self.speed) {
            return Err(bad_speed(self.speed));
        }
        if let Some(mac) = self.mac {
            unicast(mac)?;
        }
        self.queue_size_for_layout()?;
        self.ways()
    }

    /// Longest wait for the back-end.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.into())
    }

    /// Whether the device is the one built into this library.
    pub fn is_loopback(&self) -> bool {
        self.path.as_os_str() == LOOPBACK
    }

    /// How the device is reached.
    pub fn way(&self) -> Way {
        let name = self.path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        // A socket may well lie in /dev/shm.
        let of_kernel = self.path.starts_with("/dev") && !self.path.starts_with("/dev/shm");
        match of_kernel {
            _ if self.is_loopback() => Way::Loopback,
            true if name.starts_with("vhost-vdpa") => Way::VhostVdpa,
            true => Way::VhostKernel,
            false => Way::VhostUser,
        }
    }

    fn queue_size_for_layout(&self) -> Result<()> {
        let size = self.queue_size;
        if self.packed_vq || size.is_power_of_two() {
            return Ok(());
        }
        let above = size.next_power_of_two();
        Err(Error::invalid(format!(
            "queue_size={size}: a split queue has a power of two of descriptors, {} or {above} for example; \
             packed_vq=1 takes any number up to {MAX_QUEUE_SIZE}",
            above / 2
        )))
    }

    /// Which way the device is reached, and what goes with that way only.
    fn ways(&self) -> Result<()> {
        let path = self.path.display();
        if self.path.as_os_str().is_empty() {
            let sentence = format!("path is missing: give the back-end's socket, path=/tmp/s, or path={LOOPBACK}");
            return Err(Error::invalid(sentence));
        }
        if self.server && matches!(self.way(), Way::VhostVdpa | Way::VhostKernel) {
            return Err(Error::invalid(format!("server=1: path={path} is a device that is opened, not a socket")));
        }
        if self.server && self.is_loopback() {
            let sentence =
                format!("server=1: path={LOOPBACK} is built in, and connects to nobody; give the path of a socket");
            return Err(Error::invalid(sentence));
        }
        if !self.server && (self.server_wait_ms != 0 || self.socket_mode.is_some()) {
            let sentence = "server_wait_ms and socket_mode are for server=1, where we are the side that listens";
            return Err(Error::invalid(sentence));
        }
        let only = "only path=/dev/vhost-net has an interface of the kernel's at its other end";
        if self.way() != Way::VhostKernel {
            if !self.iface.is_empty() {
                return Err(Error::invalid(format!("iface={}: {only}, path={path} has none", self.iface)));
            }
            if self.persist || self.busyloop_us != 0 {
                return Err(Error::invalid(format!("persist and busyloop_us: {only}, path={path} has none")));
            }
        }
        if self.compact && matches!(self.way(), Way::VhostKernel | Way::VhostVdpa) {
            return Err(Error::invalid(format!(
                "compact=1: only vhost-user has compact addresses, path={path} has none"
            )));
        }
        if self.mode.is_some() && !self.is_loopback() {
            return Err(Error::invalid(format!("mode: only path={LOOPBACK} has modes, path={path} has none")));
        }
        Ok(())
    }
}

/// An option as it was given.
struct Given<'a> {
    name: &'a str,
    value: &'a str,
}

impl Given<'_> {
    fn bad(&self, allowed: impl std::fmt::Display) -> Error {
        let Self { name, value } = self;
        match value.is_empty() {
            true => Error::invalid(format!("{name}= has no value: {allowed}")),
            false => Error::invalid(format!("{name}={value}: {allowed}")),
        }
    }

    fn switch(&self, to: &mut bool) -> Result<()> {
        *to = match self.value {
            "0" => false,
            "1" => true,
            _ => return Err(self.bad("it is a switch, 0 or 1")),
        };
        Ok(())
    }

    fn offload(&self, to: &mut Offloads, which: Offloads) -> Result<()> {
        let mut on = false;
        self.switch(&mut on)?;
        to.set(which, on);
        Ok(())
    }

    fn number<T: TryFrom<u64> + Into<u64> + Copy>(
        &self,
        to: &mut T,
        allowed: RangeInclusive<T>,
        unit: &str,
    ) -> Result<()> {
        let (first, last) = ((*allowed.start()).into(), (*allowed.end()).into());
        *to = integer(self.value)
            .filter(|n| (first..=last).contains(n))
            .and_then(|n| T::try_from(n).ok())
            .ok_or_else(|| self.bad(format_args!("it is a number of {unit}, {first} to {last}")))?;
        Ok(())
    }

    fn speed(&self, to: &mut u32) -> Result<()> {
        if self.value == "unknown" {
            *to = SPEED_UNKNOWN;
            return Ok(());
        }
        let speed = integer(self.value).and_then(|n| u32::try_from(n).ok());
        *to = speed.filter(|n| *n == SPEED_UNKNOWN || SPEEDS.contains(n)).ok_or_else(|| bad_speed(self.value))?;
        Ok(())
    }

    fn mac(&self, to: &mut Option<[u8; 6]>) -> Result<()> {
        let mac = mac(self.value).ok_or_else(|| self.bad("it is six bytes, 52:54:00:12:34:56 for example"))?;
        unicast(mac)?;
        *to = Some(mac);
        Ok(())
    }

    fn mode(&self, to: &mut Option<Mode>) -> Result<()> {
        let mode = Mode::NAMES.iter().find(|(name, _)| *name == self.value);
        *to = Some(mode.ok_or_else(|| self.bad("it is one of echo, sink, source"))?.1);
        Ok(())
    }

    fn simd(&self, to: &mut Simd) -> Result<()> {
        let simd = Simd::NAMES.iter().find(|(name, _)| *name == self.value);
        *to = simd.ok_or_else(|| self.bad("it is one of auto, scalar, avx2, avx512"))?.1;
        Ok(())
    }

    fn permissions(&self, to: &mut Option<u32>) -> Result<()> {
        let digits = Some(self.value).filter(|v| (1..=4).contains(&v.len()) && v.bytes().all(|b| b.is_ascii_digit()));
        let mode = digits.and_then(|v| u32::from_str_radix(v, 8).ok()).filter(|m| (1..=PERMISSIONS).contains(m));
        *to = Some(mode.ok_or_else(|| self.bad(PERMISSIONS_ARE))?);
        Ok(())
    }

    fn events(&self, to: &mut EventMode) -> Result<()> {
        let mode = EventMode::NAMES.iter().find(|(name, _)| *name == self.value);
        *to = mode.ok_or_else(|| self.bad("it is one of thread, manual"))?.1;
        Ok(())
    }

    fn path(&self, to: &mut PathBuf) -> Result<()> {
        if self.value.is_empty() {
            return Err(self.bad(format_args!("it is the back-end's socket, /tmp/s for example, or {LOOPBACK}")));
        }
        *to = PathBuf::from(self.value);
        Ok(())
    }

    fn iface(&self, to: &mut String) -> Result<()> {
        if !(1..=MAX_IFACE).contains(&self.value.len()) {
            return Err(self.bad(format_args!("it is the name of a network interface, 1 to {MAX_IFACE} bytes")));
        }
        *to = self.value.to_owned();
        Ok(())
    }
}

/// A number and nothing else: no sign, no space, no unit. A leading zero is refused, because DPDK takes it for octal.
fn integer(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => return None,
        None => (text, 10),
    };
    // `from_str_radix` would take a sign.
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, radix).ok())?
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|p| p.len() <= 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

pub(super) fn unicast(mac: [u8; 6]) -> Result<()> {
    let what = match mac {
        [0, 0, 0, 0, 0, 0] => "no address",
        [first, ..] if first & 1 == 1 => "a group of stations",
        _ => return Ok(()),
    };
    let given = mac.map(|b| format!("{b:02x}")).join(":");
    Err(Error::invalid(format!(
        "mac={given}: that is {what}; the address of one station has an even first byte, 52:54:00:12:34:56 for example"
    )))
}

fn within<T: PartialOrd + std::fmt::Display>(
    name: &str,
    value: T,
    allowed: RangeInclusive<T>,
    unit: &str,
) -> Result<()> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let (first, last) = (allowed.start(), allowed.end());
    Err(Error::invalid(format!("{name}={value}: it is a number of {unit}, {first} to {last}")))
}

fn bad_speed(given: impl std::fmt::Display) -> Error {
    let speeds = SPEEDS.map(|s| s.to_string()).join(", ");
    Error::invalid(format!("speed={given}: it is unknown, or one of these in Mb/s: {speeds}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    fn parsed(devargs: &str) -> Result<Config> {
        let mut config = Config::default();
        config.parse(devargs)?;
        config.validate()?;
        Ok(config)
    }

    #[test]
    fn the_defaults_are_those_of_dpdk() {
        let c = parsed("path=/tmp/s").unwrap();
        assert!(c.mrg_rxbuf && c.in_order && !c.packed_vq && !c.vectorized && !c.cq && !c.server);
        assert_eq!((c.queues, c.queue_size, c.speed, c.mac), (1, 256, SPEED_UNKNOWN, None));
        assert!(c.event_idx && c.indirect && c.huge && c.offloads.is_empty() && c.mode.is_none());
        assert_eq!(c.timeout(), Duration::from_secs(10));
    }

    #[test]
    fn every_option_reaches_its_field() {
        let base = Config { path: "p".into(), ..Config::default() };
        let rows: [(&str, Config); 42] = [
            ("", base.clone()),
            ("path=/tmp/x=y", Config { path: "/tmp/x=y".into(), ..base.clone() }),
            ("path=/dev/shm/s", Config { path: "/dev/shm/s".into(), ..base.clone() }),
            ("mac=52:54:00:ab:CD:1", Config { mac: Some([0x52, 0x54, 0, 0xab, 0xcd, 1]), ..base.clone() }),
            ("cq=1", Config { cq: true, ..base.clone() }),
            ("queues=128", Config { queues: 128, ..base.clone() }),
            ("queues=0x10", Config { queues: 16, ..base.clone() }),
            ("queue_size=2", Config { queue_size: 2, ..base.clone() }),
            ("queue_size=32768", Config { queue_size: 32768, ..base.clone() }),
            ("packed_vq=1,queue_size=255", Config { packed_vq: true, queue_size: 255, ..base.clone() }),
            ("queue_size=1025,packed_vq=1", Config { packed_vq: true, queue_size: 1025, ..base.clone() }),
            ("server=0", base.clone()),
            ("mrg_rxbuf=0", Config { mrg_rxbuf: false, ..base.clone() }),
            ("in_order=0", Config { in_order: false, ..base.clone() }),
            ("vectorized=1", Config { vectorized: true, ..base.clone() }),
            ("speed=25000", Config { speed: 25_000, ..base.clone() }),
            ("speed=unknown", base.clone()),
            ("speed=0xffffffff", base.clone()),
            ("event_idx=0", Config { event_idx: false, ..base.clone() }),
            ("indirect=0", Config { indirect: false, ..base.clone() }),
            ("huge=0", Config { huge: false, ..base.clone() }),
            ("timeout_ms=1", Config { timeout_ms: 1, ..base.clone() }),
            (
                "path=/dev/vhost-net,iface=tap0,persist=1,busyloop_us=50",
                Config {
                    path: "/dev/vhost-net".into(),
                    iface: "tap0".into(),
                    persist: true,
                    busyloop_us: 50,
                    ..base.clone()
                },
            ),
            ("path=loopback,mode=sink", Config { path: LOOPBACK.into(), mode: Some(Mode::Sink), ..base.clone() }),
            ("csum=1", Config { offloads: Offloads::CSUM, ..base.clone() }),
            ("tso=1,csum=0", Config { offloads: Offloads::TSO, ..base.clone() }),
            ("uso=1", Config { offloads: Offloads::USO, ..base.clone() }),
            ("rx_csum=1", Config { offloads: Offloads::RX_CSUM, ..base.clone() }),
            ("lro=1", Config { offloads: Offloads::LRO, ..base.clone() }),
            ("rx_uso=1", Config { offloads: Offloads::RX_USO, ..base.clone() }),
            ("vlan_strip=1", Config { offloads: Offloads::VLAN_STRIP, ..base.clone() }),
            ("hash=1", Config { offloads: Offloads::HASH, ..base.clone() }),
            ("server=1,server_wait_ms=9", Config { server: true, server_wait_ms: 9, ..base.clone() }),
            ("server=1,socket_mode=0660", Config { server: true, socket_mode: Some(0o660), ..base.clone() }),
            ("server_wait_ms=0", base.clone()),
            ("mtu=9000", Config { mtu: 9000, ..base.clone() }),
            ("compact=1", Config { compact: true, ..base.clone() }),
            ("reconnect=0", Config { reconnect: false, ..base.clone() }),
            ("reconnect_ms=50", Config { reconnect_ms: 50, ..base.clone() }),
            ("resend=0", Config { resend: false, ..base.clone() }),
            ("events=manual", Config { events: EventMode::Manual, ..base.clone() }),
            ("events=thread", base.clone()),
        ];
        for (devargs, expected) in rows {
            let mut config = base.clone();
            config.parse(devargs).and_then(|()| config.validate()).unwrap_or_else(|e| panic!("{devargs}: {e}"));
            assert_eq!(config, expected, "{devargs}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_option_value_and_cure() {
        let rows = [
            ("", "path is missing"),
            ("queues=2", "path is missing"),
            ("path=", "path= has no value"),
            ("path=/tmp/s,", "\"\" is no option"),
            ("path=/tmp/s,,cq=1", "\"\" is no option"),
            ("path=/tmp/s,cq", "\"cq\" is no option: write name=value"),
            ("path=/tmp/s, cq=1", "\" cq\" is an unknown option; there are: path, mac, cq,"),
            ("path=/tmp/s,quues=2", "\"quues\" is an unknown option"),
            ("path=/tmp/s,cq=1,cq=1", "cq is given twice"),
            ("path=/tmp/s,path=/tmp/t", "path is given twice"),
            ("path=/tmp/s,cq=2", "cq=2: it is a switch, 0 or 1"),
            ("path=/tmp/s,cq=true", "cq=true: it is a switch"),
            ("path=/tmp/s,lro=", "lro= has no value: it is a switch"),
            ("path=/tmp/s,queues=0", "queues=0: it is a number of queue pairs, 1 to 128"),
            ("path=/tmp/s,queues=129", "1 to 128"),
            ("path=/tmp/s,queues=4x", "queues=4x"),
            ("path=/tmp/s,queues=+4", "queues=+4"),
            ("path=/tmp/s,queues=-1", "queues=-1"),
            ("path=/tmp/s,queues=010", "queues=010"),
            ("path=/tmp/s,queues= 2", "queues= 2"),
            ("path=/tmp/s,queues=0x", "queues=0x:"),
            ("path=/tmp/s,queues=0x+1", "queues=0x+1"),
            ("path=/tmp/s,queues=65537", "queues=65537"),
            ("path=/tmp/s,queues=18446744073709551617", "queues=18446744073709551617"),
            ("path=/tmp/s,queue_size=1", "queue_size=1: it is a number of descriptors, 2 to 32768"),
            ("path=/tmp/s,queue_size=32769,packed_vq=1", "2 to 32768"),
            (
                "path=/tmp/s,queue_size=300",
                "queue_size=300: a split queue has a power of two of descriptors, 256 or 512",
            ),
            ("path=/tmp/s,timeout_ms=0", "timeout_ms=0: it is a number of milliseconds, 1 to"),
            ("path=/tmp/s,timeout_ms=3600001", "timeout_ms=3600001"),
            ("path=/tmp/s,speed=9", "speed=9: it is unknown, or one of these in Mb/s: 10, 100, 1000, 2500"),
            ("path=/tmp/s,speed=10G", "speed=10G"),
            ("path=/tmp/s,mac=zz:bad", "mac=zz:bad: it is six bytes"),
            ("path=/tmp/s,mac=52:54:00:12:34", "six bytes"),
            ("path=/tmp/s,mac=52:54:00:12:34:56:78", "six bytes"),
            ("path=/tmp/s,mac=52:54:00:12:34:", "six bytes"),
            ("path=/tmp/s,mac=52:54:00:12:34:+5", "six bytes"),
            ("path=/tmp/s,mac=52:54:00:12:34:056", "six bytes"),
            ("path=/tmp/s,mac=01:00:5e:00:00:01", "mac=01:00:5e:00:00:01: that is a group"),
            ("path=/tmp/s,mac=ff:ff:ff:ff:ff:ff", "a group of stations"),
            ("path=/tmp/s,mac=00:00:00:00:00:00", "that is no address"),
            ("path=/tmp/s,mode=echo", "only path=loopback has modes"),
            ("path=loopback,mode=eco", "mode=eco: it is one of echo, sink, source"),
            ("path=/tmp/s,iface=tap0", "iface=tap0: only path=/dev/vhost-net"),
            ("path=/tmp/s,iface=a-name-that-is-long", "1 to 15 bytes"),
            ("path=/tmp/s,persist=1", "persist and busyloop_us: only path=/dev/vhost-net"),
            ("path=/dev/vhost-vdpa-0,busyloop_us=50", "only path=/dev/vhost-net"),
            ("path=/dev/vhost-net,busyloop_us=1000001", "0 to 1000000"),
            ("path=/dev/vhost-net,server=1", "a device that is opened, not a socket"),
        ];
        refused(&rows);
    }

    fn refused(rows: &[(&str, &str)]) {
        for (devargs, part) in rows {
            let error = parsed(devargs).expect_err(devargs);
            assert_eq!(error.errno(), Errno::EINVAL, "{devargs}");
            assert!(error.to_string().contains(part), "{devargs}: {error}");
        }
    }

    #[test]
    fn so_are_options_of_servers_and_reconnecting() {
        refused(&[
            ("path=loopback,server=1", "path=loopback is built in"),
            ("path=/tmp/s,server_wait_ms=5", "are for server=1"),
            ("path=/tmp/s,socket_mode=0660", "are for server=1"),
            ("path=/tmp/s,socket_mode=0888", "socket_mode=0888: it is the permissions of a file in octal digits"),
            ("path=/tmp/s,socket_mode=01777", "octal digits"),
            ("path=/tmp/s,socket_mode=0", "octal digits"),
            ("path=/tmp/s,socket_mode=rw", "octal digits"),
            ("path=/tmp/s,mtu=67", "mtu=67: it is a number of bytes, 68 to 65535"),
            ("path=/tmp/s,reconnect=2", "reconnect=2: it is a switch"),
            ("path=/tmp/s,reconnect_ms=9", "reconnect_ms=9: it is a number of milliseconds, 10 to"),
            ("path=/tmp/s,events=poll", "events=poll: it is one of thread, manual"),
        ]);
    }

    #[test]
    fn a_bad_line_changes_nothing() {
        let mut config = Config::default();
        assert!(config.parse("path=/tmp/s,queues=2,mrg_rxbuf=3").is_err());
        assert_eq!(config, Config::default());
    }

    #[test]
    fn fields_that_were_set_by_hand_are_checked_too() {
        let good = Config { path: "/tmp/s".into(), ..Config::default() };
        let bad = [
            Config { queues: 0, ..good.clone() },
            Config { queues: 129, ..good.clone() },
            Config { queue_size: 0, ..good.clone() },
            Config { queue_size: u16::MAX, packed_vq: true, ..good.clone() },
            Config { timeout_ms: 0, ..good.clone() },
            Config { reconnect_ms: 0, ..good.clone() },
            Config { socket_mode: Some(0o1000), ..good.clone() },
            Config { speed: 12, ..good.clone() },
            Config { mac: Some([1; 6]), ..good.clone() },
        ];
        good.validate().unwrap();
        for config in bad {
            assert_eq!(config.validate().expect_err(&format!("{config:?}")).errno(), Errno::EINVAL);
        }
    }

    #[test]
    fn offloads_bring_the_features_that_they_depend_on() {
        let f = |o: Offloads| o.features();
        assert_eq!(f(Offloads::TSO), Features::CSUM | Features::HOST_TSO4 | Features::HOST_TSO6);
        assert_eq!(f(Offloads::LRO), Features::GUEST_CSUM | Features::GUEST_TSO4 | Features::GUEST_TSO6);
        assert_eq!(f(Offloads::RX_USO), Features::GUEST_CSUM | Features::GUEST_USO4 | Features::GUEST_USO6);
        assert_eq!(f(Offloads::USO | Offloads::RX_CSUM), Features::CSUM | Features::HOST_USO | Features::GUEST_CSUM);
        assert_eq!(f(Offloads::HASH | Offloads::VLAN_STRIP), Features::HASH_REPORT);
        assert_eq!(f(Offloads::empty()), Features::empty());
    }
}
