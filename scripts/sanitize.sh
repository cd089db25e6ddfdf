#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
# The C face under a tool that looks for errors of memory or of threads: the programs of tests/capi, and tests/peers/mix with
# DPDK's vhost and the built-in device as back-ends, which are killed and come back, on both layouts.
#
#   sanitize.sh BUILD SECONDS address    AddressSanitizer and LeakSanitizer, library and programs; the C under UBSan as well
#   sanitize.sh BUILD SECONDS thread     ThreadSanitizer, library, its standard library and programs: a nightly toolchain
#                                        with rust-src (rustup toolchain install nightly -c rust-src)
#   sanitize.sh BUILD SECONDS valgrind   memcheck, the library as it is installed
#
# SECONDS is how long each of two runs of mix takes.
set -eu
build=$1 seconds=$2 tool=$3
target=x86_64-unknown-linux-gnu
cargo=${CARGO:-cargo}
# Each in a directory of its own: its flags build everything anew.
targets=${CARGO_TARGET_DIR:-target}/sanitize-$tool
out=$build/sanitize/$tool
testpmd=${VUSER_TESTPMD:-dpdk-testpmd}
programs='buffers queue lend copy dev config running extras feature rss capture fork'
cflags='-std=c99 -g -O1 -fno-omit-frame-pointer -pthread -Iinclude'
mkdir -p "$out"
run=

case $tool in
address)
    RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address $cargo rustc --lib --crate-type staticlib --locked --target $target \
        --target-dir "$targets"
    cflags="$cflags -fsanitize=address,undefined"
    library="-fsanitize=address,undefined $targets/$target/debug/libvuser.a -lgcc_s -lm -ldl"
    export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1:abort_on_error=1
    export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1;;
thread)
    RUSTFLAGS=-Zsanitizer=thread $cargo +nightly rustc -Zbuild-std --lib --crate-type staticlib --locked --target $target \
        --target-dir "$targets"
    cflags="$cflags -fsanitize=thread"
    # Linked with the runtime of the Rust compiler, which is newer than that of the C compiler.
    runtime=$(rustc +nightly --print sysroot)/lib/rustlib/$target/lib/librustc-nightly_rt.tsan.a
    library="$targets/$target/debug/libvuser.a -Wl,--whole-archive $runtime -Wl,--no-whole-archive -lgcc_s -lm -ldl -lrt"
    export TSAN_OPTIONS=second_deadlock_stack=1;;
valgrind)
    library="-L$build -l:libvuser.so.0 -Wl,-rpath,$(cd "$build" && pwd)"
    run="valgrind -q --fair-sched=yes --error-exitcode=9 --leak-check=full --show-leak-kinds=definite,indirect
        --errors-for-leak-kinds=definite,indirect";;
*)
    echo "sanitize: $tool is none of address, thread, valgrind" >&2
    exit 2;;
esac

# compile NAME SOURCE...: an object each, so that the linker gets none of the flags that add a runtime.
compile() {
    name=$1 objects=
    shift
    for source; do
        object=$out/$name-$(basename "$source" .c).o
        gcc $cflags -c "$source" -o "$object"
        objects="$objects $object"
    done
    gcc -pthread $objects $library -o "$out/$name"
}

failed=
check() { # NAME COMMAND...
    name=$1
    shift
    if "$@" > "$out/$name.log" 2>&1; then
        echo "clean: $tool, $name"
    else
        failed="$failed $name"
        echo "not clean: $tool, $name: $out/$name.log" >&2
        tail -40 "$out/$name.log" >&2
    fi
}

for program in $programs; do
    compile "$program" "tests/capi/$program.c"
    case $tool-$program in
    # Children that are forked have none of the threads whose memory is lost then, and valgrind looks at their end, too.
    valgrind-fork|valgrind-capture) check "$program" $run --leak-check=no "$out/$program";;
    *) check "$program" $run "$out/$program";;
    esac
done
command -v "$testpmd" > /dev/null || { echo "sanitize: there is no $testpmd (Debian: dpdk-dev)" >&2; exit 1; }
compile mix tests/peers/mix.c tests/peers/plan.c tests/peers/traffic.c tests/peers/flow.c tests/peers/child.c tests/peers/census.c
for seed in 2 3; do
    dir=$(mktemp -d)
    check "mix-$seed" env RUNTIME_DIRECTORY="$dir" $run "$out/mix" --dir "$dir" --own "$build/examples/loopback" \
        --testpmd "$testpmd" --seconds "$seconds" --seed $seed --growth 1000000
    rm -rf "$dir"
    tail -1 "$out/mix-$seed.log"
done
[ -z "$failed" ] || exit 1
