//! Ports stop and start, again and again, and are as they were.

use crate::paths::TEN;
use crate::port::{Answer, PLAIN, Port};

/// A hundred restarts on each way, frames after each; descriptors, maps, threads, heap and free buffers stay as they are.
#[test]
fn a_hundred_restarts() {
    let Some(mut port) = Port::start("a_hundred_restarts", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 2, "");
    for way in TEN {
        let device = port.device(0, &format!("{},queues=2", way.args()));
        port.tell(&format!("configure port={device} rxq=2"));
        let mut first: Option<Answer> = None;
        for round in 0..100 {
            port.tell(&format!("start port={device}"));
            port.tell(&format!("link port={vhost} until=1 wait=3000"));
            port.tell(&format!("exchange port={device} peer={vhost} queues=2 frames=40 sizes={}", way.sizes()));
            port.tell(&format!("stop port={device}"));
            let now = port.tell("census");
            // The first rounds may make what the later ones use.
            match &first {
                Some(first) => same(&port, way.name, round, first, &now),
                None if round == 1 => first = Some(now),
                None => {}
            }
        }
        port.tell(&format!("close port={device}"));
        port.tell(&format!("detach name={}", Port::name(0)));
    }
}

fn same(port: &Port, way: &str, round: u32, first: &Answer, now: &Answer) {
    for key in ["fds", "maps", "threads", "heap", "port"] {
        let (was, is) = (first.number(key), now.number(key));
        port.check(was == is, &format!("{way}, restart {round}: {key} was {was} and is {is}"));
    }
    port.check(now.number("port") == 6000, &format!("{way}, restart {round}: a stopped port keeps buffers"));
}
