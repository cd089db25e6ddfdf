# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Live tables, by rich, which nothing else needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .output import Failure

if TYPE_CHECKING:
    from rich.console import Console

HINT = "live tables need the package rich: pip install 'vuser[cli]' (Debian: apt install python3-rich); --json needs nothing"


def console() -> Console:
    """The terminal."""
    try:
        from rich.console import Console
    except ImportError:
        raise Failure(HINT) from None
    return Console(highlight=False)
