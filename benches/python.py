# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Python beside C: the loopback example, compiled for bursts of 256, and the same loop in Python in each way that there is.

    make bench-python

The built-in back-end sends frames of 64 bytes back from a thread of its own; so two CPUs are needed, and nothing else that
runs on them. In turns, so that what else goes on hits all alike; the best of each counts. The last line is JSON.
"""

import json
import re
import subprocess
import sys

from vuser import Config, bench

BURST, SIZE, QUEUE, TURNS = 256, 64, 1024, 5


def example(program: str, seconds: float) -> float:
    """Mpps of the example in C."""
    command = [program, f"--seconds={max(1, round(seconds))}", f"--size={SIZE}", f"path=loopback,queue_size={QUEUE}"]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(re.findall(r"([0-9.]+) Mpps", printed)[-1])


def main() -> None:
    """Measures, prints a table."""
    program, seconds = sys.argv[1], float(sys.argv[2])
    best = dict.fromkeys(["C", *bench.KINDS], 0.0)
    for _ in range(TURNS):
        best["C"] = max(best["C"], example(program, seconds / TURNS))
        for kind in bench.KINDS:
            config = Config(path="loopback", queue_size=QUEUE)
            row = bench.measure(kind, seconds / TURNS, BURST, SIZE, config)
            if row["lost"]:
                sys.exit(f"{kind}: {row['lost']} frames did not come back")
            best[kind] = max(best[kind], row["mpps"])
    for kind, mpps in best.items():
        print(f"{kind:8} {mpps:8.3f} Mpps  {mpps / best['C']:6.1%} of C")
    print(json.dumps({"burst": BURST, "size": SIZE, "queue_size": QUEUE, "mpps": best}))


if __name__ == "__main__":
    main()
