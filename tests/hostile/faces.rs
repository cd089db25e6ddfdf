//! The front-ends that the hostile device meets: programs that are told of a socket and say what became of it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::data::Content;
use crate::fault::{ANY, Outcome};
use crate::port::{Answer, PLAIN, Port};
use crate::support::testpmd::keep;
use crate::support::{Scratch, build, made, root};

/// Lives that a front-end of DPDK's tries.
const ATTEMPTS: u32 = 12;
/// Resets of a port of DPDK's own driver, before another port is tried.
const RESETS_OF_OWN: u32 = 3;
/// Buffers of the DPDK program's pool.
const POOL: u64 = 2000;

/// Which front-end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Face {
    C,
    Python,
    Dpdk,
    /// DPDK's own driver, for comparison.
    DpdkOwn,
}

impl Face {
    pub const OURS: [Self; 3] = [Self::C, Self::Python, Self::Dpdk];

    pub fn word(self) -> &'static str {
        match self {
            Self::C => "c",
            Self::Python => "python",
            Self::Dpdk => "dpdk",
            Self::DpdkOwn => "dpdk-own",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::C => "C",
            Self::Python => "Python",
            Self::Dpdk => "DPDK, `net_vuser`",
            Self::DpdkOwn => "DPDK, `net_virtio_user`",
        }
    }

    /// Programs that share the work on each layout.
    pub fn workers(self) -> usize {
        if self == Self::DpdkOwn { 4 } else { 3 }
    }
}

/// What a front-end is to know of a lie about the rings.
#[derive(Clone, Copy, Debug)]
pub struct Ordeal {
    /// What may be wrong with its frames.
    pub content: Content,
    /// Without a frame for so long nothing moves any more.
    pub patience: Duration,
    pub merge: bool,
    /// Our DPDK port shares memory of its own. Else it is all of DPDK's, and nothing is promised of a device that writes anywhere
    /// into what is shared.
    pub bounce: bool,
}

/// The file by which the device says that it was told.
pub fn sign(socket: &Path) -> PathBuf {
    PathBuf::from(format!("{}.told", socket.display()))
}

/// One life against a fault.
#[derive(Clone, Debug)]
pub struct Life {
    pub outcome: Outcome,
    /// The first thing it said of it.
    pub says: String,
}

impl Life {
    fn new(outcome: Outcome, says: impl Into<String>) -> Self {
        Self { outcome, says: says.into() }
    }
}

/// A running front-end, or none yet; started again when it has ended.
pub struct Front {
    face: Face,
    packed: bool,
    timeout: Duration,
    /// Whoever says nothing for so long hangs.
    limit: Duration,
    scratch: Arc<Scratch>,
    lines: Option<Lines>,
    port: Option<(Port, u64)>,
}

/// A program that speaks lines.
struct Lines {
    child: Child,
    stdin: ChildStdin,
    heard: Receiver<String>,
    log: Arc<Mutex<String>>,
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lines {
    fn start(face: Face) -> Self {
        let mut command = if face == Face::C {
            Command::new(made("tests/front"))
        } else {
            let mut python = Command::new(std::env::var("PYTHON").unwrap_or_else(|_| "python3".into()));
            python.arg(root().join("tests/hostile/front.py"));
            python
                .env("PYTHONPATH", root().join("bindings/python"))
                .env("VUSER_LIBRARY", build().join("libvuser.so.0"));
            python
        };
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap_or_else(|e| panic!("{}: {e}", face.word()));
        let (log, (say, heard)) = (Arc::default(), channel());
        keep(child.stderr.take().expect("it is piped"), &log);
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
        let stdin = child.stdin.take().expect("it is piped");
        Self { child, stdin, heard, log }
    }

    fn live(&mut self, order: &str, limit: Duration) -> Life {
        let end = Instant::now() + limit;
        let mut said = Vec::new();
        let _ = writeln!(self.stdin, "{order}");
        loop {
            use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
            match self.heard.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.starts_with("ok ") => return verdict(&line, &said),
                Ok(line) if line.starts_with("stuck") => {
                    return Life::new(Outcome::Hang, format!("{line}; {}", said.join("; ")));
                }
                Ok(line) => said.push(line),
                Err(Timeout) => return Life::new(Outcome::Hang, format!("no word; {}", said.join("; "))),
                Err(Disconnected) => {
                    let status = self.child.wait().expect("it is ours");
                    let log = self.log.lock().unwrap().clone();
                    return crash(status, log.lines().last().unwrap_or_default());
                }
            }
        }
    }
}

