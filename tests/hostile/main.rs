//! Promise: whatever the device does, the program that has loaded the library does not crash, does not hang, and gets no
//! bytes that nobody sent; an honest device is back in service afterwards.
//!
//! Each fault is told once by a device that is honest before and after, and each front-end, in C, in Python and in DPDK,
//! meets all of them on both ring layouts.
//!
//! ```text
//! hostile                       all faults and our front-ends; exit status 1 when an outcome is wrong
//!   --list                      the names of the faults; of those about rings also what may be wrong with frames then:
//!                               nothing (whole), their length, all (free)
//!   --fault NAME                only this one (or those that begin so, NAME*)
//!   --part control|data         only lies of the control path, or about the rings
//!   --face c|python|dpdk|dpdk-own, --layout split|packed
//!   --no-bounce                 the DPDK port shares DPDK's memory also where the device writes anywhere into what is shared
//!   --peer                      DPDK's own driver too, which crashes and hangs: its outcomes are shown, and not judged
//!   --markdown                  the table as docs/trust.md has it
//!   --each                      each fault, a line: what came of it, by face and layout where these differ; ! is wrong
//!   --all FILE, --json FILE     each life, a line or a JSON object a line, in a file
//!   --serve SOCKET --fault NAME [--server]   only the hostile device, for any front-end
//! ```
#![cfg(target_os = "linux")]

#[path = "../dpdk/port.rs"]
#[allow(dead_code, reason = "a part is used")]
mod port;
#[path = "../support/mod.rs"]
mod support;
#[path = "../dpdk/turn.rs"]
mod turn;

mod control;
mod data;
mod device;
mod faces;
mod fault;
mod man;
mod packed;
mod ring;
mod runner;
mod split;
mod table;
mod tell;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lexopt::prelude::*;

use faces::Face;
use fault::{Fault, Kind};
use runner::Plans;

/// What a front-end that is served by hand is expected to wait.
const TIMEOUT: Duration = Duration::from_millis(100);
/// A life against one fault has some waits, of an honest device too when the machine is busy.
const LIMIT: Duration = Duration::from_secs(60);
/// DPDK's own driver waits for ever, where it waits.
const LIMIT_OF_OWN: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Options {
    list: bool,
    peer: bool,
    no_bounce: bool,
    markdown: bool,
    each: bool,
    server: bool,
    fault: Option<String>,
    data: Option<bool>,
    face: Option<Face>,
    packed: Option<bool>,
    serve: Option<PathBuf>,
    all: Option<PathBuf>,
    json: Option<PathBuf>,
}

