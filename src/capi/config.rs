//! `struct vuser_config`.

use std::ffi::{CStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::error::{Sized0, control, fill, read, text};
use crate::dev::config::{Config, EventMode, Mode, Offloads};
use crate::error::{Error, Result};
use crate::mem::lanes::Simd;

/// Offload: the device computes TCP and UDP checksums.
pub const VUSER_OFFLOAD_CSUM: u64 = 1 << 0;
/// Offload: the device segments TCP.
pub const VUSER_OFFLOAD_TSO: u64 = 1 << 1;
/// Offload: the device segments UDP.
pub const VUSER_OFFLOAD_USO: u64 = 1 << 2;
/// Offload: received frames come with a verdict on their checksum, or only a part of it.
pub const VUSER_OFFLOAD_RX_CSUM: u64 = 1 << 3;
/// Offload: received TCP frames may be larger than the MTU.
pub const VUSER_OFFLOAD_LRO: u64 = 1 << 4;
/// Offload: received UDP frames may be several in one.
pub const VUSER_OFFLOAD_RX_USO: u64 = 1 << 5;
/// Offload: VLAN tags are taken out of received frames.
pub const VUSER_OFFLOAD_VLAN_STRIP: u64 = 1 << 6;
/// Offload: received frames come with a hash, the device's or, where it reports none, ours: see vuser_dev_set_rss.
pub const VUSER_OFFLOAD_HASH: u64 = 1 << 7;

const _: () = assert!(
    VUSER_OFFLOAD_CSUM == Offloads::CSUM.bits()
        && VUSER_OFFLOAD_TSO == Offloads::TSO.bits()
        && VUSER_OFFLOAD_USO == Offloads::USO.bits()
        && VUSER_OFFLOAD_RX_CSUM == Offloads::RX_CSUM.bits()
        && VUSER_OFFLOAD_LRO == Offloads::LRO.bits()
        && VUSER_OFFLOAD_RX_USO == Offloads::RX_USO.bits()
        && VUSER_OFFLOAD_VLAN_STRIP == Offloads::VLAN_STRIP.bits()
        && VUSER_OFFLOAD_HASH == Offloads::HASH.bits()
);

/// What a device shall be. Fill it with vuser_config_init and then vuser_config_parse, or by hand. Switches are 0 or 1.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct vuser_config {
    /// sizeof(struct vuser_config), as given to vuser_config_init.
    pub size: usize,
    /// Socket of the back-end; "/dev/vhost-net" or "/dev/vhost-vdpa-N" for one of the kernel's; "loopback" for the one that
    /// is built in.
    pub path: [c_char; 256],
    /// With path=/dev/vhost-net: name of the kernel's interface, a tap, which is made if there is none. Empty: the kernel
    /// chooses one.
    pub iface: [c_char; 16],
    /// MAC address, if has_mac; else the device's, else a random one.
    pub mac: [u8; 6],
    /// Whether mac is set.
    pub has_mac: u8,
    /// A control queue is wanted.
    pub cq: u8,
    /// Listen, and let the back-end connect.
    pub server: u8,
    /// Received frames may span several buffers. Default 1.
    pub mrg_rxbuf: u8,
    /// Buffers may be used in order. Default 1.
    pub in_order: u8,
    /// Packed rings are wanted. Default 0.
    pub packed_vq: u8,
    /// Vector code is wanted.
    pub vectorized: u8,
    /// Notification thresholds by ring index may be used. Default 1.
    pub event_idx: u8,
    /// Tables of descriptors may be used. Default 1.
    pub indirect: u8,
    /// Rings in huge pages when there are any. Default 1.
    pub huge: u8,
    /// Count frames by length and by kind of address too, which reads a line of each.
    pub stats: u8,
    /// Zero.
    pub reserved: u8,
    /// Queue pairs, 1 to 128. Default 1.
    pub queues: u16,
    /// Descriptors of each queue, to 32768; a power of two but for packed rings. Default 256.
    pub queue_size: u16,
    /// Link speed to report in Mb/s; 0xffffffff unknown.
    pub speed: u32,
    /// Longest wait for an answer of the back-end in milliseconds. Default 10000.
    pub timeout_ms: u32,
    /// Offloads that are wanted, VUSER_OFFLOAD_*. Default 0.
    pub offloads: u64,
    /// What the built-in back-end does: "echo" (also if empty), "sink" or "source".
    pub mode: [c_char; 16],
    /// Written to the field port of received packets. Default 0.
    pub port: u16,
    /// The widest lanes that may be used: "auto" (also if empty: what the CPU has), "scalar", "avx2" or "avx512".
    pub simd: [c_char; 16],
    /// A back-end that has gone is looked for again, and the device goes on with it. Default 1.
    pub reconnect: u8,
    /// Packets that a back-end that has gone was given, and did not mark used, are sent again to the next one; else they
    /// are dropped and counted. Default 1.
    pub resend: u8,
    /// The application looks after events, by vuser_dev_fd and vuser_dev_process, in place of a thread of the library's.
    /// Default 0. As text: events=thread or events=manual.
    pub events_manual: u8,
    /// With path=/dev/vhost-net: the kernel's interface stays when the device is closed. Default 0; one that was persistent
    /// stays so.
    pub persist: u8,
    /// Longest pause in milliseconds between two attempts to reach a back-end that has gone; the first is 10 ms.
    /// Default 1000.
    pub reconnect_ms: u32,
    /// With server: how long vuser_dev_init waits for the first back-end in milliseconds. Default 0, not at all.
    pub server_wait_ms: u32,
    /// With server: permissions of the socket's file, 0660 for example (octal also as text). Default 0: what the umask
    /// leaves.
    pub socket_mode: u32,
    /// With path=/dev/vhost-net: for how many microseconds the kernel's threads look again before they sleep. Default 0.
    pub busyloop_us: u32,
    /// MTU to be used, 68 or more; see vuser_dev_set_mtu. Default 0: the device's.
    pub mtu: u16,
    /// With vhost-user: device addresses (the "guest addresses" of the protocol) begin near zero in place of being those of
    /// the program, for back-ends with few address bits and for small logs. Bursts are slower then. Default 0.
    pub compact: u8,
    /// Zero.
    pub reserved3: u8,
}

