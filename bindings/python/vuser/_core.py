# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""The library's device: whoever can use it refers to this, and it ends when nobody does."""

from __future__ import annotations

import errno
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING

from . import _process
from ._errors import ClosedError, Error
from ._library import lib

if TYPE_CHECKING:
    from ._pool import Pool
    from ._queue import Queue

# Longest wait for calls of other threads to end before a device is closed.
_CLOSE_S = 120.0
# The same when the interpreter ends.
_EXIT_S = 2.0


def _end(handle: int, pools: list[Pool]) -> None:
    """The pools are kept until here."""
    lib.vuser_dev_uninit(handle)
    pools.clear()


class Core:
    """A device, and control calls under way. As a context it is one such call, and gives the handle."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._ended = threading.Condition()
        self._running = 0
        self.open = True
        self.pools: list[Pool] = []
        self.queues: weakref.WeakSet[Queue] = weakref.WeakSet()
        self._owner = _process.own(partial(_end, handle, self.pools))
        _process.remember(self)

    def __enter__(self) -> int:
        with self._ended:
            if not self.open:
                raise ClosedError("the device was closed, or belongs to the process that this one was forked from")
            self._running += 1
        return self._handle

    def __exit__(self, *_: object) -> None:
        with self._ended:
            self._running -= 1
            self._ended.notify_all()

    def close(self, seconds: float = _CLOSE_S) -> None:
        """Lets no more calls begin, waits for those under way, and ends the device."""
        with self._ended:
            if not self.open:
                return
            self.open = False
            if not self._ended.wait_for(lambda: not self._running, seconds):
                self.open = True
                raise Error(errno.EBUSY, "the device can't be closed: a call of another thread does not end")
        try:
            for queue in list(self.queues):
                queue._close()
        except Error:
            self.open = True
            raise
        _process.finish(self._owner)

    def _exit(self) -> None:
        self.close(_EXIT_S)

    def _forked(self) -> None:
        _process.disown(self._owner)
        self._ended = threading.Condition()
        self.open = False
        for queue in list(self.queues):
            queue._forked()
