# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Counters that say that a frame was dropped, and why."""

from __future__ import annotations

from .._stats import QueueStats

DROPS = ("runt", "bad_header", "bad_packet", "bad_offload", "bad_address", "too_many_segments", "lost",
         "tx_dropped_on_reconnect")


def dropped(stats: QueueStats) -> dict[str, int]:
    """How many frames of a queue were dropped, by reason."""
    return {name: getattr(stats, name) for name in DROPS if getattr(stats, name)}


def named(counts: dict[str, int]) -> str:
    """Counts in words."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "-"
