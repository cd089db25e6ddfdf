//! Promise: what we put into a ring, somebody else's device reads as we meant it, and the other way round.
//!
//! The foreign peer is DPDK's vhost library inside `dpdk-testpmd`, which sends every frame back on the
//! queue it came from. `tests/foreign/traffic.c`, a C program linked with `libvuser.so.0`, drives our side
//! and compares every byte. Here is the matrix: which device, which frames, what happens on the way.
//!
//! Three parties are asked about each run and have to agree: the traffic program (every frame back, once,
//! in order, undamaged, no buffer leaked), testpmd's port counters, and testpmd's log (the features it says
//! were negotiated; not one complaint).
//!
//! | variable | meaning |
//! |---|---|
//! | `VUSER_FOREIGN_FRAMES` | frames per run, 20000 by default |
//! | `VUSER_TESTPMD` | the program to start, `dpdk-testpmd` by default |
//! | `VUSER_BUILD` | where `tests/traffic` and `libvuser.so.0` are, `build` by default |
//! | `VUSER_REQUIRE_ALL` | `1`: a skipped test is a failed test |
#![cfg(target_os = "linux")]

mod support;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use support::Scratch;
use support::hugepages::Hugepages;
use support::testpmd::{Testpmd, testpmd_program};

const MRG_RXBUF: u64 = 1 << 15;
const INDIRECT: u64 = 1 << 28;
const EVENT_IDX: u64 = 1 << 29;
const VERSION_1: u64 = 1 << 32;
const RING_PACKED: u64 = 1 << 34;
const IN_ORDER: u64 = 1 << 35;
/// The bits both sides print; the others are each side's own business.
const COMPARED: u64 = MRG_RXBUF | INDIRECT | EVENT_IDX | VERSION_1 | RING_PACKED | IN_ORDER;

const SIZES: [u32; 7] = [64, 128, 256, 512, 1024, 1518, 9000];

// ---------------------------------------------------------------------------------------------------------
// What is asked for

/// One device, as devargs describe it.
#[derive(Clone, Copy)]
struct Device {
    packed: bool,
    mergeable: bool,
    in_order: bool,
    vectorized: bool,
    event_idx: bool,
    indirect: bool,
    queues: u32,
    queue_size: u32,
}

impl Device {
    const fn new(packed: bool, mergeable: bool, in_order: bool, vectorized: bool) -> Self {
        Self { packed, mergeable, in_order, vectorized, event_idx: true, indirect: true, queues: 1, queue_size: 256 }
    }

    fn devargs(self, socket: &Path) -> String {
        format!(
            "path={},packed_vq={},mrg_rxbuf={},in_order={},vectorized={},event_idx={},indirect={},queues={},queue_size={}",
            socket.display(),
            u8::from(self.packed),
            u8::from(self.mergeable),
            u8::from(self.in_order),
            u8::from(self.vectorized),
            u8::from(self.event_idx),
            u8::from(self.indirect),
            self.queues,
            self.queue_size
        )
    }

    /// Feature bits that have to be negotiated; those of `COMPARED` not among them must not be.
    fn features(self) -> u64 {
        let bit = |on, bit| if on { bit } else { 0 };
        VERSION_1
            | bit(self.packed, RING_PACKED)
            | bit(self.mergeable, MRG_RXBUF)
            | bit(self.in_order, IN_ORDER)
            | bit(self.event_idx, EVENT_IDX)
            | bit(self.indirect, INDIRECT)
    }

    /// Everything the peer can send back to this device: jumbo frames need merged buffers.
    fn sizes(self) -> String {
        let fits = SIZES.iter().filter(|&&size| self.mergeable || size < 2000);
        fits.map(u32::to_string).collect::<Vec<_>>().join(",")
    }

    fn name(self) -> String {
        let mut name = String::from(if self.packed { "packed" } else { "split" });
        for (on, word) in [
            (self.mergeable, " mrg"),
            (self.in_order, " in-order"),
            (self.vectorized, " vector"),
            (!self.event_idx, " no-event-idx"),
            (!self.indirect, " no-indirect"),
        ] {
            if on {
                name.push_str(word);
            }
        }
        if self.queue_size != 256 {
            write!(name, " ring {}", self.queue_size).unwrap();
        }
        name
    }
}