fn crash(status: ExitStatus, says: &str) -> Life {
    Life::new(Outcome::Crash(status.signal().unwrap_or(0)), format!("{status}: {says}"))
}

/// What the last line of a life means, with the ones before it.
fn verdict(line: &str, said: &[String]) -> Life {
    let fields: HashMap<&str, i64> = line.split(' ').filter_map(|f| f.split_once('=')).filter_map(number).collect();
    let of = |key: &str| fields.get(key).copied().unwrap_or(-1);
    let first = |word: &str| said.iter().find(|line| line.starts_with(word));
    if let Some(damaged) = first("corrupt") {
        Life::new(Outcome::Corrupt, damaged.as_str())
    } else if of("corrupt") != 0 || of("buffers") < 0 {
        Life::new(Outcome::Corrupt, line)
    } else if of("fds") != 0 || of("buffers") != 0 {
        Life::new(Outcome::Leak, line)
    } else if let Some(uncounted) = first("uncounted") {
        Life::new(Outcome::Miscounted, uncounted.as_str())
    } else if let Some(unmended) = first("unmended") {
        Life::new(Outcome::Unmended, unmended.as_str())
    } else if let Some(refused) = first("refused") {
        Life::new(Outcome::Refused, refused.trim_start_matches("refused "))
    } else if let Some(stalled) = first("stalled") {
        Life::new(Outcome::Stalled, stalled.trim_start_matches("stalled "))
    } else if let Some(broken) = first("broken") {
        Life::new(Outcome::Contained, broken.trim_start_matches("broken "))
    } else if of("lost") != 0 {
        Life::new(Outcome::Contained, "the connection was lost, and came back")
    } else {
        Life::new(Outcome::Works, "")
    }
}

fn number<'a>((key, value): (&'a str, &str)) -> Option<(&'a str, i64)> {
    Some((key, value.parse().ok()?))
}

/// Both layouts and frames in one buffer or in more, for any driver.
fn devargs(packed: bool, ordeal: Option<Ordeal>) -> String {
    let merged = if ordeal.is_some_and(|o| !o.merge) { ",mrg_rxbuf=0" } else { "" };
    format!("packed_vq={}{merged}", u8::from(packed))
}

impl Front {
    pub fn new(face: Face, packed: bool, limit: Duration, scratch: &Arc<Scratch>) -> Self {
        let scratch = Arc::clone(scratch);
        Self { face, packed, timeout: Duration::ZERO, limit, scratch, lines: None, port: None }
    }

    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    pub fn face(&self) -> Face {
        self.face
    }

    /// One life of a device at this socket, which waits so long for an answer, to its good or bad end.
    pub fn live(&mut self, socket: &Path, timeout: Duration, ordeal: Option<Ordeal>) -> Life {
        self.timeout = timeout;
        let life = match self.face {
            Face::C | Face::Python => {
                let lines = self.lines.get_or_insert_with(|| Lines::start(self.face));
                let (content, patience) = ordeal.map_or(("-", 0), |o| (o.content.word(), o.patience.as_millis()));
                let (timeout, devargs) = (timeout.as_millis(), devargs(self.packed, ordeal));
                lines.live(&format!("{} {timeout} {devargs} {content} {patience}", socket.display()), self.limit)
            }
            Face::Dpdk | Face::DpdkOwn => self.live_in_dpdk(socket, ordeal),
        };
        // What has come to a bad end is not asked again.
        if !ANY.contains(&life.outcome) {
            (self.lines, self.port) = (None, None);
        }
        life
    }

