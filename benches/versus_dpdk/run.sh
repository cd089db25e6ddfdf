#!/bin/sh
# What `make bench-dpdk` does once everything is built: chooses memory, runs versus_dpdk, and plots what it found.
# usage: [QUICK=1] run.sh BUILD [options of versus_dpdk]
set -eu

build=$1
shift
here=$(dirname "$0")
program=$build/bench/versus_dpdk
driver=$build/librte_net_vuser.so
# 2 MiB pages: 128 MiB for the program, 64 MiB for each dpdk-testpmd.
pages=128
sysfs=/sys/kernel/mm/hugepages/hugepages-2048kB

have_pages() { [ -r $sysfs/free_hugepages ] && [ "$(cat $sysfs/free_hugepages)" -ge $pages ]; }

commit=$(git -C "$here" describe --always --dirty 2>/dev/null || echo unknown)
results=$here/../results/$(date +%F)
set -- --load "$(realpath "$driver")" --b net_vuser --b-scalar simd=scalar --commit "$commit" "$@"
if [ "${QUICK:-0}" = 1 ]; then
    results=$build/bench/quick
    set -- --quick --seconds 110 "$@"
else
    set -- --seconds 840 "$@"
fi
if ! have_pages; then
    before=$(cat $sysfs/nr_hugepages 2>/dev/null || echo 0)
    # Only as many as are missing; they are given back at the end.
    if (echo $((before + pages)) >$sysfs/nr_hugepages) 2>/dev/null; then
        trap 'echo "$before" >$sysfs/nr_hugepages' EXIT
    fi
    if ! have_pages; then
        echo "bench-dpdk: without huge pages, for there are too few: figures are worse than they could be"
        set -- --no-huge "$@"
    fi
fi

mkdir -p "$(dirname "$results")"
status=0
"$program" --csv "$results.csv" "$@" || status=$?
if ! command -v gnuplot >/dev/null 2>&1; then
    echo "bench-dpdk: no plot, for there is no gnuplot (apt-get install --no-install-recommends gnuplot-nox)"
elif [ -s "$results.csv" ]; then
    gnuplot -e "csv='$results.csv'; svg='$results.svg'" "$here/plot.gp"
    echo "bench-dpdk: figures in $results.csv, plotted in $results.svg"
fi
exit $status
