# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""How many frames a second go through Python: as packets in lists, and as arrays.

Frames are sent to the built-in back-end (or whatever else returns them) and received back; what counts is how many came
back. The arrays are numpy's if numpy is installed.
"""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Callable
from typing import Any

from ._config import Config
from ._device import Device
from ._pool import Packet
from ._queue import RxQueue, TxQueue

#: What can be measured.
KINDS = ("list", "bytes", "arrays")
# What comes back is waited for this long at most, when nothing is sent any more.
_DRAIN_S = 1.0


def _frame(size: int) -> bytes:
    """To another address of ours, with a type for experiments."""
    return bytes.fromhex("02000000000202000000000188b5").ljust(size, b"\0")


def _lists(device: Device, burst: int, size: int) -> tuple[Callable[[], int], Callable[[], int]]:
    """Packets that are received are sent again, as a forwarder does; new ones while there are none."""
    rx, tx, pool, frame = device.rx[0], device.tx[0], device.pool, _frame(size)
    stock: list[Packet] = []

    def send() -> int:
        if not stock:
            stock.extend(pool.packets([frame] * burst))
        sent = tx.burst(stock[:burst])
        del stock[:sent]
        return sent

    def receive() -> int:
        packets = rx.burst(burst)
        stock.extend(packets)
        return len(packets)

    return send, receive


def _bytes(device: Device, burst: int, size: int) -> tuple[Callable[[], int], Callable[[], int]]:
    """Each frame is made of bytes, and each that is received becomes bytes."""
    rx, tx = device.rx[0], device.tx[0]
    frames = [_frame(size)] * burst
    return lambda: tx.burst(frames), lambda: len([bytes(packet) for packet in rx.burst(burst)])


def _numbers(n: int, size: int = 0) -> Any:
    try:
        import numpy
    except ImportError:
        return array("I", range(0, n * size, size) if size else [0] * n)
    return numpy.arange(n, dtype="u4") * size if size else numpy.zeros(n, "u4")


def _arrays(device: Device, burst: int, size: int) -> tuple[Callable[[], int], Callable[[], int]]:
    """One call a burst, no object for each frame."""
    rx: RxQueue = device.rx[0]
    tx: TxQueue = device.tx[0]
    out, into = bytearray(_frame(size) * burst), bytearray(burst * max(size, 2048))
    offsets, lengths = _numbers(burst, size), _numbers(burst)
    lengths[:] = array("I", [size] * burst)
    places, lengths_in = _numbers(burst), _numbers(burst)
    return (
        lambda: tx.burst_from(out, offsets, lengths),
        lambda: rx.burst_into(into, places, lengths_in),
    )


def measure(
    kind: str, seconds: float = 1.0, burst: int = 256, size: int = 64, config: Config | None = None
) -> dict[str, Any]:
    """One row: frames a second by one way of sending and receiving."""
    make = {"list": _lists, "bytes": _bytes, "arrays": _arrays}[kind]
    config = config or Config(path="loopback", queue_size=1024)
    with Device(config) as device:
        send, receive = make(device, burst, size)
        # Never more under way than half a ring: a back-end drops what it finds no room for.
        window = device.info.queue_size // 2
        sent = received = 0
        begin = time.perf_counter()
        end = begin + seconds
        while (now := time.perf_counter()) < end:
            for _ in range(16):
                if sent - received + burst <= window or sent == received:
                    sent += send()
                came = receive()
                received += came
                if not came:
                    os.sched_yield()  # lets the back-end run if it shares our CPU
        took = now - begin
        counted = received
        while received < sent and time.perf_counter() < now + _DRAIN_S:
            received += receive()
        path = device.info.path
    return {
        "api": kind, "burst": burst, "size": size, "seconds": round(took, 3), "frames": counted,
        "lost": sent - received, "mpps": round(counted / took / 1e6, 3), "path": path,
    }  # fmt: skip


def run(
    seconds: float = 1.0, burst: int = 256, size: int = 64, config: Config | None = None, kinds: tuple[str, ...] = KINDS
) -> dict[str, Any]:
    """All rows, and what they were measured with: what `vuser bench --json` prints."""
    from . import library_path, library_version

    rows = [measure(kind, seconds, burst, size, config) for kind in kinds]
    return {"library": library_version(), "path": library_path, "rows": rows}


if __name__ == "__main__":
    import json

    print(json.dumps(run(), indent=2))
