//! All that a program has, and the calls of its life.

use std::ffi::{CString, c_char, c_int, c_void};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering};

use vuser::capi::capture::{
    vuser_capture, vuser_capture_config, vuser_capture_get_stats, vuser_capture_start, vuser_capture_stats,
    vuser_capture_stop,
};
use vuser::capi::loopback::{
    vuser_loopback, vuser_loopback_get_stats, vuser_loopback_start, vuser_loopback_stats, vuser_loopback_stop,
};
use vuser::capi::misc::{vuser_abi, vuser_set_log, vuser_version};

use super::calls::{Bytes, call, is, is_among};
use super::device::{Dev, FOLDER, Way, none};
use super::ledger::Echo;
use super::packets::Packets;
use super::sized::{filled, given};

/// Devices that there are at most.
const DEVICES: usize = 2;
/// Calls of an input at most.
const CALLS: usize = 160;

struct Capture {
    ptr: *mut vuser_capture,
    /// Of which device, while that is there.
    of: Option<usize>,
}

/// A back-end of the program's.
struct Loopback {
    ptr: *mut vuser_loopback,
    echo: Echo,
}

#[derive(Default)]
pub struct World {
    packets: Packets,
    devices: [Option<Dev>; DEVICES],
    captures: Vec<Capture>,
    loopback: Option<Loopback>,
}

impl World {
    /// The calls that an input has.
    pub fn live(&mut self, script: &mut Bytes) {
        for _ in 0..CALLS {
            let Some(what) = script.next() else { break };
            let (which, call) = (usize::from(what >> 7), what & 0x7f);
            match call % 32 {
                0 => self.init(which, script),
                1 => self.uninit(which),
                2 => self.packets.create(script),
                3 => {
                    let pool = usize::from(script.byte()) % super::packets::POOLS;
                    let used = self.pools(DEVICES) & 1 << pool != 0;
                    self.packets.give_up(pool, used);
                }
                4 => self.loopback(script),
                5 => self.capture(which, script),
                6 => self.end_capture(script),
                7 => general(script),
                8..=13 => self.packets.step(script),
                14..=17 => {
                    let others = self.pools(which);
                    match &mut self.devices[which] {
                        Some(dev) if call % 32 == 17 => dev.set_up_own(script, &mut self.packets, others),
                        Some(dev) => dev.set_up(script, &mut self.packets, others),
                        None => none(),
                    }
                }
                call => match &mut self.devices[which] {
                    Some(dev) => match call {
                        18..=20 => dev.step(script),
                        21 | 22 => dev.tell(script),
                        _ => dev.burst(script, &mut self.packets),
                    },
                    None => self.ready(which, script),
                },
            }
        }
    }

    /// Pools that devices have, but for one.
    fn pools(&self, but: usize) -> u16 {
        let others = self.devices.iter().enumerate().filter(|(n, _)| *n != but);
        others.filter_map(|(_, dev)| dev.as_ref()).fold(0, |all, dev| all | dev.pools())
    }

    fn init(&mut self, which: usize, script: &mut Bytes) {
        if self.devices[which].is_some() {
            return;
        }
        let has = |way| self.devices.iter().flatten().any(|dev| dev.way == way);
        // It speaks with one front-end at a time, and others would wait for it.
        let free = self.loopback.as_ref().map(|l| l.echo).filter(|_| !has(Way::Socket));
        if has(Way::Script) && script.0.first().is_some_and(|how| how % 8 == 7) {
            return;
        }
        self.devices[which] = Dev::init(script, free);
    }

    /// Makes a device with all its queues, and starts it.
    fn ready(&mut self, which: usize, script: &mut Bytes) {
        self.init(which, script);
        let (others, pool) = (self.pools(which), self.packets.large());
        let (Some(dev), Some(pool)) = (&mut self.devices[which], pool) else { return };
        for index in 0..dev.queues.len().min(8) as u8 {
            dev.set_up(&mut Bytes(&[index, pool as u8, 0]), &mut self.packets, others);
        }
        dev.start();
    }

