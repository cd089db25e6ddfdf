//! One body for every layout and feature set: frames go through the built-in device and come back unchanged, in
//! order, and no buffer is lost.

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vuser::buf::MbufRef;
use vuser::buf::pool::{Pool, PoolConfig};
use vuser::dev::{Config, Device, SourceSetup};

fn device(devargs: &str, pool: &Arc<Pool>) -> Device {
    let mut config = Config::default();
    config.parse(devargs).unwrap();
    let pairs = config.queues;
    let mut device = Device::new(config).unwrap();
    for pair in 0..pairs {
        device.setup_rx(pair, 0, SourceSetup::Pool(pool.clone())).unwrap();
        device.setup_tx(pair, 0, SourceSetup::Pool(pool.clone())).unwrap();
    }
    device
}

fn pool(count: u32) -> Arc<Pool> {
    Pool::new(PoolConfig { count, huge: false, ..PoolConfig::default() }).unwrap()
}

fn frame(pool: &Arc<Pool>, seq: u32, len: usize, segments: usize) -> Option<MbufRef> {
    let mut parts = vec![None; segments];
    pool.get_bulk(&mut parts).ok()?;
    let parts: Vec<MbufRef> = parts.into_iter().flatten().collect();
    let per = len.div_ceil(segments);
    let mut done = 0;
    for (k, m) in parts.iter().enumerate() {
        let n = per.min(len - done);
        for i in 0..n {
            // SAFETY: inside the buffer, which is ours.
            unsafe { m.data().add(i).write(byte(seq, done + i)) };
        }
        m.set_data_len(n as u16);
        done += n;
        m.set_next(parts.get(k + 1).copied());
    }
    parts[0].set_pkt_len(len as u32);
    parts[0].set_nb_segs(segments as u16);
    Some(parts[0])
}

fn byte(seq: u32, at: usize) -> u8 {
    if at < 4 { seq.to_le_bytes()[at] } else { (seq as usize).wrapping_mul(31).wrapping_add(at) as u8 }
}

fn bytes(m: MbufRef) -> Vec<u8> {
    let mut all = Vec::new();
    for s in m.segments() {
        for i in 0..usize::from(s.data_len()) {
            // SAFETY: inside the data.
            all.push(unsafe { s.data().add(i).read() });
        }
    }
    assert_eq!(all.len() as u32, m.pkt_len());
    all
}

/// Sends `count` frames of changing lengths and verifies what comes back.
fn echo(device: &mut Device, pool: &Arc<Pool>, count: u32, lens: &[usize], segments: usize) {
    let mut pairs = device.pairs();
    let (rx, tx) = &mut pairs[0];
    let (mut sent, mut received) = (0, 0);
    let mut out = [MaybeUninit::uninit(); 32];
    let end = Instant::now() + Duration::from_secs(20);
    while received < count {
        assert!(Instant::now() < end, "only {received} of {count} came back, {sent} sent");
        if sent < count && sent - received < 100 {
            let len = lens[sent as usize % lens.len()];
            if let Some(m) = frame(pool, sent, len, segments) {
                // SAFETY: ours, just made.
                match unsafe { tx.burst(&[m]) } {
                    1 => sent += 1,
                    // SAFETY: ours still.
                    _ => unsafe { Pool::free(m) },
                }
            }
        }
        let n = rx.burst(&mut out);
        for m in &out[..n] {
            // SAFETY: the burst has written it.
            let m = unsafe { m.assume_init() };
            let got = bytes(m);
            let len = lens[received as usize % lens.len()];
            assert_eq!(got.len(), len, "frame {received}");
            assert!(got.iter().enumerate().all(|(i, b)| *b == byte(received, i)), "frame {received} is corrupt");
            received += 1;
            // SAFETY: received, so ours.
            unsafe { Pool::free(m) };
        }
    }
}

fn all_feature_sets() -> Vec<String> {
    let mut sets = Vec::new();
    for packed in 0..2 {
        for bits in 0..16 {
            let [mrg, order, event, indirect] = [0, 1, 2, 3].map(|b| bits >> b & 1);
            sets.push(format!(
                "path=loopback,packed_vq={packed},mrg_rxbuf={mrg},in_order={order},event_idx={event},indirect={indirect}"
            ));
        }
    }
    sets
}

#[test]
fn frames_come_back_whole_on_every_layout_and_feature_set() {
    for set in all_feature_sets() {
        for size in [256u16, 64, 255, 7] {
            if !size.is_power_of_two() && set.contains("packed_vq=0") {
                continue;
            }
            let pool = pool(2048);
            let mut device = device(&format!("{set},queue_size={size}"), &pool);
            device.start().unwrap_or_else(|e| panic!("{set}: {e}"));
            echo(&mut device, &pool, 1000, &[64, 65, 1518, 60, 777], 1);
            echo(&mut device, &pool, 300, &[64, 1000, 1518], 3);
            if set.contains("mrg_rxbuf=1") {
                echo(&mut device, &pool, 100, &[9000, 64, 4500], 5);
            }
            device.stop().unwrap();
            assert_eq!(pool.available(), 2048, "{set}: buffers are missing");
        }
    }
}
