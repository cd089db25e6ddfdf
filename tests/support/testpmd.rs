//! DPDK's `dpdk-testpmd`, started and talked to.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A running testpmd; gone when dropped.
pub struct Testpmd {
    child: Child,
    stdin: ChildStdin,
    /// All it has printed so far.
    log: Arc<Mutex<String>>,
    /// Who read it: at the end their pipes are closed, too.
    readers: Vec<JoinHandle<()>>,
}

const PROMPT: &str = "testpmd> ";

/// Whether testpmd has said this, also with lines of its log, which come by another pipe, in the middle of it.
fn says(printed: &str, text: &str) -> bool {
    if printed.contains(text) {
        return true;
    }
    let without_log: String = printed
        .split("VHOST_CONFIG: ")
        .enumerate()
        .map(|(k, part)| if k == 0 { part } else { part.split_once('\n').map_or("", |(_, rest)| rest) })
        .collect();
    without_log.contains(text)
}

impl Testpmd {
    /// Starts it and waits for its prompt. `eal` and `app` are the arguments before and after the `--`.
    pub fn start(scratch: &Path, eal: &[&str], app: &[&str], env: &[(&str, &str)]) -> Result<Self, String> {
        let cpus = allowed_cpus();
        // Its output is block-buffered when it is no terminal's: stdbuf makes lines arrive when printed.
        let mut child = Command::new("stdbuf")
            .arg("-oL")
            .arg(testpmd_program())
            .args(["--no-pci", "--no-telemetry"])
            // Both threads float over all CPUs we may use: pinned ones would wait for whoever else is there.
            .arg(format!("--lcores=0@({cpus}),1@({cpus})"))
            .args(eal)
            .args(["--", "--interactive", "--nb-cores=1"])
            .args(app)
            .env("RUNTIME_DIRECTORY", scratch)
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("stdbuf dpdk-testpmd: {e}"))?;
        let log = Arc::new(Mutex::new(String::new()));
        let readers = vec![keep(child.stdout.take().unwrap(), &log), keep(child.stderr.take().unwrap(), &log)];
        let stdin = child.stdin.take().unwrap();
        let mut testpmd = Self { child, stdin, log, readers };
        if testpmd.wait_for(0, PROMPT, Duration::from_secs(90)) {
            Ok(testpmd)
        } else {
            Err(format!("testpmd does not come up:\n{}", testpmd.log_since(0)))
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn mark(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    pub fn log_since(&self, mark: usize) -> String {
        self.log.lock().unwrap()[mark..].to_string()
    }

    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it as a crash would: no message, no farewell.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn wait_for(&mut self, mark: usize, text: &str, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while !says(&self.log.lock().unwrap()[mark..], text) {
            if !self.alive() || Instant::now() > end {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// Gives a command and returns what was printed until the next prompt.
    pub fn command(&mut self, line: &str) -> Result<String, String> {
        let mark = self.mark();
        writeln!(self.stdin, "{line}").map_err(|e| format!("testpmd, {line}: {e}"))?;
        if self.wait_for(mark, PROMPT, Duration::from_secs(90)) {
            Ok(self.log_since(mark))
        } else {
            Err(format!("testpmd does not answer `{line}`:\n{}", self.log_since(mark)))
        }
    }

    /// (received, sent, errors) of a port since the last `clear port stats`.
    pub fn counters(&mut self, port: u16) -> Result<(u64, u64, u64), String> {
        let text = self.command(&format!("show port stats {port}"))?;
        let field = |name: &str| {
            let rest = text.split_once(name).map(|(_, rest)| rest.trim_start());
            let digits = rest.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
            digits.and_then(|digits| digits.parse::<u64>().ok()).ok_or(format!("no {name} in\n{text}"))
        };
        let errors = field("RX-missed:")? + field("RX-errors:")? + field("RX-nombuf:")? + field("TX-errors:")?;
        Ok((field("RX-packets:")?, field("TX-packets:")?, errors))
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        let _ = self.stdin.write_all(b"quit\n");
        let end = Instant::now() + Duration::from_secs(30);
        while self.alive() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        self.kill();
        self.readers.drain(..).for_each(|reader| _ = reader.join());
    }
}

/// Appends what a pipe delivers to the log, on a thread that ends with the pipe.
pub fn keep(mut pipe: impl Read + Send + 'static, log: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let log = Arc::clone(log);
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = pipe.read(&mut bytes) {
            log.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..n]));
        }
    })
}

pub fn allowed_cpus() -> String {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.expect("the kernel says which CPUs we may use").trim().to_string()
}

pub fn testpmd_program() -> String {
    std::env::var("VUSER_TESTPMD").unwrap_or_else(|_| "dpdk-testpmd".into())
}
