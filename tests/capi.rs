//! The C face, used from C as strictly as compilers can be told to: one program for each object of the header.

mod support;

use std::path::PathBuf;
use std::process::Command;

use support::{Scratch, have, made, output, root, run, skip};

/// Compiles a program of `tests/capi` against the header and the library as they are in the tree.
fn compile(scratch: &Scratch, source: &str, compiler: &str, flags: &[&str]) -> PathBuf {
    let library = made("libvuser.so.0");
    let build = library.parent().expect("a directory").display().to_string();
    let program = scratch.file(source.split('.').next().expect("a name"));
    let mut command = Command::new(compiler);
    command.args(["-g", "-Wall", "-Wextra", "-pedantic", "-Werror", "-pthread"]).args(flags);
    command.arg("-I").arg(root().join("include")).arg(root().join("tests/capi").join(source)).arg("-o").arg(&program);
    command.arg("-L").arg(&build).arg("-l:libvuser.so.0").arg(format!("-Wl,-rpath,{build}"));
    run(&mut command);
    program
}

fn c_program(source: &str) {
    let scratch = Scratch::new(&format!("capi-{source}"));
    run(&mut Command::new(compile(&scratch, source, "cc", &["-std=c99"])));
}

#[test]
fn a_configuration_is_read_strictly_and_grows_safely() {
    c_program("config.c");
}

#[test]
fn a_device_lives_in_the_right_order_and_refuses_the_wrong_one() {
    c_program("dev.c");
}

#[test]
fn packets_and_pools_keep_count() {
    c_program("buffers.c");
}

#[test]
fn queues_carry_frames_and_say_how_they_are() {
    c_program("queue.c");
}

#[test]
fn frames_are_lent_in_place() {
    c_program("lend.c");
}

#[test]
fn frames_are_copied_out_of_and_into_an_applications_memory() {
    c_program("copy.c");
}

#[test]
fn frames_are_hashed_where_no_device_does() {
    c_program("rss.c");
}

#[test]
fn features_are_told_in_words() {
    c_program("feature.c");
}

#[test]
fn frames_are_captured() {
    c_program("capture.c");
}

#[test]
fn a_running_device_changes() {
    c_program("running.c");
}

#[test]
fn a_child_that_was_forked_leaves_the_device_alone() {
    c_program("fork.c");
}

#[test]
fn the_process_stays_as_it_was_and_its_limits_are_errors() {
    c_program("host.c");
}

/// The same program with the library that watches its callers.
fn watched(source: &str) {
    let library = made("checked/libvuser.so.0");
    let scratch = Scratch::new(&format!("capi-watched-{source}"));
    let program = compile(&scratch, source, "cc", &["-std=c99"]);
    // It has the same name, and so takes the place of the one that the program was linked with.
    run(Command::new(&program).env("LD_PRELOAD", library));
}

#[test]
fn what_a_caller_does_wrong_ends_it_with_a_sentence() {
    watched("caller.c");
}

#[test]
fn what_a_caller_does_right_is_not_found_fault_with() {
    for source in ["buffers.c", "queue.c", "lend.c", "dev.c", "copy.c", "running.c", "fork.c", "capture.c", "config.c"]
    {
        watched(source);
    }
}

#[test]
fn what_not_every_back_end_can_be_told() {
    c_program("extras.c");
}

#[test]
fn a_cxx_program_can_use_it() {
    let scratch = Scratch::new("capi-cxx");
    run(&mut Command::new(compile(&scratch, "cxx.cc", "c++", &["-std=c++11"])));
}

#[test]
fn the_c_side_is_clean_under_address_sanitizer() {
    let scratch = Scratch::new("capi-asan");
    let program = compile(&scratch, "buffers.c", "cc", &["-std=c99", "-fsanitize=address,undefined"]);
    run(&mut Command::new(program));
}

#[test]
fn valgrind_finds_no_error_and_no_leak() {
    if !have("valgrind") {
        return skip("valgrind_finds_no_error_and_no_leak", "valgrind is not installed (apt-get install valgrind)");
    }
    let scratch = Scratch::new("capi-valgrind");
    for source in ["buffers.c", "queue.c"] {
        let program = compile(&scratch, source, "cc", &["-std=c99"]);
        let flags = ["-q", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite"];
        let got = output(Command::new("valgrind").args(flags).arg(program));
        assert!(got.status.success(), "{source}: {}", String::from_utf8_lossy(&got.stderr));
    }
}
