# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Promise: each command does what its help says, in text and in JSON, and ends with a sentence and a status when it can't."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import testpmd
import vuser
from needs import need
from vuser import pcap
from vuser.cli import main

LIMIT = 90.0
BINDINGS = str(Path(vuser.__file__).resolve().parents[1])
ENV = {**os.environ, "PYTHONPATH": BINDINGS, "VUSER_LIBRARY": vuser.library_path, "COLUMNS": "100"}


def start(*args: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vuser", *map(str, args)]
    return subprocess.Popen(command, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def run(*args: object, status: int = 0) -> tuple[str, str]:
    """Runs a command in this process, which is faster, and says what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: object = main([str(arg) for arg in args])
        except SystemExit as end:
            code = end.code
    assert code == status, out.getvalue() + err.getvalue()
    return out.getvalue(), err.getvalue()


def records(*args: object, status: int = 0) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(*args, "--json", status=status)[0].splitlines()]


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[Path]:
    with vuser.Loopback(tmp_path / "s"):
        yield tmp_path / "s"


@pytest.fixture(scope="module")
def answering() -> Iterator[Path]:
    """A vhost device of DPDK's that answers pings and ARP."""
    need("dpdk-testpmd (apt-get install dpdk-dev)", testpmd.program())
    with testpmd.Testpmd("icmpecho") as pmd:
        yield pmd.path


@pytest.fixture(autouse=True)
def width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the terminal that there is not."""
    monkeypatch.setenv("COLUMNS", "100")


def test_help_names_every_command() -> None:
    out, _ = run("--help")
    for command in ("probe", "ping", "dhcp", "capture", "replay", "stat", "loopback", "bench"):
        assert f"\n    {command} " in out
        assert "--json" in run(command, "--help")[0]
    assert run("--version")[0] == f"vuser {vuser.__version__}\n"
    assert "usage: vuser" in run(status=2)[1]


def test_probe_says_what_is_used_and_why_not(echo: Path) -> None:
    out, _ = run("probe", f"path={echo},packed_vq=1")
    assert f"back-end         vhost-user back-end at {echo}\n" in out
    assert "packed, 256 descriptors" in out
    assert any(line.split()[:3] == ["34", "ring_packed", "used"] for line in out.splitlines())
    assert any(line.split()[:4] == ["0", "csum", "not", "used"] and "csum=1" in line for line in out.splitlines())
    (found,) = records("probe", echo)
    features = {(feature["kind"], feature["name"]): feature for feature in found["features"]}
    assert features["virtio", "event_idx"]["used"] and not features["virtio", "ring_packed"]["used"]
    assert features["protocol", "config"]["used"]
    assert found["info"]["mac"].count(":") == 5 and found["info"]["features"].startswith("0x")


def test_probe_of_dpdk(answering: Path) -> None:
    (found,) = records("probe", answering)
    assert found["info"]["max_queue_pairs"] > 0
    missing = [feature for feature in found["features"] if not feature["offered"] and feature["why"]]
    assert "config" in [feature["name"] for feature in missing]


def test_errors_are_sentences(tmp_path: Path) -> None:
    out, err = run("probe", tmp_path / "nowhere", status=2)
    assert out == "" and err.startswith("vuser: ") and "is the back-end running?" in err
    (error,) = records("ping", f"path={tmp_path / 'nowhere'}", "192.0.2.1", "-a", "192.0.2.2/24", status=2)
    assert error["errno"] == 2 and "cannot connect" in error["error"]
    assert "nonsense" in run("probe", "path=x,nonsense=1", status=2)[1]
    assert "no capture" in run("replay", "loopback", os.devnull, status=2)[1]
    assert "invalid IPv4Address value: 'here'" in run("ping", "loopback", "here", status=2)[1]
    assert "there is no gateway" in run("ping", "loopback", "192.0.2.1", "-a", "198.51.100.1/24", status=2)[1]


def test_ping_of_dpdk(answering: Path) -> None:
    out, _ = run("ping", answering, "192.0.2.1", "-a", "192.0.2.2/24", "-c", 3, "-i", 0.01)
    assert out.startswith("PING 192.0.2.1 from 192.0.2.2/24: 56 bytes of data\n64 bytes from 192.0.2.1: seq=1 ttl=")
    assert "3 sent, 3 answered, 0 % lost" in out
    found = records("ping", f"path={answering},packed_vq=1", "192.0.2.1", "-a", "192.0.2.2/24", "-c", 100, "-i", 0, "-s", 1400)
    assert [record["type"] for record in found] == ["answer"] * 100 + ["summary"]
    assert found[-1]["answered"] == 100 and 0 < found[-1]["min"] <= found[-1]["mean"] <= found[-1]["max"]


def test_nobody_answers(echo: Path) -> None:
    """What comes back is what was asked, and no answer."""
    out, _ = run("ping", echo, "192.0.2.1", "-a", "192.0.2.2/24", "-c", 1, "-W", 0.2, status=1)
    assert "nobody says that 192.0.2.1 is there (ARP): seq=1" in out and "1 sent, 0 answered, 100 % lost" in out
    assert "no DHCP server answers" in run("dhcp", echo, "-W", 0.2, status=1)[0]
    assert records("dhcp", echo, "-W", 0.2, status=1) == [{"error": "no DHCP server answers", "errno": None}]


def frames(path: Path, count: int, size: int = 100) -> Path:
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    file = path / f"{count}x{size}.pcap"
    file.write_bytes(head + (struct.pack("<IIII", 0, 0, size, size) + bytes(size)) * count)
    return file


def test_replay(tmp_path: Path, echo: Path) -> None:
    file = frames(tmp_path, 1000)
    found = records("replay", echo, file, "--fast", "--loops", 5)
    assert found[-1]["type"] == "summary" and (found[-1]["packets"], found[-1]["bytes"]) == (5000, 500_000)
    out, _ = run("replay", echo, file, "--rate", 2000, "--interval", 0.2)
    assert len(out.splitlines()) >= 2 and "1000 frames" in out.splitlines()[-1]
    # What is no frame is not sent, and said.
    assert records("replay", echo, frames(tmp_path, 3, size=5), "--fast")[-1]["dropped"] == {"bad_packet": 3}
    assert "bad_packet 3" in run("replay", echo, frames(tmp_path, 3, size=5), "--fast")[0]
    assert "begins like neither pcap nor pcapng" in run("replay", echo, __file__, status=2)[1]


def test_what_is_captured_is_what_tshark_reads_and_replay_sends(tmp_path: Path) -> None:
    file = tmp_path / "c.pcapng"
    with vuser.Loopback(tmp_path / "source", mode="source", frame=200), vuser.Loopback(tmp_path / "sink", mode="sink") as sink:
        (found,) = records("capture", tmp_path / "source", file, "-c", 500)
        assert (found["received"], found["captured"], found["dropped"]) == (500, 500, 0)
        need("tshark (apt-get install tshark)", shutil.which("tshark"))
        lengths = subprocess.run(["tshark", "-r", file, "-T", "fields", "-e", "frame.len"], capture_output=True, text=True)
        assert lengths.stdout.split() == ["200"] * 500, lengths.stderr
        assert [len(frame) for _, frame in pcap.packets(file)] == [200] * 500
        assert records("replay", tmp_path / "sink", file, "--fast")[-1]["packets"] == 500
        assert sink.stats().received == 500
        # Less of each frame, of those in both directions, until the file is full.
        out, _ = run("capture", tmp_path / "source", file, "--echo", "--snaplen", 60, "--max-bytes", 20000, "--seconds", LIMIT)
        assert "the file is full" in out and file.stat().st_size <= 20000
        assert {len(frame) for _, frame in pcap.packets(file)} == {60}


def test_capture_to_standard_output(tmp_path: Path) -> None:
    with vuser.Loopback(tmp_path / "s", mode="source"):
        command = [sys.executable, "-m", "vuser", "capture", str(tmp_path / "s"), "-", "-c", "10"]
        done = subprocess.run(command, env=ENV, capture_output=True, timeout=LIMIT)
    assert done.returncode == 0 and b"10 frames captured" in done.stderr, done.stderr
    assert len(list(pcap.read(io.BytesIO(done.stdout)))) == 10


def test_bench_measures_each_way() -> None:
    found = records("bench", "--seconds", 0.1)
    assert [row["api"] for row in found] == ["list", "bytes", "arrays"] and all(row["mpps"] > 0 for row in found)
    assert run("bench", "--seconds", 0.05, "--burst", 32)[0].count(" Mpps ") == 3
    assert "14 to 2000" in run("bench", "--size", 3, status=2)[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_loopback_serves_until_it_is_stopped(tmp_path: Path, number: int) -> None:
    with start("loopback", tmp_path / "s", "--mode", "sink", "--json", "--interval", 0.1) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["type"] == "listening"
        run("replay", tmp_path / "s", frames(tmp_path, 100), "--fast")
        deadline = time.monotonic() + LIMIT
        while json.loads(process.stdout.readline())["received"] < 100:
            assert time.monotonic() < deadline
        process.send_signal(number)
        assert process.wait(LIMIT) == 0
    assert not (tmp_path / "s").exists()


def test_stat_counts(tmp_path: Path) -> None:
    with vuser.Loopback(tmp_path / "s", mode="source", queues=2):
        found = records("stat", f"path={tmp_path / 's'},queues=2", "--interval", 0.2, "--seconds", 0.5)
    assert len(found) >= 2
    queues = {queue["queue"]: queue for queue in found[-1]["queues"]}
    assert set(queues) == {"rx0", "tx0", "rx1", "tx1"} and found[-1]["link"] is True
    assert queues["rx0"]["packets"] > 0 and queues["rx0"]["rate"] > 0 and queues["rx0"]["size"] == 256


def test_stat_of_frames_one_at_a_time(tmp_path: Path, echo: Path) -> None:
    """A back-end that takes what another program sends wakes the receiver for each frame."""
    found = records("stat", echo, "--echo", "--seconds", 0.2)
    assert {queue["interrupts"] for queue in found[-1]["queues"]} == {0.0}


def test_stat_draws_a_table(tmp_path: Path) -> None:
    pytest.importorskip("rich")
    with vuser.Loopback(tmp_path / "s", mode="source"):
        out, _ = run("stat", tmp_path / "s", "--interval", 0.2, "--seconds", 0.4)
    for word in ("queue", "frames/s", "Mbit/s", "ring fill", "kicks/s", "intr/s", "dropped", "waited", "rx0", "tx0", "link up"):
        assert word in out, out


def test_without_rich_it_says_so(tmp_path: Path, echo: Path) -> None:
    (tmp_path / "rich.py").write_text("raise ImportError('not here')\n")
    command = [sys.executable, "-m", "vuser", "stat", str(echo), "--seconds", "0.1"]
    env = {**ENV, "PYTHONPATH": f"{tmp_path}:{BINDINGS}"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 2 and "pip install 'vuser[cli]'" in done.stderr
    done = subprocess.run([*command, "--json"], env=env, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0 and json.loads(done.stdout.splitlines()[0])["queues"]


def test_a_reader_that_goes_is_no_error(echo: Path) -> None:
    with start("loopback", f"{echo}2", "--interval", 0.01) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(LIMIT) == 2
        assert process.stderr is not None and "Traceback" not in process.stderr.read()


def at_a_terminal(*args: object, until: bytes, number: int = signal.SIGINT) -> bytes:
    """Runs a command at a terminal until it has said something, and stops it; what it drew."""
    terminal, theirs = pty.openpty()
    command = [sys.executable, "-m", "vuser", *map(str, args)]
    process = subprocess.Popen(command, env=ENV, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    try:
        seen, deadline = b"", time.monotonic() + LIMIT
        while until not in seen:
            # It may be silent: only what is there is read.
            assert select.select([terminal], [], [], max(deadline - time.monotonic(), 0.0))[0], seen
            seen += os.read(terminal, 65536)
        process.send_signal(number)
        assert process.wait(LIMIT) == 0
        return seen
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def test_an_interval_is_above_zero(echo: Path) -> None:
    for command in ("stat", "loopback"):
        assert "above zero" in run(command, echo, "--interval", 0, status=2)[1]


def test_what_is_live_is_stopped_at_a_terminal(tmp_path: Path, echo: Path) -> None:
    pytest.importorskip("rich")
    at_a_terminal("stat", echo, "--interval", 0.1, until=b"rx0")
    at_a_terminal("replay", echo, frames(tmp_path, 1000), "--rate", 1000, "--loops", 1000, until=b"frames, ")
