# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Takes the frames of all receive queues of a device, for commands that look on."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING

from .._waiting import PAUSE, arm

if TYPE_CHECKING:
    from .._device import Device

_BURST = 64


class Pump:
    """Drops what comes, or returns it to the queue pair it came from."""

    def __init__(self, device: Device, echo: bool = False) -> None:
        self._device, self._echo = device, echo
        self.wakes: list[int] = [0] * len(device.rx)
        """How often the device woke us, by queue pair."""
        self.not_returned = 0
        """Frames for which the transmit ring had no room."""
        self._poll = select.poll()
        self._pair_of = {rx.fd(): pair for pair, rx in enumerate(device.rx)}
        for fd in self._pair_of:
            self._poll.register(fd, select.POLLIN)

    def run(self, seconds: float, most: int = 0) -> int:
        """Pumps for a while, or until about so many frames came; how many did."""
        deadline, total = time.monotonic() + seconds, 0
        while not most or total < most:
            taken = self._round(min(_BURST, most - total) if most else _BURST)
            total += taken
            left = deadline - time.monotonic()
            if left <= 0:
                break
            if not taken:
                self._wait(left)
        return total

    def _round(self, most: int) -> int:
        total = 0
        for rx, tx in zip(self._device.rx, self._device.tx):
            packets = rx.burst(most)
            total += len(packets)
            if packets and self._echo:
                self.not_returned += len(packets) - tx.burst(packets)
        return total

    def _wait(self, seconds: float) -> None:
        # All are asked before any is waited for, and who has work already is not waited for.
        armed = [arm(rx) for rx in self._device.rx]
        if any(armed):
            return
        if None in armed:
            seconds = min(seconds, PAUSE)
        for fd, _ in self._poll.poll(seconds * 1000):
            self.wakes[self._pair_of[fd]] += 1
