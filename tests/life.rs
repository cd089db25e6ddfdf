//! Queues in use over time: small pools, sleeping receivers, what is left at a stop, stops in the middle of bursts.

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use vuser::buf::MbufRef;
use vuser::buf::pool::{Pool, PoolConfig};
use vuser::dev::{Config, Device, Side, SourceSetup};

fn device(devargs: &str, buffers: u32) -> (Device, Arc<Pool>) {
    let pool = Pool::new(PoolConfig { count: buffers, huge: false, ..PoolConfig::default() }).unwrap();
    let mut config = Config::default();
    config.parse(devargs).unwrap();
    let mut device = Device::new(config).unwrap();
    device.setup_rx(0, 0, SourceSetup::Pool(pool.clone())).unwrap();
    device.setup_tx(0, 0, SourceSetup::Pool(pool.clone())).unwrap();
    device.start().unwrap();
    (device, pool)
}

/// Receives into `out` until there are `most` frames or `time` is over.
fn receive(device: &mut Device, most: usize, time: Duration) -> Vec<MbufRef> {
    let mut pairs = device.pairs();
    let (rx, _) = &mut pairs[0];
    let (mut all, end) = (Vec::new(), Instant::now() + time);
    while all.len() < most && Instant::now() < end {
        let mut out = [MaybeUninit::uninit(); 32];
        let n = rx.burst(&mut out);
        // SAFETY: the burst has filled so many.
        all.extend(out[..n].iter().map(|m| unsafe { m.assume_init() }));
    }
    all
}

#[test]
fn a_starved_receiver_that_sleeps_is_woken_once_there_are_buffers_again() {
    for packed in [0, 1] {
        let (mut device, pool) = device(&format!("path=loopback,mode=source,queue_size=64,packed_vq={packed}"), 64);
        let held = receive(&mut device, 64, Duration::from_secs(60));
        assert_eq!(held.len(), 64, "all buffers there are");
        // SAFETY: received, so ours.
        held.into_iter().for_each(|m| unsafe { Pool::free(m) });
        // No burst in between: whoever waits before bursting must not wait for ever.
        assert!(device.pairs()[0].0.wait(Duration::from_secs(60)), "packed_vq={packed}: nobody called");
        device.stop().unwrap();
        assert_eq!(pool.available(), 64);
    }
}

#[test]
fn forwarding_goes_on_with_as_few_buffers_as_the_rings_have_slots() {
    for (buffers, packed) in [(128, 0), (128, 1), (300, 0)] {
        let (mut device, pool) =
            device(&format!("path=loopback,mode=source,queue_size=64,packed_vq={packed}"), buffers);
        let mut forwarded = 0;
        let end = Instant::now() + Duration::from_secs(60);
        while forwarded < 20_000 {
            assert!(Instant::now() < end, "{buffers} buffers: stopped after {forwarded} frames");
            let got = receive(&mut device, 16, Duration::from_millis(10));
            let mut pairs = device.pairs();
            // SAFETY: received, so ours.
            let sent = unsafe { pairs[0].1.burst(&got) };
            // SAFETY: ours still.
            got[sent..].iter().for_each(|m| unsafe { Pool::free(*m) });
            forwarded += sent;
        }
        device.stop().unwrap();
        assert_eq!(pool.available(), buffers as usize);
    }
}

