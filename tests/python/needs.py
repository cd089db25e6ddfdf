# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""What tests need that is not everywhere."""

from __future__ import annotations

import importlib.util
import os

import pytest


def need(what: str, there: object) -> None:
    """Skips a test when something is missing, or fails it where all must be there."""
    if there:
        return
    if os.environ.get("VUSER_REQUIRE_ALL") == "1":
        pytest.fail(f"needed, and not there: {what}")
    pytest.skip(f"needs {what}")


def need_module(name: str) -> object | None:
    """The same of a whole file of tests, for a module of Python's."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        if os.environ.get("VUSER_REQUIRE_ALL") == "1":
            raise ImportError(f"needed, and not there: the package {name}")
        pytest.skip(f"needs the package {name}", allow_module_level=True)
    return spec
