#!/bin/bash
# Fuzzes: run.sh SECONDS [TARGET...], all targets if none is named. The seeds come first. What is found is kept in
# build/fuzz/TARGET from run to run (FUZZ_DIR: another folder); an input that fails ends this with an error and its path.
set -euo pipefail
seconds=$1
shift
here=$(dirname "$(realpath "$0")")
work=$(realpath -m "${FUZZ_DIR:-$here/../build/fuzz}")
bin=$("$here/build.sh")
[ $# -gt 0 ] || set -- $(sed -n 's/^name = "\([a-z]*\)"/\1/p' "$here/Cargo.toml")
for target; do
  mkdir -p "$work/$target" "$here/seeds/$target"
  log=$work/$target.log
  if ! "$bin/$target" -max_total_time="$seconds" -max_len=2048 -timeout=60 -artifact_prefix="$work/crash-" \
    "$work/$target" "$here/seeds/$target" > "$log" 2>&1; then
    tail -50 "$log"
    input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -1)
    # One of the seeds, perhaps, which is not written anew; the log names it then.
    echo "fuzz $target: failed; to see it again: $bin/$target ${input:-(the input that $log names)}" >&2
    exit 1
  fi
  coverage=$(sed -n 's/.*DONE *cov: \([0-9]*\).*/\1/p' "$log")
  executions=$(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$log")
  steps=$(sed -n 's/^steps: //p' "$log")
  echo "fuzz $target: $executions executions, $steps steps, $coverage edges"
done
