# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""What the tests share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import vuser

ROOT = Path(__file__).resolve().parent.parent.parent
REQUIRED = os.environ.get("VUSER_REQUIRE_ALL") == "1"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """With VUSER_REQUIRE_ALL=1 a test that is skipped fails."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if REQUIRED and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but VUSER_REQUIRE_ALL=1: {call.excinfo.value if call.excinfo else ''}"


@pytest.fixture
def device() -> Iterator[vuser.Device]:
    """A device that is started, with the built-in back-end, which returns frames."""
    with vuser.Device(path="loopback") as made:
        yield made


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Waits until something is so, with a deadline."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.001)


def frame(number: int, size: int = 64) -> bytes:
    """A frame with a number in it."""
    head = bytes.fromhex("020000000002020000000001 88b5")
    return head + number.to_bytes(8, "little") + bytes(size - len(head) - 8)


def receive(queue: vuser.RxQueue, n: int, seconds: float = 60) -> list[vuser.Packet]:
    """n packets, however many bursts it takes."""
    found: list[vuser.Packet] = []
    end = time.monotonic() + seconds
    while len(found) < n:
        assert time.monotonic() < end, f"only {len(found)} of {n} frames came"
        queue.wait(0.1)
        found += queue.burst(n - len(found))
    return found
