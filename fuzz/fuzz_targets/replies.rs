//! A whole device, by its C face, whose back-end gives wrong answers: which, and how, the input says, message by message.
//! Where it says nothing the answer is right. Every call ends in time, an error has a sentence, and when the device is
//! given up no descriptor is left and all buffers are back.
#![no_main]

#[path = "../calls.rs"]
mod calls;
#[path = "../../tests/vhost_user/peer.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod peer;
#[path = "../tally.rs"]
mod tally;

use std::ffi::CString;
use std::path::PathBuf;
use std::ptr::null_mut;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;

use calls::{Bytes, Pool, descriptors, ok};
use peer::{Deed, Offer, Peer, Seen, message};
use vuser::capi::dev::{
    vuser_dev_get_info, vuser_dev_info, vuser_dev_init, vuser_dev_reset, vuser_dev_set_link, vuser_dev_set_queue_pairs,
    vuser_dev_start, vuser_dev_stop, vuser_dev_uninit, vuser_rx_queue_start, vuser_rx_queue_stop, vuser_tx_queue_start,
    vuser_tx_queue_stop,
};
use vuser::capi::event::{vuser_dev_process, vuser_event};
use vuser::capi::extras::{vuser_dev_announce, vuser_dev_set_mtu, vuser_dirty_log_start, vuser_dirty_log_stop};
use vuser::capi::queue::{vuser_rx_queue_setup, vuser_tx_queue_setup};

/// Longest wait that the device is told. The back-end is never silent: where it has nothing to say it closes, so that a
/// call that takes as long has waited for what could not come.
const TIMEOUT: Duration = Duration::from_secs(10);

static SOCKET: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("vuser-fuzz-{}", std::process::id())));
static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::new(256));

/// What is said to a message, of which `right` is the right answer, if it has one.
fn deed(script: &mut Bytes, right: Option<&[u8]>) -> Deed {
    tally::count(1);
    let Some(how) = script.next() else { return Deed::Right };
    let Some(right) = right else {
        return if how == 1 { Deed::Close } else { Deed::Right };
    };
    let (mut answer, request) = (right.to_vec(), u32::from_ne_bytes(right[..4].try_into().expect("it has a header")));
    match how % 16 {
        1 => Deed::Close,
        2 => Deed::SayAndClose(script.some(64).to_vec()),
        3 => Deed::SayAndClose(right[..usize::from(script.byte()) % right.len()].to_vec()),
        // The kernel sends no more at once.
        4 => Deed::WithFds(usize::from(script.byte() % 254)),
        5 => Deed::SayAndClose(right.to_vec()),
        // Right in form.
        6 => Deed::Say(message(request, 5, &script.some(8).iter().copied().chain([0; 8]).take(8).collect::<Vec<_>>())),
        7 => Deed::Say(message(request, 5, &answer[12..].iter().map(|b| !b).collect::<Vec<_>>())),
        8 => {
            let at = usize::from(script.byte()) % answer.len();
            answer[at] ^= script.byte();
            // Where it says that there is more to come than comes, that does not come.
            if (8..12).contains(&at) { Deed::SayAndClose(answer) } else { Deed::Say(answer) }
        }
        9 => {
            answer.extend(script.some(16));
            Deed::Say(answer)
        }
        _ => Deed::Right,
    }
}

fn offer(script: &mut Bytes) -> Offer {
    let word = |b: &mut Bytes, all: u64| if b.byte() & 1 == 0 { all } else { b.word() };
    Offer {
        // All that the driver knows; all protocol features but of postcopy.
        features: word(script, !0),
        protocol: word(script, !(1 << 8)),
        queues: u64::from(script.byte() % 4).max(1),
        config: (script.byte() & 1 == 0).then(|| script.some(60).iter().copied().chain([0; 60]).take(60).collect()),
        slots: u64::from(script.byte()),
    }
}

fn events() -> [vuser_event; 4] {
    [vuser_event { size: size_of::<vuser_event>(), kind: 0, reserved: 0, number: 0, text: [0; 256] }; 4]
}

/// What the application does with a device.
fn life(calls: &mut Bytes, pairs: u16) {
    let options = ["packed_vq=1", "mrg_rxbuf=0", "compact=1", "mtu=1400", "csum=1,tso=1", "hash=1", "cq=1"];
    let chosen = calls.byte();
    let chosen = options.iter().enumerate().filter(|(n, _)| chosen >> n & 1 == 1).map(|(_, o)| format!(",{o}"));
    let text = format!(
        "path={},queues={pairs},queue_size=8,reconnect=0,events=manual,huge=0,timeout_ms={}{}",
        SOCKET.display(),
        TIMEOUT.as_millis(),
        chosen.collect::<String>()
    );
    let config = calls::config(&CString::new(text).expect("it has no zero"));
    let mut dev = null_mut();
    let (pool, link) = (POOL.0, i32::from(pairs & 1));
    // SAFETY: structs with their sizes, a device until it is given up, and a pool that stays.
    unsafe {
        if ok(vuser_dev_init(&raw const config, &raw mut dev)) < 0 {
            return;
        }
        for pair in 0..pairs {
            ok(vuser_rx_queue_setup(dev, pair, 0, pool));
            ok(vuser_tx_queue_setup(dev, pair, 0, pool));
        }
        let mut info: vuser_dev_info = std::mem::zeroed();
        info.size = size_of::<vuser_dev_info>();
        ok(vuser_dev_start(dev));
        while let Some(call) = calls.next() {
            tally::count(1);
            let pair = u16::from(call >> 4) % pairs;
            ok(match call & 15 {
                0 => vuser_dev_start(dev),
                1 => vuser_dev_stop(dev),
                2 => vuser_dev_reset(dev),
                3 => vuser_dev_set_link(dev, link),
                4 => vuser_dev_get_info(dev, &raw mut info),
                5 => vuser_dev_set_queue_pairs(dev, pair + 1),
                6 => vuser_rx_queue_stop(dev, pair),
                7 => vuser_rx_queue_start(dev, pair),
                8 => vuser_tx_queue_stop(dev, pair),
                9 => vuser_tx_queue_start(dev, pair),
                10 => vuser_dev_set_mtu(dev, 1400 + pair),
                11 => vuser_dev_announce(dev),
                12 => vuser_dirty_log_start(dev),
                13 => vuser_dirty_log_stop(dev),
                _ => vuser_dev_process(dev, events().as_mut_ptr(), 4),
            });
        }
        vuser_dev_uninit(dev);
    }
}

fuzz_target!(init: { tally::at_exit(tally::counted); LazyLock::force(&POOL); }, |bytes: &[u8]| {
    let before = descriptors();
    let bytes = &mut Bytes(bytes);
    let pairs = u16::from(bytes.byte() % 2) + 1;
    let calls = bytes.byte() % 16;
    let (mut calls, offer) = (Bytes(bytes.some(calls.into())), offer(bytes));
    let (script, mut at) = (bytes.0.to_vec(), 0);
    let script = move |_: usize, _: &Seen, right: Option<&[u8]>| {
        let mut rest = Bytes(&script[at..]);
        let deed = deed(&mut rest, right);
        at = script.len() - rest.0.len();
        deed
    };
    let begun = Instant::now();
    let mut peer = Peer::listen(&SOCKET, &offer, Box::new(script));
    life(&mut calls, pairs);
    peer.join();
    drop(peer);
    assert!(begun.elapsed() < TIMEOUT, "it took {:?}", begun.elapsed());
    assert_eq!(before, descriptors(), "descriptors are left");
    POOL.is_whole();
});
