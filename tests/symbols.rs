//! Promise: `libvuser.so.0` is a well-made shared library: it exports what the header declares, each symbol with its
//! version, needs nothing but the C library, is small, and is found by `pkg-config` where `make install` put it.
//!
//! Needs what `make lib` makes.
#![cfg(target_os = "linux")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use support::{Scratch, build, made, output, root, run};

const VERSION: &str = "VUSER_0";
/// Largest size without symbols and debug information. Each queue function is there for both layouts and three kinds of lanes.
const SIZE: u64 = 1_900_000;

fn include(name: &str) -> String {
    std::fs::read_to_string(root().join("include").join(name)).expect("a file of include")
}

/// Functions that vuser.h declares.
fn declared() -> BTreeSet<String> {
    let header = include("vuser.h");
    let code = header.lines().filter(|line| !line.starts_with([' ', '/', '#', '}']) && line.contains('('));
    let names = code.filter(|line| !line.starts_with("typedef")).filter_map(|line| {
        let before = line.split('(').next()?;
        before.rsplit([' ', '*']).next().map(str::to_owned)
    });
    names.filter(|name| name.starts_with("vuser_")).collect()
}

fn difference(what: &str, a: &BTreeSet<String>, b: &BTreeSet<String>) -> String {
    let (more, less): (Vec<_>, Vec<_>) = (a.difference(b).collect(), b.difference(a).collect());
    format!("{what} has too much: {more:?}, too little: {less:?}")
}

#[test]
fn the_map_names_what_the_header_declares() {
    let map = include("vuser.map");
    let global = map.split_once("global:").and_then(|(_, rest)| rest.split_once("local:")).expect("global and local").0;
    let names: BTreeSet<String> = global.split([';', '\n']).map(|n| n.trim().to_owned()).collect();
    let names: BTreeSet<_> = names.into_iter().filter(|name| !name.is_empty()).collect();
    let declared = declared();
    assert!(declared.len() > 40, "only {} functions found in vuser.h", declared.len());
    assert!(names == declared, "{}", difference("include/vuser.map", &names, &declared));
}

#[test]
fn the_library_exports_what_the_header_declares() {
    let library = made("libvuser.so.0");
    let listing = run(Command::new("nm").args(["-D", "--defined-only"]).arg(&library));
    let symbols = listing.lines().filter_map(|line| line.split_whitespace().nth(2)).filter(|name| *name != VERSION);
    let mut names = BTreeSet::new();
    for symbol in symbols {
        let (name, version) = symbol.split_once("@@").unwrap_or((symbol, "no version"));
        assert_eq!(version, VERSION, "{symbol}: what is exported has to be in include/vuser.map");
        names.insert(name.to_owned());
    }
    let declared = declared();
    assert!(names == declared, "{}; run `make lib`", difference("libvuser.so.0", &names, &declared));
}

#[test]
fn the_library_needs_the_c_library_only() {
    let dynamic = run(Command::new("readelf").arg("-dW").arg(made("libvuser.so.0")));
    let values = |tag: &str| -> Vec<String> {
        let lines = dynamic.lines().filter(|line| line.contains(&format!("({tag})")));
        lines.filter_map(|line| Some(line.split_once('[')?.1.split(']').next()?.to_owned())).collect()
    };
    assert_eq!(values("SONAME"), ["libvuser.so.0"]);
    for needed in values("NEEDED") {
        let known = ["libc.so.6", "libgcc_s.so.1"].contains(&needed.as_str()) || needed.starts_with("ld-linux");
        assert!(known, "{needed} would have to be installed wherever the library is; what brought it in?");
    }
    for tag in ["RPATH", "RUNPATH", "TEXTREL"] {
        assert!(!dynamic.contains(tag), "{tag} in\n{dynamic}");
    }
}

#[test]
fn the_library_is_small() {
    let library = made("libvuser.so.0");
    let scratch = Scratch::new("stripped");
    let stripped = scratch.file("libvuser.so.0");
    run(Command::new("strip").arg("-o").args([&stripped, &library]));
    let size = std::fs::metadata(&stripped).expect("the stripped library").len();
    assert!(size < SIZE, "{size} bytes without symbols; {SIZE} are the limit: what has become so large?");
}

/// Installs into a directory of its own.
fn install(scratch: &Scratch) {
    made("libvuser.so.0");
    let mut make = Command::new("make");
    // When the tests run under make, its flags are not for this one.
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("MFLAGS").current_dir(root());
    make.arg("install").arg(format!("DESTDIR={}", scratch.0.display())).arg("PREFIX=/usr");
    run(make.arg(format!("B={}", build().display())));
}

