# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""What a wheel has that is not Python: the library, built by cargo.

VUSER_SYSTEM_LIB=1     without it: the package uses the libvuser.so.0 that the distribution installs.
VUSER_WHEEL_LIBRARY=   this file is put in, and nothing is built.
"""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SONAME = "libvuser.so.0"


class CustomBuildHook(BuildHookInterface):
    """Asked by hatchling before it makes a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if os.environ.get("VUSER_SYSTEM_LIB") == "1":
            return
        library = os.environ.get("VUSER_WHEEL_LIBRARY") or self._cargo()
        # An editable installation finds it where cargo has put it.
        if version != "editable":
            build_data["force_include"][library] = f"vuser/{SONAME}"
            build_data["pure_python"] = False
            # It is called by ctypes, so that any Python 3 will do.
            build_data["tag"] = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")

    def _cargo(self) -> str:
        root = Path(self.root)
        command = [os.environ.get("CARGO", "cargo"), "build", "--release", "--lib", "--locked"]
        try:
            subprocess.run(command, cwd=root, check=True)
        except FileNotFoundError:
            raise SystemExit(
                "vuser is built by cargo, which is not here: install Rust 1.89 or newer (https://rustup.rs), or a wheel, or "
                "set VUSER_SYSTEM_LIB=1 to use the libvuser.so.0 that is installed"
            ) from None
        return str(root / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "libvuser.so")
