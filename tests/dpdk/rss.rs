//! Received frames have DPDK's hash, by the key and of the fields that were chosen.

use crate::paths::TEN;
use crate::port::{PLAIN, Port, driver};

// As DPDK numbers them.
const RSS_IPV4: u64 = 1 << 2;
const RSS_TCP4: u64 = 1 << 4;
const RSS_UDP4: u64 = 1 << 5;
const RX_RSS_HASH: u64 = 1 << 19;

/// The hash is computed only when it is asked for; by the usual key and by others; with ports, without, or not at all; and it is
/// what DPDK computes.
#[test]
fn frames_have_their_hash() {
    if driver() != "net_vuser" {
        return;
    }
    let Some(mut port) = Port::start("frames_have_their_hash", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 1, "");
    for way in TEN {
        let device = port.device(0, &way.args());
        let all = RSS_IPV4 | RSS_TCP4 | RSS_UDP4;
        port.run(device, vhost, &format!("rxd={0} txd={0} rss={all} rxo={RX_RSS_HASH}", way.queue_size));
        for (seed, hf, expect) in [
            (0, all, [40, 0, 0, 0]),
            (7, all, [40, 0, 0, 0]),
            (8, RSS_IPV4, [0, 40, 0, 0]),
            (9, RSS_IPV4 | RSS_TCP4, [20, 20, 0, 0]),
            (9, RSS_UDP4, [20, 0, 0, 20]),
        ] {
            let hf_is = port.tell(&format!("rss port={device} hf={hf} seed={seed}")).number("hf");
            port.check(hf_is & all == hf, &format!("{}: hf={hf_is:#x} and not {hf:#x}", way.name));
            for kind in ["udp4", "tcp4"] {
                port.tell(&format!("send port={vhost} frames=20 kind={kind} sizes=128"));
            }
            let counted = port.tell(&format!("hashes port={device}"));
            let is = ["ports", "addresses", "wrong", "none"].map(|name| counted.number(name));
            port.check(is == expect, &format!("{}, hf={hf:#x}, seed={seed}: {is:?} and not {expect:?}", way.name));
        }
        port.remove(0, device);
        let device = port.device(0, &way.args());
        port.run(device, vhost, &format!("rxd={0} txd={0}", way.queue_size));
        port.tell(&format!("send port={vhost} frames=20 kind=udp4 sizes=128"));
        let none = port.tell(&format!("hashes port={device}")).number("none");
        port.check(none == 20, &format!("{}: {none} of 20 frames without a hash, and none was asked for", way.name));
        port.remove(0, device);
    }
}