/// What pkg-config says for those who compile against the installation.
fn pkg_config(scratch: &Scratch, args: &[&str]) -> Vec<String> {
    let mut command = Command::new("pkg-config");
    command.env("PKG_CONFIG_PATH", scratch.file("usr/lib/pkgconfig")).env("PKG_CONFIG_SYSROOT_DIR", &scratch.0);
    // /usr is where compilers look anyway, but this is another /usr.
    command.env("PKG_CONFIG_ALLOW_SYSTEM_CFLAGS", "1").env("PKG_CONFIG_ALLOW_SYSTEM_LIBS", "1");
    run(command.args(args).arg("vuser")).split_whitespace().map(str::to_owned).collect()
}

fn compile_and_run(scratch: &Scratch, name: &str, flags: &[String]) -> String {
    let program = scratch.file(name);
    let strict = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"];
    let source = root().join("tests/capi/installed.c");
    run(Command::new("cc").args(strict).arg(source).arg("-o").arg(&program).args(flags));
    run(Command::new(&program).env("LD_LIBRARY_PATH", scratch.file("usr/lib"))).trim().to_owned()
}

fn link(path: &Path) -> String {
    std::fs::read_link(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).display().to_string()
}

#[test]
fn what_is_installed_can_be_compiled_against() {
    let scratch = Scratch::new("install");
    install(&scratch);
    let version = env!("CARGO_PKG_VERSION");
    let real = format!("libvuser.so.{version}");
    for file in [
        &format!("usr/lib/{real}"),
        "usr/lib/libvuser.a",
        "usr/lib/pkgconfig/vuser.pc",
        "usr/include/vuser.h",
        "usr/include/virtio_user_compat.h",
    ] {
        let meta = std::fs::symlink_metadata(scratch.file(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(meta.is_file(), "{file}");
    }
    assert_eq!(link(&scratch.file("usr/lib/libvuser.so.0")), real);
    assert_eq!(link(&scratch.file("usr/lib/libvuser.so")), "libvuser.so.0");
    let listing =
        run(Command::new("find").arg(&scratch.0).args(["-not", "-type", "d", "-not", "-path", "*/share/man/*"]));
    assert_eq!(listing.lines().count(), 7, "more is installed than is known here:\n{listing}");
    let pages = scratch.file("usr/share/man");
    for function in declared() {
        assert!(pages.join(format!("man3/{function}.3")).is_file(), "{function} has no page in the manual");
    }
    assert!(pages.join("man7/vuser.7").is_file());
    let description = std::fs::read_to_string(scratch.file("usr/lib/pkgconfig/vuser.pc")).expect("vuser.pc");
    assert!(!description.contains('@') && description.contains("prefix=/usr\n"), "{description}");

    assert_eq!(pkg_config(&scratch, &["--modversion"]), [version]);
    let flags = pkg_config(&scratch, &["--cflags", "--libs"]);
    assert_eq!(compile_and_run(&scratch, "shared", &flags), version);
    let needed = run(Command::new("readelf").arg("-dW").arg(scratch.file("shared")));
    assert!(needed.contains("libvuser.so.0"), "{needed}");

    // The library from its archive, all else as usual.
    let archive = |flags: Vec<String>| -> Vec<String> {
        flags.into_iter().map(|flag| if flag == "-lvuser" { "-l:libvuser.a".to_owned() } else { flag }).collect()
    };
    let flags = archive(pkg_config(&scratch, &["--cflags", "--libs", "--static"]));
    assert_eq!(compile_and_run(&scratch, "archive", &flags), version);
    let needed = run(Command::new("readelf").arg("-dW").arg(scratch.file("archive")));
    assert!(!needed.contains("libvuser"), "{needed}");
}

#[test]
fn a_program_can_be_wholly_static() {
    let scratch = Scratch::new("static");
    let archive = made("libvuser.a");
    let program = scratch.file("static");
    let mut cc = Command::new("cc");
    cc.arg("-static").arg("-I").arg(root().join("include")).arg(root().join("tests/capi/installed.c"));
    run(cc.arg("-o").args([&program, &archive]));
    assert_eq!(run(&mut Command::new(&program)).trim(), env!("CARGO_PKG_VERSION"));
    let dynamic = output(Command::new("readelf").arg("-dW").arg(&program));
    assert!(!String::from_utf8_lossy(&dynamic.stdout).contains("NEEDED"), "it is not static");
}
