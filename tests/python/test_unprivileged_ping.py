# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Promise: an ordinary user gets an address, resolves, pings and exchanges datagrams through passt, without root.

The other end is passt as it is, and behind it the kernel's loopback: see the example.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import vuser
from needs import need
from testpmd import ordinary_user

ROOT = Path(__file__).resolve().parents[2]
# A network of its own, in which the user may say who can have ping sockets: distributions let all, some containers none.
OWN_NETWORK = ["unshare", "--map-root-user", "--net", "sh", "-c",
               "ip link set lo up && echo 0 0 > /proc/sys/net/ipv4/ping_group_range && exec \"$@\"", "sh"]


def run(command: list[str], directory: Path, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(directory), "VUSER_LIBRARY": str(directory / "libvuser.so"), "HOME": str(directory)}
    return subprocess.run([*ordinary_user(), *command], cwd=directory, env=env, capture_output=True, text=True, timeout=seconds)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A copy of everything that any user can read, and passt."""
    need("a checkout, with its scripts and examples", (ROOT / "scripts" / "passt.sh").is_file())
    made = subprocess.run([ROOT / "scripts" / "passt.sh", ROOT / "build" / "passt"], capture_output=True, text=True)
    need(f"passt with vhost-user ({made.stderr.strip()})", made.returncode == 0)
    with tempfile.TemporaryDirectory(prefix="vuser-unprivileged-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        shutil.copytree(Path(vuser.__file__).parent, directory / "vuser", ignore=shutil.ignore_patterns("__pycache__", "*.so*"))
        shutil.copy(vuser.library_path, directory / "libvuser.so")
        shutil.copy(ROOT / "examples" / "unprivileged_ping.py", directory)
        shutil.copy(made.stdout.strip(), directory / "passt")
        yield directory


@pytest.fixture(scope="module")
def python(place: Path) -> str:
    """An interpreter that the user may run: root's own need not be."""
    for program in (sys.executable, "/usr/bin/python3"):
        # By a shell: setpriv itself may still find what its user may not.
        command = 'exec "$0" -c "import ctypes, sys; assert sys.version_info >= (3, 9)"'
        if run(["sh", "-c", command, program], place).returncode == 0:
            return program
    need("a python3 that an ordinary user can run", False)
    raise AssertionError


@pytest.fixture(scope="module")
def network(place: Path) -> list[str]:
    """What makes a command run where its user may ping."""
    if run([*OWN_NETWORK, "true"], place).returncode == 0:
        return OWN_NETWORK
    low, high = map(int, Path("/proc/sys/net/ipv4/ping_group_range").read_text().split())
    group = 65534 if ordinary_user() else os.getgid()
    need("ping sockets, or network namespaces, for an ordinary user", low <= group <= high)
    return []


def test_all_steps(place: Path, python: str, network: list[str]) -> None:
    done = run([*network, python, "unprivileged_ping.py", "--passt", "./passt"], place)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    steps = [line.split()[0] for line in done.stdout.splitlines()]
    assert steps == ["DHCP", "ARP", "ping", "ping", "ping", "UDP"], done.stdout
    assert "192.0.2.2/24 by 192.0.2.1" in done.stdout and "'hello from user space'" in done.stdout


def test_without_any_namespace(place: Path, python: str) -> None:
    """Whether passt may ping there is not ours to say."""
    done = run([python, "unprivileged_ping.py", "--passt", "./passt", "--pings", "0"], place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["DHCP", "ARP", "UDP"], done.stdout


def test_the_command_line_does_it_too(place: Path, python: str, network: list[str]) -> None:
    script = """
        ./passt -f --vhost-user -s $PWD/p -i lo -a 192.0.2.2 -n 24 -g 192.0.2.1 --map-host-loopback 192.0.2.1 > log 2>&1 &
        trap 'kill $!' EXIT
        for _ in $(seq 1000); do "$0" -m vuser dhcp p --json && break; sleep 0.01; done 2> /dev/null | tail -1
        "$0" -m vuser ping p 192.0.2.1 -c 3 -i 0 --json
        "$0" -m vuser probe p --json
    """
    with tempfile.TemporaryDirectory(dir=place) as name:
        os.chmod(name, 0o777)
        for thing in ("passt", "vuser"):
            os.symlink(place / thing, Path(name, thing))
        env_place = Path(name)
        shutil.copy(place / "libvuser.so", env_place)
        done = run([*network, "sh", "-c", script, python], env_place)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert records[0]["address"] == "192.0.2.2/24" and records[0]["router"] == "192.0.2.1", done.stdout + done.stderr
    assert records[-2]["type"] == "summary" and records[-2]["answered"] == 3
    names = {feature["name"]: feature for feature in records[-1]["features"]}
    assert names["mrg_rxbuf"]["used"] and not names["ring_packed"]["used"]
