//! `examples/exception_path`: what it does not handle goes to the kernel, and back.

use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::inside::lab::{in_namespace, sh, until};
use crate::support::made;

/// A program at work, ended in the end.
struct Running(Option<Child>);

impl Running {
    fn start(program: impl AsRef<std::ffi::OsStr>, args: &[&str], errors: Stdio) -> Self {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        Self(Some(command.spawn().expect("a program")))
    }

    /// Interrupts it; what it printed.
    fn interrupt(mut self) -> String {
        let child = self.0.take().expect("once");
        sh(&format!("kill -INT {}", child.id()));
        let output = child.wait_with_output().expect("its output");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}: {text}", output.status);
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The number before some words.
fn count(text: &str, words: &str) -> u64 {
    let before = text.split(words).next().unwrap_or_default();
    before.split_whitespace().last().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no {words} in {text}"))
}

const KERNEL: &str = "path=/dev/vhost-net,iface=exc0,mac=02:00:00:00:00:e0";

fn is_there(interface: &str) {
    let carrier = format!("/sys/class/net/{interface}/carrier");
    until(interface, || {
        let _ = Command::new("ip").args(["link", "set", interface, "up"]).stderr(Stdio::null()).status();
        std::fs::read_to_string(&carrier).is_ok_and(|text| text.trim() == "1")
    });
}

/// The wire is a tap as well, with a station at its end that knows nothing of us.
#[test]
#[ignore = "inside"]
fn the_kernel_answers_ping_through_it_and_it_answers_itself() {
    let example =
        Running::start(made("examples/exception_path"), &["path=/dev/vhost-net,iface=wire", KERNEL], Stdio::inherit());
    is_there("wire");
    is_there("exc0");
    sh("ip netns add outside; ip link set wire netns outside");
    sh("ip -n outside addr add 10.7.0.2/24 dev wire; ip -n outside link set wire up");
    sh("ip addr add 10.7.0.1/24 dev exc0");
    let told = sh("ip netns exec outside ping -c 10 -i 0.01 -W 5 10.7.0.1");
    assert!(told.contains("10 received"), "{told}");
    // The kernel has nobody at port 7: the answers are the example's.
    let asked = in_namespace("outside", || {
        let socket = UdpSocket::bind("10.7.0.2:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        for n in 0..20u8 {
            socket.send_to(&[n; 100], "10.7.0.1:7").unwrap();
            let mut answer = [0; 200];
            let (len, from) = socket.recv_from(&mut answer).unwrap();
            assert_eq!((&answer[..len], from.port()), (&[n; 100][..], 7));
        }
    });
    asked.join().unwrap();
    // And TCP is the kernel's.
    let listener = std::net::TcpListener::bind("10.7.0.1:7002").unwrap();
    let client = in_namespace("outside", || {
        use std::io::Read;
        let mut text = String::new();
        std::net::TcpStream::connect("10.7.0.1:7002").unwrap().read_to_string(&mut text).unwrap();
        text
    });
    let (mut stream, _) = listener.accept().unwrap();
    std::io::Write::write_all(&mut stream, &[b'x'; 50_000]).unwrap();
    drop(stream);
    assert_eq!(client.join().unwrap().len(), 50_000);
    let text = example.interrupt();
    println!("{text}");
    assert_eq!(count(&text, " echoed here"), 20);
    assert!(count(&text, " to the kernel") >= 11 && count(&text, " dropped\n") == 0, "{text}");
    sh("ip netns del outside");
}

/// Without privileges, with taps that were made for this user. The one at the kernel gets the address of the other.
#[test]
#[ignore = "inside"]
fn whoever_owns_the_taps_needs_no_privileges() {
    sh("ip tuntap add dev wire mode tap user 1000; ip tuntap add dev exc0 mode tap user 1000");
    sh("chmod 666 /dev/vhost-net /dev/net/tun");
    // Where the user can get at it.
    let (program, built) = ("/tmp/own/examples/exception_path", made("examples/exception_path"));
    let line = r#"mkdir -p /tmp/own/examples; cp "$0" /tmp/own/examples; cp "${0%/*}"/../libvuser.so.* /tmp/own"#;
    let copied = Command::new("bash").args(["-ec", line]).arg(built).status().unwrap();
    assert!(copied.success());
    sh("chmod -R a+rX /tmp/own");
    let args =
        ["--reuid=1000", "--clear-groups", program, "path=/dev/vhost-net,iface=wire", "path=/dev/vhost-net,iface=exc0"];
    let example = Running::start("setpriv", &args, Stdio::inherit());
    is_there("wire");
    is_there("exc0");
    sh("test $(cat /sys/class/net/wire/address) = $(cat /sys/class/net/exc0/address)");
    sh("ip netns add outside; ip link set wire netns outside");
    sh("ip -n outside addr add 10.8.0.2/24 dev wire; ip -n outside link set wire address 02:00:00:00:00:e1 up");
    sh("ip addr add 10.8.0.1/24 dev exc0");
    let told = sh("ip netns exec outside ping -c 3 -i 0.01 -W 5 10.8.0.1");
    assert!(told.contains("3 received"), "{told}");
    println!("{}", example.interrupt());
    sh("ip netns del outside; ip link del exc0; chmod 600 /dev/vhost-net /dev/net/tun");
}

/// The port is a vhost-user device, with DPDK's vhost at its other end, which answers pings of the kernel's.
#[test]
#[ignore = "inside"]
fn the_kernel_pings_over_a_vhost_user_port() {
    let socket = "/tmp/exception.sock";
    let mut switch = Running::start(
        "dpdk-testpmd",
        &[
            // Two of its threads on the one processor that there is.
            "--lcores=0@0,1@0",
            "--no-huge",
            "-m",
            "256",
            "--no-pci",
            "--no-telemetry",
            "--vdev",
            &format!("net_vhost0,iface={socket}"),
            "--",
            "--total-num-mbufs=8192",
            "--forward-mode=icmpecho",
            "--auto-start",
        ],
        Stdio::null(),
    );
    // It must not wait for us with its mouth full.
    let mut printed = switch.0.as_mut().and_then(|child| child.stdout.take()).expect("its output");
    let reader = std::thread::spawn(move || std::io::copy(&mut printed, &mut std::io::sink()));
    until("testpmd's socket", || std::path::Path::new(socket).exists());
    let example =
        Running::start(made("examples/exception_path"), &[&format!("path={socket}"), KERNEL], Stdio::inherit());
    is_there("exc0");
    sh("ip addr add 10.6.0.1/24 dev exc0");
    let told = sh("ping -c 10 -i 0.05 -W 10 10.6.0.2");
    assert!(told.contains("10 received"), "{told}");
    let text = example.interrupt();
    println!("{text}");
    assert!(count(&text, " from the kernel") >= 11, "{text}");
    drop(switch);
    let _ = reader.join();
}
