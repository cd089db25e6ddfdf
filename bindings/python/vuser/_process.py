# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""What becomes of objects when nothing refers to them any more, when the process is forked, or ends."""

from __future__ import annotations

import atexit
import contextlib
import gc
import itertools
import os
import sys
import threading
import weakref
from collections import deque
from types import TracebackType
from typing import Any, Callable, Protocol, TypeVar

from ._errors import Error


class Living(Protocol):
    """Something of the library's that is this process's."""

    def _forked(self) -> None:
        """In a child of this process: it is the parent's."""

    def _exit(self) -> None:
        """The interpreter ends, other threads of it may go on."""


_Self = TypeVar("_Self", bound="Closing")


class Closing:
    """As a context, it is closed at the end."""

    __slots__ = ()

    def close(self) -> None:
        """Ends it."""
        raise NotImplementedError

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


_numbers = itertools.count(1)
_living: weakref.WeakValueDictionary[int, Living] = weakref.WeakValueDictionary()


def remember(thing: Living) -> None:
    """Tells it when one of both happens."""
    _living[next(_numbers)] = thing


# What the library is told at the end of something of its own, by the number of its owner.
_owned: dict[int, Callable[[], Any]] = {}
# Owners that nothing refers to any more, or only what is going too.
_late: deque[Owner] = deque()


class Owner(int):
    """Something of the library's ends when nothing refers to this any more.

    The collector calls each ``__del__`` of a cycle, in any order, and all of them may still use what this owns: then its end
    is only noted, and comes when the cycle has gone. A weakref's callback would come before all of them.
    """

    __slots__ = ()
    # References to an object that has no other while its __del__ runs, and while reap() looks at it.
    gone, alone = 0, 0

    def __del__(self) -> None:
        if self and not _owned:
            return
        references = sys.getrefcount(self)
        if not self:
            Owner.gone = references
        elif int(self) in _owned:
            # The collector runs on any thread. One of the library's, which has something to log, can't end what it works for.
            if references > Owner.gone or _foreign():
                _late.append(self)
            else:
                finish(self)


def finish(owner: Owner) -> None:
    """Ends what it owns, unless that was done already."""
    end = disown(owner)
    if end:
        end()


def _foreign() -> bool:
    """Whether this thread is none of Python's. Takes no lock, for the collector may have come while it is held."""
    thread = getattr(threading, "_active", {}).get(threading.get_ident())
    return thread is None or isinstance(thread, threading._DummyThread)


def own(end: Callable[[], Any]) -> Owner:
    """An owner of something that ``end`` ends."""
    reap()
    number = next(_numbers)
    _owned[number] = end
    return Owner(number)


def disown(owner: Owner) -> Callable[[], Any] | None:
    """What was to be called at its end, unless that was done already; now it will not be."""
    return _owned.pop(int(owner), None)


def reap() -> None:
    """Ends what could not end before."""
    before = -1
    while before != len(_late) and not _foreign():
        before = len(_late)
        for _ in range(before):
            try:
                owner = _late.popleft()
            except IndexError:
                return
            references = sys.getrefcount(owner)
            if not owner:
                Owner.alone = references
            elif references > Owner.alone:
                _late.append(owner)
            else:
                finish(owner)


def _collected(phase: str, _: dict[str, int]) -> None:
    if _late and phase == "stop":
        reap()


_late.append(Owner(0))
reap()
gc.callbacks.append(_collected)


def _in_child() -> None:
    _late.clear()
    for thing in list(_living.values()):
        thing._forked()


@atexit.register
def _at_exit() -> None:
    for _, thing in sorted(_living.items(), reverse=True):
        with contextlib.suppress(Error):
            thing._exit()
    reap()
    # What is left stays: other threads may use it.
    _owned.clear()


os.register_at_fork(after_in_child=_in_child)