    fn uninit(&mut self, which: usize) {
        let Some(mut dev) = self.devices[which].take() else { return none() };
        for pair in 0..dev.ledgers.len() {
            dev.settle(pair, &mut self.packets);
        }
        self.captures.iter_mut().filter(|c| c.of == Some(which)).for_each(|c| c.of = None);
        let others = self.pools(which);
        dev.uninit(&mut self.packets, others);
    }

    /// Starts a back-end, or looks at it, or ends it.
    fn loopback(&mut self, script: &mut Bytes) {
        let Some(loopback) = &self.loopback else { return self.start_loopback(script) };
        if script.byte() % 4 > 0 {
            let ptr = loopback.ptr;
            let (result, _) = filled(script, |s: *mut vuser_loopback_stats| call!(vuser_loopback_get_stats(ptr, s)));
            return is_among(result, &[libc::EINVAL]);
        }
        let gone = self.loopback.take().expect("it is there");
        // SAFETY: it is given up once.
        unsafe { vuser_loopback_stop(gone.ptr) };
        for dev in self.devices.iter_mut().flatten().filter(|dev| dev.way == Way::Socket) {
            dev.echo = Echo::Perhaps;
            dev.doubt();
        }
    }

    fn start_loopback(&mut self, script: &mut Bytes) {
        const OPTIONS: [(&str, bool); 18] = [
            ("queues=2", true),
            ("queues=4", true),
            ("packed=0", true),
            ("version_1=0", true),
            ("protocol_features=0", true),
            ("hold=3", true),
            ("shuffle=4", true),
            ("inflight=1", true),
            ("hash_report=1", true),
            ("strict=1", true),
            ("batch_used=1", true),
            ("notifier=1", true),
            ("mrg_rxbuf=0", true),
            ("mode=sink", true),
            ("mode=source", true),
            ("mtu=600", true),
            ("frame=1", false),
            ("nonsense=1", false),
        ];
        // SAFETY: NULL is allowed, or refused.
        unsafe { vuser_loopback_stop(null_mut()) };
        let mut text = format!("path={}", FOLDER.join("loopback").display());
        let (mut right, mut echo) = (true, Echo::Ordered);
        for _ in 0..script.byte() % 4 {
            let (option, good) = OPTIONS[usize::from(script.byte()) % OPTIONS.len()];
            text += ",";
            text += option;
            right &= good;
            echo = match option {
                "mode=sink" => Echo::Nothing,
                "mode=source" => Echo::Source(64),
                "hold=3" | "shuffle=4" if echo == Echo::Ordered => Echo::Shuffled,
                _ => echo,
            };
        }
        let (mut ptr, args) = (null_mut(), CString::new(text).expect("it has no zero"));
        if script.byte() == 0 {
            is(call!(vuser_loopback_start(args.as_ptr(), null_mut())), -libc::EINVAL);
            is(call!(vuser_loopback_start(std::ptr::null(), &raw mut ptr)), -libc::EINVAL);
            is(call!(vuser_loopback_start(c"mode=echo".as_ptr(), &raw mut ptr)), -libc::EINVAL);
            is(call!(vuser_loopback_get_stats(std::ptr::null(), null_mut())), -libc::EINVAL);
        }
        is(call!(vuser_loopback_start(args.as_ptr(), &raw mut ptr)), if right { 0 } else { -libc::EINVAL });
        self.loopback = right.then_some(Loopback { ptr, echo });
    }

