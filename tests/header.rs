//! Promise: the header that is installed is the library's, it explains every name in it, and any C or C++ compiler
//! takes it without a warning.
//!
//! `cargo test --features header` also compares the committed header with what the source gives (`make header` renews
//! it). Without the feature that is skipped, which `VUSER_REQUIRE_ALL=1` forbids.
#![cfg(target_os = "linux")]

mod support;

use std::process::Command;

use support::{Scratch, have, root, run, skip};

fn header(name: &str) -> String {
    let path = root().join("include").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_committed_header_is_what_the_source_gives() {
    let Some(made) = option_env!("VUSER_HEADER") else {
        return skip("header", "built without the feature `header`, so vuser.h was not compared");
    };
    let made = std::fs::read_to_string(made).expect("the header that build.rs made");
    let committed = header("vuser.h");
    if let Some((number, (made, old))) = (1..).zip(made.lines().zip(committed.lines())).find(|(_, (a, b))| a != b) {
        panic!(
            "include/vuser.h:{number} is\n  {old}\nand the source gives\n  {made}\nrun `make header` and look at it"
        );
    }
    assert_eq!(made.len(), committed.len(), "include/vuser.h is older than the source: run `make header`");
}

/// Whether a line declares something: a constant, a type, a field, a function. Not its further lines.
fn is_declaration(line: &str) -> bool {
    if let Some(field) = line.strip_prefix("    ") {
        return field.ends_with(';') && !field.starts_with(' ');
    }
    let mut words = line.split_whitespace();
    match words.next().unwrap_or_default() {
        "#define" => words.count() > 1,
        "struct" | "typedef" | "const" | "void" | "int" => true,
        word => word.starts_with("uint"),
    }
}

#[test]
fn every_name_has_a_comment() {
    let (text, mut count) = (header("vuser.h"), 0);
    let lines: Vec<_> = text.lines().collect();
    for (number, pair) in (2..).zip(lines.windows(2)).filter(|(_, pair)| is_declaration(pair[1])) {
        count += 1;
        assert!(
            pair[0].trim_start().starts_with("//"),
            "include/vuser.h:{number} says nothing about\n  {}\nwrite it as `///` in src/capi and run `make header`",
            pair[1]
        );
    }
    assert!(count > 150, "only {count} names found: has cbindgen another form now?");
}

#[test]
fn c_and_cxx_compilers_take_the_headers() {
    let scratch = Scratch::new("header");
    let mut orders: Vec<Vec<&str>> = vec![vec!["\"vuser.h\""], vec!["\"virtio_user_compat.h\""]];
    orders.push(vec!["\"vuser.h\"", "\"vuser.h\""]);
    orders.push(vec!["\"virtio_user_compat.h\"", "\"virtio_user_compat.h\""]);
    orders.push(vec!["<syslog.h>", "\"virtio_user_compat.h\"", "\"vuser.h\""]);
    orders.push(vec!["\"vuser.h\"", "<syslog.h>", "\"virtio_user_compat.h\""]);
    let strict = ["-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only"];
    for (compiler, standard, ending, needed) in [
        ("gcc", "-std=c99", "c", true),
        ("clang", "-std=c99", "c", false),
        ("g++", "-std=c++11", "cc", true),
        ("clang++", "-std=c++11", "cc", false),
    ] {
        if !have(compiler) {
            assert!(!needed, "{compiler} is missing: install it");
            skip("header", &format!("no {compiler}"));
            continue;
        }
        for order in &orders {
            // Something must come behind the headers: an empty file is no C99.
            let lines: Vec<_> = order.iter().map(|name| format!("#include {name}\n")).collect();
            let program = format!("{}int main(void) {{ return sizeof(struct vuser_mbuf) != 128; }}\n", lines.concat());
            let file = scratch.file(&format!("includes.{ending}"));
            std::fs::write(&file, program).expect("a file");
            run(Command::new(compiler).arg(standard).args(strict).arg("-I").arg(root().join("include")).arg(&file));
        }
    }
}
