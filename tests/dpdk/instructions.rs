//! What a burst of our driver costs in instructions, counted one by one by a processor that stops after each. Exact, so that
//! a limit is a limit: whoever adds to the data path is told here.

use std::process::Command;

use crate::support::{build, have_cpu, run};
use crate::turn::Turn;

/// Instructions per packet at most, of bursts of 32: receive, receive with merged buffers, transmit.
struct Limits {
    simd: &'static str,
    cpu: &'static str,
    split: [f64; 3],
    packed: [f64; 3],
}

// The whole of the call, with the mempool's part and the refill.
const LIMITS: [Limits; 3] = [
    Limits { simd: "avx512", cpu: "avx512vl", split: [20.0, 25.0, 31.5], packed: [21.5, 26.5, 37.5] },
    Limits { simd: "avx2", cpu: "avx2", split: [24.0, 30.5, 34.0], packed: [26.5, 32.5, 40.5] },
    Limits { simd: "scalar", cpu: "sse2", split: [40.5, 53.0, 75.0], packed: [49.0, 62.0, 87.0] },
];
const PATHS: [&str; 5] = ["split plain", "split mergeable", "packed plain", "packed mergeable", "packed in-order"];

fn within(limits: &Limits) {
    let driver = build().join("librte_net_vuser.so");
    let mut program = Command::new(build().join("bench/versus_dpdk"));
    program.arg("--load").arg(driver).args(["--instructions-only", "--no-huge", "--b"]);
    program.arg(format!("net_vuser,simd={}", limits.simd));
    program.args(PATHS.iter().flat_map(|path| ["--path", path]));
    let table = run(&mut program);
    let mut seen = 0;
    for line in table.lines().skip(1) {
        let fields: Vec<_> = line.split(',').collect();
        let [path, direction, _, _, ours] = fields[..] else { panic!("{line}: what is that?\n{table}") };
        let all = if path.starts_with("split") { &limits.split } else { &limits.packed };
        let limit = match (direction, path.ends_with("mergeable")) {
            ("rx", false) => all[0],
            ("rx", true) => all[1],
            _ => all[2],
        };
        let count: f64 = ours.parse().expect("a number");
        assert!(
            count <= limit,
            "{path}, {direction}, {}: {count} instructions per packet, at most {limit}",
            limits.simd
        );
        seen += 1;
    }
    assert_eq!(seen, 2 * PATHS.len(), "{table}");
}

#[test]
fn bursts_stay_within_their_instructions() {
    let _turn = Turn::wait(1);
    for limits in &LIMITS {
        match have_cpu(limits.cpu) {
            true => within(limits),
            // Nothing that could be installed: not a skipped test.
            false => println!("this CPU has no {}: its lanes are not counted", limits.cpu),
        }
    }
}
