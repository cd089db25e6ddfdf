//! DPDK's vhost in testpmd, stopped where it is: whatever the device is asked for then has a deadline.

use std::io::Write as _;
use std::time::Duration;

use crate::program::Program;
use crate::support::testpmd::testpmd_program;
use crate::support::{Scratch, have_in_path, skip};
use crate::testpmd::backend;

const LIMIT: Duration = Duration::from_secs(90);

fn hang(server: bool, packed: bool) -> String {
    let scratch = Scratch::new(&format!("hang-{}", u8::from(server)));
    let devargs = format!(
        "path={},server={},packed_vq={},huge=0,timeout_ms=300",
        scratch.file("s").display(),
        u8::from(server),
        u8::from(packed)
    );
    let mut args =
        vec!["--devargs".into(), devargs, "--log".into(), scratch.file("log").display().to_string(), "--".into()];
    args.extend(backend(&scratch.0, 1, server));
    let program = Program::with_env("hang", &args, &[("RUNTIME_DIRECTORY", &scratch.0)]);
    program.report(LIMIT).unwrap_or_else(|e| panic!("server={server}: {e}"))
}

/// Each call ends in time, well or with a sentence that names the message, and the device can always be given up.
#[test]
fn every_call_has_a_deadline() {
    const TEST: &str = "peers::every_call_has_a_deadline";
    if !have_in_path(&testpmd_program()) {
        return skip(TEST, "there is no dpdk-testpmd (Debian: dpdk-dev)");
    }
    for (side, server) in [("client", false), ("server", true)] {
        let _ = writeln!(std::io::stderr().lock(), "hang, {side}: {}", hang(server, server));
    }
}
