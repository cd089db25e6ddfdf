//! The back-end that is killed or stopped: testpmd, which sends back what comes.

use std::path::Path;

use crate::support::testpmd::{allowed_cpus, testpmd_program};

/// Its command line: at the socket `s` of a directory, which it makes, or connects to as a client.
pub fn backend(dir: &Path, pairs: u32, client: bool) -> Vec<String> {
    let (socket, cpus) = (dir.join("s"), allowed_cpus());
    let client = if client { ",client=1" } else { "" };
    let mut args = vec![testpmd_program()];
    args.extend(["--no-huge", "--no-shconf", "-m", "64", "--no-pci", "--no-telemetry"].map(Into::into));
    args.push(format!("--lcores=0@({cpus}),1@({cpus})"));
    args.push(format!("--vdev=net_vhost0,iface={},queues={pairs}{client}", socket.display()));
    // It begins at once, and does not wait for a link.
    args.extend(
        ["--", "--nb-cores=1", "--total-num-mbufs=2048", "--no-flush-rx", "--disable-link-check"].map(Into::into),
    );
    args.extend([format!("--rxq={pairs}"), format!("--txq={pairs}")]);
    args
}
