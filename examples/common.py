# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""What the example programs have in common, as common.h has it for those in C: opening a device, saying what it is, a rate
once a second, a clean end on Ctrl-C. Nothing here is part of the package; copy what you need."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from typing import NoReturn

import vuser

BURST = 32

stopping = False


def catch_signals() -> None:
    """The first Ctrl-C ends the loop, so that the device is stopped properly; a second one kills."""

    def stop(number: int, _: object) -> None:
        global stopping
        stopping = True
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)


def options(name: str, usage: str) -> argparse.ArgumentParser:
    """A parser whose help is the text that is given; --seconds and --frames are in it."""

    class Parser(argparse.ArgumentParser):
        def format_help(self) -> str:
            return usage

        def error(self, message: str) -> NoReturn:
            self.exit(2, f"{name}: {message}\n{usage}")

    parser = Parser(prog=name, allow_abbrev=False)
    parser.add_argument("--seconds", type=number(0, 1_000_000_000))
    parser.add_argument("--frames", type=number(1, 2**64 - 1), default=0)
    return parser


def number(least: int, most: int):
    """The type of an argument that is a number."""

    def parse(text: str) -> int:
        try:
            value = int(text, 0)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text}: a number from {least} to {most} is expected")
        return value

    return parse


def run(main) -> NoReturn:
    """Runs a program. Every error of the package is a sentence."""
    catch_signals()
    sys.stdout.reconfigure(line_buffering=True)
    try:
        sys.exit(main())
    except vuser.Error as error:
        sys.exit(str(error))


def make_pool(*configs: vuser.Config) -> vuser.Pool:
    """Buffers for all these devices. Frames go from one to another without a copy only if both know the memory they are in:
    one pool for devices that exchange frames."""
    count = sum(config.queues * (2 * config.queue_size + 2 * 144 + 4 * BURST) for config in configs)
    return vuser.Pool(count=max(count, 1024), huge=all(config.huge for config in configs))


def print_port(name: str, device: vuser.Device) -> None:
    """What has been agreed on."""
    info = device.info
    words = [f"{'packed' if info.packed else 'split'} ring"]
    words += ["in order"] * info.in_order + ["mergeable buffers"] * info.mergeable
    pairs = f"{info.queue_pairs} queue pair{'' if info.queue_pairs == 1 else 's'} of {info.queue_size} descriptors"
    print(f"{name}: {info.backend}, {', '.join(words)}, {pairs}")
    speed = f", {info.speed} Mb/s" if info.speed is not None else ""
    print(f"{name}: MAC {info.mac}, MTU {info.mtu}, link {'up' if info.link_up else 'down'}{speed}")
    used = [f.name for f in device.features() if f.kind == "virtio" and info.features >> f.bit & 1]
    print(f"{name}: features {info.features:#x}: {' '.join(used)}")


def print_port_statistics(name: str, device: vuser.Device) -> None:
    """Its counters."""
    stats = device.stats()
    for pair, (rx, tx) in enumerate(zip(stats.rx, stats.tx)):
        print(f"{name}, queue pair {pair}: received {rx.packets} frames, {rx.bytes} bytes; "
              f"sent {tx.packets} frames, {tx.bytes} bytes")


def check_port(device: vuser.Device) -> None:
    """A queue that the other side broke moves nothing for ever; that is an error here."""
    for queue in (*device.rx, *device.tx):
        queue.check()


class Meter:
    """A line per second."""

    def __init__(self, seconds: float) -> None:
        self.start = self.last = time.monotonic()
        self.limit = seconds
        self.before = 0

    def tick(self, frames: int, verb: str) -> bool:
        """To be called once per round with the frames moved so far; False when the time is over, or Ctrl-C was typed."""
        now = time.monotonic()
        if now - self.last >= 1:
            rate = (frames - self.before) / (now - self.last) / 1e6
            print(f"{now - self.start:4.0f} s  {rate:10.3f} Mpps  {frames:14d} frames {verb}")
            self.last, self.before = now, frames
        return not stopping and (not self.limit or now - self.start < self.limit)

    def total(self, frames: int, verb: str) -> None:
        """The last line."""
        passed = time.monotonic() - self.start
        print(f"total: {frames} frames {verb} in {passed:.2f} s, {frames / passed / 1e6:.3f} Mpps")
