//! A device, what was done to it, and what its control calls must say then.

use std::ffi::{CString, c_int};
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::LazyLock;

use vuser::capi::config::{vuser_config, vuser_config_init, vuser_config_parse};
use vuser::capi::dev::{
    VUSER_STATUS_DRIVER_OK, vuser_dev, vuser_dev_features, vuser_dev_get_info, vuser_dev_get_status, vuser_dev_info,
    vuser_dev_init, vuser_dev_link, vuser_dev_reset, vuser_dev_set_features, vuser_dev_set_link,
    vuser_dev_set_offloads, vuser_dev_set_queue_pairs, vuser_dev_set_status, vuser_dev_start, vuser_dev_stop,
    vuser_dev_uninit, vuser_rx_queue_start, vuser_rx_queue_stop, vuser_tx_queue_start, vuser_tx_queue_stop,
};
use vuser::capi::dev::{vuser_dev_device_features, vuser_mem_contains, vuser_mem_register, vuser_mem_unregister};
use vuser::capi::queue::{
    vuser_mbuf_source, vuser_queue, vuser_queue_status, vuser_rx_queue, vuser_rx_queue_setup,
    vuser_rx_queue_setup_source, vuser_tx_queue, vuser_tx_queue_setup, vuser_tx_queue_setup_source,
};

use super::answers::{Peer, offer, script as answers};
use super::calls::{Bytes, call, is, is_among};
use super::ledger::{Echo, Ledger};
use super::memory::MEMORY;
use super::packets::{OWN, Packets};
use super::sized::{filled, given};
use super::source::source;

/// Where sockets are.
pub static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("vuser-fuzz-capi-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("there is room for sockets");
    folder
});

/// The ways to a back-end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Built in.
    Loopback,
    /// Another of the program's, which may be stopped.
    Socket,
    /// One that is waited for and never comes.
    Absent,
    /// One that answers what the input says.
    Script,
}

/// A queue of a device, from its set-up on.
pub struct Queue {
    pub ptr: *mut vuser_queue,
    pub pool: usize,
    pub size: u16,
    pub run: bool,
    deferred: bool,
    /// Frames that it has received, or taken, since its counters were reset.
    pub frames: u64,
    /// Whether that is sure.
    pub counted: bool,
    /// Something is lent of it.
    pub lent: bool,
}

/// A device.
pub struct Dev {
    pub ptr: *mut vuser_dev,
    pub way: Way,
    peer: Option<Peer>,
    pub pairs: u16,
    queue_size: u16,
    pub started: bool,
    pub down: bool,
    /// Pairs that are used from the start on, and now.
    pub used: u16,
    pub active: u16,
    /// Its back-end is right, and was always there: what it does is known.
    pub exact: bool,
    /// It was told a status that a driver does not set.
    pub odd: bool,
    pub log: bool,
    pub stats: bool,
    compact: bool,
    pub echo: Echo,
    pub queues: Vec<Option<Queue>>,
    pub ledgers: Vec<Ledger>,
    /// What of the program's memory it was told of.
    pub registered: Vec<(usize, usize)>,
}

/// Options that any back-end suits.
const PLAIN: [&str; 16] = [
    "packed_vq=1",
    "mrg_rxbuf=0",
    "in_order=0",
    "event_idx=0",
    "indirect=0",
    "compact=1",
    "stats=1",
    "reconnect=0",
    "resend=0",
    "vectorized=1",
    "simd=scalar",
    "simd=avx2",
    "vlan_strip=1",
    "speed=10000",
    "mtu=1400",
    "hash=1",
];

/// Options that not any suits, or that cannot be together; the last three are of the built-in one, or of none.
const WISHES: [&str; 11] = [
    "csum=1",
    "tso=1",
    "uso=1",
    "rx_csum=1",
    "lro=1",
    "rx_uso=1",
    "cq=1",
    "mtu=9000",
    "mode=sink",
    "mode=source",
    "iface=tap9",
];

