# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""The package on the library that watches its callers: it makes no error, and an error of a program's that it can't prevent is
told. Each in a process of its own, which loads that library."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

CHECKED = Path(os.environ["VUSER_LIBRARY"]).parent / "checked" / "libvuser.so.0" if "VUSER_LIBRARY" in os.environ else None


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Python with these arguments, with that library."""
    if CHECKED is None or not CHECKED.is_file():
        pytest.skip(f"{CHECKED} is missing: make checked")
    command = [sys.executable, *map(str, arguments)]
    environment = {**os.environ, "VUSER_LIBRARY": str(CHECKED)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=600)


def test_the_package_makes_no_errors() -> None:
    files = [f"tests/python/test_{name}.py" for name in ("bursts", "lifetimes")]
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", *files)
    assert done.returncode == 0 and "caller error" not in done.stderr, done.stdout + done.stderr


def test_a_slice_that_outlives_its_packet_is_told() -> None:
    program = """
import vuser
pool = vuser.Pool(64, huge=False)
packet = pool.packet(bytes(60))
kept = packet.data[10:20]
packet.free()
assert pool.available == 64
kept[0] = 1
pool.alloc(64)
"""
    done = run("-c", program)
    assert done.returncode == -signal.SIGABRT, done.stderr
    assert "vuser: caller error: somebody has written to the free buffer" in done.stderr, done.stderr
