//! Programs that know nothing of us: with only the name of a device changed, and with nothing changed.

use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::loading::ours;
use crate::port::{PLAIN, Port, plugin, possible, scratch};
use crate::support::testpmd::{Testpmd, allowed_cpus};
use crate::support::{build, skip};
use crate::turn::Turn;

/// A testpmd with the device `name` and another with the vhost port: frames go round and round.
pub fn testpmd_forwards(test: &str, eal: &[&str], app: &[&str], env: &[(&str, &str)], name: &str) {
    if !possible(test) {
        return;
    }
    let _turn = Turn::wait(2);
    let dir = scratch(test);
    let socket = dir.file("s0");
    let mut vhost =
        testpmd(&dir.0, "v", &["--no-huge", "-m", "160"], &format!("net_vhost0,iface={}", socket.display()), &[], &[]);
    let plugin = plugin();
    let eal: Vec<&str> = plugin.iter().map(String::as_str).chain(eal.iter().copied()).collect();
    let mut front = testpmd(&dir.0, "f", &eal, &format!("{name},path={}", socket.display()), app, env);
    vhost.command("start").unwrap();
    front.command("start tx_first").unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    let moved = loop {
        let counted = front.counters(0).unwrap();
        if counted.0 > 20_000 || Instant::now() > end {
            break counted;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(moved.0 > 20_000 && moved.1 > 20_000 && moved.2 == 0, "{test}: {moved:?}\n{}", front.log_since(0));
    front.command("stop").unwrap();
    front.command("port stop 0").unwrap();
    front.command("port start 0").unwrap();
    front.command("start tx_first").unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    let again = loop {
        let counted = front.counters(0).unwrap();
        if counted.0 > moved.0 || Instant::now() > end {
            break counted;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(
        again.0 > moved.0 && again.2 == 0,
        "{test}: nothing moves after a restart: {again:?}\n{}",
        front.log_since(0)
    );
    assert!(front.alive() && vhost.alive());
}

fn testpmd(dir: &Path, prefix: &str, eal: &[&str], vdev: &str, app: &[&str], env: &[(&str, &str)]) -> Testpmd {
    let (prefix, vdev) = (format!("--file-prefix={prefix}"), format!("--vdev={vdev}"));
    let eal = [&[prefix.as_str(), vdev.as_str()], eal].concat();
    let pool = ["--total-num-mbufs=4000"];
    let app = if app.is_empty() { &pool[..] } else { app };
    Testpmd::start(dir, &eal, app, env).unwrap_or_else(|e| panic!("{e}"))
}

/// testpmd as it is, with only the name of the device changed.
#[test]
fn testpmd_with_another_name() {
    testpmd_forwards("testpmd_with_another_name", PLAIN, &[], &[], &Port::name(0));
}

/// testpmd as it is, with its old command line.
#[test]
fn testpmd_with_nothing_changed() {
    if !ours("testpmd_with_nothing_changed") {
        return;
    }
    let env = [("VUSER_CLAIM_VIRTIO_USER", "1")];
    testpmd_forwards("testpmd_with_nothing_changed", PLAIN, &[], &env, "net_virtio_user0");
    testpmd_forwards("testpmd_with_nothing_changed", PLAIN, &[], &env, "virtio_user0");
}

/// A program of DPDK's that forwards between two ports; killed when dropped.
struct Forwarder(Child);

impl Forwarder {
    fn start(port: &Port, program: &Path, devices: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        let vdev = |n: u32| format!("--vdev={devices}{n},path={}", port.file(&format!("s{n}")).display());
        let child = Command::new(program)
            .args(["--no-pci", "--no-telemetry", "--file-prefix=x", &format!("--lcores=0@({})", allowed_cpus())])
            .args(plugin())
            // l2fwd has a pool of 8192 buffers for each port.
            .args(["--no-huge", "-m", "256", &vdev(0), &vdev(1), "--"])
            .args(args)
            .env("RUNTIME_DIRECTORY", port.directory())
            .envs(env.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap_or_else(|e| port.blame(&format!("{}: {e}", program.display()))))
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Frames that go into the one vhost port come out of the other, in both directions, every byte as it was.
fn forwards(test: &str, program: &str, args: &[&str], devices: &str, env: &[(&str, &str)]) {
    let file = build().join("tests").join(program);
    if !file.is_file() {
        return skip(
            &format!("dpdk::{test}"),
            &format!("{} is not built: DPDK's sources were not at hand", file.display()),
        );
    }
    let Some(mut port) = Port::beside(test, PLAIN) else { return };
    port.tell("pool name=vhost count=6000");
    let ends = [port.vhost(0, 1, ""), port.vhost(1, 1, "")];
    let _forwarder = Forwarder::start(&port, &file, devices, args, env);
    for end in ends {
        let up = port.tell(&format!("link port={end} until=1 wait=20000")).number("up");
        port.check(up == 1, &format!("{program} does not come up"));
    }
    // It may still be waiting for its own links.
    port.tell(&format!("send port={} frames=1 pool=vhost wait=5000", ends[0]));
    port.tell(&format!("take port={} most=1 idle=15000", ends[1]));
    for (from, to) in [(0, 1), (1, 0)] {
        for _ in 0..100 {
            port.tell(&format!("send port={} frames=50 sizes=64,512,1518 pool=vhost wait=2000", ends[from]));
            let taken = port.tell(&format!("take port={} most=50 idle=2000", ends[to]));
            let is = (taken.number("taken"), taken.number("corrupt"));
            port.check(is == (50, 0), &format!("{program}: {is:?}"));
        }
    }
}

/// Each program under the name of our driver, and under the old name.
fn under_both_names(test: &str, program: &str, args: &[&str]) {
    if !possible(test) {
        return;
    }
    forwards(test, program, args, &crate::port::driver(), &[]);
    if ours(test) {
        forwards(test, program, args, "net_virtio_user", &[("VUSER_CLAIM_VIRTIO_USER", "1")]);
    }
}

#[test]
fn l2fwd_unmodified() {
    under_both_names("l2fwd_unmodified", "dpdk-l2fwd", &["-p", "0x3", "-q", "2", "-T", "0", "--no-mac-updating"]);
}

#[test]
fn skeleton_unmodified() {
    under_both_names("skeleton_unmodified", "dpdk-skeleton", &[]);
}

/// The front-end in name spaces of its own, as containers have them; the socket is all that both sides see.
#[test]
fn in_a_container() {
    const TEST: &str = "in_a_container";
    if !ours(TEST) {
        return;
    }
    let turn = Turn::wait(2);
    let dir = std::sync::Arc::new(scratch(TEST));
    let spaces = ["unshare", "--mount", "--net", "--ipc", "--uts", "--pid", "--fork", "--kill-child"];
    if !Command::new(spaces[0]).args(&spaces[1..]).arg("true").status().is_ok_and(|s| s.success()) {
        return skip(&format!("dpdk::{TEST}"), "name spaces can't be made here");
    }
    let plugin = plugin();
    let eal: Vec<&str> = plugin.iter().map(String::as_str).chain(PLAIN.iter().copied()).collect();
    let mut port = Port::launch_program(&spaces, "tests/port", &dir, &eal, &[], Some(turn)).unwrap();
    port.pools();
    for queues in [1, 2] {
        let _ = std::fs::remove_file(port.file("s0"));
        let _testpmd = crate::loopback::vhost_testpmd(&port, queues);
        let device = port.device(0, &format!("queues={queues}"));
        port.tell(&format!("configure port={device} rxq={queues}"));
        port.tell(&format!("start port={device}"));
        port.tell(&format!("exchange port={device} queues={queues} frames=3000 sizes=64,1518,9000 window=64"));
        port.remove(0, device);
    }
}

/// What DPDK's telemetry answers about our ports.
fn telemetry(socket: &Path, question: &str) -> String {
    use nix::sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, socket as open,
    };
    let fd = open(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    connect(fd.as_raw_fd(), &UnixAddr::new(socket).unwrap()).unwrap();
    let mut bytes = [0; 16384];
    let mut hear = || {
        let n = recv(fd.as_raw_fd(), &mut bytes, MsgFlags::empty()).unwrap();
        String::from_utf8_lossy(&bytes[..n]).into_owned()
    };
    let greeting = hear();
    assert!(greeting.contains("DPDK"), "{greeting}");
    send(fd.as_raw_fd(), question.as_bytes(), MsgFlags::empty()).unwrap();
    hear()
}

#[test]
fn telemetry_knows_the_ports() {
    const TEST: &str = "telemetry_knows_the_ports";
    if !ours(TEST) {
        return;
    }
    let Some(mut port) = Port::start(TEST, &[PLAIN, &["--telemetry", "--file-prefix=t"]].concat()) else { return };
    port.pools();
    let vhost = port.vhost(0, 2, "");
    let device = port.device(0, "queues=2");
    port.run(device, vhost, "rxq=2");
    port.tell(&format!("exchange port={device} peer={vhost} queues=2 frames=777"));
    let socket = port.file("dpdk/t/dpdk_telemetry.v2");
    for (question, words) in [
        ("/vuser/list".to_owned(), &["/vuser/list", "1"][..]),
        (format!("/vuser/info,{device}"), &["net_vuser0", "split", "in-order mergeable"]),
        (format!("/vuser/queues,{device}"), &["777"]),
    ] {
        let answer = telemetry(&socket, &question);
        for word in words {
            port.check(answer.contains(word), &format!("{question}: no {word} in {answer}"));
        }
    }
    for senseless in ["/vuser/info", "/vuser/info,99", "/vuser/info,abc", "/vuser/queues,-1"] {
        let answer = telemetry(&socket, senseless);
        port.check(!answer.contains("net_vuser0"), &format!("{senseless}: {answer}"));
    }
    port.tell("census");
}