// SAFETY: integers and arrays of them, `size` first.
unsafe impl Sized0 for vuser_config {
    fn size_mut(&mut self) -> &mut usize {
        &mut self.size
    }
}

fn array<const N: usize>(bytes: &[u8], name: &str) -> Result<[c_char; N]> {
    if bytes.len() >= N {
        return Err(Error::invalid(format!("{name} has {} bytes; {} fit", bytes.len(), N - 1)));
    }
    let mut array = [0; N];
    array.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from as c_char);
    Ok(array)
}

fn string<const N: usize>(array: &[c_char; N], name: &str) -> Result<Vec<u8>> {
    let bytes = array.map(|c| c as u8);
    let text = CStr::from_bytes_until_nul(&bytes);
    text.map(|t| t.to_bytes().to_vec()).map_err(|_| Error::invalid(format!("{name} does not end with a zero byte")))
}

fn utf8(bytes: Vec<u8>, name: &str) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| Error::invalid(format!("{name} is not UTF-8")))
}

fn switch(value: u8, name: &str) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Error::invalid(format!("{name}={value}: it is a switch, 0 or 1"))),
    }
}

impl vuser_config {
    fn from_config(config: &Config) -> Result<Self> {
        let simd = Simd::NAMES.iter().find(|(_, simd)| *simd == config.simd);
        let mode = config.mode.and_then(|mode| Mode::NAMES.iter().find(|(_, m)| *m == mode));
        Ok(Self {
            size: size_of::<Self>(),
            path: array(config.path.as_os_str().as_bytes(), "path")?,
            iface: array(config.iface.as_bytes(), "iface")?,
            mac: config.mac.unwrap_or_default(),
            has_mac: config.mac.is_some().into(),
            cq: config.cq.into(),
            server: config.server.into(),
            mrg_rxbuf: config.mrg_rxbuf.into(),
            in_order: config.in_order.into(),
            packed_vq: config.packed_vq.into(),
            vectorized: config.vectorized.into(),
            event_idx: config.event_idx.into(),
            indirect: config.indirect.into(),
            huge: config.huge.into(),
            stats: config.stats.into(),
            reserved: 0,
            queues: config.queues,
            queue_size: config.queue_size,
            speed: config.speed,
            timeout_ms: config.timeout_ms,
            offloads: config.offloads.bits(),
            mode: array(mode.map_or("", |(name, _)| name).as_bytes(), "mode")?,
            port: config.port,
            simd: array(simd.map_or("", |(name, _)| name).as_bytes(), "simd")?,
            reconnect: config.reconnect.into(),
            resend: config.resend.into(),
            events_manual: (config.events == EventMode::Manual).into(),
            persist: config.persist.into(),
            reconnect_ms: config.reconnect_ms,
            server_wait_ms: config.server_wait_ms,
            socket_mode: config.socket_mode.unwrap_or(0),
            busyloop_us: config.busyloop_us,
            mtu: config.mtu,
            compact: config.compact.into(),
            reserved3: 0,
        })
    }

