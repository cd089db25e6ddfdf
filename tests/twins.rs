//! Promise: an example has the same options and says the same in C, in Rust and in Python.
//!
//! The Rust ones are built by `cargo test` or `cargo build --examples`, those in C by `make`.
#![cfg(target_os = "linux")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The languages, and what starts a program in each.
const LANGUAGES: [&str; 3] = ["C", "Rust", "Python"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn file(language: &str, name: &str) -> PathBuf {
    match language {
        "C" => root().join("build/examples").join(name),
        // This test is target/PROFILE/deps/twins-...
        "Rust" => std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples").join(name),
        _ => root().join("examples").join(format!("{name}.py")),
    }
}

fn command(language: &str, name: &str) -> Command {
    let file = file(language, name);
    let mut command = match language {
        "Python" => {
            let mut python = Command::new("python3");
            python.arg(file);
            python
        }
        _ => Command::new(file),
    };
    command.env("PYTHONPATH", root().join("bindings/python")).env("VUSER_LIBRARY", root().join("build/libvuser.so.0"));
    command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
    command
}

/// False, and the reason said, when a program was not built.
fn built(name: &str) -> bool {
    let library = root().join("build/libvuser.so.0");
    for file in LANGUAGES.iter().map(|language| file(language, name)).chain([library]) {
        if !file.is_file() {
            let why = format!("SKIP twins: {} is not built (make; cargo build --examples)", file.display());
            let _ = writeln!(std::io::stderr().lock(), "{why}");
            assert!(std::env::var("VUSER_REQUIRE_ALL").as_deref() != Ok("1"), "VUSER_REQUIRE_ALL=1, but: {why}");
            return false;
        }
    }
    true
}

/// What it prints, and how it ends.
fn run(language: &str, name: &str, args: &[&str]) -> (i32, String, String) {
    let output = command(language, name).args(args).output().unwrap_or_else(|e| panic!("{language} {name}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// The text with each number as #, without the lines of the live rate, which come when they come.
fn shape(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.contains(" Mpps  "));
    let mut shape = String::new();
    for line in lines {
        let mut was_digit = false;
        for c in line.chars() {
            let is_digit = c.is_ascii_digit() || (was_digit && c == '.');
            if !is_digit {
                shape.push(c);
            } else if !was_digit {
                shape.push('#');
            }
            was_digit = is_digit;
        }
        shape.push('\n');
    }
    shape
}

fn same(name: &str, args: &[&str]) {
    if !built(name) {
        return;
    }
    let said = |language: &str| {
        let (status, text, errors) = run(language, name, args);
        assert_eq!(status, 0, "{language} {name} {args:?}: {text}{errors}");
        shape(&text)
    };
    let c = said("C");
    for language in &LANGUAGES[1..] {
        assert_eq!(c, said(language), "{name} {args:?}: C and {language}");
    }
    assert!(c.contains("total: # frames ") || args == ["--help"], "{c}");
}

#[test]
fn they_explain_the_same() {
    for name in ["loopback", "forward", "generate", "capture"] {
        same(name, &["--help"]);
        for language in LANGUAGES.into_iter().filter(|_| built(name)) {
            let (status, _, errors) = run(language, name, &["--no-such-option"]);
            assert!(status == 2 && errors.contains("usage:"), "{language} {name}: {status}, {errors}");
        }
    }
}

#[test]
fn they_refuse_the_same() {
    for language in LANGUAGES.into_iter().filter(|_| built("loopback")) {
        for (devargs, word) in [("path=/no/such", "is the back-end running"), ("queues=1", "path"), ("x", "no option")]
        {
            let (status, _, errors) = run(language, "loopback", &[devargs]);
            assert!(status == 1 && errors.contains(word), "{language} {devargs}: {status}, {errors}");
        }
        let (status, _, errors) = run(language, "generate", &["--size", "5", "path=loopback"]);
        assert!(status == 2 && errors.contains("a number from 60 to 1514"), "{language}: {status}, {errors}");
    }
}

#[test]
fn they_do_the_same() {
    same("loopback", &["--frames", "5000"]);
    same("loopback", &["--frames", "5000", "--size", "1514", "path=loopback,packed_vq=1,queues=2"]);
    same("forward", &["--frames", "5000", "path=loopback,mode=source"]);
    same("forward", &["--frames", "5000", "--keep-macs", "path=loopback,mode=source", "path=loopback,mode=sink"]);
    same("generate", &["--frames", "5000", "--rate", "1000000", "path=loopback,mode=sink,queues=2"]);
}

#[test]
fn they_capture_the_same() {
    let path = std::env::temp_dir().join(format!("vuser-twins-{}.pcapng", std::process::id()));
    same("capture", &["--frames", "500", "--snaplen", "60", "path=loopback,mode=source", path.to_str().unwrap()]);
    if built("capture") {
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes[..4], 0x0A0D_0D0A_u32.to_ne_bytes(), "pcapng");
        let _ = std::fs::remove_file(path);
    }
}

/// Each serves, and each of the others is served.
#[test]
fn they_serve_one_another() {
    for server in LANGUAGES.into_iter().filter(|_| built("loopback")) {
        let path = std::env::temp_dir().join(format!("vuser-twins-{}-{server}.sock", std::process::id()));
        let mut child = command(server, "loopback")
            .args(["--serve", path.to_str().unwrap()])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        while !path.exists() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        for client in LANGUAGES {
            let devargs = format!("path={}", path.display());
            let (status, text, errors) = run(client, "loopback", &["--frames", "2000", &devargs]);
            assert!(status == 0 && text.contains("\n0 wrong frames"), "{client} at {server}'s: {text}{errors}");
        }
        let stopped = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(stopped.is_ok_and(|status| status.success()));
        assert!(child.wait().unwrap().success(), "{server} --serve, interrupted");
        assert!(!path.exists(), "{server} leaves its socket behind");
    }
}
