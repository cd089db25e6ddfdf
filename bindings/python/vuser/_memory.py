# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Memory of the application's, and which of the device's memory was written."""

from __future__ import annotations

import ctypes
import threading
from typing import TYPE_CHECKING, Any

from ._errors import check
from ._library import lib
from ._pool import Pool
from ._process import Closing

if TYPE_CHECKING:
    from ._core import Core

_PAGE = 4096
_Nothing = ctypes.c_char * 0


def writable(name: str, buffer: Any) -> tuple[Any, int, int]:
    """Something that keeps a buffer where it is, its address, and its bytes."""
    view = memoryview(buffer)
    try:
        held = _Nothing.from_buffer(view)
    except TypeError as error:
        raise TypeError(f"{name} must be writable and contiguous: {error}") from None
    return held, ctypes.addressof(held), view.nbytes


def place(memory: Any) -> tuple[Any, int, int]:
    """The same of a pool, or of a writable buffer."""
    return writable("memory", memory._memory if isinstance(memory, Pool) else memory)


class DirtyLog(Closing):
    """What the back-end writes, as long as this is open; made by :meth:`Device.dirty_log`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lock = threading.Lock()
        self._is_open = True
        with core as device:
            check(lib.vuser_dirty_log_start(device))

    def read(self, memory: Pool | Any) -> list[slice]:
        """Where the back-end has written to since this was last asked: slices of the memory of a pool (``Pool.memory``) or of a
        writable buffer, in order, to the page. It is forgotten then: copy what is written after this, and ask again."""
        held, at, size = place(memory)
        skew = at % _PAGE
        if not size:
            return []
        bits = (ctypes.c_uint8 * ((skew + size + 8 * _PAGE - 1) // (8 * _PAGE)))()
        with self._core as device:
            check(lib.vuser_dirty_log_read(device, at, size, bits, len(bits)))
        del held
        found: list[slice] = []
        for page in _ones(bytes(bits)):
            begin, end = max(0, page * _PAGE - skew), min(size, (page + 1) * _PAGE - skew)
            if found and found[-1].stop == begin:
                begin = found.pop().start
            found.append(slice(begin, end))
        return found

    def close(self) -> None:
        """Ends the log. Once more does nothing, nor does it when the device was closed."""
        with self._lock:
            was_open, self._is_open = self._is_open, False
            if was_open and self._core.open:
                with self._core as device:
                    check(lib.vuser_dirty_log_stop(device))

    def __repr__(self) -> str:
        return f"<vuser.DirtyLog{'' if self._is_open else ', closed'}>"


def _ones(bits: bytes) -> list[int]:
    """Which bits are set."""
    return [8 * n + k for n, byte in enumerate(bits) if byte for k in range(8) if byte >> k & 1]
