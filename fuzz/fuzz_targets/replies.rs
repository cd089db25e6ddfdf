//! A whole device, by its C face, whose back-end gives wrong answers: which, and how, the input says, message by message.
//! Where it says nothing the answer is right. Every call ends in time, an error has a sentence, and when the device is
//! given up no descriptor is left and all buffers are back.
#![no_main]

#[path = "../answers.rs"]
mod answers;
#[path = "../calls.rs"]
mod calls;
#[path = "../tally.rs"]
mod tally;

use std::ffi::CString;
use std::path::PathBuf;
use std::ptr::null_mut;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;

use answers::{Peer, offer, script};
use calls::{Bytes, Pool, descriptors, ok};
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
    let begun = Instant::now();
    let mut peer = Peer::listen(&SOCKET, &offer, script(bytes.0));
    life(&mut calls, pairs);
    peer.join();
    drop(peer);
    assert!(begun.elapsed() < TIMEOUT, "it took {:?}", begun.elapsed());
    assert_eq!(before, descriptors(), "descriptors are left");
    POOL.is_whole();
});
