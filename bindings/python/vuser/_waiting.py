# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Waits for queues of devices whose back-end may be away, which is no error: it is looked for, and the queue goes on."""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Callable, TypeVar, Union

from ._errors import Error
from ._library import lib

if TYPE_CHECKING:
    from ._queue import RxQueue, TxQueue

    Queue = Union[RxQueue, TxQueue]

T = TypeVar("T")

_BURST = 64
PAUSE = 0.02
"""After so many seconds one looks again whether there is a back-end: nobody calls before."""


def arm(queue: Queue) -> bool | None:
    """Asks the device to call for a queue.

    True: there is work already, do not sleep. False: whoever sleeps will be called. None: there is no back-end, and nobody
    calls; look again after PAUSE.
    """
    return _unless_down(queue.arm)


def wait(queue: Queue, seconds: float) -> bool:
    """Waits until there may be work for a queue; False when there is none, after so many seconds at most."""
    work = _unless_down(lambda: queue.wait(seconds))
    if work is None:
        time.sleep(max(0.0, min(seconds, PAUSE)))
    return bool(work)


def nothing() -> None:
    """What is done meanwhile."""


def send_all(tx: TxQueue, frames: Sequence[bytes], timeout: float, meanwhile: Callable[[], None] = nothing) -> None:
    """Sends all of these, waiting for room. TimeoutError: there was none for ``timeout`` seconds."""
    left: list[bytes] = list(frames)
    deadline = time.monotonic() + timeout
    while left:
        taken = tx.burst(left[:_BURST])
        del left[:taken]
        if taken:
            deadline = time.monotonic() + timeout
        elif left:
            _or_late(deadline, f"the back-end takes no frames: {len(left)} of {len(frames)} wait for {timeout:g} s")
            meanwhile()
            wait(tx, 0.005)


def drain(tx: TxQueue, timeout: float, meanwhile: Callable[[], None] = nothing) -> None:
    """Waits until the device has sent all that the queue was given. TimeoutError: it did not for ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    offset = 0
    while True:
        try:
            if _unless_down(partial(tx._call, lib.vuser_queue_descriptor_status, offset)):
                # Not with the device any more.
                offset += 1
                continue
        except Error as error:
            if error.errno != errno.EINVAL:
                raise
            # The ring has no more.
            return
        _or_late(deadline, f"the back-end does not take the last frames in {timeout:g} s")
        meanwhile()
        time.sleep(0.001)


def _or_late(deadline: float, text: str) -> None:
    if time.monotonic() >= deadline:
        raise TimeoutError(errno.ETIMEDOUT, text)


def _unless_down(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except Error as error:
        if error.errno != errno.ENETDOWN:
            raise
        return None