fn options() -> Result<Options, lexopt::Error> {
    let mut options = Options::default();
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("list") => options.list = true,
            Long("peer") => options.peer = true,
            Long("no-bounce") => options.no_bounce = true,
            Long("markdown") => options.markdown = true,
            Long("server") => options.server = true,
            Long("fault") => options.fault = Some(parser.value()?.string()?),
            Long("part") => options.data = Some(parser.value()?.parse_with(part)?),
            Long("face") => options.face = Some(parser.value()?.parse_with(face)?),
            Long("layout") => options.packed = Some(parser.value()?.parse_with(layout)?),
            Long("serve") => options.serve = Some(parser.value()?.into()),
            Long("each") => options.each = true,
            Long("json") => options.json = Some(parser.value()?.into()),
            Long("all") => options.all = Some(parser.value()?.into()),
            // The name of a test, of another program as a rule.
            Value(name) if !"hostile".contains(&*name.to_string_lossy()) => std::process::exit(0),
            Value(_) => {}
            // What `cargo test` may pass to all of its programs.
            Long("nocapture" | "quiet" | "exact" | "include-ignored") | Short('q') => {}
            Long("test-threads" | "format" | "color") => drop(parser.value()?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(options)
}

fn face(word: &str) -> Result<Face, String> {
    let all = [Face::C, Face::Python, Face::Dpdk, Face::DpdkOwn];
    all.into_iter().find(|face| face.word() == word).ok_or_else(|| "c, python, dpdk or dpdk-own".into())
}

fn layout(word: &str) -> Result<bool, String> {
    ["split", "packed"].iter().position(|w| *w == word).map(|n| n == 1).ok_or_else(|| "split or packed".into())
}

fn part(word: &str) -> Result<bool, String> {
    ["control", "data"].iter().position(|w| *w == word).map(|n| n == 1).ok_or_else(|| "control or data".into())
}

fn chosen(name: Option<&str>, data: Option<bool>) -> Vec<Fault> {
    let mut faults = fault::all();
    faults.retain(|fault| data.is_none_or(|data| data == matches!(fault.kind, Kind::Data(_))));
    if let Some(name) = name {
        match name.strip_suffix('*') {
            Some(start) => faults.retain(|fault| fault.name.starts_with(start)),
            None => faults.retain(|fault| fault.name == name),
        }
    }
    faults
}

fn main() -> ExitCode {
    let options = options().unwrap_or_else(|e| {
        eprintln!("hostile: {e}");
        std::process::exit(2);
    });
    let faults = chosen(options.fault.as_deref(), options.data);
    if options.list {
        for fault in &faults {
            let content = if let Kind::Data(lie) = &fault.kind { lie.content().word() } else { "" };
            println!("{}", format!("{} {content}", fault.name).trim_end());
        }
        return ExitCode::SUCCESS;
    }
    if faults.is_empty() {
        eprintln!("hostile: there is no such fault, see --list");
        return ExitCode::from(2);
    }
    if let Some(socket) = &options.serve {
        match faults[0].kind.clone() {
            Kind::Control(lie) => man::serve(socket, lie, TIMEOUT, options.server),
            Kind::Data(lie) => device::serve(socket, lie, options.server),
        }
        return ExitCode::SUCCESS;
    }
    run(&options, faults)
}

fn run(options: &Options, faults: Vec<Fault>) -> ExitCode {
    let begin = Instant::now();
    let mut faces = options.face.map_or_else(|| Face::OURS.to_vec(), |face| vec![face]);
    if !port::possible("hostile") {
        faces.retain(|face| !matches!(face, Face::Dpdk | Face::DpdkOwn));
    }
    let layouts = options.packed.map_or_else(|| vec![false, true], |packed| vec![packed]);
    let own = options.face == Some(Face::DpdkOwn);
    let limit = if own { LIMIT_OF_OWN } else { LIMIT };
    let bounce = !options.no_bounce;
    let plans = Plans { faces: faces.clone(), layouts, faults, limit, bounce };
    let (mut rows, wrong) = runner::run(&plans);
    let judged = rows.iter().filter(|row| !own && !row.is_right()).map(runner::Row::line);
    let wrong: Vec<String> = wrong.into_iter().chain(judged).collect();
    if options.peer {
        let plans = Plans { faces: vec![Face::DpdkOwn], limit: LIMIT_OF_OWN, ..plans };
        let (theirs, trouble) = runner::run(&plans);
        trouble.iter().for_each(|line| eprintln!("{line}"));
        rows.extend(theirs);
        faces.push(Face::DpdkOwn);
    }
    if let Some(file) = &options.all {
        std::fs::write(file, table::list(&rows)).expect("the list of all faults");
    }
    if let Some(file) = &options.json {
        std::fs::write(file, table::json(&rows)).expect("the objects of all lives");
    }
    if options.each {
        print!("{}", table::each(&rows, &faces));
    }
    if options.markdown {
        print!("{}", table::markdown(&rows, &faces));
    } else {
        print!("{}", table::markdown(&rows, &faces).replace('`', ""));
        println!("{} lives in {:.0} s", rows.len(), begin.elapsed().as_secs_f64());
    }
    wrong.iter().for_each(|line| eprintln!("WRONG {line}"));
    ExitCode::from(u8::from(!wrong.is_empty()))
}