/// A configuration as text, and whether it must be right.
fn text(script: &mut Bytes, path: &Path, way: Way) -> (String, bool) {
    let (size, queues) = (script.byte(), 1 + script.byte() % 3);
    let events = if size & 8 == 0 { "manual" } else { "thread" };
    let size = [2, 4, 8, 16, 64, 256, 8, 8][usize::from(size % 8)];
    let more = match way {
        Way::Absent => ",server=1",
        // What is asked for by the control queue is not answered.
        Way::Script => ",reconnect=0,timeout_ms=40",
        _ => "",
    };
    let mut text = format!("path={},queues={queues},queue_size={size},huge=0,events={events}{more}", path.display());
    let mut plain = true;
    for _ in 0..script.byte() % 6 {
        let n = usize::from(script.byte());
        let (wish, wishes) = (n >= 192, if way == Way::Loopback { &WISHES[..] } else { &WISHES[..8] });
        let option = if wish { wishes[n % wishes.len()] } else { PLAIN[n % PLAIN.len()] };
        let name = option.split_once('=').map_or(option, |(name, _)| name);
        // Said twice it is refused.
        if !text.split([',', '=']).any(|word| word == name) {
            plain &= !wish;
            text += ",";
            text += option;
        }
    }
    (text, plain)
}

/// Makes some field one that perhaps can't be.
fn spoil(config: &mut vuser_config, script: &mut Bytes) {
    let (what, value) = (script.byte(), script.word());
    let small = value as u8;
    match what % 16 {
        0 => config.has_mac = small,
        1 => config.mac = [small; 6],
        2 => config.packed_vq = small,
        3 => config.queues = [0, 129, 5, u16::MAX][usize::from(small % 4)],
        4 => config.queue_size = value as u16 % 512,
        5 => config.speed = value as u32,
        6 => config.offloads = value,
        7 => config.mode[usize::from(small % 16)] = small as i8,
        8 => config.simd[usize::from(small % 16)] = small as i8,
        9 => config.mtu = value as u16,
        10 => config.compact = small,
        11 => config.cq = small,
        12 => config.resend = small,
        13 => config.path = [b'x' as i8; 256],
        14 => config.iface[0] = small as i8,
        _ => config.port = value as u16,
    }
}

/// Everything that a call which needs a device says without one.
pub fn none() {
    let no: *mut vuser_dev = null_mut();
    let answers = [
        call!(vuser_dev_start(no)),
        call!(vuser_dev_stop(no)),
        call!(vuser_dev_reset(no)),
        call!(vuser_dev_link(no)),
        call!(vuser_dev_set_link(no, 1)),
        call!(vuser_dev_set_status(no, 0)),
        call!(vuser_dev_set_features(no, 0)),
        call!(vuser_dev_set_offloads(no, 0)),
        call!(vuser_dev_set_queue_pairs(no, 1)),
        call!(vuser_rx_queue_start(no, 0)),
        call!(vuser_rx_queue_stop(no, 0)),
        call!(vuser_tx_queue_start(no, 0)),
        call!(vuser_tx_queue_stop(no, 0)),
        call!(vuser_rx_queue_setup(no, 0, 0, null_mut())),
        call!(vuser_tx_queue_setup(no, 0, 0, null_mut())),
        call!(vuser_mem_register(no, -1, 0, 1, null_mut())),
        call!(vuser_mem_unregister(no, null_mut())),
        call!(vuser_mem_contains(no, null_mut(), 0)),
        call!(vuser_dev_get_info(no, null_mut())),
        call!(vuser_dev_init(null_mut(), null_mut())),
        call!(vuser_config_init(null_mut(), 8)),
        call!(vuser_config_parse(null_mut(), null_mut())),
        call!(vuser_queue_status(null_mut())),
    ];
    answers.into_iter().for_each(|answer| is(answer, -libc::EINVAL));
    // SAFETY: NULL is allowed, or refused.
    unsafe {
        assert!(vuser_dev_get_status(no) == 0 && vuser_dev_features(no) == 0 && vuser_dev_device_features(no) == 0);
        assert!(vuser_rx_queue(no, 0).is_null() && vuser_tx_queue(no, 0).is_null());
        vuser_dev_uninit(no);
    }
}

/// Features that the model asks about: packed rings.
const PACKED: u64 = 1 << 34;

