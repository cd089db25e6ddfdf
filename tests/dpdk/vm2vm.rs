//! Two devices behind one switch: what one sends, the other receives, and nothing else.

use crate::paths::{TEN, Way};
use crate::port::{PLAIN, Port};

/// Frames of 64 bytes that the plan sends before its large ones: 27 one by one, and 7 bursts.
const SMALL: u64 = 27 + 7 * 32;
/// The large ones: four buffers of 2000 bytes each.
const LARGE: u64 = 8000;

/// Sends as the plan says into a ring that nobody empties; how many frames the ring took.
fn fill(port: &mut Port, sender: u64) -> u64 {
    let mut sent = 0;
    for command in ["frames=27 burst=1", "frames=224 burst=32", "frames=32 burst=32 sizes=8000 segment=2000"] {
        sent += port.tell(&format!("send port={sender} {command}")).number("sent");
    }
    sent
}

/// Switches all that waits, in portions that the receiver's ring has room for; what it received.
fn switch(port: &mut Port, from: u64, to: u64, receiver: u64) -> (u64, u64) {
    let (mut frames, mut bytes) = (0, 0);
    loop {
        let moved = port.tell(&format!("forward port={from} to={to} most=32"));
        let taken = port.tell(&format!("take port={receiver}"));
        port.check(taken.number("corrupt") + taken.number("faulty") == 0, "frames are damaged on the way");
        port.check(taken.text("ordered") == "1", "frames overtake each other");
        frames += taken.number("taken");
        bytes += taken.number("bytes");
        if moved.number("forwarded") + moved.number("dropped") == 0 {
            return (frames, bytes);
        }
    }
}

struct Case {
    way: Way,
    /// Further arguments of the devices.
    more: &'static str,
    /// Large frames that the sender's ring takes, and slots that they need there.
    large: u64,
    slots_of_large: u64,
}

/// The plan's twelve cases. A large frame is one slot where there are indirect tables.
fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = TEN
        .iter()
        .map(|&way| match way.queue_size {
            255 => Case { way, more: "", large: 4, slots_of_large: 1 },
            _ => Case { way, more: "", large: 5, slots_of_large: 1 },
        })
        .collect();
    let full = Way { queue_size: 256, name: "packed vectorized", ..TEN[9] };
    cases.push(Case { way: full, more: "", large: 5, slots_of_large: 1 });
    let vectorized = Way { mergeable: true, name: "packed vectorized transmit", ..full };
    cases.push(Case { way: vectorized, more: "", large: 5, slots_of_large: 1 });
    // Beyond the plan: without tables a large frame takes a slot for each of its buffers.
    cases.push(Case { way: TEN[4], more: ",indirect=0", large: 1, slots_of_large: 4 });
    cases.push(Case { way: TEN[2], more: ",indirect=0", large: 1, slots_of_large: 4 });
    cases
}

#[test]
fn twelve_ways_between_two_devices() {
    let Some(mut port) = Port::start("twelve_ways_between_two_devices", PLAIN) else { return };
    port.pools();
    let switches = [port.vhost(0, 1, ""), port.vhost(1, 1, "")];
    for case in cases() {
        let way = case.way;
        let args = format!("{}{}", way.args(), case.more);
        let devices = [0, 1].map(|n| {
            let device = port.device(n, &args);
            port.run(device, switches[n as usize], &format!("rxd={0} txd={0}", way.queue_size));
            device
        });
        let sent = fill(&mut port, devices[0]);
        let wanted = SMALL + case.large;
        port.check(sent == wanted, &format!("{}: the ring took {sent} frames and not {wanted}", way.name));
        let ring = port.tell(&format!("ring port={} ring=1", switches[0]));
        let (slots, bytes) = (ring.number("slots"), ring.number("bytes"));
        let wanted = (SMALL + case.large * case.slots_of_large, SMALL * 64 + case.large * LARGE);
        port.check(
            (slots, bytes) == wanted,
            &format!("{}: slots and bytes {slots}, {bytes}, not {wanted:?}", way.name),
        );
        port.check(ring.number("corrupt") == 0, &format!("{}: the device reads other frames", way.name));

        let received = switch(&mut port, switches[0], switches[1], devices[1]);
        // Frames of 8000 bytes do not fit where a frame is one buffer.
        let large = if way.mergeable { case.large } else { 0 };
        let wanted = (SMALL + large, SMALL * 64 + large * LARGE);
        port.check(received == wanted, &format!("{}: received {received:?} and not {wanted:?}", way.name));
        let more = port.tell(&format!("send port={} frames=32", devices[0])).number("sent");
        let received = switch(&mut port, switches[0], switches[1], devices[1]);
        port.check((more, received) == (32, (32, 32 * 64)), &format!("{}: then {more}, {received:?}", way.name));
        port.remove(0, devices[0]);
        port.remove(1, devices[1]);
    }
}
