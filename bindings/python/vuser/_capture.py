# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""What goes through a device, in a pcapng file that Wireshark reads."""

from __future__ import annotations

import ctypes
import os
import threading
from functools import partial
from typing import TYPE_CHECKING

from . import _abi, _process
from ._errors import ClosedError, check
from ._library import lib
from ._stats import CaptureStats, fields, sized

if TYPE_CHECKING:
    from ._core import Core


class Capture(_process.Closing):
    """A capture under way, made by :meth:`Device.capture`. It goes on until it is closed, also when the device is."""

    def __init__(self, core: Core, to: str | os.PathLike[str] | int, snaplen: int, frames: int, max_bytes: int) -> None:
        config = sized(_abi.vuser_capture_config)
        if isinstance(to, int):
            config.fd = to
        else:
            path = os.fsencode(to)
            if not 0 < len(path) < _abi.vuser_capture_config.path.size or b"\0" in path:
                raise ValueError(f"path={to!r} can't be: it has 1 to {_abi.vuser_capture_config.path.size - 1} bytes")
            config.path = path
        for name, value in (("snaplen", snaplen), ("frames", frames), ("max_bytes", max_bytes)):
            setattr(config, name, value)
            if getattr(config, name) != value:
                raise ValueError(f"{name}={value} can't be")
        handle = ctypes.c_void_p()
        with core as device:
            check(lib.vuser_capture_start(device, ctypes.byref(config), ctypes.byref(handle)))
        self._handle = handle.value or 0
        self._lock = threading.Lock()
        self._owner = _process.own(partial(lib.vuser_capture_stop, self._handle))
        _process.remember(self)

    def stats(self) -> CaptureStats:
        """What has come of it so far."""
        with self._lock:
            if not self._handle:
                raise ClosedError("the capture was closed, or belongs to the process that this one was forked from")
            stats = sized(_abi.vuser_capture_stats)
            check(lib.vuser_capture_get_stats(self._handle, ctypes.byref(stats)))
        made: CaptureStats = fields(stats, CaptureStats)
        return made

    def close(self) -> None:
        """Ends it: writes what is still to be written. Error: what has ended it before, or the file can't be written in
        time. Once more does nothing."""
        with self._lock:
            handle, self._handle = self._handle, 0
            if handle and _process.disown(self._owner):
                check(lib.vuser_capture_stop(handle))

    def _forked(self) -> None:
        """In a child of this process: the capture is the parent's."""
        _process.disown(self._owner)
        self._lock = threading.Lock()
        self._handle = 0

    def _exit(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<vuser.Capture{'' if self._handle else ', closed'}>"