impl Dev {
    /// Makes a device, if it can be.
    pub fn init(script: &mut Bytes, loopback: Option<Echo>) -> Option<Self> {
        let how = script.byte();
        let (way, path, echo) = match (how % 8, loopback) {
            (4 | 5, Some(echo)) => (Way::Socket, FOLDER.join("loopback"), echo),
            (6, _) => (Way::Absent, FOLDER.join(format!("server-{}", script.byte() % 2)), Echo::Nothing),
            (7, _) => (Way::Script, FOLDER.join("script"), Echo::Nothing),
            _ => (Way::Loopback, "loopback".into(), Echo::Ordered),
        };
        let (text, plain) = text(script, &path, way);
        let c_text = CString::new(text.clone()).expect("it has no zero");
        // SAFETY: integers and arrays of them.
        let mut config: vuser_config = unsafe { std::mem::zeroed() };
        is(call!(vuser_config_init(&raw mut config, size_of::<vuser_config>())), 0);
        let parsed = call!(vuser_config_parse(&raw mut config, c_text.as_ptr()));
        is(parsed, 0);
        let spoilt = how & 0x70 == 0 && way == Way::Loopback;
        if spoilt {
            spoil(&mut config, script);
        }
        let peer = (way == Way::Script).then(|| {
            let offer = offer(script);
            let len = script.byte();
            Peer::listen(&path, &offer, answers(script.some(len.into())))
        });
        let mut ptr = null_mut();
        let into = if how & 0x80 != 0 && script.byte() == 1 { null_mut() } else { &raw mut ptr };
        let mut whole = true;
        let result = match way {
            // A smaller struct says less: of that, how long is to be waited.
            Way::Script | Way::Absent | Way::Socket => call!(vuser_dev_init(&raw const config, into)),
            Way::Loopback => given(script, &config, |config, bytes| {
                whole = bytes == size_of::<vuser_config>();
                if (9..size_of::<vuser_config>()).contains(&bytes) {
                    // Huge pages are a default, and others may want them.
                    return 1;
                }
                call!(vuser_dev_init(config, into))
            }),
        };
        if way == Way::Loopback {
            is_among(result, &[libc::EINVAL, libc::ENOTSUP]);
            let right = plain && !spoilt && whole && !into.is_null();
            assert!(!right || result == 0, "{text} was refused");
        }
        if into.is_null() || result != 0 {
            assert!(result != 0 && ptr.is_null(), "{text}: {result} without a place for it");
            peer.into_iter().for_each(|mut peer| peer.join());
            return None;
        }
        let words = |chars: &[i8]| chars.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect::<Vec<_>>();
        let echo = match &words(&config.mode)[..] {
            b"sink" => Echo::Nothing,
            b"source" => Echo::Source(64),
            _ => echo,
        };
        let pairs = config.queues;
        Some(Self {
            ptr,
            way,
            peer,
            pairs,
            queue_size: config.queue_size,
            started: false,
            down: false,
            used: pairs,
            active: pairs,
            exact: way == Way::Loopback,
            odd: false,
            log: false,
            stats: config.stats == 1,
            compact: config.compact == 1,
            echo,
            queues: (0..2 * pairs).map(|_| None).collect(),
            ledgers: (0..pairs).map(|_| Ledger::default()).collect(),
            registered: Vec::new(),
        })
    }

    /// Gives it up. Pools that only it has had go with it.
    pub fn uninit(mut self, packets: &mut Packets, others: u16) {
        let own = self.pools();
        for pool in (0..super::packets::POOLS).filter(|n| own & !others & 1 << n != 0) {
            if packets.pools[pool].as_ref().is_some_and(|p| p.given_up) {
                packets.forget(pool);
            }
        }
        // SAFETY: it is given up once.
        unsafe { vuser_dev_uninit(self.ptr) };
        if let Some(peer) = &mut self.peer {
            peer.join();
        }
    }

    /// The pools that it has, a bit each.
    pub fn pools(&self) -> u16 {
        self.queues.iter().flatten().fold(0, |all, q| all | 1 << q.pool)
    }

    /// What was sent need not come back any more.
    pub fn doubt(&mut self) {
        self.ledgers.iter_mut().for_each(Ledger::doubt);
    }

