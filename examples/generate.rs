//! Sends UDP/IPv4 frames of a given size at a given rate, and counts what comes back: the twin of `generate.c`, in Rust.
//!
//! Each queue pair sends from a UDP port of its own, so that a switch that spreads flows over queues has something to spread.

mod common;

use std::net::Ipv4Addr;
use std::process::ExitCode;

use common::{BURST, Meter, Trouble};

const USAGE: &str = "usage: generate [options] DEVARGS
Sends UDP/IPv4 frames.
  DEVARGS          the device, e.g. \"path=/tmp/sock,queues=2\"
  --size N         frame length without FCS, 60 to 1514 (60)
  --rate N         frames per second, all queues together (0: as many as go)
  --frames N       stop after N frames
  --seconds N      stop after N seconds (0: never)
  --dst-mac MAC    (ff:ff:ff:ff:ff:ff)
  --src IP:PORT    (10.0.0.1:1024; queue pair n sends from PORT + n)
  --dst IP:PORT    (10.0.0.2:9)
  --help           this text
Ctrl-C stops it cleanly.
";

/// Where frames come from, and where they go.
struct Flow {
    dst_mac: [u8; 6],
    src_mac: [u8; 6],
    src: (Ipv4Addr, u16),
    dst: (Ipv4Addr, u16),
    size: usize,
}

fn main() -> ExitCode {
    common::run(USAGE, || {
        let (mut devargs, mut rate, mut seconds, mut frames) = (None, 0, 0, 0);
        let (src, dst) = ((Ipv4Addr::new(10, 0, 0, 1), 1024), (Ipv4Addr::new(10, 0, 0, 2), 9));
        let mut flow = Flow { dst_mac: [0xff; 6], src_mac: [0; 6], src, dst, size: 60 };
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                lexopt::Arg::Long("size") => flow.size = common::number(args.value()?, 60, 1514)?,
                lexopt::Arg::Long("rate") => rate = common::number(args.value()?, 0, 1_000_000_000)?,
                lexopt::Arg::Long("seconds") => seconds = common::number(args.value()?, 0, 1_000_000_000)?,
                lexopt::Arg::Long("frames") => frames = common::number(args.value()?, 1, u64::MAX)?,
                lexopt::Arg::Long("dst-mac") => flow.dst_mac = mac(&common::text(args.value()?)?)?,
                lexopt::Arg::Long("src") => flow.src = address(&common::text(args.value()?)?, src.1)?,
                lexopt::Arg::Long("dst") => flow.dst = address(&common::text(args.value()?)?, dst.1)?,
                lexopt::Arg::Long("help") => return common::help(),
                lexopt::Arg::Value(given) if devargs.is_none() => devargs = Some(common::text(given)?),
                _ => return Err(arg.unexpected().into()),
            }
        }
        let devargs = devargs.ok_or_else(|| Trouble::Usage("a device is missing".into()))?;
        generate(&devargs, flow, rate, seconds, frames)
    })
}

fn generate(devargs: &str, mut flow: Flow, rate: u64, seconds: u64, limit: u64) -> Result<bool, Trouble> {
    let config = common::read_devargs(devargs)?;
    let pool = common::make_pool(&[&config])?;
    let mut device = common::open_port(&config, &pool)?;
    common::print_port("generate", &mut device);
    flow.src_mac = device.info().mac;
    let mut content: Vec<_> = (0..config.queues).map(|queue| build(&flow, queue)).collect();
    let (mut sent, mut received, mut meter) = (0, 0, Meter::new(seconds));
    while meter.tick(sent, "sent") && (limit == 0 || sent < limit) {
        let moved = sent + received;
        for ((rx, tx), content) in device.pairs().iter_mut().zip(&mut content) {
            let allowed = (meter.start.elapsed().as_secs_f64() * rate as f64) as u64;
            let behind = if rate == 0 { u64::MAX } else { allowed.saturating_sub(sent) };
            let left = if limit == 0 { u64::MAX } else { limit - sent };
            let due = behind.min(left).min(BURST as u64);
            let fresh: Vec<_> = (sent..sent + due).map_while(|n| common::make(&pool, numbered(content, n))).collect();
            let rest = common::send(tx, &fresh);
            sent += (fresh.len() - rest.len()) as u64;
            common::free(rest);
            // Nobody asked for what comes back, but a ring that is never emptied would hold up the other side.
            let back = common::receive(rx, BURST);
            received += back.len() as u64;
            common::free(&back);
        }
        if sent + received == moved {
            common::check_port(&device)?;
            std::thread::yield_now();
        }
    }
    meter.total(sent, "sent");
    // Preamble, frame check sequence and gap count on a wire.
    let bits = sent as f64 * (flow.size + 24) as f64 * 8.0 / meter.start.elapsed().as_secs_f64();
    println!("{:.3} Gb/s on the wire, {received} frames came back", bits / 1e9);
    common::print_port_statistics("generate", &device);
    device.stop()?;
    Ok(true)
}

/// A frame. The UDP checksum stays 0, which in IPv4 means "none".
fn build(flow: &Flow, queue: u16) -> Vec<u8> {
    let length = (flow.size - 14) as u16;
    let mut frame = Vec::with_capacity(flow.size);
    frame.extend(flow.dst_mac);
    frame.extend(flow.src_mac);
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(flow.src.0.octets());
    frame.extend(flow.dst.0.octets());
    for field in [flow.src.1 + queue, flow.dst.1, length - 20, 0] {
        frame.extend(field.to_be_bytes());
    }
    frame.resize(flow.size, 0);
    frame
}

/// The same frame with another number: in the identification, whose header is summed anew, and in the payload.
fn numbered(frame: &mut [u8], number: u64) -> &[u8] {
    frame[18..20].copy_from_slice(&(number as u16).to_be_bytes());
    frame[24..26].fill(0);
    let words = frame[14..34].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let sum = !((folded & 0xffff) + (folded >> 16)) as u16;
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame[42..50].copy_from_slice(&number.to_ne_bytes());
    frame
}

fn mac(text: &str) -> Result<[u8; 6], Trouble> {
    let bytes: Vec<_> = text.split(':').map_while(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes.try_into().map_err(|_| Trouble::Usage(format!("{text}: an address like 02:00:00:00:00:01 is expected")))
}

fn address(text: &str, port: u16) -> Result<(Ipv4Addr, u16), Trouble> {
    let (host, given) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let port = given.map_or(Some(port), |port| port.parse().ok().filter(|port| (1..=65471).contains(port)));
    let found = host.parse().ok().zip(port);
    found.ok_or_else(|| Trouble::Usage(format!("{text}: an address like 10.0.0.1:1024 is expected")))
}
