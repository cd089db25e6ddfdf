//! Promise: what DPDK's vhost library had in hand when its process was killed, the next one does, and does once: its notes on
//! what is in flight (INFLIGHT_SHMFD) go from one to the other as they are.
//!
//! DPDK's own network devices keep no such notes. `vhost.c` is a device that does, by the library's calls for that: it is
//! killed by SIGKILL with frames in hand, again and again. `tests/reconnect` does the same with the built-in device.
//!
//! | variable | meaning |
//! |---|---|
//! | `VUSER_BUILD` | where `tests/inflight` is, `build` by default |
//! | `VUSER_REQUIRE_ALL` | `1`: a skipped test is a failed test |
#![cfg(target_os = "linux")]

#[path = "../vhost_user/peer.rs"]
#[allow(dead_code, reason = "the rig can have scripted back-ends, which are not used here")]
mod peer;
#[path = "../reconnect/rig.rs"]
#[allow(dead_code, reason = "this uses a part")]
mod rig;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rig::{Rig, until};
use support::testpmd::allowed_cpus;
use support::{Scratch, build, skip};
use vuser::dev::events::Kind;

/// Deaths in each way.
const DEATHS: u32 = 4;

/// The device's process; killed when dropped.
struct Vhost(Child);

impl Vhost {
    fn start(scratch: &Path, hold: u32) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(scratch.join("log")).expect("a log");
        let cpus = format!("--lcores=0@({})", allowed_cpus());
        let child = Command::new(build().join("tests/inflight"))
            .args(["--no-huge", "-m", "64", "--no-pci", "--no-shconf", "--no-telemetry", &cpus, "--"])
            .arg(scratch.join("s"))
            .arg(hold.to_string())
            .env("RUNTIME_DIRECTORY", scratch)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("tests/inflight");
        Self(child)
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Receives until so many have come in all, and looks whether more come.
fn collect(rig: &mut Rig, got: &mut Vec<u32>, count: u32) {
    until(&format!("{count} frames come"), || {
        got.extend(rig.receive());
        got.len() >= count as usize
    });
    std::thread::sleep(Duration::from_millis(20));
    got.extend(rig.receive());
    assert_eq!(got.len(), count as usize, "{got:?}");
}

/// Frames that are sent until so many are in all.
fn send_to(rig: &mut Rig, got: &mut Vec<u32>, sent: &mut u32, wanted: u32) {
    until("all are taken", || {
        *sent += rig.send(wanted - *sent);
        got.extend(rig.receive());
        *sent == wanted
    });
}

fn die_and_come_again(layout: &str, hold: u32) -> Result<(), String> {
    let scratch = Scratch::new("inflight");
    let mut vhost = Vhost::start(&scratch.0, hold);
    until("it listens", || scratch.file("s").exists());
    let devargs = format!("{layout},mrg_rxbuf=0,in_order=0,indirect=0,event_idx=0");
    let rig = std::iter::repeat_with(|| Rig::make(scratch.file("s"), &devargs)).take(200).find_map(|rig| {
        // The file is there before somebody listens.
        rig.inspect_err(|_| std::thread::sleep(Duration::from_millis(10))).ok()
    });
    let mut rig = rig.ok_or("there is no back-end")?.start();
    let (mut got, mut sent) = (Vec::new(), 0);
    for death in 0..DEATHS {
        send_to(&mut rig, &mut got, &mut sent, 100 + 137 * death);
        collect(&mut rig, &mut got, sent - hold);
        drop(vhost);
        rig.event(Kind::LinkDown);
        vhost = Vhost::start(&scratch.0, hold);
        rig.event(Kind::LinkUp);
        if death % 2 == 1 {
            // It dies over what it took up.
            drop(vhost);
            rig.event(Kind::LinkDown);
            vhost = Vhost::start(&scratch.0, hold);
            rig.event(Kind::LinkUp);
        }
    }
    drop(vhost);
    rig.event(Kind::LinkDown);
    let last = Vhost::start(&scratch.0, 0);
    rig.event(Kind::LinkUp);
    collect(&mut rig, &mut got, sent);
    got.sort_unstable();
    let log = std::fs::read_to_string(scratch.file("log")).unwrap_or_default();
    assert_eq!(got, (1..=sent).collect::<Vec<_>>(), "{layout}, {hold} in hand\n{log}");
    let stats = rig.device(|d| d.port(1).unwrap().stats());
    assert_eq!((stats.tx_resent, stats.tx_dropped_on_reconnect), (0, 0), "{layout}, {hold} in hand");
    let taken_up = log.matches(&format!("ring 1: {hold} in flight")).count() as u32;
    assert_eq!(taken_up, DEATHS + DEATHS / 2 + 1, "{layout}\n{log}");
    rig.echo(200);
    println!("{layout}, {hold} in hand: {} deaths, {sent} frames sent and received", taken_up);
    rig.close();
    drop(last);
    Ok(())
}

#[test]
fn what_dpdk_had_in_hand_when_it_was_killed_is_done_and_done_once() {
    if !build().join("tests/inflight").is_file() {
        return skip("what_dpdk_had_in_hand", "tests/inflight is not built (run make, with dpdk-dev installed)");
    }
    for (layout, hold) in [("packed_vq=0", 40), ("packed_vq=1", 40)] {
        die_and_come_again(layout, hold).unwrap();
    }
}