    fn is_packed(&self) -> bool {
        // SAFETY: a device.
        unsafe { vuser_dev_features(self.ptr) & PACKED != 0 }
    }

    /// Sets a queue up.
    pub fn set_up(&mut self, script: &mut Bytes, packets: &mut Packets, others: u16) {
        let (what, pool, size) = (script.byte(), script.byte(), script.byte());
        let (side, pair) = (usize::from(what & 1), self.pair(what >> 1));
        let size = [0, 0, 2, 4, 8, 16, 32, 64, 128, 1, 3, 6, 33, u16::MAX, 0x8001, 8][usize::from(size % 16)];
        let chosen = packets.alive(pool).map(|(index, p)| (index, p.ptr));
        let index = 2 * usize::from(pair) + side;
        let before = self.queues.get(index).and_then(Option::as_ref).map(|q| (q.pool, q.ptr));
        // The pool that it had so far may have no other user.
        let left = before.map(|(pool, _)| pool).filter(|p| *p != OWN).filter(|p| {
            let still =
                self.queues.iter().enumerate().any(|(n, q)| n != index && q.as_ref().is_some_and(|q| q.pool == *p));
            !still && others & 1 << p == 0 && chosen.is_none_or(|(c, _)| c != *p)
        });
        let left = left.filter(|p| packets.pools[*p].as_ref().is_some_and(|p| p.given_up));
        let pool = chosen.map_or(null_mut(), |(_, ptr)| ptr);
        let fits = size == 0 || (2..=0x8000).contains(&size) && (self.is_packed() || size.is_power_of_two());
        let can_be = chosen.is_some() && pair < self.pairs && fits;
        if can_be
            && !self.started
            && let Some(left) = left
        {
            packets.forget(left);
        }
        let result = match side {
            0 => call!(vuser_rx_queue_setup(self.ptr, pair, size, pool)),
            _ => call!(vuser_tx_queue_setup(self.ptr, pair, size, pool)),
        };
        match (self.started, can_be) {
            (false, true) if self.way == Way::Loopback => is(result, 0),
            (false, true) => is_among(result, &[libc::EINVAL]),
            (false, false) => is(result, -libc::EINVAL),
            (true, true) => is(result, -libc::EBUSY),
            (true, false) => assert!([-libc::EBUSY, -libc::EINVAL].contains(&result), "{result}"),
        }
        let (0, Some((pool, _))) = (result, chosen) else { return };
        let ptr = self.queue(index);
        assert!(!ptr.is_null() && before.is_none_or(|(_, before)| before == ptr), "the queue is another");
        let size = if size == 0 { self.queue_size } else { size };
        let counts = self.queues[index].as_ref().map_or((0, true), |q| (q.frames, q.counted));
        self.queues[index] = Some(Queue {
            ptr,
            pool,
            size,
            run: false,
            deferred: false,
            frames: counts.0,
            counted: counts.1,
            lent: false,
        });
    }

    /// Sets a queue up with the program's own buffers.
    pub fn set_up_own(&mut self, script: &mut Bytes, packets: &mut Packets, others: u16) {
        let what = script.byte();
        let (side, pair) = (usize::from(what & 1), self.pair(what >> 1));
        let index = 2 * usize::from(pair) + side;
        if !self.has_memory() || self.queues.get(index).is_none_or(|q| q.as_ref().is_some_and(|q| q.pool != OWN)) {
            // Where there is a pool, it may be the last to have it.
            return self.set_up(script, packets, others);
        }
        let (source, right) = source(script);
        let result = given(script, &source, |source, known| {
            if ![0, 8, size_of::<vuser_mbuf_source>()].contains(&known) {
                return 1;
            }
            let result = match side {
                0 => call!(vuser_rx_queue_setup_source(self.ptr, pair, 0, source)),
                _ => call!(vuser_tx_queue_setup_source(self.ptr, pair, 0, source)),
            };
            match right && known > 8 {
                false => assert!(result == -libc::EINVAL || self.started && result == -libc::EBUSY, "{result}"),
                true => is(result, if self.started { -libc::EBUSY } else { 0 }),
            }
            result
        });
        if result == 0 {
            let (ptr, size) = (self.queue(index), self.queue_size);
            let counts = self.queues[index].as_ref().map_or((0, true), |q| (q.frames, q.counted));
            let (run, deferred, lent) = (false, false, false);
            let (frames, counted) = counts;
            self.queues[index] = Some(Queue { ptr, pool: OWN, size, run, deferred, frames, counted, lent });
        }
    }

