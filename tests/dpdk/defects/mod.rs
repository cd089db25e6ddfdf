//! What DPDK's own driver is known to get wrong, as tests: ours must not. docs/acceptance.md has the list.

mod arguments;
mod backends;
mod messages;
mod receive;
mod transmit;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::paths::Way;
use crate::port::Port;
use crate::proxy::{Change, Proxy};

/// EAL's argument that allows the widest lanes.
const WIDEST: &str = "--force-max-simd-bitwidth=512";

fn rings(way: Way) -> String {
    format!("rxd={0} txd={0}", way.queue_size)
}

/// A proxy at `s<n>9` in front of the vhost port at `s<n>`.
fn proxy(port: &Port, n: u32, change: Arc<Change>) -> Proxy {
    Proxy::start(&port.file(&format!("s{n}9")), &port.file(&format!("s{n}")), change)
}

/// Whether something comes true soon: the vhost port's thread gives up in its own time what it had of a device.
fn settles(port: &mut Port, good: impl Fn(&mut Port) -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if good(port) {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
    }
}
