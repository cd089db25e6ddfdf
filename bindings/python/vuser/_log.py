# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""The library's log, as records of Python's logging."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from typing import Any

from . import _abi
from ._errors import check
from ._library import lib

#: Below DEBUG: what the library calls level 5.
TRACE = 5
_LEVELS = (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG, TRACE)
# The library calls it from its threads: it must live as long as it is set.
_function: Any = None
_depth = 0
# Threads on which it is handling a record.
_inside: list[int] = []


def set_log(level: int | str | None = logging.INFO, logger: logging.Logger | None = None) -> None:
    """Sends the library's log to a logger ("vuser" unless another is given), up to a level of logging's; None: no more.

    Records are handled in whatever thread has something to say, and handlers must not call back into vuser.
    """
    global _function, _depth
    new, depth = _abi.vuser_log_fn(0), 0
    if level is not None:
        number = logging.getLevelName(level) if isinstance(level, str) else level
        if not isinstance(number, int):
            raise ValueError(f"{level!r} is not a level of logging's")
        depth = sum(number <= known for known in _LEVELS[1:])
        target = logger or logging.getLogger("vuser")

        def record(theirs: int, message: bytes, _: Any) -> None:
            _inside.append(threading.get_ident())
            try:
                level = _LEVELS[theirs] if 0 < theirs < len(_LEVELS) else TRACE
                target.log(level, "%s", message.decode(errors="replace"))
            finally:
                _inside.remove(threading.get_ident())

        new = _abi.vuser_log_fn(record) if depth else new
    check(lib.vuser_set_log(depth, new, None))
    _function, _depth = new, depth


@atexit.register
def _quiet() -> None:
    """No thread of the library's may call into an interpreter that is going away."""
    set_log(None)


def _before_fork() -> None:
    """A record that another thread is handling would be under way in the child for ever, and its lock held."""
    if _depth and threading.get_ident() not in _inside:
        lib.vuser_set_log(0, _abi.vuser_log_fn(0), None)


def _after_fork() -> None:
    if _depth and threading.get_ident() not in _inside:
        lib.vuser_set_log(_depth, _function, None)


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
