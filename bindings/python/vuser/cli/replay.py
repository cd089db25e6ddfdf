# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""``vuser replay``: sends the frames of a capture."""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from typing import Any

from ..pcap import packets
from ..replay import Progress, replay
from . import screen
from .drops import dropped, named
from .output import Output, command, count, device_of, interval


def add(commands: Any) -> None:
    parser = command(commands, "replay", run, "Send the frames of a pcap or pcapng file to a back-end.")
    parser.add_argument("file", metavar="FILE", help="the capture")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--fast", action="store_true", help="as fast as the back-end takes them")
    pace.add_argument("--speed", type=float, default=1.0, help="times the pace of the capture (default 1)")
    pace.add_argument("--rate", type=float, help="so many frames a second")
    parser.add_argument("--loops", type=count, default=1, help="times to play it; 0: until stopped (default 1)")
    parser.add_argument("--interval", type=interval, default=1.0, help="seconds between two lines (default 1)")


def run(args: argparse.Namespace, out: Output) -> int:
    # On a terminal a file is counted first, so that the bar has an end; one that is sent for ever, or a pipe, which can be
    # read only once, has none.
    def total() -> int | None:
        return sum(1 for _ in packets(args.file)) * args.loops or None if os.path.isfile(args.file) else None

    bar = None if out.json else screen.progress(total)
    last = time.monotonic()
    before = 0

    def go_on(progress: Progress) -> bool:
        nonlocal last, before
        now = time.monotonic()
        if bar is not None and now - last >= 0.1:
            rate = (progress.packets - before) / (now - last)
            bar.update(bar.task_ids[0], completed=progress.packets, description=f"frames, {rate:,.0f}/s")
            last, before = now, progress.packets
        elif bar is None and now - last >= args.interval:
            _tell(out, "progress", progress, (progress.packets - before) / (now - last))
            last, before = now, progress.packets
        return not out.stop.is_set()

    with device_of(args.device) as device, bar or contextlib.nullcontext():
        done = replay(device, args.file, speed=None if args.fast else args.speed, rate=args.rate, loops=args.loops,
                      go_on=go_on)
        drops = dropped(device.tx[0].stats())
    _tell(out, "summary", done, done.packets / max(done.seconds, 1e-9), dropped=drops)
    if drops:
        out.text(f"not sent, because they can't be: {named(drops)}")
    return 0


def _tell(out: Output, kind: str, progress: Progress, rate: float, **more: object) -> None:
    out.record(type=kind, rate=rate, **vars(progress), **more)
    out.text(f"{progress.seconds:7.1f} s  {progress.packets:12} frames  {progress.bytes:14} bytes  {rate:12.0f} frames/s"
             + (f"  up to {progress.late * 1e3:.1f} ms late" if progress.late > 0.001 else ""))