    /// Whether it is told of the program's memory, all of it.
    fn has_memory(&self) -> bool {
        self.registered.contains(&(0, 8 * 4096))
    }

    /// Whether there is a queue with the program's own buffers.
    fn uses_memory(&self) -> bool {
        self.queues.iter().flatten().any(|q| q.pool == OWN)
    }

    /// A pair, most often one that there is.
    pub fn pair(&self, byte: u8) -> u16 {
        match byte % 16 {
            15 => u16::MAX - u16::from(byte),
            14 => self.pairs,
            n => u16::from(n) % self.pairs,
        }
    }

    fn queue(&self, index: usize) -> *mut vuser_queue {
        let pair = (index / 2) as u16;
        // SAFETY: a device.
        unsafe { if index.is_multiple_of(2) { vuser_rx_queue(self.ptr, pair) } else { vuser_tx_queue(self.ptr, pair) } }
    }

    fn can_start(&self) -> bool {
        let used = &self.queues[..2 * usize::from(self.used)];
        let packed = self.is_packed();
        used.iter().any(Option::is_some)
            && (packed
                || self.queues.iter().flatten().all(|q| q.size.is_power_of_two()) && self.queue_size.is_power_of_two())
    }

    /// What a start has come to.
    fn has_started(&mut self, result: c_int, can: bool) {
        match result {
            _ if self.started => is(result, -libc::EBUSY),
            _ if !can => is(result, -libc::EINVAL),
            _ if self.exact && !self.odd => is(result, 0),
            _ => {}
        }
        if result == 0 {
            self.started = true;
            let used = 2 * usize::from(self.used);
            self.queues.iter_mut().take(used).flatten().for_each(|q| q.run = !q.deferred);
        }
        if result != -libc::EBUSY {
            self.odd = false;
            self.doubt();
            self.nothing_is_lent();
        }
    }

    pub fn start(&mut self) {
        let can = self.can_start();
        let result = call!(vuser_dev_start(self.ptr));
        self.has_started(result, can);
    }

    fn has_stopped(&mut self, result: c_int) {
        if self.exact || !self.started {
            is(result, 0);
        }
        (self.started, self.odd) = (false, self.odd && !self.started);
        self.active = self.used;
        self.doubt();
        self.nothing_is_lent();
    }

    fn nothing_is_lent(&mut self) {
        self.queues.iter_mut().flatten().for_each(|q| q.lent = false);
    }

    pub fn stop(&mut self) {
        let result = call!(vuser_dev_stop(self.ptr));
        self.has_stopped(result);
    }

    fn reset(&mut self) {
        let result = call!(vuser_dev_reset(self.ptr));
        self.has_stopped(result);
    }

    fn set_status(&mut self, status: u8) {
        let can = self.can_start();
        let result = call!(vuser_dev_set_status(self.ptr, status));
        match status {
            0 => self.has_stopped(result),
            _ if status & VUSER_STATUS_DRIVER_OK != 0 && !self.started => self.has_started(result, can),
            _ => {
                if self.exact {
                    is(result, 0);
                }
                self.odd = true;
                self.doubt();
            }
        }
    }

    fn set_features(&mut self, script: &mut Bytes) {
        // SAFETY: a device.
        let (offered, now) = unsafe { (vuser_dev_device_features(self.ptr), vuser_dev_features(self.ptr)) };
        let features = match script.byte() % 4 {
            0 => script.word(),
            1 => offered & script.word(),
            2 => now ^ 1 << (script.byte() % 64),
            _ => now ^ PACKED,
        };
        let result = call!(vuser_dev_set_features(self.ptr, features));
        match result {
            _ if self.started => is(result, -libc::EBUSY),
            // SAFETY: a device.
            0 => assert!(unsafe { vuser_dev_features(self.ptr) } == features && features & !offered == 0),
            _ => is(result, -libc::EINVAL),
        }
    }

