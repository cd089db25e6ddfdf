# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""What becomes of objects when the process is forked, or ends."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import weakref
from typing import Protocol

from ._errors import Error


class Living(Protocol):
    """Something of the library's that is this process's."""

    def _forked(self) -> None:
        """In a child of this process: it is the parent's."""

    def _exit(self) -> None:
        """The interpreter ends, other threads of it may go on."""


_numbers = itertools.count()
_living: weakref.WeakValueDictionary[int, Living] = weakref.WeakValueDictionary()


def remember(thing: Living) -> None:
    """Tells it when one of both happens."""
    _living[next(_numbers)] = thing


def _in_child() -> None:
    for thing in list(_living.values()):
        thing._forked()


@atexit.register
def _at_exit() -> None:
    for _, thing in sorted(_living.items(), reverse=True):
        with contextlib.suppress(Error):
            thing._exit()


os.register_at_fork(after_in_child=_in_child)
