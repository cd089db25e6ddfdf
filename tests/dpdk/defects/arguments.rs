//! Arguments that a back-end can't serve, or nobody can have meant.

use std::sync::Arc;

use super::proxy;
use crate::port::{PLAIN, Port};
use crate::proxy::Message;

/// More queues than the back-end says it has: refused, and the log says which number would do. (DPDK's vhost says 128
/// whatever its port has: the proxy makes it say 1.)
#[test]
fn more_queues_than_there_are() {
    let Some(mut port) = Port::start("more_queues_than_there_are", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 4, "");
    let one = |m: &mut Message| {
        if m.request == 17 && !m.from_front {
            m.payload = 1u64.to_ne_bytes().to_vec();
        }
        true
    };
    let _proxy = proxy(&port, 0, Arc::new(one));
    let socket = port.file("s09");
    port.refuse(&format!("attach name={} args=path={},queues=4", Port::name(0), socket.display()));
    port.check(port.says(0, "VHOST_USER_GET_QUEUE_NUM"), "the back-end was not asked");
    port.check(port.says(0, "queues=1"), "the log does not say how many there are");
    let device = port.device_at(0, &socket, "queues=1");
    port.run(device, vhost, "");
    port.tell(&format!("exchange port={device} peer={vhost} frames=100"));
}

/// A ring's index has one byte on the wire: 128 queues are the most, and more are never taken for fewer.
#[test]
fn more_queues_than_can_be_named() {
    let Some(mut port) = Port::start("more_queues_than_can_be_named", PLAIN) else { return };
    port.tell("pool name=vhost count=2000");
    port.tell("pool name=port count=20000");
    let vhost = port.vhost(0, 128, "");
    let socket = port.file("s0");
    for queues in ["129", "130", "256", "257", "65537", "4294967297"] {
        port.refuse(&format!("attach name={} args=path={},queues={queues}", Port::name(0), socket.display()));
    }
    let device = port.device(0, "queues=128,queue_size=32");
    port.run(device, vhost, "rxq=128 rxd=32 txd=32");
    for queue in [127, 0, 64] {
        let sent = port.tell(&format!("send port={device} queue={queue} frames=20")).number("sent");
        let there = port.tell(&format!("take port={vhost} queue={queue}")).number("taken");
        port.tell(&format!("send port={vhost} queue={queue} frames=20"));
        let back = port.tell(&format!("take port={device} queue={queue}")).number("taken");
        port.check((sent, there, back) == (20, 20, 20), &format!("queue {queue}: {sent}, {there}, {back}"));
    }
    port.remove(0, device);
}

/// Arguments that can't be meant are refused by name, and never replaced by something else.
#[test]
fn senseless_arguments_are_refused() {
    let Some(mut port) = Port::start("senseless_arguments_are_refused", PLAIN) else { return };
    port.pools();
    port.vhost(0, 1, "");
    let socket = port.file("s0");
    let fds = port.tell("census").number("fds");
    for (wrong, name) in [
        ("mac=zz:bad", "mac"),
        ("mac=03:00:00:00:00:01", "mac"),
        ("queue_size=300", "queue_size"),
        ("queue_size=0", "queue_size"),
        ("queue_size=65536,packed_vq=1", "queue_size"),
        ("queues=abc", "queues"),
        ("queues=1x", "queues"),
        ("queues=0", "queues"),
        ("queues=1,queues=2", "queues"),
        ("mrg_rxbuf=2", "mrg_rxbuf"),
        ("speed=12345", "speed"),
        ("nonsense=1", "nonsense"),
    ] {
        let mark = port.log().len();
        port.refuse(&format!("attach name={} args=path={},{wrong}", Port::name(0), socket.display()));
        port.check(port.says(mark, name), &format!("{wrong}: the log does not name it"));
    }
    let long = format!("/tmp/{}", "x".repeat(120));
    port.refuse(&format!("attach name={} args=path={long}", Port::name(0)));
    port.refuse(&format!("attach name={} args=path={}", Port::name(0), port.file("nobody").display()));
    port.refuse(&format!("attach name={} args=queues=1", Port::name(0)));
    let left = port.tell("census").number("fds");
    port.check(left == fds, "descriptors are left over");
}
