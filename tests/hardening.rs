//! Promise: what a program maps of ours helps no attacker: nothing that can be written can be executed, what the loader has
//! written cannot be written again, no code is changed when it is loaded, nothing is looked for in odd places, and C is
//! compiled with checks of the stack and of the C library. docs/trust.md says what Rust has in their place.
//!
//! Needs what `make lib` makes, and for the driver `make pmd`.
#![cfg(target_os = "linux")]

mod support;

use std::path::Path;
use std::process::Command;

use support::{build, made, run, skip};

fn readelf(what: &str, file: &Path) -> String {
    run(Command::new("readelf").arg(what).arg(file))
}

/// What is wrong with a shared object or a program.
fn faults(dynamic: &str, segments: &str) -> Vec<&'static str> {
    let flags = |kind: &'static str| segments.lines().filter(move |line| line.split_whitespace().next() == Some(kind));
    // Type, offset, two addresses, two sizes, then letters, of which "R E" are two words, and the alignment.
    let letters = |line: &str| -> String {
        let words: Vec<_> = line.split_whitespace().skip(6).collect();
        words.split_last().map(|(_, letters)| letters.concat()).unwrap_or_default()
    };
    let mut wrong = Vec::new();
    let mut unless = |good: bool, what| wrong.extend((!good).then_some(what));
    unless(dynamic.lines().any(|l| l.contains("(FLAGS_1)") && l.contains("NOW")), "no BIND_NOW: link with -z now");
    unless(flags("GNU_RELRO").count() == 1, "no RELRO: link with -z relro");
    unless(flags("GNU_STACK").all(|l| letters(l) == "RW"), "an executable stack: link with -z noexecstack");
    unless(flags("GNU_STACK").count() == 1, "nothing says that the stack is not executable");
    unless(flags("LOAD").count() > 0, "no segment is loaded");
    unless(
        flags("LOAD").all(|l| !(letters(l).contains('W') && letters(l).contains('E'))),
        "memory that can be written and executed",
    );
    unless(!dynamic.contains("TEXTREL"), "code is changed when it is loaded: something was not compiled with -fPIC");
    unless(segments.contains("Elf file type is DYN"), "it has a fixed address: link with -pie");
    wrong
}

fn check(name: &str) {
    let file = made(name);
    let (dynamic, segments) = (readelf("-dW", &file), readelf("-lW", &file));
    let wrong = faults(&dynamic, &segments);
    assert!(wrong.is_empty(), "{name}: {wrong:?}\n{dynamic}\n{segments}");
}

#[test]
fn the_library_and_the_programs_are_hardened() {
    check("libvuser.so.0");
    for program in ["loopback", "forward", "generate", "capture"] {
        check(&format!("examples/{program}"));
    }
}

#[test]
fn the_driver_is_hardened_and_its_c_is_checked() {
    let name = "librte_net_vuser.so";
    if !build().join(name).is_file() {
        return skip("the_driver_is_hardened_and_its_c_is_checked", "there is no driver: make pmd");
    }
    check(name);
    let dynamic = readelf("-dW", &made(name));
    assert!(!dynamic.contains("RPATH") && !dynamic.contains("RUNPATH"), "a path to look for libraries in\n{dynamic}");
    let needed = run(Command::new("nm").args(["-D", "--undefined-only"]).arg(made(name)));
    for symbol in ["__stack_chk_fail", "__snprintf_chk"] {
        let cure = "compile C with -O2 -fstack-protector-strong -D_FORTIFY_SOURCE=2 (CFLAGS)";
        assert!(needed.contains(symbol), "no {symbol}: {cure}\n{needed}");
    }
}

#[test]
fn what_is_not_hardened_is_noticed() {
    let source = support::root().join("tests/capi/installed.c");
    let scratch = support::Scratch::new("soft");
    for (flags, what) in [
        ("-Wl,-z,norelro -Wl,-z,lazy", "no BIND_NOW: link with -z now"),
        ("-Wl,-z,norelro", "no RELRO: link with -z relro"),
        ("-Wl,-z,execstack", "an executable stack: link with -z noexecstack"),
        ("-no-pie", "it has a fixed address: link with -pie"),
    ] {
        let program = scratch.file("soft");
        let mut cc = Command::new("cc");
        cc.arg("-I").arg(support::root().join("include")).arg(&source).arg("-o").arg(&program);
        run(cc.args(flags.split(' ')).arg("-L").arg(build()).arg("-l:libvuser.so.0"));
        let wrong = faults(&readelf("-dW", &program), &readelf("-lW", &program));
        assert!(wrong.contains(&what), "{flags}: {wrong:?}");
    }
    // What linkers here do not make of a program that uses a shared library.
    let library = made("libvuser.so.0");
    let (dynamic, segments) = (readelf("-dW", &library), readelf("-lW", &library));
    assert_eq!(faults(&dynamic, &segments.replace("R E ", "RWE ")), ["memory that can be written and executed"]);
    let changed = format!("{dynamic}\n 0x0000000000000016 (TEXTREL)            0x0\n");
    assert_eq!(faults(&changed, &segments).len(), 1);
}