/// The ten ways DPDK's own driver has to move frames; devargs that select them select ours.
const TEN_PATHS: [Device; 10] = [
    Device::new(false, true, false, false),
    Device::new(false, true, true, false),
    Device::new(false, false, true, false),
    Device::new(false, false, false, false),
    Device::new(false, false, false, true),
    Device::new(true, true, false, false),
    Device::new(true, true, true, false),
    Device::new(true, false, true, false),
    Device::new(true, false, false, false),
    Device::new(true, false, true, true),
];

/// What happens to the device during a run.
struct Run {
    device: Device,
    /// Arguments of the traffic program.
    args: Vec<String>,
    frames: u64,
    /// Feature bits negotiated at the end.
    features: u64,
    /// Frames may be lost (but nothing else), so counters are not compared.
    lossy: bool,
}

impl Run {
    fn new(device: Device, args: &str) -> Self {
        let args = args.split_whitespace().map(String::from).collect();
        Self { device, args, frames: frames(), features: device.features(), lossy: false }
    }
}

fn frames() -> u64 {
    match std::env::var("VUSER_FOREIGN_FRAMES") {
        Ok(text) => text.parse().expect("VUSER_FOREIGN_FRAMES is a number"),
        Err(_) => 20_000,
    }
}

// ---------------------------------------------------------------------------------------------------------
// Saying what is going on

/// Past the test harness, which keeps the output of tests that succeed to itself: skips and the table are
/// for everybody's eyes.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

fn skip(test: &str, why: &str) {
    say(&format!("SKIP foreign::{test}: {why}"));
    assert!(std::env::var("VUSER_REQUIRE_ALL").as_deref() != Ok("1"), "VUSER_REQUIRE_ALL=1, but {test} skipped: {why}");
}

// ---------------------------------------------------------------------------------------------------------
// testpmd

#[derive(Clone, Copy, PartialEq)]
enum Memory {
    /// Ordinary pages: runs everywhere, for everybody.
    Plain,
    /// 2 MiB pages, of which 48 have to be free.
    Huge,
}

/// A testpmd that sends back what comes from the front-end at `scratch`/sock.
fn start_testpmd(scratch: &Path, memory: Memory) -> Result<Testpmd, String> {
    let socket = scratch.join("sock");
    let _ = fs::remove_file(&socket);
    let memory: &[&str] = match memory {
        // --no-huge takes no --in-memory; --no-shconf is the half of it that keeps /var/run clean.
        Memory::Plain => &["--no-huge", "--no-shconf", "-m", "256"],
        Memory::Huge => &["--in-memory", "-m", "96"],
    };
    let vdev = format!("--vdev=net_vhost0,iface={},queues=2", socket.display());
    // By default `start` throws away the frames that wait in the queues.
    // It would lock what it maps: also the pages of a log that nobody writes.
    let app = ["--rxq=2", "--txq=2", "--total-num-mbufs=8192", "--no-flush-rx", "--no-mlockall"];
    let mut testpmd = Testpmd::start(scratch, &[memory, &[vdev.as_str()]].concat(), &app, &[])?;
    // Two queues wait here; a device with one pair leaves the second unused.
    let started = testpmd.command("start")?;
    if started.contains("io packet forwarding") { Ok(testpmd) } else { Err(format!("start:\n{started}")) }
}

/// Lines in which DPDK's vhost library complains. It writes a lot more when all is well.
fn complaints(log: &str) -> Vec<&str> {
    const WORDS: [&str; 14] = [
        "fail",
        "error",
        "invalid",
        "wrong",
        "unable",
        "cannot",
        "could not",
        "mismatch",
        "too ",
        "exceed",
        "illegal",
        "denied",
        "unexpected",
        "dropped",
    ];
    let vhost = log.lines().filter(|line| line.contains("VHOST_") && !line.contains("-FAILED: 0"));
    vhost.filter(|line| WORDS.iter().any(|word| line.to_ascii_lowercase().contains(word))).collect()
}

/// The features testpmd says were agreed on, in order.
fn negotiated(log: &str) -> Vec<u64> {
    let values = log.lines().filter_map(|line| line.split_once("negotiated Virtio features: 0x"));
    values.filter_map(|(_, hex)| u64::from_str_radix(hex.trim(), 16).ok()).collect()
}

