//! Receives frames and has the library write them into a pcapng file: the twin of `capture.c`, in Rust.

mod common;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use common::{BURST, Meter, Trouble};
use vuser::dev::capture::{Capture, Options, Stats, Target};

const USAGE: &str = "usage: capture [options] DEVARGS FILE
Writes received frames into FILE, a pcapng file, or a named pipe that Wireshark reads.
  DEVARGS        the device, e.g. \"path=/tmp/sock,queues=2\"
  --snaplen N    keep the first N bytes of each frame (all)
  --bytes N      let the file have N bytes at most (no limit)
  --seconds N    stop after N seconds (0: never)
  --frames N     stop after N frames
  --help         this text
Ctrl-C stops it cleanly: the file is complete.
";

fn main() -> ExitCode {
    common::run(USAGE, || {
        let (mut words, mut options, mut seconds, mut frames) = (Vec::new(), Options::default(), 0, 0);
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                lexopt::Arg::Long("snaplen") => options.snaplen = common::number(args.value()?, 14, 65535)?,
                lexopt::Arg::Long("bytes") => options.max_bytes = common::number(args.value()?, 4096, u64::MAX)?,
                lexopt::Arg::Long("seconds") => seconds = common::number(args.value()?, 0, 1_000_000_000)?,
                lexopt::Arg::Long("frames") => frames = common::number(args.value()?, 1, u64::MAX)?,
                lexopt::Arg::Long("help") => return common::help(),
                lexopt::Arg::Value(given) => words.push(common::text(given)?),
                _ => return Err(arg.unexpected().into()),
            }
        }
        let [devargs, file] = &words[..] else {
            return Err(Trouble::Usage("a device and a file are needed".into()));
        };
        capture(devargs, file, options, seconds, frames)
    })
}

fn capture(devargs: &str, file: &str, options: Options, seconds: u64, limit: u64) -> Result<bool, Trouble> {
    let config = common::read_devargs(devargs)?;
    let pool = common::make_pool(&[&config])?;
    let mut device = common::open_port(&config, &pool)?;
    common::print_port("capture", &mut device);
    let capture = device.start_capture(Target::Path(file.into()), options)?;
    let (mut received, mut meter) = (0, Meter::new(seconds));
    while capture.stats().error.is_none() && meter.tick(received, "received") && (limit == 0 || received < limit) {
        let before = received;
        for (rx, _) in &mut device.pairs() {
            let left = if limit == 0 { BURST as u64 } else { limit - received };
            let frames = common::receive(rx, left.min(BURST as u64) as usize);
            received += frames.len() as u64;
            common::free(&frames);
        }
        if received == before {
            common::check_port(&device)?;
            std::thread::yield_now();
        }
    }
    let stats = settle(&capture, received);
    capture.stop()?;
    meter.total(stats.written, "written");
    if stats.dropped > 0 {
        let why = if stats.is_full { "the file is full" } else { "they came faster than they could be written" };
        println!("{} frames are missing: {why}", stats.dropped);
    }
    common::print_port_statistics("capture", &device);
    device.stop()?;
    Ok(true)
}

/// The writer is a moment behind; its last numbers are wanted.
fn settle(capture: &Capture, received: u64) -> Stats {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let stats = capture.stats();
        if stats.error.is_some() || stats.written + stats.dropped >= received || Instant::now() >= end {
            return stats;
        }
        std::thread::yield_now();
    }
}