    fn set_offloads(&mut self, offloads: u64) {
        let result = call!(vuser_dev_set_offloads(self.ptr, offloads));
        let unknown = offloads >> 8 != 0;
        match (self.started, unknown) {
            (true, true) => is_among(result, &[libc::EBUSY, libc::EINVAL]),
            (true, false) => is(result, -libc::EBUSY),
            (false, true) => is(result, -libc::EINVAL),
            (false, false) => is_among(result, &[libc::ENOTSUP]),
        }
        assert!(result < 0 || !unknown && !self.started);
    }

    fn set_queue_pairs(&mut self, pairs: u16) {
        let result = call!(vuser_dev_set_queue_pairs(self.ptr, pairs));
        self.doubt();
        if pairs == 0 || pairs > self.pairs {
            return is(result, -libc::EINVAL);
        }
        if !self.started {
            is(result, 0);
            (self.used, self.active) = (pairs, pairs);
            return;
        }
        if pairs > self.used {
            return is(result, -libc::EBUSY);
        }
        if self.exact {
            is(result, 0);
        }
        if result == 0 {
            let (before, now) = (usize::from(self.active), usize::from(pairs));
            let changed = 2 * before.min(now)..2 * before.max(now);
            self.queues[changed].iter_mut().flatten().for_each(|q| q.run = now > before);
            self.active = pairs;
        }
    }

    fn run_queue(&mut self, side: usize, pair: u16, run: bool) {
        let result = match (side, run) {
            (0, true) => call!(vuser_rx_queue_start(self.ptr, pair)),
            (0, false) => call!(vuser_rx_queue_stop(self.ptr, pair)),
            (_, true) => call!(vuser_tx_queue_start(self.ptr, pair)),
            (_, false) => call!(vuser_tx_queue_stop(self.ptr, pair)),
        };
        self.doubt();
        let (started, used, sure) = (self.started, pair < self.used, self.exact || self.way == Way::Absent);
        let queue = self.queues.get_mut(2 * usize::from(pair) + side).and_then(Option::as_mut);
        let Some(queue) = queue else { return is(result, -libc::EINVAL) };
        if sure {
            is(result, if started && !used { -libc::EINVAL } else { 0 });
        }
        if result == 0 {
            match started {
                true => queue.run = run,
                false => queue.deferred = !run,
            }
        }
    }

    fn set_link(&mut self, up: c_int) {
        let result = call!(vuser_dev_set_link(self.ptr, up));
        if self.exact || self.way == Way::Absent {
            is(result, 0);
        }
        if result == 0 {
            self.down = up == 0;
        }
        self.doubt();
    }

    /// What is known of it.
    fn look(&mut self, script: &mut Bytes) {
        let link = call!(vuser_dev_link(self.ptr));
        assert!((0..=1).contains(&link) && (self.started || link == 0));
        if self.exact && !self.odd {
            is(link, (self.started && !self.down).into());
        }
        let (result, info) = filled(script, |info: *mut vuser_dev_info| call!(vuser_dev_get_info(self.ptr, info)));
        is_among(result, &[libc::EINVAL]);
        let Some(info) = info else { return };
        assert!(info.queue_pairs == self.pairs && info.queue_pairs_used <= self.pairs);
        assert!(info.mtu >= 68 && info.mac[0] & 1 == 0 && [10, 12, 20].contains(&info.hdr_len), "{info:?}");
        assert!(info.backend.contains(&0) && info.path.contains(&0) && info.queue_size == self.queue_size);
        if self.exact {
            assert!(info.attached == 1 && info.reconnects == 0 && info.refused == 0, "{info:?}");
            assert!(info.queue_pairs_used == if self.started { self.active } else { self.used }, "{info:?}");
            assert!(self.odd || info.link_up == u8::from(self.started && !self.down), "{info:?}");
        }
        for index in 0..self.queues.len() {
            self.look_at_queue(index);
        }
    }