// ---------------------------------------------------------------------------------------------------------
// The traffic program

fn program(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let build = std::env::var_os("VUSER_BUILD").map_or_else(|| root.join("build"), PathBuf::from);
    root.join(build).join("tests").join(name)
}

fn traffic_program() -> PathBuf {
    program("traffic")
}

/// What it printed: one flat JSON object.
struct Outcome(HashMap<String, String>);

impl Outcome {
    /// Good enough for an object without nesting that our own program wrote.
    fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?;
        let mut fields = HashMap::new();
        while !rest.is_empty() {
            let (key, after) = rest.strip_prefix('"')?.split_once("\":")?;
            let end = match after.strip_prefix('"') {
                Some(string) => 2 + closing_quote(string)?,
                None => after.find(',').unwrap_or(after.len()),
            };
            fields.insert(key.to_string(), after[..end].trim_matches('"').to_string());
            rest = after[end..].strip_prefix(',').unwrap_or("");
        }
        Some(Self(fields))
    }

    fn text(&self, key: &str) -> &str {
        self.0.get(key).unwrap_or_else(|| panic!("traffic did not print \"{key}\""))
    }

    fn number(&self, key: &str) -> u64 {
        let text = self.text(key);
        let number = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16));
        number.unwrap_or_else(|_| panic!("traffic printed \"{key}\": {text}"))
    }

    fn float(&self, key: &str) -> f64 {
        self.text(key).parse().unwrap_or_else(|_| panic!("traffic printed a strange \"{key}\""))
    }
}

fn closing_quote(string: &str) -> Option<usize> {
    let mut escaped = false;
    string.bytes().position(|byte| {
        let closing = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closing
    })
}

/// A running traffic program; killed when dropped.
struct Traffic {
    child: Child,
    stdin: Option<ChildStdin>,
    stderr: mpsc::Receiver<String>,
    heard: String,
    deadline: Instant,
}

impl Traffic {
    fn start(run: &Run, socket: &Path) -> Result<Self, String> {
        let mut child = Command::new(traffic_program())
            .args(["--devargs", &run.device.devargs(socket)])
            .args(["--expect-layout", if run.device.packed { "packed" } else { "split" }])
            .args(["--expect-features", &format!("{:#x}", run.device.features())])
            .args(["--forbid-features", &format!("{:#x}", COMPARED & !run.device.features())])
            .args(["--frames", &run.frames.to_string()])
            .args(&run.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{}: {e}", traffic_program().display()))?;
        let (send, stderr) = mpsc::channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| send.send(line)));
        let stdin = child.stdin.take();
        // It has watchdogs of its own. This one is for when they fail: never below 10000 frames a second.
        let deadline = Instant::now() + Duration::from_secs(90 + run.frames / 10_000);
        Ok(Self { child, stdin, stderr, heard: String::new(), deadline })
    }

    /// Waits until it has drained its queues and stands still.
    fn wait_for_hold(&mut self) -> Result<(), String> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            match self.stderr.recv_timeout(left) {
                Ok(line) if line == "hold" => return Ok(()),
                Ok(line) => writeln!(self.heard, "{line}").unwrap(),
                Err(e) => return Err(format!("traffic ends before the middle ({e}): {}", self.finish_text())),
            }
        }
    }

    fn go(&mut self) -> Result<(), String> {
        let stdin = self.stdin.as_mut().expect("go is said before the end");
        stdin.write_all(b"go\n").map_err(|e| format!("traffic does not listen: {e}"))
    }

    fn finish_text(&mut self) -> String {
        match self.finish() {
            Ok(outcome) => outcome.text("error").to_string(),
            Err(text) => text,
        }
    }

    fn finish(&mut self) -> Result<Outcome, String> {
        self.stdin = None;
        let status = loop {
            if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
                break status;
            }
            if Instant::now() > self.deadline {
                let _ = self.child.kill();
            }
            thread::sleep(Duration::from_millis(2));
        };
        let mut json = String::new();
        let _ = self.child.stdout.as_mut().unwrap().read_to_string(&mut json);
        while let Ok(line) = self.stderr.recv() {
            writeln!(self.heard, "{line}").unwrap();
        }
        let complain = || format!("traffic: {status}\n{json}{}", self.heard);
        let outcome = Outcome::parse(&json).ok_or_else(complain)?;
        if status.success() { Ok(outcome) } else { Err(complain()) }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// ---------------------------------------------------------------------------------------------------------
