//! The kernel at the other end: vhost-net with a tap, and vDPA, in a kernel of their own.

use std::process::Command;

use crate::port::{driver, possible};
use crate::support::{made, root, skip};

/// A port with four queues at QEMU's network device, whose table says which of them frames come by. `spread.sh` is what happens.
#[test]
fn frames_are_spread_by_the_table_of_the_port() {
    const TEST: &str = "frames_are_spread_by_the_table_of_the_port";
    if driver() != "net_vuser" || !possible(TEST) {
        return;
    }
    let vm = root().join("tests/vm");
    let build = Command::new(vm.join("qemu/build.sh")).output().expect("qemu/build.sh");
    if !build.status.success() {
        return skip(&format!("dpdk::{TEST}"), &String::from_utf8_lossy(&build.stderr));
    }
    let output = Command::new(vm.join("run-in-qemu"))
        .env("VM_KERNEL", String::from_utf8_lossy(&build.stdout).trim())
        .envs([("VM_TIMEOUT", "600"), ("VM_NICS", "1")])
        .arg("bash")
        .arg(root().join("tests/dpdk/spread.sh"))
        .args([made("tests/port"), made("librte_net_vuser.so")])
        .output()
        .expect("run-in-qemu");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    if text.contains("NO TAPS") {
        return skip(&format!("dpdk::{TEST}"), &text);
    }
    assert!(output.status.success() && text.contains("ALL RIGHT"), "{}\n{text}", output.status);
    println!("{text}");
}

/// A port with two queues at a tap: link and its events, receive interrupts, MAC in step, restarts, every frame counted by
/// both; a port at the simulated vDPA device: every frame back. `kernel.sh` is what happens.
#[test]
fn ports_of_the_kernel() {
    const TEST: &str = "ports_of_the_kernel";
    if driver() != "net_vuser" || !possible(TEST) {
        return;
    }
    let vm = root().join("tests/vm");
    let build = Command::new(vm.join("uml/build.sh")).output().expect("uml/build.sh");
    if !build.status.success() {
        return skip(&format!("dpdk::{TEST}"), &String::from_utf8_lossy(&build.stderr));
    }
    let output = Command::new(vm.join("run-in-uml"))
        .env("VM_KERNEL", String::from_utf8_lossy(&build.stdout).trim())
        .env("VM_TIMEOUT", "400")
        .arg("bash")
        .arg(root().join("tests/dpdk/kernel.sh"))
        .args([made("tests/port"), made("librte_net_vuser.so")])
        .output()
        .expect("run-in-uml");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success() && text.contains("ALL RIGHT"), "{}\n{text}", output.status);
}
