# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""``vuser stat``: rates, drops, ring fill, kicks and interrupts, live.

A ring is in the memory of the process that drives it, and nobody else can look into it. So this opens the back-end itself, takes
(or returns) what comes, and shows its own queues. Of a device in another program: its ``vuser_queue_get_stats``; of one in
DPDK: dpdk-telemetry.py, or testpmd's ``show port xstats``.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from . import screen
from .drops import DROPS, named
from .output import Output, command, device_of, interval, seconds
from .pump import Pump

if TYPE_CHECKING:
    from rich.table import Table

    from .._device import Device
    from .._queue import RxQueue, TxQueue

# Counters that say that one had to wait.
WAITS = ("no_buffer", "ring_full")


def add(commands: Any) -> None:
    parser = command(commands, "stat", run, "Open a back-end, take what it sends, and show rates, drops, ring fill, kicks and "
                     "interrupts of each queue. Queues of other programs can't be seen from outside: ask those.")
    parser.add_argument("--echo", action="store_true", help="return the frames to the back-end")
    parser.add_argument("--interval", type=interval, default=1.0, help="seconds between two looks (default 1)")
    parser.add_argument("--seconds", type=seconds, help="end after this time; else when stopped")


@dataclass
class Row:
    """A queue during an interval. Rates are per second; ``drops`` and ``waits`` are counts since the start."""

    queue: str
    packets: int
    rate: float
    megabits: float
    fill: int
    size: int
    kicks: float
    interrupts: float
    drops: dict[str, int]
    waits: dict[str, int]


class Watch:
    """Looks at the queues of a device again and again."""

    def __init__(self, device: Device, pump: Pump) -> None:
        self._device, self._pump = device, pump
        self._last = time.monotonic()
        self._before: dict[str, dict[str, int]] = {}
        self._wakes = list(pump.wakes)

    def look(self) -> list[Row]:
        now = time.monotonic()
        elapsed, self._last = max(now - self._last, 1e-9), now
        rows: list[Row] = []
        for pair, (rx, tx) in enumerate(zip(self._device.rx, self._device.tx)):
            wakes = self._pump.wakes[pair] - self._wakes[pair]
            rows.append(self._row(f"rx{pair}", rx, elapsed, wakes))
            rows.append(self._row(f"tx{pair}", tx, elapsed, 0))
        self._wakes = list(self._pump.wakes)
        return rows

    def _row(self, name: str, queue: RxQueue | TxQueue, elapsed: float, wakes: int) -> Row:
        stats = {key: value for key, value in asdict(queue.stats()).items() if isinstance(value, int)}
        before = self._before.get(name, {})
        self._before[name] = stats

        def rate(counter: str) -> float:
            return (stats[counter] - before.get(counter, 0)) / elapsed

        return Row(name, stats["packets"], rate("packets"), rate("bytes") * 8 / 1e6, queue.count(),
                   self._device.info.queue_size, rate("kicks"), wakes / elapsed,
                   {key: stats[key] for key in DROPS if stats.get(key)},
                   {key: stats[key] for key in WAITS if stats.get(key)})


def run(args: argparse.Namespace, out: Output) -> int:
    if not out.json:
        # Said before anything is opened.
        screen.console()
    with device_of(args.device) as device:
        pump = Pump(device, args.echo)
        watch, begin = Watch(device, pump), time.monotonic()
        if out.json:
            while _pump_on(args, out, pump, begin):
                out.record(seconds=time.monotonic() - begin, link=bool(device.info.link_up), queues=watch.look())
        else:
            from rich.live import Live

            with Live(_table(device, watch.look()), console=screen.console(), auto_refresh=False) as live:
                while _pump_on(args, out, pump, begin):
                    live.update(_table(device, watch.look()), refresh=True)
    return 0


def _pump_on(args: argparse.Namespace, out: Output, pump: Pump, begin: float) -> bool:
    """Pumps for an interval; whether there shall be another look."""
    end = time.monotonic() + args.interval
    if args.seconds is not None:
        end = min(end, begin + args.seconds)
    if end <= time.monotonic():
        return False
    while not out.stop.is_set():
        left = end - time.monotonic()
        if left <= 0:
            return True
        pump.run(min(left, 0.25))
    return False


def _table(device: Device, rows: list[Row]) -> Table:
    from rich import box
    from rich.table import Table

    info = device.info
    link = "[green]up[/]" if info.link_up else "[red]down[/]"
    table = Table(title=f"{info.backend}   link {link}   {info.path}", title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for column in ("queue", "frames", "frames/s", "Mbit/s", "ring fill", "kicks/s", "intr/s", "dropped", "waited"):
        words = column in ("queue", "dropped", "waited")
        table.add_column(column, justify="left" if words else "right", no_wrap=not words, min_width=0 if words else len(column))
    for row in rows:
        table.add_row(row.queue, f"{row.packets:,}", f"{row.rate:,.0f}", f"{row.megabits:,.1f}", f"{row.fill}/{row.size}",
                      f"{row.kicks:,.0f}", f"{row.interrupts:,.0f}" if row.queue.startswith("rx") else "", named(row.drops),
                      named(row.waits))
    return table
