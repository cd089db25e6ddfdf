# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""What becomes of objects when the process is forked: they stay the parent's."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class _Forked(Protocol):
    def _forked(self) -> None: ...


_living: weakref.WeakSet[_Forked] = weakref.WeakSet()


def remember(thing: _Forked) -> None:
    """Has thing._forked() called in every child of this process."""
    _living.add(thing)


def _in_child() -> None:
    for thing in list(_living):
        thing._forked()


os.register_at_fork(after_in_child=_in_child)