    fn live_in_dpdk(&mut self, socket: &Path, ordeal: Option<Ordeal>) -> Life {
        let (mut port, fds) = self.port.take().unwrap_or_else(|| self.launch());
        let (done, over) = channel::<()>();
        let (id, limit) = (Pid::from_raw(port.id().cast_signed()), self.limit);
        // It may hang in a call, and the talk with it has no deadline of its own.
        let watch = std::thread::spawn(move || {
            let late = over.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
            late && kill(id, Signal::SIGKILL).is_ok()
        });
        let mut said = Vec::new();
        let good = self.attempts(&mut port, socket, ordeal, &mut said);
        let left = if good { self.left(&mut port, fds) } else { String::new() };
        drop(done);
        if watch.join().unwrap_or(false) {
            return Life::new(Outcome::Hang, said.join("; "));
        }
        if !port.alive() {
            let log = port.log();
            return crash(port.end(), log.lines().last().unwrap_or_default());
        }
        if !good {
            return Life::new(Outcome::Hang, format!("stuck; {}", said.join("; ")));
        }
        self.port = Some((port, fds));
        verdict(&left, &said)
    }

    /// The program, and how many descriptors it has open.
    fn launch(&self) -> (Port, u64) {
        let plugin = ["-d".to_owned(), made("librte_net_vuser.so").display().to_string()];
        let plugin = if self.face == Face::Dpdk { &plugin[..] } else { &[] };
        let eal: Vec<&str> = plugin.iter().map(String::as_str).chain(PLAIN.iter().copied()).collect();
        let mut port = Port::launch(&self.scratch, &eal, &[], None).unwrap_or_else(|e| panic!("{e}"));
        port.tell(&format!("pool name=port count={POOL}"));
        // A first life opens what stays open.
        let socket = self.scratch.file(&format!("first-{}", port.id()));
        let man = crate::man::Man::start(&socket, None, crate::control::Plan::Full, self.timeout, false);
        let mut said = Vec::new();
        self.attempts(&mut port, &socket, None, &mut said);
        drop(man);
        let fds = port.ask("census").map_or(0, |census| census.number("fds"));
        (port, fds)
    }

