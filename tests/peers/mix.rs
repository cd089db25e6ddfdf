//! A minute of `make soak`, always the same plan, and two of its devices under valgrind.

use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use crate::program::{Program, number};
use crate::support::testpmd::testpmd_program;
use crate::support::{Scratch, have, have_in_path, made, skip};

const SECONDS: u64 = 50;
const SEED: &str = "2026";
/// Beyond that: the device that is there is brought to its end, every wait of which has a deadline.
const LIMIT: Duration = Duration::from_secs(SECONDS + 240);

/// Back-ends die, freeze and drip, queues, memory, captures and devices come and go: all frames are accounted for, and all
/// that was taken from the system is given back.
#[test]
fn a_minute_of_whatever_can_happen() {
    const TEST: &str = "peers::a_minute_of_whatever_can_happen";
    if !have_in_path(&testpmd_program()) {
        return skip(TEST, "there is no dpdk-testpmd (Debian: dpdk-dev)");
    }
    let scratch = Scratch::new("mix");
    let seconds = SECONDS.to_string();
    let ledger = ledger(&scratch, Command::new(made("tests/mix")).args(["--seconds", &seconds, "--seed", SEED]));
    assert!(number(&ledger, "in") > 1000, "{ledger}");
}

/// Runs it, and hands out its ledger.
fn ledger(scratch: &Scratch, mix: &mut Command) -> String {
    let (own, testpmd) = (made("examples/loopback"), testpmd_program());
    mix.arg("--dir").arg(&scratch.0).arg("--own").arg(own).args(["--testpmd", &testpmd]);
    let ledger = Program::spawn(mix.env("RUNTIME_DIRECTORY", &scratch.0)).report(LIMIT).unwrap_or_else(|e| {
        let log = std::fs::read_to_string(scratch.file("log")).unwrap_or_default();
        panic!("{e}\nthe end of the back-ends' log:\n{}", &log[log.len().saturating_sub(2000)..])
    });
    let _ = writeln!(std::io::stderr().lock(), "{ledger}");
    ledger
}

/// A split and a packed device, client and server, with DPDK's vhost as their back-end, which freezes, drips and is killed,
/// while queues, pairs, a capture and the device stop and start. Valgrind shows a processor without AVX-512.
#[test]
fn valgrind_finds_no_error_and_no_leak_with_a_peer() {
    const TEST: &str = "peers::valgrind_finds_no_error_and_no_leak_with_a_peer";
    if !have("valgrind") || !have_in_path(&testpmd_program()) {
        return skip(TEST, "there is no valgrind, or no dpdk-testpmd (Debian: valgrind, dpdk-dev)");
    }
    let scratch = Scratch::new("mix-valgrind");
    let mut valgrind = Command::new("valgrind");
    // Threads take turns, or the one that bursts would starve the other.
    valgrind.args(["-q", "--fair-sched=yes", "--error-exitcode=9", "--leak-check=full"]);
    valgrind.args(["--show-leak-kinds=definite,indirect", "--errors-for-leak-kinds=definite,indirect"]);
    valgrind.arg(made("tests/mix")).args(["--seconds", "10000", "--seed", "2", "--from", "2", "--devices", "2"]);
    let ledger = ledger(&scratch, &mut valgrind);
    assert!(number(&ledger, "in") > 1000 && number(&ledger, "kill") == 2, "{ledger}");
}
