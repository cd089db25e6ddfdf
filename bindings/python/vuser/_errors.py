# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Errors: an errno, and the library's sentence that says what is wrong and what to do."""

from __future__ import annotations

import builtins
import errno

from ._library import lib


class Error(OSError):
    """What went wrong in the library: ``errno``, and in ``strerror`` a sentence."""


class NotFoundError(Error, FileNotFoundError):
    """There is no back-end at that path."""


class RefusedError(Error, ConnectionRefusedError):
    """There is a socket, and nobody listens."""


class NotPermittedError(Error, builtins.PermissionError):
    """A permission is missing."""


class DeadlineError(Error, builtins.TimeoutError):
    """The back-end did not answer in time, or none came."""


class ClosedError(Error, ValueError):
    """The object was closed, or belongs to the process that this one was forked from."""

    def __init__(self, what: str) -> None:
        super().__init__(errno.EBADF, what)


_KINDS: dict[int, type[Error]] = {
    errno.ENOENT: NotFoundError,
    errno.ECONNREFUSED: RefusedError,
    errno.EACCES: NotPermittedError,
    errno.EPERM: NotPermittedError,
    errno.ETIMEDOUT: DeadlineError,
}


def check(result: int) -> int:
    """What a control call returned, or its error."""
    if result >= 0:
        return result
    sentence = lib.vuser_last_error().decode(errors="replace")
    raise _KINDS.get(-result, Error)(-result, sentence)