    fn name(&self) -> &'static str {
        if self.face == Face::Dpdk { "net_vuser0" } else { "net_virtio_user0" }
    }

    fn attempts(&self, port: &mut Port, socket: &Path, ordeal: Option<Ordeal>, said: &mut Vec<String>) -> bool {
        (0..ATTEMPTS).any(|n| {
            std::thread::sleep(Duration::from_millis(if n == 0 { 0 } else { 5 }));
            port.alive() && self.attempt(port, socket, ordeal, said)
        })
    }

    fn attempt(&self, port: &mut Port, socket: &Path, ordeal: Option<Ordeal>, said: &mut Vec<String>) -> bool {
        let mut more = devargs(self.packed, ordeal);
        if self.face == Face::Dpdk {
            let bounce = u8::from(ordeal.is_some_and(|o| o.bounce));
            more += &format!(",timeout_ms={},reconnect_ms=20,bounce={bounce}", self.timeout.as_millis());
        }
        let name = self.name();
        let attach = format!("attach name={name} args=path={},{more}", socket.display());
        let device = match port.ask(&attach) {
            Ok(answer) => answer.number("port"),
            Err(e) => {
                said.push(format!("refused {e}"));
                return false;
            }
        };
        let good = match ordeal {
            Some(ordeal) => self.rings(port, device, &ordeal, &sign(socket), said),
            None => self.run(port, device, said),
        };
        let _ = port.ask(&format!("stop port={device}"));
        for command in [format!("close port={device}"), format!("detach name={name}")] {
            if let Err(e) = port.ask(&command) {
                said.push(format!("refused {e}"));
            }
        }
        good
    }

    fn run(&self, port: &mut Port, device: u64, said: &mut Vec<String>) -> bool {
        let mut ask = |command: String, what: &str| {
            let answer = port.ask(&command);
            // DPDK's own driver cannot set a link: ENOTSUP.
            if let Err(e) = answer.as_ref().map_err(String::as_str)
                && !e.contains(": -95 ")
            {
                // The device's frames that were damaged are told by the program's own count.
                let damaged = e.contains("corrupt=") && !e.contains("corrupt=0");
                said.push(format!("{} {e}", if damaged { "corrupt" } else { what }));
            }
            answer.is_ok()
        };
        let exchange = format!("exchange port={device} frames=48 window=32 patience=1000");
        if !ask(format!("configure port={device}"), "refused") || !ask(format!("start port={device}"), "refused") {
            return false;
        }
        if !ask(exchange.clone(), "broken") {
            ask(format!("stop port={device}"), "refused");
            if !ask(format!("start port={device}"), "refused") || !ask(exchange.clone(), "refused") {
                return false;
            }
        }
        for command in ["link up=0", "link up=1", "stop"] {
            let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
            ask(format!("{verb} port={device} {rest}"), "refused");
        }
        // Frames of an exchange that has lost its patience would come in the next: none is under way after a start.
        (0..3).any(|n| {
            let stopped = n == 0 || ask(format!("stop port={device}"), "refused");
            stopped && ask(format!("start port={device}"), "refused") && ask(exchange.clone(), "broken")
        })
    }

    /// Frames by rings that lie, and by rings that are new.
    fn rings(&self, port: &mut Port, device: u64, ordeal: &Ordeal, sign: &Path, said: &mut Vec<String>) -> bool {
        let configured = port.ask(&format!("configure port={device}"));
        let mut start = configured.and_then(|_| port.ask(&format!("start port={device}")));
        let until = format!(" until={}", sign.display());
        // The transmit ring is looked at when half of it is in use.
        let mut all = (ordeal.content, 300, until.as_str());
        let own = self.face == Face::DpdkOwn;
        let mut resets = 0;
        while resets < if own { RESETS_OF_OWN } else { ATTEMPTS } {
            let (content, frames, until) = all;
            let (content, patience) = (content.word(), ordeal.patience.as_millis());
            let within = if own { " within=5000" } else { "" };
            let command =
                format!("ordeal port={device} content={content} patience={patience} frames={frames}{within}{until}");
            let mark = port.log().len();
            let end = match start.and_then(|_| port.ask(&command)) {
                Ok(answer) => judge(&answer, own, said),
                Err(e) => {
                    said.push(format!("refused {e}"));
                    return false;
                }
            };
            match end.as_str() {
                "enough" if until.is_empty() => return true,
                "enough" => (all, resets) = ((Content::Whole, 48, ""), 0),
                "broken" | "stalled" => resets += 1,
                // It is judged already.
                "corrupt" => return true,
                // The lie has found no occasion, and will not.
                _ => return own,
            }
            start = port.ask(&format!("stop port={device}"));
            if end == "broken" {
                said.push(format!("broken {}", sentence(port, mark)));
            }
            start = start.and_then(|_| port.ask(&format!("start port={device}")));
        }
        said.push(format!("unmended after {resets} resets"));
        false
    }

    /// What is left of a life, in the words of the others.
    fn left(&self, port: &mut Port, fds: u64) -> String {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let Ok(census) = port.ask("census") else { return String::new() };
            let (open, home) = (census.number("fds"), census.number("port"));
            if (open <= fds && home == POOL) || Instant::now() > end {
                let more = open.saturating_sub(fds);
                let missing = POOL.cast_signed() - home.cast_signed();
                return format!("ok corrupt=0 lost=0 fds={more} buffers={missing}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// How an ordeal ended; what is wrong is said in the words of the others.
fn judge(answer: &Answer, own: bool, said: &mut Vec<String>) -> String {
    if answer.number("corrupt") > 0 {
        said.push(format!("corrupt {}", answer.text("fault")));
    }
    // DPDK's own driver does not empty its rings when it is stopped.
    if answer.number("stale") > 0 && !own {
        said.push("corrupt a frame of before the reset".into());
    }
    let [handed, ipackets, taken, opackets] =
        ["handed", "ipackets", "taken", "opackets"].map(|name| answer.number(name));
    if (handed, taken) != (ipackets, opackets) {
        said.push(format!("uncounted {ipackets} of {handed} received, {opackets} of {taken} sent"));
    }
    if answer.text("missing") != "0" {
        said.push(format!("uncounted {} frames that did not come", answer.text("missing")));
    }
    let end = answer.text("end");
    if end == "stalled" {
        said.push("stalled no frames come any more".into());
    }
    end.to_owned()
}

/// What the driver has logged of a broken queue since then.
fn sentence(port: &Port, mark: usize) -> String {
    const BROKEN: &str = crate::runner::SENTENCE;
    port.says(mark, BROKEN);
    let log = port.log();
    let line = log[mark..].lines().find_map(|line| line.find(BROKEN).map(|at| &line[at..]));
    line.unwrap_or("a queue, and nobody says why").to_owned()
}