    fn capture(&mut self, which: usize, script: &mut Bytes) {
        let (what, more) = (script.byte(), script.byte());
        let mut path = [0; 256];
        let mut put = |text: &[u8]| path.iter_mut().zip(text).for_each(|(to, from)| *to = *from as c_char);
        let sink = File::options().write(true).open("/dev/null").expect("there is such a file");
        let mut fd = -1;
        match what % 8 {
            0 => put(b"/dev/full"),
            1 => put(b"/nonexistent/capture"),
            2 => put(&[b'/'; 256]),
            3 => fd = i32::MAX,
            4 => fd = sink.as_raw_fd(),
            5 => (),
            _ => put(FOLDER.join("capture").as_os_str().as_encoded_bytes()),
        }
        if what >= 240 {
            fd = sink.as_raw_fd();
        }
        let config = vuser_capture_config {
            size: 0,
            path,
            fd,
            snaplen: [0, 1, 64, u32::MAX][usize::from(more % 4)],
            frames: if more >= 240 { u32::MAX } else { u32::from(more) + 1 },
            reserved: 0,
            max_bytes: if more & 4 == 0 { 0 } else { script.word() >> 40 },
        };
        let dev = self.devices[which].as_ref();
        let (mut ptr, busy) = (null_mut(), self.captures.iter().any(|c| c.of == Some(which)));
        let can_be = dev.is_some_and(|dev| dev.queues.iter().any(Option::is_some)) && !busy;
        let of = dev.map_or(null_mut(), |dev| dev.ptr);
        let result = given(script, &config, |config, known| {
            if ![0, 8, size_of::<vuser_capture_config>()].contains(&known) {
                // Half a path is another place.
                return -libc::EINVAL;
            }
            let result = call!(vuser_capture_start(of, config, &raw mut ptr));
            if known == size_of::<vuser_capture_config>() && what < 240 && more < 240 && can_be && what % 8 > 5 {
                // There is room for what a limit allows, or not.
                is_among(result, &[libc::EINVAL]);
            }
            assert!(result < 0 || can_be, "there is a capture of {which} already, or nothing to capture");
            result
        });
        assert!((result == 0) == !ptr.is_null());
        if result == 0 {
            self.captures.push(Capture { ptr, of: Some(which) });
        }
    }

    fn end_capture(&mut self, script: &mut Bytes) {
        if self.captures.is_empty() {
            is(call!(vuser_capture_get_stats(std::ptr::null(), null_mut())), -libc::EINVAL);
            return is(call!(vuser_capture_stop(null_mut())), 0);
        }
        let at = usize::from(script.byte()) % self.captures.len();
        let ptr = self.captures[at].ptr;
        let (result, stats) =
            filled(script, |stats: *mut vuser_capture_stats| call!(vuser_capture_get_stats(ptr, stats)));
        is_among(result, &[libc::EINVAL]);
        if let Some(s) = stats {
            assert!(s.written <= s.captured && s.error <= 0 && s.full < 2 && s.why.contains(&0), "{s:?}");
            assert!((s.error == 0) == (s.why[0] == 0), "{s:?}");
        }
        if script.byte() % 4 > 0 {
            call!(vuser_capture_stop(self.captures.swap_remove(at).ptr));
        }
    }

    /// All is given up, and nothing is missing.
    pub fn end(mut self) {
        for which in 0..DEVICES {
            if self.devices[which].is_some() {
                self.uninit(which);
            }
        }
        for capture in self.captures.drain(..) {
            call!(vuser_capture_stop(capture.ptr));
        }
        if let Some(loopback) = self.loopback.take() {
            // SAFETY: it is given up once.
            unsafe { vuser_loopback_stop(loopback.ptr) };
        }
        is(call!(vuser_set_log(0, None, null_mut())), 0);
        self.packets.end();
    }
}

/// Lines of the log.
static LINES: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" fn line(level: c_int, message: *const c_char, lines: *mut c_void) {
    // SAFETY: text, and what was given with this function.
    let (text, lines) = unsafe { (std::ffi::CStr::from_ptr(message), &*lines.cast::<AtomicU64>()) };
    assert!((1..=5).contains(&level) && !text.is_empty());
    lines.fetch_add(1, Ordering::Relaxed);
}

/// What has nothing to do with any object.
fn general(script: &mut Bytes) {
    let level = c_int::from(script.byte() % 8);
    let lines = (&raw const LINES).cast_mut().cast();
    is(call!(vuser_set_log(level, Some(line), lines)), if level > 5 { -libc::EINVAL } else { 0 });
    is(call!(vuser_set_log(-1, Some(line), lines)), -libc::EINVAL);
    let mut count = 0;
    // SAFETY: room for a number, and constants.
    unsafe {
        let table = std::slice::from_raw_parts(vuser_abi(&raw mut count), count);
        assert!(table.len() > 10 && table.iter().all(|e| e.size > 0) && *vuser_version() != 0);
    }
}
