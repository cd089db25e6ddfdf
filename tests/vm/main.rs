//! Promise: what the library says of the kernel's devices holds with a real kernel.
//!
//! The tests in `inside` run in a kernel of their own, User-Mode-Linux, an ordinary process (`run-in-uml`, which builds it
//! once and keeps it: see `uml/build.sh`). They are ignored outside of it: each test here starts one of their modules there.
#![cfg(target_os = "linux")]

mod inside;
#[path = "../support/mod.rs"]
mod support;

use std::process::Command;

/// Runs the ignored tests of a module in a kernel of their own; they have so many seconds in all, a kernel that has to be
/// built first not counted.
fn run_inside(module: &str, seconds: u32) {
    let here = support::root().join("tests/vm");
    let build = Command::new(here.join("uml/build.sh")).output().expect("uml/build.sh");
    if !build.status.success() {
        return skip(&String::from_utf8_lossy(&build.stderr));
    }
    let output = Command::new(here.join("run-in-uml"))
        .env("VM_KERNEL", String::from_utf8_lossy(&build.stdout).trim())
        .env("VM_TIMEOUT", seconds.to_string())
        .arg(std::env::current_exe().expect("a test has a file"))
        .args([&format!("inside::{module}::"), "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .expect("run-in-uml");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success(), "inside::{module}: {}\n{text}", output.status);
    // A module that has no tests would pass, too.
    assert!(!text.contains("running 0 tests"), "inside::{module}: no tests\n{text}");
    println!("{text}");
}

fn skip(why: &str) {
    eprintln!("SKIP vm: {why}");
    assert!(std::env::var("VUSER_REQUIRE_ALL").as_deref() != Ok("1"), "VUSER_REQUIRE_ALL=1, but: {why}");
}

#[test]
fn vdpa() {
    run_inside("vdpa", 240);
}

#[test]
fn vhost_net() {
    run_inside("vhost_net", 180);
}
