# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""The library's device: whoever can use it refers to this, and it ends when nobody does."""

from __future__ import annotations

import errno
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

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


def _end(handle: int, pools: list[Pool], memory: dict[int, Any]) -> None:
    """Pools and memory are kept until here."""
    lib.vuser_dev_uninit(handle)
    pools.clear()
    memory.clear()


class Core:
    """A device, and control calls under way. As a context it is one such call, and gives the handle."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._ended = threading.Condition()
        # The thread of each call, and which of them closes the device at the end of its own.
        self._running: list[int] = []
        self._closer = 0
        self.open = True
        self.pools: list[Pool] = []
        # What keeps the application's memory where it is, by its address.
        self.memory: dict[int, Any] = {}
        self.queues: weakref.WeakSet[Queue] = weakref.WeakSet()
        self._owner = _process.own(partial(_end, handle, self.pools, self.memory))
        _process.remember(self)

    def __enter__(self) -> int:
        with self._ended:
            self._running.append(threading.get_ident())
            if self.open:
                return self._handle
        self.__exit__()
        raise ClosedError("the device was closed, or belongs to the process that this one was forked from")

    def __exit__(self, *_: object) -> None:
        me = threading.get_ident()
        with self._ended:
            self._running.remove(me)
            self._ended.notify_all()
            mine = self._closer == me and me not in self._running
            if mine:
                self._closer = 0
        if mine:
            self._close(_CLOSE_S)

    def close(self, seconds: float = _CLOSE_S) -> None:
        """Lets no more calls begin, waits for those under way, and ends the device. From a signal handler that came in the
        middle of such a call the device ends when that call has."""
        me = threading.get_ident()
        with self._ended:
            if not self.open:
                return
            self.open = False
            if me in self._running:
                self._closer = me
                return
        self._close(seconds)

    def _close(self, seconds: float) -> None:
        try:
            with self._ended:
                if not self._ended.wait_for(lambda: not self._running, seconds):
                    raise Error(errno.EBUSY, "the device can't be closed: a call of another thread does not end")
            queues = list(self.queues)
            for queue in queues:
                queue._may_close()
            for queue in queues:
                queue._close()
        except BaseException:
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
