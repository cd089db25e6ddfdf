# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""asyncio on a device: ``async for packet in device.packets()`` and ``await device.send(...)``.

Whoever waits for a queue takes what is there, asks the device to call, looks once more, and only then sleeps: a frame
that comes between the look and the sleep would otherwise wake nobody. ``queue.arm()`` does the two in the middle.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Union
from weakref import WeakKeyDictionary

from ._errors import ClosedError
from ._pool import Packet
from ._waiting import PAUSE, arm

if TYPE_CHECKING:
    from ._device import Device
    from ._queue import RxQueue, TxQueue

Sendable = Union[Packet, bytes, bytearray, memoryview]

_BURST = 64
# A sleeper looks around this often, so that none waits for a device that was closed.
_TICK = 0.25


async def work(queue: RxQueue | TxQueue, at_most: float | None = None) -> bool:
    """Returns when there may be work for a queue (True), or after a while (False): look again then.

    An error when the queue is broken, or its device was closed.
    """
    armed = arm(queue)
    if armed is not False:
        # Also where there is work, so that a device that says so for ever, and has none, keeps no other task out.
        await asyncio.sleep(0 if armed else PAUSE if at_most is None else min(at_most, PAUSE))
        return bool(armed)
    loop = asyncio.get_running_loop()
    # Of our own, so that the event loop never holds the number of one that was closed with its device.
    fd = os.dup(queue.fd())
    woken: asyncio.Future[bool] = loop.create_future()

    def wake(called: bool) -> None:
        # It stays readable until the device is asked to call again, and is not read: the other end might make that wait.
        loop.remove_reader(fd)
        if not woken.done():
            woken.set_result(called)

    loop.add_reader(fd, wake, True)
    timer = loop.call_later(_TICK if at_most is None else min(at_most, _TICK), wake, False)
    try:
        return await woken
    finally:
        timer.cancel()
        loop.remove_reader(fd)
        os.close(fd)


class Packets(AsyncIterator[Packet]):
    """The packets that a receive queue gets, one after the other; it ends when the device is closed.

    One task at a time may use it, and nobody else the queue.
    """

    def __init__(self, device: Device, queue: int = 0) -> None:
        self._device, self._rx = device, device.rx[queue]
        self._taken: deque[Packet] = deque()

    def __aiter__(self) -> Packets:
        return self

    async def __anext__(self) -> Packet:
        try:
            while not self._taken:
                self._taken.extend(self._rx.burst(_BURST))
                if self._taken:
                    # Frames that never end must not keep other tasks out.
                    await asyncio.sleep(0)
                else:
                    await work(self._rx)
        except ClosedError:
            if not self._device.closed:
                raise
            raise StopAsyncIteration from None
        return self._taken.popleft()


async def send(device: Device, packets: Sendable | Iterable[Sendable], queue: int = 0, timeout: float = 10.0) -> int:
    """Sends a packet or several, waiting for room in the ring; how many.

    TimeoutError when there is none in time; what was not sent is then still the caller's. Tasks that send at the same
    time take turns.
    """
    one = isinstance(packets, (Packet, bytes, bytearray, memoryview))
    left: list[Sendable] = [packets] if one else list(packets)  # type: ignore[list-item, arg-type]
    tx, total, deadline = device.tx[queue], len(left), time.monotonic() + timeout
    async with _turn(tx):
        while left:
            taken = tx.burst(left[:_BURST])
            del left[:taken]
            if taken:
                continue
            wait = deadline - time.monotonic()
            if wait <= 0:
                text = f"the back-end made no room for {len(left)} of {total} packets in {timeout:g} s"
                raise TimeoutError(errno.ETIMEDOUT, text)
            await work(tx, wait)
    return total


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakKeyDictionary[TxQueue, asyncio.Lock]] = WeakKeyDictionary()


def _turn(queue: TxQueue) -> asyncio.Lock:
    """Whose turn it is to send; a lock belongs to an event loop."""
    running = asyncio.get_running_loop()
    if running not in _turns:
        # A lock refers to its loop: none goes of itself.
        for loop in list(_turns):
            if loop.is_closed():
                _turns.pop(loop, None)
    queues = _turns.setdefault(running, WeakKeyDictionary())
    if queue not in queues:
        queues[queue] = asyncio.Lock()
    return queues[queue]
