//! What comes in at one device goes out at the other, with the two MAC addresses swapped; with one device, it goes back where
//! it came from. Frames are not copied: both devices use one pool. The twin of `forward.c`, in Rust.

mod common;

use std::process::ExitCode;

use common::{BURST, Meter, Trouble};
use vuser::dev::Device;
use vuser::dev::port::{RxHandle, TxHandle};

const USAGE: &str = "usage: forward [options] DEVARGS [DEVARGS]
Swaps the MAC addresses of every frame and sends it on: from the first device to the second and
back, or back to where it came from if there is one device only.
  DEVARGS        a device, e.g. \"path=/tmp/sock0,queues=2\"
  --keep-macs    leave the frames as they are
  --seconds N    stop after N seconds (0: never)
  --frames N     stop after N frames
  --help         this text
Ctrl-C stops it cleanly.
";

#[derive(Default)]
struct Totals {
    forwarded: u64,
    dropped: u64,
}

fn main() -> ExitCode {
    common::run(USAGE, || {
        let (mut devargs, mut swap, mut seconds, mut frames) = (Vec::new(), true, 0, 0);
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                lexopt::Arg::Long("keep-macs") => swap = false,
                lexopt::Arg::Long("seconds") => seconds = common::number(args.value()?, 0, 1_000_000_000)?,
                lexopt::Arg::Long("frames") => frames = common::number(args.value()?, 1, u64::MAX)?,
                lexopt::Arg::Long("help") => return common::help(),
                lexopt::Arg::Value(given) if devargs.len() < 2 => devargs.push(common::text(given)?),
                _ => return Err(arg.unexpected().into()),
            }
        }
        if devargs.is_empty() {
            return Err(Trouble::Usage("a device is missing".into()));
        }
        forward(&devargs, swap, seconds, frames)
    })
}

fn forward(devargs: &[String], swap: bool, seconds: u64, limit: u64) -> Result<bool, Trouble> {
    let configs = devargs.iter().map(|text| common::read_devargs(text)).collect::<Result<Vec<_>, _>>()?;
    if configs.iter().any(|config| config.queues != configs[0].queues) {
        return Err(Trouble::Usage("both devices need the same number of queues".into()));
    }
    let pool = common::make_pool(&configs.iter().collect::<Vec<_>>())?;
    let mut ports = Vec::new();
    for (number, config) in configs.iter().enumerate() {
        let mut port = common::open_port(config, &pool)?;
        common::print_port(&format!("port {number}"), &mut port);
        ports.push(port);
    }
    let (mut totals, mut meter) = (Totals::default(), Meter::new(seconds));
    while meter.tick(totals.forwarded, "forwarded") && (limit == 0 || totals.forwarded < limit) {
        if round(&mut ports, swap, &mut totals) == 0 {
            ports.iter().try_for_each(common::check_port)?;
            std::thread::yield_now();
        }
    }
    meter.total(totals.forwarded, "forwarded");
    println!("{} dropped because the way out was full", totals.dropped);
    for (number, port) in ports.iter().enumerate() {
        common::print_port_statistics(&format!("port {number}"), port);
    }
    ports.iter_mut().try_for_each(Device::stop)?;
    Ok(true)
}

/// One burst of each receive queue; how many frames there were.
fn round(ports: &mut [Device], swap: bool, totals: &mut Totals) -> usize {
    let mut moved = 0;
    match ports {
        [port] => {
            for (rx, tx) in &mut port.pairs() {
                moved += pass(rx, tx, swap, totals);
            }
        }
        [one, other, ..] => {
            for ((rx0, tx0), (rx1, tx1)) in one.pairs().iter_mut().zip(&mut other.pairs()) {
                moved += pass(rx0, tx1, swap, totals) + pass(rx1, tx0, swap, totals);
            }
        }
        [] => {}
    }
    moved
}

/// One burst from a receive queue to a transmit queue.
fn pass(rx: &mut RxHandle<'_>, tx: &mut TxHandle<'_>, swap: bool, totals: &mut Totals) -> usize {
    let mut frames = common::receive(rx, BURST);
    if swap {
        for frame in &mut frames {
            let (to, from) = common::bytes(frame)[..12].split_at_mut(6);
            to.swap_with_slice(from);
        }
    }
    // The ring is full: a forwarder drops, for waiting would only move the queue to somewhere else.
    let rest = common::send(tx, &frames);
    common::free(rest);
    totals.forwarded += (frames.len() - rest.len()) as u64;
    totals.dropped += rest.len() as u64;
    frames.len()
}
