//! DPDK's vhost in testpmd, killed under traffic as often as is asked for, and the ledger of the frames.

use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use std::{env, fs};

use crate::program::{Program, number};
use crate::support::testpmd::testpmd_program;
use crate::support::{Scratch, have_in_path, skip};
use crate::testpmd::backend;

/// Deaths in each way, if nothing else is asked for: all together take less than a minute on two CPUs.
const KILLS: u32 = 12;
/// What a death, a birth and the traffic between take together, at most.
const EACH: Duration = Duration::from_secs(10);
/// Runs at the same time: each has a thread that polls here and one in testpmd, and mostly waits for the next testpmd.
const AT_ONCE: usize = 2;

#[derive(Clone)]
struct Case {
    server: bool,
    packed: bool,
    pairs: u32,
    more: &'static str,
    kills: u32,
}

impl Case {
    fn name(&self) -> String {
        let side = if self.server { "server" } else { "client" };
        let layout = if self.packed { "packed" } else { "split" };
        format!("{side} {layout} {} pairs{}", self.pairs, self.more)
    }

    fn args(&self, dir: &Path) -> Vec<String> {
        let (socket, pairs) = (dir.join("s").display().to_string(), self.pairs);
        let devargs = format!(
            "path={socket},queues={pairs},packed_vq={},server={},huge=0,reconnect_ms=20{}",
            u8::from(self.packed),
            u8::from(self.server),
            self.more
        );
        let mut args: Vec<String> =
            ["--devargs", &devargs, "--kills", &self.kills.to_string(), "--log"].map(Into::into).into();
        args.push(dir.join("testpmd.log").display().to_string());
        args.push("--".into());
        args.extend(backend(dir, self.pairs, self.server));
        args
    }

    fn run(&self) -> Result<String, String> {
        let scratch = Scratch::new(&format!("soak-{}", self.name().replace([' ', ',', '='], "-")));
        let program = Program::with_env("soak", &self.args(&scratch.0), &[("RUNTIME_DIRECTORY", &scratch.0)]);
        let limit = EACH * (self.kills + 6);
        program.report(limit).map_err(|e| {
            let log = fs::read_to_string(scratch.file("testpmd.log")).unwrap_or_default();
            let tail: Vec<_> = log.lines().rev().take(30).collect();
            format!("{e}\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
        })
    }
}

fn kills() -> u32 {
    env::var("VUSER_SOAK_KILLS").map_or(KILLS, |text| text.parse().expect("VUSER_SOAK_KILLS is a number"))
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Runs all, some at a time, and prints the ledger of each.
fn run(test: &str, cases: Vec<Case>) {
    if !have_in_path(&testpmd_program()) {
        return skip(&format!("peers::{test}"), "there is no dpdk-testpmd (Debian: dpdk-dev)");
    }
    let (queue, failures) = (Mutex::new(cases), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    let Some(case) = next else { return };
                    let (line, good) = case.run().map_or_else(|e| (e, false), |line| (line, true));
                    say(&format!("{}: {line}", case.name()));
                    if !good || number(&line, "kills") != u64::from(case.kills) {
                        failures.lock().unwrap().push(format!("{}: {line}", case.name()));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Client and server, split and packed, one pair and two: what the dead had not marked used comes, once and in its order, and
/// nothing else is lost but what they had in their hands.
#[test]
fn nothing_is_lost_when_back_ends_die() {
    let mut cases = Vec::new();
    for server in [false, true] {
        for packed in [false, true] {
            for pairs in [1, 2] {
                cases.push(Case { server, packed, pairs, more: "", kills: kills() });
            }
        }
    }
    run("nothing_is_lost_when_back_ends_die", cases);
}

/// The same with what the device had not taken dropped and counted; without the order of buffers, without merged ones.
#[test]
fn other_ways_to_lose_a_back_end() {
    let few = kills().min(6);
    let case = |packed, more| Case { server: packed, packed, pairs: 2, more, kills: few };
    let ways = [",resend=0", ",in_order=0", ",in_order=0,mrg_rxbuf=0,event_idx=0,indirect=0"];
    run(
        "other_ways_to_lose_a_back_end",
        ways.iter().flat_map(|more| [case(false, *more), case(true, *more)]).collect(),
    );
}
