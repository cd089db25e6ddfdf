# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""``vuser bench``: how many frames a second go through this package here."""

from __future__ import annotations

import argparse
from typing import Any

from .. import library_path, library_version
from .._config import Config
from ..bench import KINDS, measure
from .output import Output, command, count, seconds

_MEANING = {"list": "packets in lists", "bytes": "bytes for each frame", "arrays": "arrays, no object for a frame"}


def add(commands: Any) -> None:
    parser = command(commands, "bench", run, "Measure how many frames a second this package sends and receives back.",
                     device=False)
    parser.add_argument("device", metavar="PATH", nargs="?", help="options of a back-end that returns frames (default: built in)")
    parser.add_argument("--seconds", type=seconds, default=1.0, help="of each measurement (default 1)")
    parser.add_argument("--burst", type=count, default=256, help="frames at a time (default 256)")
    parser.add_argument("--size", type=count, default=64, help="bytes of a frame (default 64)")


def run(args: argparse.Namespace, out: Output) -> int:
    if not 1 <= args.burst <= 4096 or not 14 <= args.size <= 2000:
        raise ValueError("a burst has 1 to 4096 frames, and a frame 14 to 2000 bytes here")
    config = None
    if args.device:
        text = args.device
        config = Config(text) if "path=" in text else Config(path=text)
    out.text(f"vuser {library_version()} ({library_path}), bursts of {args.burst}, {args.size} bytes")
    total = 0
    for kind in KINDS:
        if out.stop.is_set():
            break
        row = measure(kind, args.seconds, args.burst, args.size, config)
        total += row["frames"]
        out.record(library=library_version(), **row)
        out.text(f"{_MEANING.get(kind, kind):30} {row['mpps']:8.3f} Mpps   {row['path']}"
                 + (f"   {row['lost']} lost" if row["lost"] else ""))
    return 0 if total else 1