// A bench: one testpmd, runs one after the other, failures collected

struct Bench {
    test: &'static str,
    memory: Memory,
    testpmd: Option<Testpmd>,
    scratch: Scratch,
    failures: Vec<String>,
    runs: usize,
    started: Instant,
    /// Last field, so dropped last: the next test begins when this testpmd is gone.
    _turn: MutexGuard<'static, ()>,
}

/// Two spinning threads are what the machine can bear.
static TURN: Mutex<()> = Mutex::new(());

impl Bench {
    /// None: the test is skipped, and has said so.
    fn new(test: &'static str, memory: Memory) -> Option<Self> {
        let turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let program = testpmd_program();
        let on_path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&on_path).any(|dir| dir.join(&program).is_file());
        if !found {
            skip(test, &format!("there is no {program} (Debian: package dpdk-dev)"));
            return None;
        }
        for path in ["traffic", "changes", "extras"].map(self::program) {
            if !path.is_file() {
                skip(test, &format!("{} is not built (run make first)", path.display()));
                return None;
            }
        }
        say(&format!("foreign::{test}"));
        Some(Self {
            test,
            memory,
            testpmd: None,
            scratch: Scratch::new("foreign"),
            failures: Vec::new(),
            runs: 0,
            started: Instant::now(),
            _turn: turn,
        })
    }

    fn run(&mut self, label: &str, run: &Run) -> Option<Outcome> {
        self.run_with(label, run, |_, _| Ok(()))
    }

    /// One connection, from connect to close. `during` plays with both sides while it is up.
    fn run_with(
        &mut self,
        label: &str,
        run: &Run,
        during: impl FnOnce(&mut Traffic, &mut Testpmd) -> Result<(), String>,
    ) -> Option<Outcome> {
        self.runs += 1;
        let result = self.attempt(run, during);
        let name = format!("{:<50} x{}  {label:<23}", run.device.name(), run.device.queues);
        match result {
            Ok(outcome) => {
                let (received, mpps) = (outcome.number("received"), outcome.float("mpps"));
                say(&format!("  {name} {received:>9} frames {mpps:>8.3} Mpps  ok"));
                Some(outcome)
            }
            Err(why) => {
                say(&format!("  {name} FAILED"));
                self.failures.push(format!("{} / {label}: {why}", run.device.name()));
                // Whatever state it is in now, it is not what the next run should be judged by.
                self.testpmd = None;
                None
            }
        }
    }

    fn attempt(
        &mut self,
        run: &Run,
        during: impl FnOnce(&mut Traffic, &mut Testpmd) -> Result<(), String>,
    ) -> Result<Outcome, String> {
        let mut testpmd = match self.testpmd.take() {
            Some(testpmd) => testpmd,
            None => start_testpmd(&self.scratch.0, self.memory)?,
        };
        testpmd.command("clear port stats 0")?;
        let mark = testpmd.mark();
        let mut traffic = Traffic::start(run, &self.scratch.file("sock"))?;
        let outcome = during(&mut traffic, &mut testpmd).and_then(|()| traffic.finish());
        let closed = testpmd.wait_for(mark, "vhost peer closed", Duration::from_secs(60));
        let log = testpmd.log_since(mark);
        let blame = |why: String| format!("{why}\n--- testpmd's log ---\n{log}---");
        let outcome = outcome.map_err(blame)?;
        if !closed {
            return Err(blame("testpmd did not notice that we closed the connection".into()));
        }
        agree(run, &outcome, &log, testpmd.counters(0)?).map_err(blame)?;
        self.testpmd = Some(testpmd);
        Ok(outcome)
    }

    /// The other program, `tests/foreign/changes.c`: what of the device changes while frames go round.
    fn change(&mut self, device: Device, scenario: &str, rounds: u32) {
        self.runs += 1;
        let name = format!("{:<50} x{}  {scenario:<23}", device.name(), device.queues);
        match self.attempt_change(device, scenario, rounds) {
            Ok(outcome) => {
                let (received, lost) = (outcome.number("received"), outcome.number("lost"));
                say(&format!("  {name} {received:>9} frames {lost:>3} lost  ok"));
            }
            Err(why) => {
                say(&format!("  {name} FAILED"));
                self.failures.push(format!("{} / {scenario}: {why}", device.name()));
                self.testpmd = None;
            }
        }
    }

    fn attempt_change(&mut self, device: Device, scenario: &str, rounds: u32) -> Result<Outcome, String> {
        let mut testpmd = match self.testpmd.take() {
            Some(testpmd) => testpmd,
            None => start_testpmd(&self.scratch.0, self.memory)?,
        };
        let mark = testpmd.mark();
        let limit = ["-k", "5", "120"];
        let mut command = Command::new("timeout");
        let devargs = device.devargs(&self.scratch.file("sock"));
        command.args(limit).arg(program("changes")).args([&devargs, scenario]);
        let ended = command.arg(rounds.to_string()).output().map_err(|e| e.to_string())?;
        let closed = testpmd.wait_for(mark, "vhost peer closed", Duration::from_secs(60));
        let (text, log) = (String::from_utf8_lossy(&ended.stdout), testpmd.log_since(mark));
        let outcome = Outcome::parse(&text).filter(|_| ended.status.success() && closed);
        let complaints = complaints(&log);
        let outcome = outcome.filter(|_| complaints.is_empty());
        self.testpmd = Some(testpmd);
        outcome.ok_or_else(|| format!("{}: {text}{complaints:?}\n--- testpmd's log ---\n{log}---", ended.status))
    }

    fn finish(mut self) {
        self.testpmd = None;
        let (runs, seconds) = (self.runs, self.started.elapsed().as_secs_f64());
        say(&format!("  {} of {runs} runs passed, {seconds:.1} s", runs - self.failures.len()));
        let failures = std::mem::take(&mut self.failures);
        let test = self.test;
        drop(self);
        assert!(failures.is_empty(), "{test}: {} of {runs} runs failed\n\n{}", failures.len(), failures.join("\n\n"));
    }
}

