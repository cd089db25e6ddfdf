//! Three devices of ours at one Open vSwitch: it learns where they are, and forwards between them.

use std::io::Write as _;
use std::time::Duration;

use crate::ovs::{Kind, Ovs, possible};
use crate::program::{Program, number};
use crate::support::Scratch;

const LIMIT: Duration = Duration::from_secs(90);

/// What a device is, but for its socket and address.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    kind: Kind,
    args: &'static str,
}

const SERVERS: [Case; 3] = [
    Case { name: "dpdkvhostuser, split", kind: Kind::Server, args: "" },
    Case { name: "dpdkvhostuser, packed", kind: Kind::Server, args: ",packed_vq=1" },
    Case { name: "dpdkvhostuser, split, 2 pairs", kind: Kind::Server, args: ",queues=2,in_order=0" },
];

const CLIENTS: [Case; 3] = [
    Case { name: "dpdkvhostuserclient, split", kind: Kind::Client, args: "" },
    Case { name: "dpdkvhostuserclient, packed", kind: Kind::Client, args: ",packed_vq=1" },
    Case { name: "dpdkvhostuserclient, split, 2 pairs", kind: Kind::Client, args: ",queues=2,in_order=0" },
];

/// Restarts of the switch in a run.
const RESTARTS: u32 = 4;

fn address(device: usize) -> String {
    format!("02:00:00:00:01:{device:02x}")
}

/// A switch with three ports, and our devices at them.
fn meet(scratch: &Scratch, case: &Case, more: &[&str]) -> Result<(Ovs, Program), String> {
    let mut ovs = Ovs::start(scratch)?;
    let mut args = Vec::new();
    for device in 0..3 {
        let socket = ovs.add_port(&format!("p{device}"), case.kind)?;
        let server = if case.kind == Kind::Client { ",server=1" } else { "" };
        let path = socket.display();
        let device = format!("path={path},mac={},huge=0,mrg_rxbuf=1{server}{}", address(device), case.args);
        args.extend(["--device".to_string(), device]);
    }
    args.extend(more.iter().map(|arg| (*arg).to_string()));
    Ok((ovs, Program::start("switch", &args)))
}

fn learn(case: &Case) -> Result<String, String> {
    let scratch = Scratch::new(&format!("ovs-{:?}-{}", case.kind, case.args.len()));
    let (ovs, program) = meet(&scratch, case, &[])?;
    let report = program.report(LIMIT).map_err(|e| format!("{e}\n{}", ovs.log()))?;
    let learned = ovs.learned()?;
    for device in 0..2 {
        let at = learned.iter().find(|(mac, _)| *mac == address(device));
        if at.is_none_or(|(_, port)| *port != u32::try_from(device).expect("small") + 1) {
            return Err(format!("device {device} was not learned where it is: {learned:?}"));
        }
    }
    match ovs.complaints() {
        complaints if complaints.is_empty() => Ok(report),
        complaints => Err(format!("{report}\nthe switch complains: {complaints:#?}")),
    }
}

/// The switch ends while frames are under way, by a crash or in order, and comes again.
fn restart(case: &Case) -> Result<String, String> {
    let scratch = Scratch::new(&format!("ovs-restart-{:?}-{}", case.kind, case.args.len()));
    let (mut ovs, mut program) = meet(&scratch, case, &["--hold"])?;
    let mut go = || {
        program.expect("flowing", LIMIT)?;
        for round in 0..RESTARTS {
            if round % 2 == 0 {
                ovs.kill_switch();
            } else {
                ovs.end_switch()?;
            }
            program.expect("down", LIMIT)?;
            ovs.switch_on()?;
            program.expect("up", LIMIT).map_err(|e| format!("restart {round}: {e}"))?;
        }
        program.tell("end");
        Ok(())
    };
    let gone: Result<(), String> = go();
    let report = gone.and_then(|()| program.report(LIMIT)).map_err(|e| format!("{e}\n{}", ovs.log()))?;
    if number(&report, "downs") == u64::from(RESTARTS) { Ok(report) } else { Err(format!("other losses: {report}")) }
}

fn all(test: &str, cases: &[Case], what: impl Fn(&Case) -> Result<String, String>) {
    if !possible(test) {
        return;
    }
    let mut failures = Vec::new();
    for case in cases {
        let (line, good) = what(case).map_or_else(|e| (e, false), |line| (line, true));
        let _ = writeln!(std::io::stderr().lock(), "{}: {line}", case.name);
        if !good {
            failures.push(format!("{}: {line}", case.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Ports at which the switch listens: it learns our addresses, and forwards both ways without a loss.
#[test]
fn ovs_learns_and_forwards() {
    all("ovs_learns_and_forwards", &SERVERS, learn);
}

/// The same with ports that connect to us: `server=1`.
#[test]
fn ovs_connects_learns_and_forwards() {
    all("ovs_connects_learns_and_forwards", &CLIENTS, learn);
}

/// Open vSwitch is killed and started again, and ends and is started again, while frames go both ways, with ports of both
/// kinds: what comes is right and in its order, and afterwards nothing is missing.
#[test]
fn ovs_restarts_under_traffic() {
    all("ovs_restarts_under_traffic", &[&SERVERS[..2], &CLIENTS[..2]].concat(), restart);
}
