# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Live tables, by rich, which nothing else needs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from .output import Failure

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

HINT = "live tables need the package rich: pip install 'vuser[cli]' (Debian: apt install python3-rich); --json needs nothing"


def console() -> Console:
    """The terminal."""
    try:
        from rich.console import Console
    except ImportError:
        raise Failure(HINT) from None
    return Console(highlight=False)


def progress(total: Callable[[], int | None]) -> Progress | None:
    """A bar, if there is a terminal to draw it on, and rich to draw it."""
    if not sys.stdout.isatty():
        return None
    try:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        return None
    bar = Progress(BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), transient=True)
    bar.add_task("frames", total=total())
    return bar