/// The three parties' stories about one run must be one story.
fn agree(run: &Run, outcome: &Outcome, log: &str, counters: (u64, u64, u64)) -> Result<(), String> {
    let complaints = complaints(log);
    if !complaints.is_empty() {
        return Err(format!("testpmd complains: {complaints:?}"));
    }
    let (ours, theirs) = (outcome.number("features"), negotiated(log));
    let last = theirs.last().copied().unwrap_or(0);
    if ours & COMPARED != run.features || last & COMPARED != run.features {
        return Err(format!("features: wanted {:#x}, we say {ours:#x}, testpmd says {theirs:#x?}", run.features));
    }
    if run.lossy {
        return Ok(());
    }
    let sent = outcome.number("sent");
    if counters != (sent, sent, 0) {
        return Err(format!("we sent {sent}, testpmd counts (received, sent, errors) = {counters:?}"));
    }
    let (rx, tx) = (outcome.number("stat_rx"), outcome.number("stat_tx"));
    if (rx, tx) != (sent, sent) {
        return Err(format!("{sent} frames each way, but our queues count {rx} received and {tx} sent"));
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------------------
// The tests

/// Every path x every frame size x one and two queue pairs, and all sizes mixed in bursts of any length.
#[test]
fn ten_paths_carry_every_frame_size() {
    let Some(mut bench) = Bench::new("ten_paths_carry_every_frame_size", Memory::Plain) else { return };
    for path in TEN_PATHS {
        for queues in [1, 2] {
            let device = Device { queues, ..path };
            for size in SIZES {
                if !device.mergeable && size > 2000 {
                    say(&format!("  {:<50} x{queues}  {size} B: not applicable without mrg_rxbuf", device.name()));
                    continue;
                }
                bench.run(&format!("{size} B"), &Run::new(device, &format!("--sizes {size}")));
            }
            bench.run("all sizes, any burst", &Run::new(device, &format!("--jitter --sizes {}", device.sizes())));
            bench.run("borrowed and copied", &Run::new(device, &format!("--mix --jitter --sizes {}", device.sizes())));
        }
    }
    bench.finish();
}

/// Large rings, and a packed ring whose size is no power of two: its batches never line up twice.
#[test]
fn rings_of_other_sizes() {
    let Some(mut bench) = Bench::new("rings_of_other_sizes", Memory::Plain) else { return };
    for path in TEN_PATHS {
        let sizes: &[u32] = if path.packed { &[1024, 255, 1025] } else { &[1024, 64] };
        for &queue_size in sizes {
            let device = Device { queue_size, queues: 2, ..path };
            bench.run("all sizes, any burst", &Run::new(device, &format!("--jitter --sizes {}", device.sizes())));
        }
    }
    bench.finish();
}

/// Event index and indirect descriptors on and off; transmitted frames are chains, so that indirect
/// tables have something to describe. A small ring makes both indices wrap often.
#[test]
fn event_index_and_indirect_descriptors() {
    let Some(mut bench) = Bench::new("event_index_and_indirect_descriptors", Memory::Plain) else { return };
    for packed in [false, true] {
        for in_order in [false, true] {
            for (event_idx, indirect) in [(false, false), (false, true), (true, false), (true, true)] {
                let device = Device { event_idx, indirect, ..Device::new(packed, true, in_order, false) };
                bench.run("chains of 300 B", &Run::new(device, "--jitter --segment 300 --sizes 64,600,1518,9000"));
                let device = Device { queue_size: 64, ..device };
                bench.run("chains of 600 B", &Run::new(device, "--jitter --segment 600 --sizes 64,1518,1000"));
            }
        }
    }
    bench.finish();
}

/// We sleep on the receive queue's fd and testpmd has to wake us. Were one wake-up lost, the run would
/// stand still for the second that the sleep is bounded by; so a run this fast lost none.
#[test]
fn the_peer_wakes_us() {
    let Some(mut bench) = Bench::new("the_peer_wakes_us", Memory::Plain) else { return };
    for packed in [false, true] {
        for event_idx in [false, true] {
            for queues in [1, 2] {
                let device = Device { event_idx, queues, ..Device::new(packed, true, true, false) };
                let run = Run::new(device, "--events --window 1 --burst 1 --sizes 64,512");
                let Some(outcome) = bench.run("asleep", &run) else { continue };
                let (wakes, gap) = (outcome.number("wakes"), outcome.float("max_gap_ms"));
                if wakes == 0 || gap > 900.0 {
                    bench.failures.push(format!("{}: {wakes} wakes, longest gap {gap} ms", device.name()));
                }
            }
        }
    }
    bench.finish();
}

/// testpmd stops its port and starts it again while we keep sending: nothing moves meanwhile, and not one
/// frame is missing afterwards.
#[test]
fn the_peer_stops_and_starts_its_port() {
    let Some(mut bench) = Bench::new("the_peer_stops_and_starts_its_port", Memory::Plain) else { return };
    let pause = Duration::from_millis(250);
    for path in TEN_PATHS {
        let device = Device { queues: 2, ..path };
        let run = Run::new(device, &format!("--hold --jitter --sizes {}", device.sizes()));
        let outcome = bench.run_with("port stop, port start", &run, |traffic, testpmd| {
            traffic.wait_for_hold()?;
            testpmd.command("stop")?;
            testpmd.command("port stop 0")?;
            traffic.go()?;
            thread::sleep(pause);
            testpmd.command("port start 0")?;
            testpmd.command("start")?;
            Ok(())
        });
        let gap = outcome.map_or(f64::MAX, |outcome| outcome.float("max_gap_ms"));
        if gap < 200.0 {
            bench.failures.push(format!("{}: the port was stopped, yet frames came after {gap} ms", device.name()));
        }
    }
    bench.finish();
}

/// We stop and start the device on one connection, with idle queues (nothing may be lost) and under load
/// (what was under way may be).
#[test]
fn we_stop_and_start() {
    let Some(mut bench) = Bench::new("we_stop_and_start", Memory::Plain) else { return };
    for path in TEN_PATHS {
        let device = Device { queues: 2, ..path };
        let sizes = device.sizes();
        bench.run("10 restarts, idle", &Run::new(device, &format!("--restart=10 --jitter --sizes {sizes}")));
        let mut hot = Run::new(device, &format!("--restart-hot=10 --mix --jitter --sizes {sizes}"));
        hot.lossy = true;
        bench.run("10 restarts under load", &hot);
    }
    bench.finish();
}

/// Reset half way and go on with fewer features, on the same connection; taking RING_PACKED away turns a
/// packed device into a split one.
#[test]
fn features_are_negotiated_again() {
    let Some(mut bench) = Bench::new("features_are_negotiated_again", Memory::Plain) else { return };
    for packed in [false, true] {
        let device = Device { queues: 2, ..Device::new(packed, true, true, false) };
        let all = MRG_RXBUF | IN_ORDER | EVENT_IDX | INDIRECT;
        let mut removals = vec![
            ("without mrg_rxbuf", MRG_RXBUF),
            ("without in_order", IN_ORDER),
            ("without event_idx", EVENT_IDX),
            ("without indirect", INDIRECT),
            ("without all four", all),
        ];
        if packed {
            removals.push(("without packed ring", RING_PACKED));
            removals.push(("without anything", all | RING_PACKED));
        }
        for (label, removed) in removals {
            let mut run = Run::new(device, &format!("--renegotiate {removed:#x} --jitter --sizes 64,300,1518"));
            run.features = device.features() & !removed;
            bench.run(label, &run);
        }
    }
    bench.finish();
}

/// Memory comes and goes while frames are sent from it and received into it; queues stop and start alone; the link goes
/// down and up; pairs are used or not. No frame comes twice, damaged or out of order, and none is missing but what testpmd
/// had in its hands when its rings were disabled under load.
#[test]
fn a_running_device_changes() {
    let Some(mut bench) = Bench::new("a_running_device_changes", Memory::Plain) else { return };
    for path in TEN_PATHS {
        let device = Device { queues: 2, ..path };
        for scenario in ["memory", "queues", "link", "pairs"] {
            bench.change(device, scenario, 2);
        }
    }
    bench.finish();
}

/// An MTU, an announcement, a log of written pages: `tests/capi/extras.c`, of which DPDK's side is asked for the MTU.
#[test]
fn what_not_every_peer_can_be_told() {
    let Some(mut bench) = Bench::new("what_not_every_peer_can_be_told", Memory::Plain) else { return };
    bench.runs += 1;
    if let Err(why) = tell(&bench.scratch) {
        bench.failures.push(why);
    }
    bench.finish();
}

fn tell(scratch: &Scratch) -> Result<(), String> {
    let mut testpmd = start_testpmd(&scratch.0, Memory::Plain)?;
    let mut child = Command::new("timeout")
        .args(["-k", "5", "60"])
        .arg(program("extras"))
        .arg(format!("path={}", scratch.file("sock").display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let told = lines.next().unwrap_or_default();
    let port = testpmd.command("show port info 0")?;
    let _ = child.stdin.take().unwrap().write_all(b"go\n");
    let last = lines.last().unwrap_or_default();
    let ended = child.wait_with_output().map_err(|e| e.to_string())?;
    let (log, errors) = (testpmd.log_since(0), String::from_utf8_lossy(&ended.stderr));
    if told == "mtu 1400" && port.contains("MTU: 1400") && last == "ok" && ended.status.success() {
        return Ok(());
    }
    Err(format!("{}: {told:?}, {last:?}, {errors}\n{port}\n--- testpmd's log ---\n{log}---", ended.status))
}

/// Both sides on 2 MiB pages.
#[test]
fn hugepages_on_both_sides() {
    const TEST: &str = "hugepages_on_both_sides";
    // 48 for testpmd, and as many for two pools of ours should one linger.
    let pages = match Hugepages::reserve(112) {
        Ok(pages) => pages,
        Err(why) => return skip(TEST, &why),
    };
    let Some(mut bench) = Bench::new(TEST, Memory::Huge) else { return };
    for path in TEN_PATHS {
        let device = Device { queues: 2, ..path };
        let run = Run::new(device, &format!("--jitter --sizes {}", device.sizes()));
        let Some(outcome) = bench.run("2 MiB pages", &run) else { continue };
        if outcome.number("hugetlb_kb") == 0 {
            bench.failures.push(format!("{}: our side uses no huge page", device.name()));
        }
    }
    bench.finish();
    drop(pages);
}
