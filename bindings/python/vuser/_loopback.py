# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""The built-in back-end, for other processes or for a device of this one."""

from __future__ import annotations

import ctypes
import os
import threading
from functools import partial

from . import _abi, _process
from ._errors import ClosedError, check
from ._library import lib
from ._stats import LoopbackStats, fields, sized


class Loopback(_process.Closing):
    """A vhost-user back-end that listens at a path, in a thread of this process, until it is closed.

    ``mode`` is "echo" (it returns frames), "sink" (it takes them) or "source" (it makes them, of ``frame`` bytes).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        mode: str = "echo",
        **options: str | int | None,
    ) -> None:
        self.path = os.fspath(path)
        if "," in self.path or "\0" in self.path:
            raise ValueError(f"path={self.path!r} has a comma or a zero byte, which can't be")
        given = {"path": self.path, "mode": mode, **options}
        text = ",".join(f"{name}={value}" for name, value in given.items() if value is not None)
        handle = ctypes.c_void_p()
        check(lib.vuser_loopback_start(os.fsencode(text), ctypes.byref(handle)))
        self._handle = handle.value or 0
        self._lock = threading.Lock()
        self._owner = _process.own(partial(lib.vuser_loopback_stop, self._handle))
        _process.remember(self)

    def stats(self) -> LoopbackStats:
        """What it has counted."""
        with self._lock:
            if not self._handle:
                raise ClosedError("the back-end was closed, or belongs to the process that this one was forked from")
            stats = sized(_abi.vuser_loopback_stats)
            check(lib.vuser_loopback_get_stats(self._handle, ctypes.byref(stats)))
        made: LoopbackStats = fields(stats, LoopbackStats)
        return made

    def close(self) -> None:
        """Ends it; its socket goes too. Once more does nothing."""
        with self._lock:
            self._handle = 0
            _process.finish(self._owner)

    def _forked(self) -> None:
        """In a child of this process: the thread is the parent's."""
        _process.disown(self._owner)
        self._lock = threading.Lock()
        self._handle = 0

    def _exit(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<vuser.Loopback {self.path!r}{'' if self._handle else ', closed'}>"
