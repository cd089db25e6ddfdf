# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Promise: what was captured is sent again, all of it, in order, at the pace that was asked for."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import vuser
from vuser.pcap import CaptureError
from vuser.replay import Progress, replay

LIMIT = 60.0


def capture_of(path: Path, times: list[float], size: int = 100) -> Path:
    """A pcap file of numbered frames."""
    data = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1)
    for number, when in enumerate(times):
        ns = round(when * 1e9)
        data += struct.pack("<IIII", ns // 10**9, ns % 10**9, size, size) + number.to_bytes(4, "big").ljust(size, b".")
    path.write_bytes(data)
    return path


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[vuser.Loopback, vuser.Device]]:
    with vuser.Loopback(str(tmp_path / "s"), mode="sink") as loopback, vuser.Device(f"path={tmp_path / 's'}") as device:
        yield loopback, device


def test_all_frames_go_as_fast_as_they_can(tmp_path: Path, pair: tuple[vuser.Loopback, vuser.Device]) -> None:
    loopback, device = pair
    file = capture_of(tmp_path / "c", [0.0] * 5000)
    progress = replay(device, file, speed=None, loops=3)
    assert (progress.packets, progress.bytes, progress.loops) == (15000, 1_500_000, 3)
    # It returns when the back-end has them: nobody need wait.
    assert loopback.stats().received == 15000


def test_frames_come_back_in_order(tmp_path: Path) -> None:
    file = capture_of(tmp_path / "c", [0.0] * 200, size=2000)
    with vuser.Loopback(str(tmp_path / "s")), vuser.Device(f"path={tmp_path / 's'},queue_size=1024") as device:
        replay(device, file, speed=None, drop=False)
        got: list[int] = []
        deadline = time.monotonic() + LIMIT
        while len(got) < 200:
            assert time.monotonic() < deadline
            got += [int.from_bytes(bytes(packet)[:4], "big") for packet in device.rx[0].burst(64)]
        assert got == list(range(200))


def test_the_pace_is_kept(tmp_path: Path, pair: tuple[vuser.Loopback, vuser.Device]) -> None:
    _, device = pair
    # A clock that goes back in between is no reason to wait.
    file = capture_of(tmp_path / "c", [10.0, 10.1, 10.05, 10.2])
    for options, least in (({"speed": 1.0}, 0.2), ({"speed": 2.0}, 0.1), ({"rate": 10.0}, 0.3), ({"speed": 1.0, "loops": 2}, 0.4)):
        begin = time.monotonic()
        progress = replay(device, file, **options)  # type: ignore[arg-type]
        assert least <= time.monotonic() - begin < least + LIMIT
        assert least <= progress.seconds < least + LIMIT


def test_it_can_be_stopped(tmp_path: Path, pair: tuple[vuser.Loopback, vuser.Device]) -> None:
    loopback, device = pair
    file = capture_of(tmp_path / "c", [0.0] * 64 + [1e6])
    stop, begin = threading.Event(), time.monotonic()

    def go_on(progress: Progress) -> bool:
        if progress.packets == 64:
            stop.set()
        return not stop.is_set()

    assert replay(device, file, go_on=go_on).packets == 64
    assert time.monotonic() - begin < LIMIT and loopback.stats().received == 64


def test_a_back_end_that_takes_nothing_is_told(tmp_path: Path) -> None:
    """One that returns frames, and finds no room for them."""
    file = capture_of(tmp_path / "c", [0.0] * 2000)
    with vuser.Loopback(str(tmp_path / "s")), vuser.Device(f"path={tmp_path / 's'},queue_size=64") as device:
        with pytest.raises(TimeoutError, match=r"takes no frames: \d+ of 64 wait for 0.2 s"):
            replay(device, file, speed=None, timeout=0.2, drop=False)
        # The same, with whoever asks for nothing else.
        assert replay(device, file, speed=None).packets == 2000


def test_what_can_not_be_replayed(tmp_path: Path, pair: tuple[vuser.Loopback, vuser.Device]) -> None:
    _, device = pair
    (tmp_path / "text").write_text("this is no capture")
    with pytest.raises(CaptureError, match="no capture"):
        replay(device, tmp_path / "text")
    with pytest.raises(CaptureError, match="no frames"):
        replay(device, capture_of(tmp_path / "c", []), loops=0)
    with pytest.raises(FileNotFoundError):
        replay(device, tmp_path / "nowhere")
    with pytest.raises(ValueError, match="above zero"):
        replay(device, tmp_path / "c", speed=0)
