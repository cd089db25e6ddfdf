//! Sends numbered frames through a device and checks those that come back: the twin of `loopback.c`, in Rust.

mod common;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use common::{BURST, Meter, Trouble};
use vuser::buf::pool::Pool;
use vuser::dev::port::{RxHandle, TxHandle};
use vuser::device::{Loopback, Options};

const USAGE: &str = "usage: loopback [options] [DEVARGS]
       loopback [options] --serve PATH[,ARGS]
Sends frames through a device and checks those that come back.
  DEVARGS        the device: \"path=loopback\" by default, or \"path=/tmp/sock,packed_vq=1,queues=2\", ...
  --serve PATH   be the back-end: listen on PATH and send every frame back
  --size N       frame length, 60 to 1514 (64)
  --seconds N    stop after N seconds (5; 0: never; --serve: 0)
  --frames N     stop after N frames came back
  --help         this text
Ctrl-C stops it cleanly.
";

/// A number and our addresses are all there is in a frame.
const ETHER: [u8; 14] = [0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x88, 0xb5];

/// Of a queue pair: also the next number to send and to expect.
#[derive(Clone, Copy, Default)]
struct Numbers {
    sent: u64,
    received: u64,
    wrong: u64,
}

fn main() -> ExitCode {
    common::run(USAGE, || {
        let (mut devargs, mut serve, mut size, mut seconds, mut frames) = (None, None, 64, None, 0);
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                lexopt::Arg::Long("serve") => serve = Some(common::text(args.value()?)?),
                lexopt::Arg::Long("size") => size = common::number(args.value()?, 60, 1514)?,
                lexopt::Arg::Long("seconds") => seconds = Some(common::number(args.value()?, 0, 1_000_000_000)?),
                lexopt::Arg::Long("frames") => frames = common::number(args.value()?, 1, u64::MAX)?,
                lexopt::Arg::Long("help") => return common::help(),
                lexopt::Arg::Value(given) if devargs.is_none() => devargs = Some(common::text(given)?),
                _ => return Err(arg.unexpected().into()),
            }
        }
        match serve {
            Some(_) if devargs.is_some() => Err(Trouble::Usage("--serve and DEVARGS exclude each other".into())),
            Some(path) => self::serve(&path, seconds.unwrap_or(0)),
            None => {
                let seconds = seconds.unwrap_or(if frames == 0 { 5 } else { 0 });
                drive(devargs.as_deref().unwrap_or("path=loopback"), size, seconds, frames)
            }
        }
    })
}

fn drive(devargs: &str, size: usize, seconds: u64, limit: u64) -> Result<bool, Trouble> {
    let config = common::read_devargs(devargs)?;
    let pool = common::make_pool(&[&config])?;
    let mut device = common::open_port(&config, &pool)?;
    common::print_port("loopback", &mut device);
    let mut numbers = vec![Numbers::default(); config.queues.into()];
    // Never more under way than half a ring: a back-end drops what it finds no room for.
    let window = u64::from(config.queue_size) / 2;
    let (mut received, mut meter) = (0, Meter::new(seconds));
    while meter.tick(received, "came back") && (limit == 0 || received < limit) {
        let before = received;
        for ((rx, tx), numbers) in device.pairs().iter_mut().zip(&mut numbers) {
            if numbers.sent - numbers.received + BURST as u64 <= window {
                send_some(tx, &pool, size, numbers);
            }
            receive_some(rx, size, numbers);
        }
        received = numbers.iter().map(|n| n.received).sum();
        if received == before {
            common::check_port(&device)?;
            std::thread::yield_now(); // let the back-end run if it shares our CPU
        }
    }
    meter.total(received, "came back");
    common::print_port_statistics("loopback", &device);
    device.stop()?;
    let wrong: u64 = numbers.iter().map(|n| n.wrong).sum();
    println!("{wrong} wrong frames");
    Ok(wrong == 0 && received > 0)
}

fn send_some(tx: &mut TxHandle<'_>, pool: &Pool, size: usize, numbers: &mut Numbers) {
    let mut content = vec![0; size];
    content[..14].copy_from_slice(&ETHER);
    let fresh = (numbers.sent..numbers.sent + BURST as u64).map_while(|number| {
        content[14..22].copy_from_slice(&number.to_ne_bytes());
        common::make(pool, &content)
    });
    let fresh: Vec<_> = fresh.collect();
    // What the ring had no room for is still ours. The same numbers go out next time.
    let rest = common::send(tx, &fresh);
    numbers.sent += (fresh.len() - rest.len()) as u64;
    common::free(rest);
}

fn receive_some(rx: &mut RxHandle<'_>, size: usize, numbers: &mut Numbers) {
    let mut back = common::receive(rx, BURST);
    for frame in &mut back {
        let right = numbers.received.to_ne_bytes();
        let is_right = frame.pkt_len() as usize == size && common::bytes(frame).get(14..22) == Some(&right[..]);
        numbers.wrong += u64::from(!is_right);
        numbers.received += 1;
    }
    common::free(&back);
}

fn serve(args: &str, seconds: u64) -> Result<bool, Trouble> {
    let (path, options) = args.split_once(',').unwrap_or((args, ""));
    let start = Instant::now();
    let loopback = Loopback::listen(Path::new(path), Options::parse(options)?)?;
    println!("serving {args}; connect with: loopback path={path}");
    // The back-end has a thread of its own; there is nothing to do here.
    while !common::stopping() && (seconds == 0 || start.elapsed() < Duration::from_secs(seconds)) {
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(loopback);
    println!("served {:.1} s", start.elapsed().as_secs_f64());
    Ok(true)
}
