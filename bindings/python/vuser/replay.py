# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Sends what was captured: ``replay(device, path)`` plays a pcap or pcapng file on a transmit queue."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Union

from . import pcap
from ._waiting import drain, send_all

if TYPE_CHECKING:
    from ._device import Device

Path = Union[str, "os.PathLike[str]"]

_BURST = 64
# So many bursts of frames that come are dropped for one that is sent.
_BURSTS = 8
# Frames that are due within this time go together: a sleep is not finer.
_TOGETHER = 0.0001
# The longest single sleep, so that whoever wants it to stop is heard.
_LONGEST_SLEEP = 0.1


@dataclass
class Progress:
    """How far a replay is; ``late`` is by how many seconds the latest burst was sent too late."""

    packets: int = 0
    bytes: int = 0
    loops: int = 0
    seconds: float = 0.0
    late: float = 0.0


def replay(device: Device, path: Path, *, speed: float | None = 1.0, rate: float | None = None, loops: int = 1,
           queue: int = 0, timeout: float = 10.0, drop: bool = True,
           go_on: Callable[[Progress], bool] = lambda _: True) -> Progress:
    """Sends the frames of a capture, and waits until the back-end has them; how many there were.

    They go at the pace at which they were captured, times ``speed``, or so many a second (``rate``), or, with ``speed=None``, as
    fast as the back-end takes them. With ``loops=0`` it begins again for ever. ``go_on`` is asked between bursts, and at least
    ten times a second. Frames that come meanwhile are dropped, unless ``drop=False``: a back-end that returns them, and finds no
    room, stops. TimeoutError: the back-end took none for ``timeout`` seconds.
    """
    if (speed is not None and speed <= 0) or (rate is not None and rate <= 0):
        raise ValueError("a replay's speed and rate are above zero")
    rx, tx, progress, begin = device.rx[queue], device.tx[queue], Progress(), time.monotonic()

    def meanwhile() -> None:
        # Not for ever: some back-ends never end.
        for _ in range(_BURSTS if drop else 0):
            if not rx.burst(_BURST):
                break

    def end() -> Progress:
        drain(tx, timeout, meanwhile)
        progress.seconds = time.monotonic() - begin
        return progress

    for _ in range(loops) if loops else itertools.count():
        before, start = progress.packets, time.monotonic()
        for due, frames in _bursts(path, speed, rate):
            while time.monotonic() < start + due:
                if not go_on(progress):
                    return end()
                time.sleep(min(max(start + due - time.monotonic(), 0.0), _LONGEST_SLEEP))
            if due:
                progress.late = max(progress.late, time.monotonic() - start - due)
            meanwhile()
            send_all(tx, frames, timeout, meanwhile)
            progress.packets += len(frames)
            progress.bytes += sum(map(len, frames))
            progress.seconds = time.monotonic() - begin
            if not go_on(progress):
                return end()
        if progress.packets == before:
            raise pcap.CaptureError(f"{os.fspath(path)} has no frames")
        progress.loops += 1
    return end()


def _bursts(path: Path, speed: float | None, rate: float | None) -> Iterator[tuple[float, list[bytes]]]:
    """Frames that go together, and when, in seconds from the first one."""
    frames: list[bytes] = []
    first, due, latest = None, 0.0, 0.0
    for index, (time_ns, frame) in enumerate(pcap.packets(path)):
        first = time_ns if first is None else first
        if rate is not None:
            latest = index / rate
        elif speed is not None:
            # Several CPUs can have captured, so that times go back a little.
            latest = max(latest, (time_ns - first) / 1e9 / speed)
        if frames and (len(frames) == _BURST or latest > due + _TOGETHER):
            yield due, frames
            frames = []
        if not frames:
            due = latest
        frames.append(frame)
    if frames:
        yield due, frames
