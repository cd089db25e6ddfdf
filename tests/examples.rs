//! Promise: every example program runs as it is, without root, hugepages or a switch, and says what it did.
//!
//! The programs are built by `make` into `build/examples` (`VUSER_BUILD` names another place).
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

fn program(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let build = std::env::var_os("VUSER_BUILD").map_or_else(|| root.join("build"), PathBuf::from);
    root.join(build).join("examples").join(name)
}

/// False, and the reason said, when a program was not built.
fn built(names: &[&str]) -> bool {
    for name in names {
        if !program(name).is_file() {
            let why = format!("SKIP examples: {} is not built (make examples)", program(name).display());
            // Past the test harness, which would keep it to itself.
            let _ = writeln!(std::io::stderr().lock(), "{why}");
            assert!(std::env::var("VUSER_REQUIRE_ALL").as_deref() != Ok("1"), "VUSER_REQUIRE_ALL=1, but: {why}");
            return false;
        }
    }
    true
}

fn start(name: &str, args: &[&str]) -> Child {
    let mut command = Command::new(program(name));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Waits for the end, which has to come within two minutes.
fn finish(name: &str, mut child: Child) -> Output {
    let end = Instant::now() + Duration::from_secs(120);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            let _ = child.kill();
            let output = child.wait_with_output().unwrap();
            panic!("{name} does not end: {}", String::from_utf8_lossy(&output.stdout));
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

/// Runs it to its end; the output, if it succeeded.
fn run(name: &str, args: &[&str]) -> String {
    let output = finish(name, start(name, args));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {args:?}: {}\n{text}\n{errors}", output.status);
    text
}

fn interrupt(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// The number before `word` in the first line that has it.
fn count(text: &str, word: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with("total:") && line.contains(word));
    let number = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("no total of frames {word} in\n{text}"))
}

fn socket(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("vuser-example-{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

/// A back-end made by the loopback example, ready to be connected to.
struct Served {
    child: Child,
    path: PathBuf,
    _output: BufReader<std::process::ChildStdout>,
}

impl Served {
    fn start(name: &str, args: &str) -> Self {
        let path = socket(name);
        let mut child = start("loopback", &["--serve", &format!("{}{args}", path.display())]);
        let mut line = String::new();
        // Kept: the program writes its summary at the end, and a closed pipe would kill it.
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        assert!(line.starts_with("serving"), "loopback --serve: {line}");
        Self { child, path, _output: output }
    }

    fn devargs(&self, more: &str) -> String {
        format!("path={}{more}", self.path.display())
    }

    fn stop(mut self) {
        interrupt(&self.child);
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "loopback --serve, interrupted: {status}");
                assert!(!self.path.exists(), "loopback --serve leaves its socket behind");
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("loopback --serve does not end on SIGINT");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_program_explains_itself() {
    for name in ["loopback", "forward", "generate", "capture"] {
        if !built(&[name]) {
            continue;
        }
        let help = run(name, &["--help"]);
        assert!(help.starts_with(&format!("usage: {name}")), "{help}");
        let wrong = finish(name, start(name, &["--no-such-option"]));
        assert_eq!(wrong.status.code(), Some(2), "{name} --no-such-option");
        assert!(String::from_utf8_lossy(&wrong.stderr).contains("usage:"));
    }
}

#[test]
fn a_wrong_device_is_named_and_explained() {
    if !built(&["loopback"]) {
        return;
    }
    for devargs in ["path=/no/such/socket", "queues=1", "path=loopback,queues=none"] {
        let output = finish("loopback", start("loopback", &[devargs]));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{devargs}: {errors}");
        assert!(errors.trim().len() > devargs.len(), "{devargs}: no reason in {errors:?}");
    }
}

#[test]
fn loopback_is_a_demo_without_arguments() {
    if !built(&["loopback"]) {
        return;
    }
    let text = run("loopback", &["--seconds", "2"]);
    for word in ["split ring", "1 queue pair", "MAC ", "features 0x", "version_1", " Mpps", "0 wrong frames"] {
        assert!(text.contains(word), "no {word:?} in\n{text}");
    }
    // One line in the first second, one perhaps at the very end.
    assert!(text.lines().any(|line| line.trim_start().starts_with("1 s")), "no live rate in\n{text}");
    assert!(count(&text, "came back") > 0);
}

#[test]
fn loopback_takes_devargs() {
    if !built(&["loopback"]) {
        return;
    }
    for (devargs, word) in [("path=loopback,packed_vq=1", "packed ring"), ("path=loopback,queues=2", "2 queue pairs")] {
        let text = run("loopback", &["--frames", "20000", "--size", "1514", devargs]);
        assert!(text.contains(word) && text.contains("0 wrong frames"), "{text}");
        assert!(count(&text, "came back") >= 20000);
    }
}

#[test]
fn loopback_serves_other_processes_one_after_another() {
    if !built(&["loopback"]) {
        return;
    }
    let served = Served::start("serve", "");
    for more in ["", ",packed_vq=1", ",mrg_rxbuf=0,in_order=0"] {
        let text = run("loopback", &["--frames", "20000", &served.devargs(more)]);
        assert!(text.contains("0 wrong frames"), "{text}");
    }
    served.stop();
}

#[test]
fn an_interrupt_ends_with_a_summary() {
    if !built(&["loopback"]) {
        return;
    }
    let mut child = start("loopback", &["--seconds", "0"]);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    // Rates are told once a second: by then it listens to signals.
    while !text.contains("Mpps") {
        assert!(output.read_line(&mut text).unwrap() > 0, "it ends by itself: {text}");
    }
    interrupt(&child);
    output.read_to_string(&mut text).unwrap();
    let status = finish("loopback", child).status;
    assert!(status.success() && text.contains("total:"), "{status}\n{text}");
}

#[test]
fn generate_keeps_its_rate_and_its_count() {
    if !built(&["generate"]) {
        return;
    }
    let text = run("generate", &["--rate", "1000", "--seconds", "1", "path=loopback"]);
    let total = text.lines().find(|line| line.starts_with("total:")).expect("a total");
    let seconds = total.split_once(" in ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<f64>().ok());
    let (sent, allowed) = (count(&text, "sent") as f64, seconds.expect("a time") * 1000.0);
    // Never faster than asked (the time is printed to 10 ms); slower only if the machine has no time for us.
    assert!(sent > 100.0 && sent <= allowed + 10.0, "{text}");
    let text = run("generate", &["--frames", "12345", "--size", "1514", "path=loopback,mode=sink,queues=2"]);
    assert_eq!(count(&text, "sent"), 12345, "{text}");
}

/// A back-end that sends frames on one side, one that swallows them on the other.
#[test]
fn forward_moves_frames_between_two_devices() {
    if !built(&["loopback", "forward"]) {
        return;
    }
    let (from, to) = (Served::start("from", ",mode=source"), Served::start("to", ",mode=sink"));
    let text = run("forward", &["--frames", "20000", &from.devargs(""), &to.devargs(",packed_vq=1")]);
    assert!(count(&text, "forwarded") >= 20000);
    assert!(text.contains("port 0: ") && text.contains("port 1: "), "{text}");
    from.stop();
    to.stop();
    let text = run("forward", &["--seconds", "1", "path=loopback,mode=source"]);
    assert!(count(&text, "forwarded") > 0, "{text}");
}

/// The file is read block by block as the pcapng specification has it.
#[test]
fn capture_writes_a_pcapng_file() {
    if !built(&["capture"]) {
        return;
    }
    let file = socket("capture.pcapng");
    let text = run("capture", &["--frames", "1000", "path=loopback,mode=source,queues=2", file.to_str().unwrap()]);
    assert_eq!(count(&text, "written"), 1000);
    let bytes = std::fs::read(&file).unwrap();
    let _ = std::fs::remove_file(&file);

    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(word(0), 0x0A0D_0D0A, "a section header comes first");
    assert_eq!(word(8), 0x1A2B_3C4D, "in this machine's byte order");
    let (mut at, mut interfaces, mut packets) = (0, 0, 0);
    while at < bytes.len() {
        let (kind, len) = (word(at), word(at + 4) as usize);
        assert_eq!(word(at + len - 4) as usize, len, "a block ends with its length");
        match kind {
            1 => {
                interfaces += 1;
                assert_eq!(word(at + 8) & 0xffff, 1, "Ethernet");
            }
            6 => {
                packets += 1;
                assert!(word(at + 20) >= 14 && word(at + 20) <= word(at + 24), "captured length, original length");
            }
            _ => {}
        }
        at += len;
    }
    assert_eq!((interfaces, packets), (4, 1000), "two queues of two pairs");
}
