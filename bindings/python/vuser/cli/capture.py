# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""``vuser capture``: what a back-end sends, in a pcapng file."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import asdict
from typing import Any

from .output import Output, command, count, device_of, seconds
from .pump import Pump


def add(commands: Any) -> None:
    parser = command(commands, "capture", run, "Write the frames that a back-end sends into a pcapng file.")
    parser.add_argument("file", metavar="FILE", help="the file; - for standard output, to be read by wireshark -k -i -")
    parser.add_argument("-c", "--count", type=count, default=0, help="end after so many frames")
    parser.add_argument("--seconds", type=seconds, help="end after this time; else when stopped")
    parser.add_argument("--snaplen", type=count, default=0, help="bytes to keep of a frame (default: all)")
    parser.add_argument("--max-bytes", type=count, default=0, help="end of the file (default: none)")
    parser.add_argument("--echo", action="store_true", help="return the frames to the back-end, and capture that too")


def run(args: argparse.Namespace, out: Output) -> int:
    to: str | int = args.file
    if args.file == "-":
        # What is said goes where it is not in the way of the frames.
        to = os.dup(1)
        sys.stdout = sys.stderr
    with device_of(args.device) as device, device.capture(to, snaplen=args.snaplen, max_bytes=args.max_bytes) as capture:
        out.text(f"{args.file}: capturing. Ctrl-C ends it.")
        pump, begin, total = Pump(device, args.echo), time.monotonic(), 0
        while not out.stop.is_set() and (not args.count or total < args.count):
            left = 0.1 if args.seconds is None else min(0.1, begin + args.seconds - time.monotonic())
            stats = capture.stats()
            if left <= 0 or stats.full or stats.error:
                break
            total += pump.run(left, max(args.count - total, 0))
        stats = capture.stats()
    out.record(file=args.file, received=total, captured=stats.captured, dropped=stats.dropped, full=stats.full,
               stats=asdict(stats))
    out.text(f"{args.file}: {stats.captured} frames captured, {stats.dropped} dropped"
             + (", the file is full" if stats.full else ""))
    return 0