    pub(super) fn to_config(self) -> Result<Config> {
        let mode = utf8(string(&self.mode, "mode")?, "mode")?;
        let mode = match (mode.as_str(), Mode::NAMES.iter().find(|(name, _)| *name == mode)) {
            ("", _) => None,
            (_, Some((_, mode))) => Some(*mode),
            _ => return Err(Error::invalid(format!("mode={mode}: it is one of echo, sink, source"))),
        };
        let simd = utf8(string(&self.simd, "simd")?, "simd")?;
        let simd = match (simd.as_str(), Simd::NAMES.iter().find(|(name, _)| *name == simd)) {
            ("", _) => Simd::Auto,
            (_, Some((_, simd))) => *simd,
            _ => return Err(Error::invalid(format!("simd={simd}: it is one of auto, scalar, avx2, avx512"))),
        };
        Ok(Config {
            path: PathBuf::from(std::ffi::OsStr::from_bytes(&string(&self.path, "path")?)),
            mac: switch(self.has_mac, "has_mac")?.then_some(self.mac),
            cq: switch(self.cq, "cq")?,
            queues: self.queues,
            queue_size: self.queue_size,
            iface: utf8(string(&self.iface, "iface")?, "iface")?,
            server: switch(self.server, "server")?,
            mrg_rxbuf: switch(self.mrg_rxbuf, "mrg_rxbuf")?,
            in_order: switch(self.in_order, "in_order")?,
            packed_vq: switch(self.packed_vq, "packed_vq")?,
            vectorized: switch(self.vectorized, "vectorized")?,
            speed: self.speed,
            event_idx: switch(self.event_idx, "event_idx")?,
            indirect: switch(self.indirect, "indirect")?,
            huge: switch(self.huge, "huge")?,
            stats: switch(self.stats, "stats")?,
            timeout_ms: self.timeout_ms,
            mode,
            offloads: offloads(self.offloads)?,
            port: self.port,
            simd,
            server_wait_ms: self.server_wait_ms,
            socket_mode: Some(self.socket_mode).filter(|mode| *mode != 0),
            reconnect: switch(self.reconnect, "reconnect")?,
            reconnect_ms: self.reconnect_ms,
            resend: switch(self.resend, "resend")?,
            mtu: self.mtu,
            compact: switch(self.compact, "compact")?,
            events: if switch(self.events_manual, "events_manual")? { EventMode::Manual } else { EventMode::Thread },
            persist: switch(self.persist, "persist")?,
            busyloop_us: self.busyloop_us,
        })
    }
}

/// Offloads as bits of C's.
pub(super) fn offloads(bits: u64) -> Result<Offloads> {
    Offloads::from_bits(bits).ok_or_else(|| Error::invalid(format!("offloads={bits:#x} has unknown bits")))
}

pub(super) unsafe fn config(cfg: *const vuser_config) -> Result<Config> {
    let default = vuser_config::from_config(&Config::default())?;
    // SAFETY: by the conventions.
    unsafe { read(cfg, "config", default) }?.to_config()
}

/// Sets all fields to their defaults, which are those of DPDK's virtio-user. size is sizeof(struct vuser_config), so
/// that a newer library does not write more than an older program has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_config_init(config: *mut vuser_config, size: usize) -> c_int {
    control("vuser_config_init", || {
        let default = vuser_config::from_config(&Config::default())?;
        // SAFETY: by the conventions.
        unsafe {
            super::error::get(config, "config")?;
            // Fields that only a newer program knows are zero, which will be their default.
            if (size_of::<usize>()..1 << 16).contains(&size) {
                std::ptr::write_bytes(config.cast::<u8>(), 0, size);
            }
            config.cast::<usize>().write(size);
            fill(config, "config", default)
        }
        .map(|()| 0)
    })
}

/// Sets fields from text in the form of DPDK's device arguments: "path=/tmp/s,queues=2,packed_vq=1".
///
/// DPDK's names: path, mac, cq, queues, queue_size, iface, server, mrg_rxbuf, in_order, packed_vq, vectorized, speed.
/// Beyond them: event_idx, indirect, huge, stats, timeout_ms, mode, simd, server_wait_ms, socket_mode, reconnect,
/// reconnect_ms, resend, events, persist, busyloop_us, mtu, compact, and the offloads csum, tso, uso, rx_csum, lro, rx_uso, vlan_strip,
/// hash. Nothing is changed unless all is right. -EINVAL names what is not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_config_parse(config: *mut vuser_config, devargs: *const c_char) -> c_int {
    control("vuser_config_parse", || {
        // SAFETY: by the conventions.
        let (mut parsed, devargs) = unsafe { (self::config(config)?, text(devargs, "devargs")?) };
        parsed.parse(devargs)?;
        // SAFETY: as above.
        unsafe { fill(config, "config", vuser_config::from_config(&parsed)?) }.map(|()| 0)
    })
}
