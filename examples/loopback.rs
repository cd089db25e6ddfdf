//! Sends frames through a device and checks those that come back: the twin of `loopback.c`, in Rust.

use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use lexopt::ValueExt as _;
use vuser::buf::MbufRef;
use vuser::buf::pool::{Pool, PoolConfig};
use vuser::dev::{Config, Device, SourceSetup};

const FRAME: usize = 64;
const BURST: usize = 32;
const IN_FLIGHT: u64 = 128;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut seconds, mut devargs) = (5, "path=loopback".to_owned());
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            lexopt::Arg::Long("seconds") => seconds = args.value()?.parse()?,
            lexopt::Arg::Long("help") => {
                println!("usage: loopback [--seconds N] [DEVARGS]   (5 seconds on path=loopback)");
                return Ok(());
            }
            lexopt::Arg::Value(given) => devargs = given.into_string().map_err(|_| "DEVARGS is not UTF-8")?,
            _ => return Err(arg.unexpected().into()),
        }
    }
    let mut config = Config::default();
    config.parse(&devargs)?;
    let pool = Pool::new(PoolConfig::default())?;
    let mut device = Device::new(config)?;
    for pair in 0..device.config().queues {
        device.setup_rx(pair, 0, SourceSetup::Pool(pool.clone()))?;
        device.setup_tx(pair, 0, SourceSetup::Pool(pool.clone()))?;
    }
    device.start()?;
    let info = device.info();
    println!("{}: {}, features {:?}, MAC {:02x?}", info.backend, info.path_name, info.features, info.mac);
    let received = echo(&mut device, &pool, Duration::from_secs(seconds));
    device.stop()?;
    println!("{received} frames came back; {} of 8192 buffers are home again", pool.available());
    Ok(())
}

/// Keeps frames going around on the first pair; how many came back.
fn echo(device: &mut Device, pool: &Pool, time: Duration) -> u64 {
    let mut pairs = device.pairs();
    let Some((rx, tx)) = pairs.first_mut() else { return 0 };
    let (begin, mut second) = (Instant::now(), 1);
    let (mut sent, mut received, mut before) = (0, 0, 0);
    let mut frames = [MaybeUninit::<MbufRef>::uninit(); BURST];
    while begin.elapsed() < time {
        let mut fresh = [None; BURST];
        if sent - received < IN_FLIGHT && pool.get_bulk(&mut fresh).is_ok() {
            let fresh: Vec<MbufRef> = fresh.iter().copied().flatten().inspect(|m| fill(*m)).collect();
            // SAFETY: just taken from the pool, so ours; what is not taken is ours still, and plain.
            let taken = unsafe { tx.burst(&fresh) };
            pool.put_plain(&fresh[taken..]);
            sent += taken as u64;
        }
        let n = rx.burst(&mut frames);
        // SAFETY: the burst has written so many, and they are ours.
        let back = frames[..n].iter().map(|m| Some(unsafe { m.assume_init() })).collect::<Vec<_>>();
        assert!(back.iter().flatten().all(|m| m.pkt_len() as usize == FRAME), "a frame changed its length");
        // SAFETY: they are of our pool.
        unsafe { Pool::free_bulk(&back) };
        received += n as u64;
        if begin.elapsed().as_secs() >= second {
            println!("{second:4} s {:10.3} Mpps {received:15} frames came back", (received - before) as f64 / 1e6);
            (second, before) = (second + 1, received);
        }
    }
    received
}

/// An Ethernet frame: to everybody, of a type for experiments.
fn fill(m: MbufRef) {
    let mut frame = [0; FRAME];
    frame[..6].fill(0xff);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    // SAFETY: an empty buffer of the pool has room for it behind its headroom.
    unsafe { m.data().cast::<[u8; FRAME]>().write(frame) };
    m.set_data_len(FRAME as u16);
    m.set_pkt_len(FRAME as u32);
}
