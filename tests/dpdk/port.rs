//! Our DPDK program, started and talked to.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::testpmd::{allowed_cpus, keep, testpmd_program};
use crate::support::{Scratch, made, skip};
use crate::turn::Turn;

/// EAL's memory where it doesn't matter: ordinary pages, one file.
pub const PLAIN: &[&str] = &["--no-huge", "-m", "160"];

/// The driver under test.
pub fn driver() -> String {
    std::env::var("VUSER_DPDK_DRIVER").unwrap_or_else(|_| "net_vuser".into())
}

/// EAL's arguments that load the driver under test.
pub fn plugin() -> Vec<String> {
    match driver().as_str() {
        "net_vuser" => vec!["-d".into(), made("librte_net_vuser.so").display().to_string()],
        _ => Vec::new(),
    }
}

/// Whether a test can run here; says why not.
pub fn possible(test: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|dir| dir.join(testpmd_program()).is_file());
    if !found {
        skip(&format!("dpdk::{test}"), "there is no dpdk-testpmd (Debian: packages dpdk-dev and libdpdk-dev)");
    }
    found
}

/// What a command answered: names and values in order; xstats of a port can have a name twice.
#[derive(Clone, Debug, Default)]
pub struct Answer(pub Vec<(String, String)>);

impl Answer {
    fn parse<'a>(fields: impl Iterator<Item = &'a str>) -> Self {
        Self(fields.filter_map(|f| f.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect())
    }

    pub fn text(&self, key: &str) -> &str {
        let found = self.0.iter().find(|(k, _)| k == key);
        &found.unwrap_or_else(|| panic!("no {key} in {self:?}")).1
    }

    pub fn number(&self, key: &str) -> u64 {
        let text = self.text(key);
        let number = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16));
        number.unwrap_or_else(|e| panic!("{key}={text}: {e}"))
    }

    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(k, _)| k == key)
    }

    pub fn map(&self) -> HashMap<&str, u64> {
        self.0.iter().map(|(k, _)| (k.as_str(), self.number(k))).collect()
    }
}

/// The running program; gone when dropped.
pub struct Port {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    /// What it and its libraries log.
    log: Arc<Mutex<String>>,
    /// What it was told and answered, for who has to find out.
    talk: String,
    scratch: Arc<Scratch>,
    _turn: Option<Turn>,
}

static STARTED: AtomicU32 = AtomicU32::new(0);

impl Port {
    /// In a directory of its own, when there is a CPU for it. None: the test is skipped, and has said so.
    pub fn start(test: &str, eal: &[&str]) -> Option<Self> {
        Self::with_env(test, eal, &[])
    }

    /// The same when there is a CPU for somebody else, too.
    pub fn beside(test: &str, eal: &[&str]) -> Option<Self> {
        Self::start_with(test, eal, &[], 2)
    }

    pub fn with_env(test: &str, eal: &[&str], env: &[(&str, &str)]) -> Option<Self> {
        Self::start_with(test, eal, env, 1)
    }

    fn start_with(test: &str, eal: &[&str], env: &[(&str, &str)], cpus: usize) -> Option<Self> {
        if !possible(test) {
            return None;
        }
        let plugin = plugin();
        let eal: Vec<&str> = plugin.iter().map(String::as_str).chain(eal.iter().copied()).collect();
        let turn = Turn::wait(cpus);
        let scratch = Arc::new(scratch(test));
        Some(Self::launch(&scratch, &eal, env, Some(turn)).unwrap_or_else(|e| panic!("{test}: {e}")))
    }

    /// With nothing said for it: no plug-in, no turn.
    pub fn launch(
        scratch: &Arc<Scratch>,
        eal: &[&str],
        env: &[(&str, &str)],
        turn: Option<Turn>,
    ) -> Result<Self, String> {
        Self::launch_program(&[], "tests/port", scratch, eal, env, turn)
    }

    /// The program, or another that is made of the same, perhaps by way of one that changes its surroundings.
    pub fn launch_program(
        by: &[&str],
        program: &str,
        scratch: &Arc<Scratch>,
        eal: &[&str],
        env: &[(&str, &str)],
        turn: Option<Turn>,
    ) -> Result<Self, String> {
        let cpus = allowed_cpus();
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let program = made(program).display().to_string();
        let words: Vec<&str> = by.iter().copied().chain([program.as_str()]).collect();
        let telemetry = if eal.contains(&"--telemetry") { "--telemetry" } else { "--no-telemetry" };
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .args(["--no-pci", telemetry, &format!("--file-prefix=p{number}")])
            .arg(format!("--lcores=0@({cpus})"))
            .args(eal)
            .env("RUNTIME_DIRECTORY", &scratch.0)
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{program}: {e}"))?;
        let log = Arc::new(Mutex::new(String::new()));
        keep(child.stderr.take().unwrap(), &log);
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let scratch = Arc::clone(scratch);
        let mut port = Self { child, stdin, stdout, log, talk: String::new(), scratch, _turn: turn };
        port.answer().map_err(|e| format!("it does not come up: {e}\n{}", port.log()))?;
        Ok(port)
    }

