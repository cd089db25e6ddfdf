//! Counters are exact, at both ends, for each queue, length and kind of address.

use std::collections::HashMap;

use crate::paths::{TEN, Way};
use crate::port::{Answer, PLAIN, Port};

/// Lengths, and the counter that each belongs to.
const LENGTHS: [(u32, &str); 8] = [
    (59, "undersize"),
    (64, "size_64"),
    (128, "size_128_255"),
    (255, "size_128_255"),
    (512, "size_512_1023"),
    (1024, "size_1024_1518"),
    (1518, "size_1024_1518"),
    (1523, "size_1519_max"),
];
const KINDS: [(&str, Option<&str>); 3] =
    [("unicast", None), ("multicast", Some("multicast")), ("broadcast", Some("broadcast"))];
const QUEUES: u64 = 2;

/// What each queue has to have counted, by the name without its queue.
fn exchange_all(port: &mut Port, device: u64, vhost: u64, frames: u64) -> HashMap<String, u64> {
    let mut expected: HashMap<String, u64> = HashMap::new();
    let mut count = |what: &str, by: u64| *expected.entry(what.to_owned()).or_default() += by;
    for (length, bin) in LENGTHS {
        for (kind, counter) in KINDS {
            port.tell(&format!(
                "exchange port={device} peer={vhost} queues={QUEUES} frames={frames} sizes={length} kind={kind} jitter=1"
            ));
            count("good_packets", frames);
            count("good_bytes", frames * u64::from(length));
            count(&format!("{bin}_packets"), frames);
            if let Some(counter) = counter {
                count(&format!("{counter}_packets"), frames);
            }
        }
    }
    for (_, bin) in LENGTHS.iter().chain([&(0, "size_65_127"), &(0, "size_256_511")]) {
        count(&format!("{bin}_packets"), 0);
    }
    expected
}

fn compare(port: &Port, way: Way, who: &str, found: &[(String, u64)], expected: &HashMap<String, u64>) {
    for (name, wanted) in expected {
        let values: Vec<u64> = found.iter().filter(|(k, _)| k == name).map(|(_, v)| *v).collect();
        // Receive and transmit, each queue.
        let good = values == vec![*wanted; 2 * QUEUES as usize];
        port.check(good, &format!("{}: {who} counts {name} {values:?}, and not {wanted} everywhere", way.name));
    }
}

/// Names without direction and queue: DPDK's vhost gives all of its queues the name of the first.
fn by_queue(answer: &Answer) -> Vec<(String, u64)> {
    let named = answer.0.iter().filter_map(|(k, v)| {
        let rest = k.strip_prefix("rx_q").or(k.strip_prefix("tx_q"))?;
        Some((rest.split_once('_')?.1.to_owned(), v.parse().ok()?))
    });
    named.collect()
}

#[test]
fn every_counter_is_exact() {
    let Some(mut port) = Port::start("every_counter_is_exact", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 2, "");
    let ring = Way { queue_size: 256, name: "packed vectorized", ..TEN[9] };
    for way in TEN.into_iter().chain([ring]) {
        let stats = if crate::port::driver() == "net_vuser" { ",stats=1" } else { "" };
        let device = port.device(0, &format!("{},queues=2{stats}", way.args()));
        port.run(device, vhost, &format!("rxq=2 rxd={0} txd={0}", way.queue_size));
        for side in [device, vhost] {
            port.tell(&format!("clear port={side}"));
        }
        let expected = exchange_all(&mut port, device, vhost, 5000);
        for (who, side) in [("the driver", device), ("the vhost port", vhost)] {
            let found = by_queue(&port.tell(&format!("xstats port={side}")));
            compare(&port, way, who, &found, &expected);
        }
        let total = QUEUES * expected["good_packets"];
        let stats = port.tell(&format!("stats port={device}"));
        let counted = ["ipackets", "opackets", "imissed", "ierrors", "oerrors", "rx_nombuf"].map(|k| stats.number(k));
        port.check(counted == [total, total, 0, 0, 0, 0], &format!("{}: {counted:?}, not {total}", way.name));
        port.tell(&format!("clear port={device}"));
        let left = port.tell(&format!("xstats port={device}")).map().values().sum::<u64>();
        port.check(left == 0, &format!("{}: counters are not 0 after a reset", way.name));
        port.remove(0, device);
    }
}
