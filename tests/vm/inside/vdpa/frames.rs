//! Frames that a device returns.

use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use vuser::buf::MbufRef;
use vuser::buf::pool::Pool;
use vuser::dev::Device;

/// How long anything may take that takes no time.
const SOON: Duration = Duration::from_secs(30);

/// An Ethernet frame of `len` bytes to an address, whose contents depend on its number.
pub fn frame(pool: &Pool, to: [u8; 6], number: u32, len: usize) -> Option<MbufRef> {
    let mut one = [None];
    pool.get_bulk(&mut one).ok()?;
    let [Some(m)] = one else { return None };
    let bytes = contents(to, number, len);
    // SAFETY: an empty buffer of the pool has room for it behind its headroom.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), m.data(), len) };
    m.set_data_len(len as u16);
    m.set_pkt_len(len as u32);
    Some(m)
}

pub fn contents(to: [u8; 6], number: u32, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|i| (number as usize * 31 + i) as u8).collect();
    bytes[..6].copy_from_slice(&to);
    bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
    bytes[14..18].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The bytes of a received frame, which is given back.
pub fn take(m: MbufRef) -> Vec<u8> {
    let mut all = Vec::new();
    for segment in m.segments() {
        for i in 0..usize::from(segment.data_len()) {
            // SAFETY: inside the data.
            all.push(unsafe { segment.data().add(i).read() });
        }
    }
    // SAFETY: received, so ours.
    unsafe { Pool::free(m) };
    all
}

/// Sends frames `from..to` to an address and looks whether all come back, whole and in order.
pub fn echo(device: &mut Device, pool: &Pool, to: [u8; 6], numbers: std::ops::Range<u32>) {
    const LENS: [usize; 5] = [60, 64, 777, 1000, 1514];
    let len = |number: u32| LENS[number as usize % LENS.len()];
    let mut pairs = device.pairs();
    let (rx, tx) = &mut pairs[0];
    let (mut sent, mut back) = (numbers.start, numbers.start);
    let end = Instant::now() + SOON;
    let mut out = [MaybeUninit::uninit(); 32];
    while back < numbers.end {
        assert!(Instant::now() < end, "{back} of {numbers:?} are back, {sent} sent");
        while sent < numbers.end && sent - back < 64 {
            let Some(m) = frame(pool, to, sent, len(sent)) else { break };
            // SAFETY: ours, just made.
            if unsafe { tx.burst(&[m]) } == 0 {
                // SAFETY: ours still.
                unsafe { Pool::free(m) };
                break;
            }
            sent += 1;
        }
        let n = rx.burst(&mut out);
        for m in &out[..n] {
            // SAFETY: the burst has written it.
            let bytes = take(unsafe { m.assume_init() });
            let right = contents(to, back, len(back));
            let head = |bytes: &[u8]| bytes[..bytes.len().min(24)].to_vec();
            assert!(
                bytes == right,
                "frame {back}: {} bytes, {:x?}, and not {:x?}",
                bytes.len(),
                head(&bytes),
                head(&right)
            );
            back += 1;
        }
        if n == 0 {
            rx.wait(Duration::from_millis(20));
        }
    }
}

/// Sends one frame to an address that comes back.
pub fn returned(device: &mut Device, pool: &Pool, to: [u8; 6]) -> bool {
    comes_back(device, pool, to, SOON)
}

/// Sends one frame to an address, and waits a moment whether it comes back.
pub fn returns(device: &mut Device, pool: &Pool, to: [u8; 6]) -> bool {
    comes_back(device, pool, to, Duration::from_millis(300))
}

fn comes_back(device: &mut Device, pool: &Pool, to: [u8; 6], time: Duration) -> bool {
    let m = frame(pool, to, 7, 64).expect("a buffer");
    let mut pairs = device.pairs();
    let (rx, tx) = &mut pairs[0];
    // SAFETY: ours, just made.
    assert_eq!(unsafe { tx.burst(&[m]) }, 1, "no room");
    let mut out = [MaybeUninit::uninit(); 1];
    let end = Instant::now() + time;
    while Instant::now() < end {
        if rx.burst(&mut out) == 1 {
            // SAFETY: the burst has written it.
            assert_eq!(take(unsafe { out[0].assume_init() }), contents(to, 7, 64));
            return true;
        }
        rx.wait(Duration::from_millis(10));
    }
    false
}
