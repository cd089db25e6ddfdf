//! Promise: what the library says of the kernel's devices holds with a real kernel.
//!
//! The tests in `inside` run in a kernel of their own: User-Mode-Linux, an ordinary process with one processor in which
//! programs run as fast as here (`run-in-uml`), and again, as far as there is time, Debian's kernel on a machine with two
//! processors and huge pages that QEMU emulates (`run-in-qemu`). Both are made ready once and kept: see `uml/build.sh` and
//! `qemu/build.sh`. The tests are ignored outside of them: each test here starts some of them there.
#![cfg(target_os = "linux")]

mod inside;
#[path = "../support/mod.rs"]
mod support;

use std::process::Command;
use std::sync::Mutex;

/// A way to have a kernel.
struct Machine {
    /// Makes it ready, and says where it is.
    build: &'static str,
    run: &'static str,
    environment: &'static [(&'static str, &'static str)],
}

const UML: Machine = Machine { build: "uml/build.sh", run: "run-in-uml", environment: &[] };
const QEMU: Machine =
    Machine { build: "qemu/build.sh", run: "run-in-qemu", environment: &[("VM_HUGE", "64"), ("VM_NICS", "1")] };

/// One at a time: they are all the work that two processors can do in time.
static TURN: Mutex<()> = Mutex::new(());

/// Runs ignored tests, by the beginnings of their names, in a kernel of their own; they have so many seconds in all, a kernel
/// that has to be built first not counted.
fn run_inside(machine: &Machine, tests: &[&str], seconds: u32) {
    let _turn = TURN.lock().unwrap_or_else(|failed| failed.into_inner());
    let here = support::root().join("tests/vm");
    let build = Command::new(here.join(machine.build)).output().expect(machine.build);
    if !build.status.success() {
        return skip(&String::from_utf8_lossy(&build.stderr));
    }
    let begin = std::time::Instant::now();
    let output = Command::new(here.join(machine.run))
        .env("VM_KERNEL", String::from_utf8_lossy(&build.stdout).trim())
        .env("VM_TIMEOUT", seconds.to_string())
        .envs(machine.environment.iter().copied())
        .arg(std::env::current_exe().expect("a test has a file"))
        .args(tests.iter().map(|name| format!("inside::{name}")))
        .args(["--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .expect(machine.run);
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success(), "{} {tests:?}: {}\n{text}", machine.run, output.status);
    // Names that no test has would pass, too.
    assert!(!text.contains("running 0 tests"), "{tests:?}: no tests\n{text}");
    println!("{text}{} {tests:?}: {} s\n", machine.run, begin.elapsed().as_secs());
}

fn skip(why: &str) {
    eprintln!("SKIP vm: {why}");
    assert!(std::env::var("VUSER_REQUIRE_ALL").as_deref() != Ok("1"), "VUSER_REQUIRE_ALL=1, but: {why}");
}

#[test]
fn vdpa() {
    run_inside(&UML, &["vdpa::"], 180);
}

#[test]
fn vhost_net() {
    run_inside(&UML, &["vhost_net::"], 180);
}

/// A kernel as it is delivered, and a device that works while the driver does.
#[test]
fn both_with_two_processors() {
    run_inside(&QEMU, &["vdpa::", "vhost_net::traffic::pings", "vhost_net::traffic::tcp"], 300);
}

/// A device that somebody else has written, whole.
#[test]
fn the_device_of_qemu() {
    run_inside(&QEMU, &["nics::"], 300);
}
