//! Promise: 128 queue pairs are as good as one: frames go through each of them, and how many are used changes while they do.
//!
//! | variable | meaning |
//! |---|---|
//! | `VUSER_TESTPMD` | the program to start, `dpdk-testpmd` by default |
//! | `VUSER_REQUIRE_ALL` | `1`: a skipped test is a failed test |
#![cfg(target_os = "linux")]

mod many;
#[path = "../support/mod.rs"]
mod support;

use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use vuser::dev::{Config, Device};

use many::{Many, PAIRS};
use support::testpmd::{Testpmd, testpmd_program};
use support::{Scratch, have_in_path, skip};

/// Two layouts, and one pair in place of those that are there, most of them, all.
const LAYOUTS: [&str; 2] = ["packed_vq=0", "packed_vq=1"];
const CHANGES: [u16; 6] = [1, 64, PAIRS - 1, 3, PAIRS, PAIRS];

/// One at a time: they count descriptors, and limit them.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(|failed| failed.into_inner());
    // Two thousand are more than some shells give, and fewer than all let us have.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard.min(4096)), hard).expect("to raise the limit");
    turn
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc is mounted").count()
}

/// Starts with all pairs, and changes their number again and again.
fn live(devargs: &str) {
    let before = open_files();
    let mut many = Many::start(devargs);
    println!("{devargs}: {} descriptors", open_files() - before);
    many.echo(PAIRS);
    for pairs in CHANGES {
        many.device.set_queue_pairs(pairs).unwrap();
        many.echo(pairs);
        many.others_are_still(pairs);
    }
    many.device.stop().unwrap();
    many.is_whole();
    // Started with fewer.
    many.device.set_queue_pairs(65).unwrap();
    many.device.start().unwrap();
    many.echo(65);
    assert_eq!(many.device.set_queue_pairs(66).unwrap_err().errno(), Errno::EBUSY);
    many.close();
    // A thread of another test may have had some for a moment, before or now.
    let end = Instant::now() + Duration::from_secs(10);
    while open_files() > before {
        assert!(Instant::now() < end, "{devargs}: {} descriptors are left", open_files() - before);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn frames_go_through_each_pair_of_the_built_in_device() {
    let _turn = turn();
    for layout in LAYOUTS {
        live(&format!("path=loopback,{layout}"));
    }
}

#[test]
fn frames_go_through_each_pair_of_dpdks_vhost() {
    let _turn = turn();
    if !have_in_path(&testpmd_program()) {
        return skip("frames_go_through_each_pair_of_dpdks_vhost", "there is no dpdk-testpmd (Debian: dpdk-dev)");
    }
    let scratch = Scratch::new("pairs");
    let socket = scratch.file("s");
    let vdev = format!("--vdev=net_vhost0,iface={},queues={PAIRS}", socket.display());
    let queues = [format!("--rxq={PAIRS}"), format!("--txq={PAIRS}")];
    let app = ["--total-num-mbufs=16384", "--no-flush-rx", "--disable-link-check", &queues[0], &queues[1]];
    let mut testpmd =
        Testpmd::start(&scratch.0, &["--no-huge", "--no-shconf", "-m", "96", &vdev], &app, &[]).expect("testpmd");
    testpmd.command("start").expect("to forward");
    for layout in LAYOUTS {
        live(&format!("path={},{layout}", socket.display()));
    }
    assert!(testpmd.alive(), "{}", testpmd.log_since(0));
}

/// The limit is the process's, so that this needs one of its own.
#[test]
fn too_few_descriptors_are_told_before_anything_happens() {
    let _turn = turn();
    let this = std::env::current_exe().expect("a test has a file");
    let words = ["--exact", "where_few_files_can_be_open", "--ignored", "--nocapture"];
    let output = Command::new(this).args(words).output().expect("this program");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "in a process of its own"]
fn where_few_files_can_be_open() {
    let refused = |devargs: &str| {
        let mut config = Config::default();
        config.parse(devargs).unwrap();
        let before = open_files();
        let error = Device::new(config).err().expect(devargs);
        assert_eq!((error.errno(), open_files()), (Errno::EMFILE, before), "{error}");
        error.to_string()
    };
    // By this process itself.
    setrlimit(Resource::RLIMIT_NOFILE, 500, 2048).unwrap();
    let sentence = refused("path=/nowhere,queues=128");
    assert!(sentence.contains("128 queue pairs needs about 784") && sentence.contains("ulimit -n 1024"), "{sentence}");
    // The built-in device takes as many once more.
    let sentence = refused("path=loopback,queues=128");
    assert!(sentence.contains("1552") && sentence.contains("ulimit -n 2048"), "{sentence}");
    // As many as this takes there may be.
    let mut few = Many::with("path=loopback", 32);
    few.echo(32);
    few.close();
    // By an administrator.
    setrlimit(Resource::RLIMIT_NOFILE, 500, 500).unwrap();
    let sentence = refused("path=/nowhere,queues=128");
    assert!(sentence.contains("hard limit of 500") && sentence.contains("LimitNOFILE"), "{sentence}");
}
