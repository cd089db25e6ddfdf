# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""The package is built and installed, and an ordinary user runs the README's lines: without root, without huge pages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import vuser
from conftest import ROOT
from needs import need
from testpmd import Testpmd, ordinary_user, program

FRAME = bytes.fromhex("ffffffffffff 020000000001 88b5") + bytes(50)
LIBRARY = ROOT / "build" / "libvuser.so.0"


def run(*command: object, cwd: Path = ROOT, environment: Mapping[str, str] | None = None) -> str:
    """What a command prints; it must end well."""
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def build(kind: str, to: Path, **environment: str) -> Path:
    """Has hatchling build a wheel or an sdist, with what is installed here."""
    run(sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", to, ROOT, environment=environment)
    (made,) = to.iterdir()
    return made


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One that every user can enter: pytest's can't be."""
    with tempfile.TemporaryDirectory(prefix="vuser-install-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture(scope="module")
def installed(folder: Path) -> list[str]:
    """The Python of an ordinary user who has installed the wheel, and how it is run."""
    # The hook calls cargo, which finds that all is built.
    wheel = build("wheel", folder / "wheel")
    assert wheel.name.startswith(f"vuser-{vuser.__version__}-py3-none-linux_")
    user = ordinary_user()
    # Root's own Python may be one that others can't run.
    python = "/usr/bin/python3" if user and os.access("/usr/bin/python3", os.X_OK) else sys.executable
    home = {"HOME": str(folder), "PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": "", "VUSER_LIBRARY": ""}
    run(*user, python, "-m", "venv", folder / "venv", cwd=folder, environment=home)
    run(*user, folder / "venv/bin/pip", "install", "--no-index", "--no-cache-dir", wheel, cwd=folder, environment=home)
    return [*user, "env", "-C", str(folder), *(f"{k}={v}" for k, v in home.items()), str(folder / "venv/bin/python")]


def lines(path: str) -> str:
    """The README's lines, for the back-end at a path."""
    (found,) = re.findall(r"```python\n(import vuser\n.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len([line for line in found.splitlines() if line]) == 5
    changed: str = found.replace('path="loopback"', f"path={path!r}")
    return changed


def test_the_readmes_lines(installed: list[str]) -> None:
    where = run(*installed, "-c", "import vuser; print(vuser.library_path)").strip()
    assert where.endswith("site-packages/vuser/libvuser.so.0")
    assert run(*installed, "-c", lines("loopback")) == f"{[FRAME]}\n"


def test_the_readmes_lines_with_testpmd(installed: list[str]) -> None:
    need("dpdk-testpmd", program())
    with Testpmd("io") as testpmd:
        assert run(*installed, "-c", lines(str(testpmd.path))) == f"{[FRAME]}\n"


def test_a_wheel_for_distributions(folder: Path) -> None:
    wheel = build("wheel", folder / "system", VUSER_SYSTEM_LIB="1")
    assert wheel.name == f"vuser-{vuser.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(folder / "site")
    assert not [name for name in names if ".so" in name]
    assert "vuser/py.typed" in names
    environment = {"PYTHONPATH": str(folder / "site"), "LD_LIBRARY_PATH": str(LIBRARY.parent), "VUSER_LIBRARY": ""}
    code = "import vuser; print(vuser.__file__, vuser.library_path)"
    printed = run(sys.executable, "-c", code, cwd=folder, environment=environment).split()
    assert printed == [str(folder / "site/vuser/__init__.py"), "libvuser.so.0"]


def test_the_source_distribution_has_all_that_is_built(folder: Path) -> None:
    sdist = build("sdist", folder / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "source")
    (tree,) = (folder / "source").iterdir()
    for part in ("src", "include", "bindings/python"):
        ours = {p.relative_to(ROOT) for p in (ROOT / part).rglob("*") if p.is_file() and "__pycache__" not in p.parts}
        assert ours == {p.relative_to(tree) for p in (tree / part).rglob("*") if p.is_file()}
    cargo = shutil.which("cargo")
    need("cargo", cargo)
    # Reads the manifest and the lock as a build does; all that they name must be there.
    run(cargo, "metadata", "--locked", "--format-version=1", "--no-deps", cwd=tree)
