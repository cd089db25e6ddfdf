#!/bin/bash
# Builds the fuzz targets with the stable toolchain and prints the folder that they are in. SANITIZER=address: with
# AddressSanitizer. Arguments go to cargo.
set -euo pipefail
cd "$(dirname "$0")"
# What `cargo fuzz build` says, where a stable rustc takes it.
flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
target_dir=${CARGO_TARGET_DIR:-../target}/fuzz
if [ -n "${SANITIZER:-}" ]; then
  # Sanitizers are not stable yet.
  export RUSTC_BOOTSTRAP=1
  flags+=" -Zsanitizer=$SANITIZER"
  target_dir+=-$SANITIZER
fi
host=$(rustc -vV | sed -n 's/^host: //p')
# With --target, flags are for the targets only, not for what is run while building.
RUSTFLAGS="$flags" ${CARGO:-cargo} build --release --locked --target "$host" --target-dir "$target_dir" "$@" >&2
echo "$(realpath "$target_dir")/$host/release"