    fn answer(&mut self) -> Result<Answer, String> {
        loop {
            let mut line = String::new();
            if self.stdout.read_line(&mut line).unwrap_or(0) == 0 {
                return Err(format!("it ended: {:?}", self.child.wait()));
            }
            // Libraries may print here, too.
            let mut fields = line.trim_end_matches('\n').split('\t');
            match fields.next() {
                Some("ok") => return Ok(Answer::parse(fields)),
                Some("error") => {
                    let sentence = fields.next().unwrap_or("").to_owned();
                    return Err(format!("{sentence} ({})", fields.collect::<Vec<_>>().join(", ")));
                }
                _ => {}
            }
        }
    }

    /// Gives a command; the answer or what is wrong.
    pub fn ask(&mut self, command: &str) -> Result<Answer, String> {
        let stdin = self.stdin.as_mut().expect("it is still listened to");
        let written = writeln!(stdin, "{command}");
        let answer = written.map_err(|e| format!("it does not listen: {e}")).and_then(|()| self.answer());
        self.talk += &match &answer {
            Ok(answer) => format!("{command}\n    {:?}\n", answer.0),
            Err(e) => format!("{command}\n    error: {e}\n"),
        };
        answer
    }

    /// Gives a command, which has to succeed.
    #[track_caller]
    pub fn tell(&mut self, command: &str) -> Answer {
        match self.ask(command) {
            Ok(answer) => answer,
            Err(e) => self.blame(&format!("{command}: {e}")),
        }
    }

    /// Gives a command, which has to fail; what it says.
    #[track_caller]
    pub fn refuse(&mut self, command: &str) -> String {
        match self.ask(command) {
            Ok(answer) => self.blame(&format!("{command}: it should not have done that, but answers {answer:?}")),
            Err(e) => e,
        }
    }

    /// Fails the test with all there is to know.
    #[track_caller]
    pub fn blame(&self, why: &str) -> ! {
        let (talk, log) = (tail(&self.talk, 6000), self.log());
        panic!("{why}\n--- what was said ---\n{talk}--- log ---\n{}---", tail(&log, 6000));
    }

    #[track_caller]
    pub fn check(&self, good: bool, why: &str) {
        if !good {
            self.blame(why);
        }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Whether the log says something after its first `mark` bytes. It comes by another pipe than answers, and so later.
    pub fn says(&self, mark: usize, text: &str) -> bool {
        let end = Instant::now() + Duration::from_secs(20);
        while !self.log.lock().unwrap()[mark..].contains(text) {
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.scratch.file(name)
    }

    pub fn directory(&self) -> &Path {
        &self.scratch.0
    }

    /// The two pools that `vhost` and `device` use.
    pub fn pools(&mut self) {
        self.tell("pool name=vhost count=6000");
        self.tell("pool name=port count=6000");
    }

    /// A started vhost port that listens at `s<n>`, with so many queues and `more` arguments.
    pub fn vhost(&mut self, n: u32, queues: u32, more: &str) -> u64 {
        let socket = self.file(&format!("s{n}"));
        let name = format!("net_vhost{n}");
        let args = format!("iface={},queues={queues}{more}", socket.display());
        let port = self.tell(&format!("attach name={name} args={args}")).number("port");
        self.tell(&format!("configure port={port} rxq={queues} pool=vhost"));
        self.tell(&format!("start port={port}"));
        port
    }

    /// The name of a device of the driver under test.
    pub fn name(n: u32) -> String {
        format!("{}{n}", driver())
    }

    /// A device of the driver under test with its back-end at `s<n>`, not configured yet.
    pub fn device(&mut self, n: u32, args: &str) -> u64 {
        let socket = self.file(&format!("s{n}"));
        self.device_at(n, &socket, args)
    }

    pub fn device_at(&mut self, n: u32, socket: &Path, args: &str) -> u64 {
        let command = format!("attach name={} args=path={},{args}", Self::name(n), socket.display());
        self.tell(&command).number("port")
    }

    /// Configures and starts a device, and waits until the vhost port at its other end has noticed.
    pub fn run(&mut self, device: u64, vhost: u64, configuration: &str) {
        self.tell(&format!("configure port={device} {configuration}"));
        self.tell(&format!("start port={device}"));
        let link = self.tell(&format!("link port={vhost} until=1 wait=3000"));
        self.check(link.number("up") == 1, "the vhost port does not see the device");
    }

    /// Stops and removes a device.
    pub fn remove(&mut self, n: u32, device: u64) {
        self.tell(&format!("stop port={device}"));
        self.tell(&format!("close port={device}"));
        self.tell(&format!("detach name={}", Self::name(n)));
    }

    /// Ends the program in an orderly way; how it ended.
    pub fn quit(mut self) -> String {
        self.stdin = None;
        match self.child.wait() {
            Ok(status) if status.success() => self.log(),
            status => self.blame(&format!("at its end: {status:?}")),
        }
    }

    #[allow(dead_code, reason = "the hostile device's runner uses it")]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended by itself, or was ended.
    #[allow(dead_code, reason = "the hostile device's runner uses it")]
    pub fn end(mut self) -> std::process::ExitStatus {
        self.stdin = None;
        self.child.wait().expect("it is ours")
    }

    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.stdin = None;
        let end = Instant::now() + Duration::from_secs(30);
        while self.alive() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory that no other test of this run has.
pub fn scratch(test: &str) -> Scratch {
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    // A socket's path has a hundred bytes.
    let short: String = test.chars().take(24).collect();
    Scratch::new(&format!("dpdk-{short}-{number}"))
}

fn tail(text: &str, most: usize) -> &str {
    let mut from = text.len().saturating_sub(most);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}
