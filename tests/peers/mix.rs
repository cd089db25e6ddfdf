//! A minute of `make soak`, always the same plan.

use std::io::Write as _;
use std::time::Duration;

use crate::program::{Program, number};
use crate::support::testpmd::testpmd_program;
use crate::support::{Scratch, have_in_path, made, skip};

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
    let (own, testpmd, seconds) = (made("examples/loopback"), testpmd_program(), SECONDS.to_string());
    let (dir, own) = (scratch.0.display().to_string(), own.display().to_string());
    let args = ["--dir", &dir, "--own", &own, "--testpmd", &testpmd, "--seconds", &seconds, "--seed", SEED];
    let program = Program::with_env("mix", &args.map(Into::into), &[("RUNTIME_DIRECTORY", &scratch.0)]);
    let ledger = program.report(LIMIT).unwrap_or_else(|e| {
        let log = std::fs::read_to_string(scratch.file("log")).unwrap_or_default();
        panic!("{e}\nthe end of the back-ends' log:\n{}", &log[log.len().saturating_sub(2000)..])
    });
    let _ = writeln!(std::io::stderr().lock(), "{ledger}");
    assert!(number(&ledger, "in") > 1000, "{ledger}");
}