#[test]
fn frames_are_lent_and_copied_through_the_handles_of_a_pair() {
    for packed in [0, 1] {
        let (mut device, pool) = device(&format!("path=loopback,queue_size=64,packed_vq={packed}"), 400);
        let mut pairs = device.pairs();
        let (rx, tx) = &mut pairs[0];
        let data: Vec<u8> = (0..300).map(|n| n as u8 & 0x7e).collect();
        assert_eq!(tx.burst_copy(&data, &[0, 100, 250, 299], &[100, 150, 51]), 3, "the third lies outside, and counts");
        let (mut places, end) = ([MaybeUninit::uninit(); 4], Instant::now() + Duration::from_secs(30));
        while rx.peek(&mut places).len() < 2 {
            assert!(Instant::now() < end, "packed_vq={packed}: the frames do not come back");
            rx.wait(Duration::from_millis(10));
        }
        let lent = rx.peek(&mut places);
        // SAFETY: so many bytes are lent there.
        let bytes = |n: usize| unsafe { std::slice::from_raw_parts(lent[n].data.cast::<u8>(), lent[n].len as usize) };
        assert_eq!((lent.len(), bytes(0), bytes(1)), (2, &data[..100], &data[100..250]));
        rx.release(1);
        let (mut copy, mut offsets, mut lengths) = ([0; 200], [9; 3], [9; 2]);
        assert_eq!(rx.burst_copy(&mut copy[..149], &mut offsets, &mut lengths), 0, "it does not fit");
        while rx.burst_copy(&mut copy, &mut offsets, &mut lengths) == 0 {
            assert!(Instant::now() < end, "packed_vq={packed}: what did not fit does not come");
        }
        assert_eq!((&copy[..150], offsets, lengths), (&data[100..250], [0, 9, 9], [150, 9]));
        assert!(rx.peek(&mut places).is_empty());
        device.stop().unwrap();
        assert_eq!(pool.available(), 400);
    }
}

#[test]
fn frames_that_nobody_received_before_a_stop_are_counted() {
    let (mut device, pool) = device("path=loopback,mode=source,queue_size=64", 200);
    let end = Instant::now() + Duration::from_secs(60);
    while device.loopback().unwrap().stats().sent < 64 {
        assert!(Instant::now() < end, "the device sends nothing");
        std::thread::yield_now();
    }
    device.stop().unwrap();
    let stats = device.port(0).unwrap().stats();
    assert_eq!((stats.packets, stats.lost), (0, 64));
    assert_eq!(pool.available(), 200);
}

#[test]
fn a_device_starts_and_stops_while_its_queues_are_in_use() {
    for packed in [0, 1] {
        let (mut device, pool) = device(&format!("path=loopback,mode=echo,packed_vq={packed}"), 1024);
        let (rx, tx) = (device.port(0).unwrap().clone(), device.port(1).unwrap().clone());
        let (done, frames) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    let mut out = [MaybeUninit::uninit(); 32];
                    let mut fresh = [None; 8];
                    pool.try_get_bulk(&mut fresh);
                    fresh.iter().flatten().for_each(|m| {
                        m.set_data_len(60);
                        m.set_pkt_len(60);
                    });
                    // SAFETY: this thread is the only one that uses the queues; what is sent is its own.
                    unsafe {
                        let got = rx.rx_burst(&mut out);
                        frames.fetch_add(got as u64, Relaxed);
                        let fresh = fresh.iter().flatten().copied();
                        let packets: Vec<_> = out[..got].iter().map(|m| m.assume_init()).chain(fresh).collect();
                        let sent = tx.tx_burst(&packets);
                        packets[sent..].iter().for_each(|m| Pool::free(*m));
                        if got == 0 {
                            rx.wait(Duration::from_millis(1));
                        }
                    }
                }
            });
            for round in 0..200 {
                let (before, end) = (frames.load(Relaxed), Instant::now() + Duration::from_secs(60));
                while frames.load(Relaxed) == before {
                    assert!(Instant::now() < end, "packed_vq={packed}, round {round}: no frame comes any more");
                    std::thread::yield_now();
                }
                device.run_queue(Side::Tx, 0, false).unwrap();
                device.run_queue(Side::Rx, 0, false).unwrap();
                device.run_queue(Side::Rx, 0, true).unwrap();
                device.run_queue(Side::Tx, 0, true).unwrap();
                device.stop().unwrap();
                device.start().unwrap();
            }
            done.store(true, Relaxed);
        });
        device.stop().unwrap();
        assert_eq!(pool.available(), 1024, "packed_vq={packed}");
    }
}
