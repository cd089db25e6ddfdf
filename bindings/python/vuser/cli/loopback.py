# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""``vuser loopback``: a back-end for other programs' front-ends."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from typing import Any

from .._loopback import Loopback
from .output import Output, command, count, interval, seconds


def add(commands: Any) -> None:
    parser = command(commands, "loopback", run, "Serve a socket: a back-end that returns, swallows or makes frames.",
                     device=False)
    parser.add_argument("path", metavar="PATH", help="socket to listen at")
    parser.add_argument("--mode", choices=("echo", "sink", "source"), default="echo",
                        help="return frames, swallow them, or make them (default echo)")
    parser.add_argument("--queues", type=count, default=1, help="queue pairs to offer (default 1)")
    parser.add_argument("--interval", type=interval, default=1.0, help="seconds between two lines (default 1)")
    parser.add_argument("--seconds", type=seconds, help="end after this time; else when stopped")


def run(args: argparse.Namespace, out: Output) -> int:
    with Loopback(args.path, mode=args.mode, queues=args.queues) as loopback:
        out.text(f"{args.path}: listening; {args.mode}, queue pairs: {args.queues}. Ctrl-C ends it.")
        out.record(type="listening", path=args.path, mode=args.mode, queues=args.queues)
        begin = last = time.monotonic()
        before = asdict(loopback.stats())
        while not out.stop.is_set() and (args.seconds is None or last - begin < args.seconds):
            left = args.interval if args.seconds is None else min(args.interval, args.seconds - (last - begin))
            out.stop.wait(left)
            now, after = time.monotonic(), asdict(loopback.stats())
            rates = {name: (after[name] - before[name]) / max(now - last, 1e-9) for name in after}
            out.record(type="rates", seconds=now - begin, **after, per_second=rates)
            out.text(f"{now - begin:7.1f} s" + "".join(f"  {rate:12,.0f} {name}/s" for name, rate in rates.items()))
            last, before = now, after
    return 0