    fn look_at_queue(&mut self, index: usize) {
        let ptr = self.queue(index);
        let Some(queue) = &self.queues[index] else { return assert!(ptr.is_null(), "queue {index} was not set up") };
        assert!(queue.ptr == ptr);
        let status = call!(vuser_queue_status(ptr));
        is_among(status, if self.exact { &[libc::ENETDOWN] } else { &[libc::ENETDOWN, libc::EIO] });
        if self.exact {
            is(status, if self.runs(index) { 0 } else { -libc::ENETDOWN });
        }
    }

    /// Whether a queue is to work.
    pub fn runs(&self, index: usize) -> bool {
        self.started && index < 2 * usize::from(self.used) && self.queues[index].as_ref().is_some_and(|q| q.run)
    }

    /// Memory of the program's.
    fn register(&mut self, script: &mut Bytes) {
        const PAGE: usize = 4096;
        let (what, page, pages) = (script.byte(), usize::from(script.byte() % 8), usize::from(script.byte() % 9));
        let (page, pages) = if what >= 192 { (0, 8) } else { (page, pages.min(8 - page)) };
        let (offset, len) = (page * PAGE, pages * PAGE);
        let addr = MEMORY.addr.wrapping_byte_add(offset);
        let (fd, wrong) = match what % 8 {
            0 => (-1, Some(libc::EBADF)),
            1 => (MEMORY.empty, Some(if len == 0 { libc::EINVAL } else { libc::EBADF })),
            2 => (i32::MAX, Some(libc::EBADF)),
            _ => (MEMORY.fd, (len == 0).then_some(libc::EINVAL)),
        };
        let result = call!(vuser_mem_register(self.ptr, fd, offset as u64, len, addr.cast()));
        let same = self.registered.contains(&(offset, len));
        let overlaps = self.registered.iter().any(|(at, n)| *at < offset + len && offset < at + n);
        match wrong {
            Some(errno) => is(result, -errno),
            None if overlaps && !same => is(result, -libc::EEXIST),
            // Compact device addresses have no place for what is below.
            None if self.exact && self.compact => is_among(result, &[libc::EINVAL]),
            None if self.exact => is(result, 0),
            None => {}
        }
        if result == 0 && !same {
            self.registered.push((offset, len));
        }
        self.doubt();
    }

    fn unregister(&mut self, page: u8) {
        let offset = usize::from(page % 9) * 4096;
        if self.uses_memory() {
            // Its queues count on it.
            return;
        }
        let result = call!(vuser_mem_unregister(self.ptr, MEMORY.addr.wrapping_byte_add(offset).cast()));
        let known = self.registered.iter().position(|(at, _)| *at == offset);
        match known {
            None => is(result, -libc::ENOENT),
            Some(_) if self.exact => is(result, 0),
            Some(_) => {}
        }
        if let (0, Some(at)) = (result, known) {
            self.registered.swap_remove(at);
        }
        self.doubt();
        let covered = self.registered.iter().any(|(at, n)| (*at..at + n).contains(&offset));
        let told = call!(vuser_mem_contains(self.ptr, MEMORY.addr.wrapping_byte_add(offset).cast(), 1));
        assert!((0..=1).contains(&told));
        if self.exact {
            is(told, covered.into());
        }
    }

    /// One control call.
    pub fn step(&mut self, script: &mut Bytes) {
        let (what, more) = (script.byte(), script.byte());
        match what % 24 {
            0..=3 => self.start(),
            4 | 5 => self.stop(),
            6 => self.reset(),
            7 => self.set_status([0, 1, 2, 4, 8, 64, 128, 15][usize::from(more % 8)]),
            8 | 9 => self.set_features(script),
            10 => self.set_offloads(if more == 255 { script.word() } else { more.into() }),
            11 => self.set_queue_pairs(self.pair(more).wrapping_add(1)),
            12 => self.set_queue_pairs(u16::from(more) * 3),
            13 => self.run_queue(0, self.pair(more), false),
            14 | 15 => self.run_queue(0, self.pair(more), true),
            16 => self.run_queue(1, self.pair(more), false),
            17 | 18 => self.run_queue(1, self.pair(more), true),
            19 => self.set_link((more & 3).into()),
            20 => self.register(script),
            21 => self.unregister(more),
            _ => self.look(script),
        }
    }
}
