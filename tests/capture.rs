//! Promise: what the library captures, others can read: tshark and capinfos find every frame, its bytes, which way it went
//! and when, with the built-in device and with DPDK's vhost.
#![cfg(target_os = "linux")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::testpmd::{Testpmd, testpmd_program};
use support::{Scratch, have, have_in_path, made, root, run, skip};

const FRAMES: u32 = 200;

/// The program that makes a capture, see there.
fn program(scratch: &Scratch) -> PathBuf {
    let library = made("libvuser.so.0");
    let build = library.parent().expect("a directory").display().to_string();
    let program = scratch.file("capture");
    let mut command = Command::new("cc");
    command.args(["-std=c99", "-g", "-Wall", "-pthread"]).arg("-I").arg(root().join("include"));
    command.arg(root().join("tests/capi/capture.c")).arg("-o").arg(&program);
    command.arg("-L").arg(&build).arg("-l:libvuser.so.0").arg(format!("-Wl,-rpath,{build}"));
    run(&mut command);
    program
}

fn has_wireshark(test: &str) -> bool {
    let there = have("tshark") && have_in_path("capinfos");
    if !there {
        skip(test, "tshark and capinfos are not installed (apt-get install tshark wireshark-common)");
    }
    there
}

/// Captures an exchange with a device, and has the file read.
fn check(scratch: &Scratch, devargs: &str) {
    let file = scratch.file("frames.pcapng");
    let printed = run(Command::new(program(scratch)).arg(devargs).arg(&file).arg(FRAMES.to_string()));
    let times: Vec<u64> = printed.split_whitespace().map(|word| word.parse().expect("a time")).collect();
    let fields =
        ["frame.interface_name", "frame.packet_flags_direction", "frame.len", "frame.cap_len", "frame.time_epoch"];
    let mut tshark = Command::new("tshark");
    tshark.args(["-n", "-T", "fields", "-E", "separator=,", "-r"]).arg(&file);
    tshark.args(fields.iter().flat_map(|field| ["-e", field]));
    let text = run(&mut tshark);
    let mut numbers = [0; 2];
    for line in text.lines() {
        let fields: Vec<_> = line.split(',').collect();
        let [name, direction, len, kept, time] = fields[..] else { panic!("{line}") };
        let (which, wanted) = if name == "rx0" { (0, 1) } else { (1, 2) };
        assert!(name == ["rx0", "tx0"][which], "{line}");
        let direction = direction.trim_start_matches("0x").parse::<u32>().expect("a number");
        assert_eq!(direction, wanted, "{line}");
        let expected = 60 + numbers[which] * 37 % 1400;
        assert_eq!((len, kept), (expected.to_string().as_str(), expected.to_string().as_str()), "{line}");
        numbers[which] += 1;
        let time: u64 = time.replace('.', "").parse().expect("a time in nanoseconds");
        assert!(times[0] <= time && time <= times[1], "{line}: not from {} to {}", times[0], times[1]);
    }
    assert_eq!(numbers, [FRAMES; 2], "{text}");
    let bytes: u32 = (0..FRAMES).map(|n| 2 * (60 + n * 37 % 1400)).sum();
    let table = run(Command::new("capinfos").args(["-T", "-r", "-M", "-c", "-d", "-o"]).arg(&file));
    let fields: Vec<_> = table.split_whitespace().collect();
    assert!(fields.contains(&(2 * FRAMES).to_string().as_str()), "{table}");
    assert!(fields.contains(&bytes.to_string().as_str()) && fields.contains(&"True"), "{table}");
}

#[test]
fn wireshark_reads_what_the_built_in_device_had() {
    if has_wireshark("capture") {
        check(&Scratch::new("capture"), "path=loopback");
    }
}

fn start_testpmd(scratch: &Path) -> Testpmd {
    let vdev = format!("--vdev=net_vhost0,iface={},tso=1", scratch.join("sock").display());
    let eal = ["--no-huge", "-m", "128", "--file-prefix=vuser-capture", &vdev];
    let app = ["--total-num-mbufs=4096", "--forward-mode=io", "--no-flush-rx", "--disable-link-check"];
    let mut testpmd = Testpmd::start(scratch, &eal, &app, &[]).unwrap_or_else(|e| panic!("{e}"));
    let started = testpmd.command("start").unwrap_or_else(|e| panic!("{e}"));
    assert!(started.contains("io packet forwarding"), "{started}");
    testpmd
}

/// With it, what DPDK's vhost offers is told in words.
#[test]
fn wireshark_reads_what_dpdks_vhost_had() {
    if !have_in_path(&testpmd_program()) {
        return skip("capture", "dpdk-testpmd is not installed (apt-get install dpdk-dev)");
    }
    if !has_wireshark("capture") {
        return;
    }
    let scratch = Scratch::new("capture-dpdk");
    let _testpmd = start_testpmd(&scratch.0);
    let socket = scratch.file("sock");
    for more in ["", ",packed_vq=1", ",mrg_rxbuf=0,in_order=0"] {
        check(&scratch, &format!("path={}{more}", socket.display()));
    }
    what_is_offered(&socket);
}

fn what_is_offered(socket: &Path) {
    use vuser::dev::features::Kind;
    use vuser::dev::{Config, Device};
    let mut config = Config { huge: false, ..Config::default() };
    config.parse(&format!("path={},tso=1", socket.display())).expect("a configuration");
    let mut device = Device::new(config).expect("a device");
    let (info, all) = (device.info(), device.describe_features());
    let find = |kind, name: &str| {
        let found = all.iter().find(|f| f.kind == kind && f.name == name);
        found.unwrap_or_else(|| panic!("no {name} in {all:?}"))
    };
    for f in all.iter().filter(|f| f.kind == Kind::Virtio && f.bit != 30 && f.bit != 26) {
        assert_eq!(f.offered, info.offered.bits() >> f.bit & 1 == 1, "{f:?}");
        assert_eq!(f.used, info.features.bits() >> f.bit & 1 == 1, "{f:?}");
        assert!(f.used || !f.offered || !f.why.is_empty(), "{f:?}");
    }
    assert_eq!(find(Kind::Virtio, "ring_packed").why, "not asked for: packed_vq=1 asks for it");
    assert!(find(Kind::Virtio, "host_tso4").used && find(Kind::Virtio, "csum").used, "{all:?}");
    assert!(
        find(Kind::Virtio, "mac").why.contains("the back-end does not offer it"),
        "DPDK's vhost has no MAC address"
    );
    assert!(find(Kind::Virtio, "log_all").offered && find(Kind::Virtio, "protocol_features").used);
    assert!(find(Kind::Protocol, "reply_ack").used && find(Kind::Protocol, "mq").used);
    let config = find(Kind::Protocol, "config");
    assert!(!config.offered && config.why.contains("the back-end does not offer it"), "{config:?}");
}
