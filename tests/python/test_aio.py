# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Promise: asyncio gets every frame, and no wake-up is lost."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import vuser
from vuser import _waiting, aio

# Of all cases together.
ROUNDS = int(os.environ.get("VUSER_WAKEUPS", "100000"))
# Far longer than any wake-up takes on a busy machine.
LOST = 60.0
FRAME = bytes(range(60))


def peer(tmp_path: Path, options: str = "") -> tuple[vuser.Loopback, str]:
    """A back-end that sleeps as soon as it has nothing to do, so that each frame needs a kick and a call."""
    path = str(tmp_path / "socket")
    given = dict(option.split("=", 1) for option in options.split(",") if option)
    return vuser.Loopback(path, spin_us=0, **given), f"path={path}"


@pytest.mark.parametrize("event_idx", [0, 1])
@pytest.mark.parametrize("packed", [0, 1])
def test_no_wake_up_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: int, event_idx: int) -> None:
    rounds, slept, seen = ROUNDS // 4, 0, threading.Semaphore(0)

    def counted(queue: vuser.RxQueue) -> bool | None:
        nonlocal slept
        armed = _waiting.arm(queue)
        slept += armed is False
        return armed

    monkeypatch.setattr(aio, "arm", counted)
    # Nobody looks around by himself here: who is not woken sleeps until the test fails.
    monkeypatch.setattr(aio, "_TICK", 10 * LOST)
    loopback, path = peer(tmp_path, f"event_idx={event_idx}")
    loop: Any = None
    task: Any = None
    with loopback, vuser.Device(f"{path},packed_vq={packed},event_idx={event_idx},queue_size=64") as device:

        def send() -> None:
            for number in range(rounds):
                while device.tx[0].burst([number.to_bytes(4, "big") + FRAME]) == 0:
                    pass
                # The next one goes only when this one was seen: no other frame can wake who missed it.
                if not seen.acquire(timeout=LOST):
                    loop.call_soon_threadsafe(task.cancel)
                    return

        async def receive() -> None:
            nonlocal loop, task
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            thread.start()
            expected = 0
            async for packet in device.packets():
                assert int.from_bytes(bytes(packet)[:4], "big") == expected
                expected += 1
                seen.release()
                if expected == rounds:
                    return

        thread, begin = threading.Thread(target=send), time.monotonic()
        # No deadline for all of it: a busy machine may take its time, a lost wake-up ends it after LOST.
        asyncio.run(receive())
        thread.join(LOST)
        assert not thread.is_alive()
        print(f"packed={packed} event_idx={event_idx}: {rounds} rounds, {slept} sleeps, {time.monotonic() - begin:.1f} s")
        assert slept > rounds // 10, "it hardly slept, which proves little"


def test_send_waits_for_room_and_takes_turns(tmp_path: Path) -> None:
    loopback, path = peer(tmp_path, "mode=sink")

    async def run(device: vuser.Device) -> None:
        batches = [[bytes([task]) * 60 for _ in range(500)] for task in range(4)]
        assert await asyncio.wait_for(asyncio.gather(*(device.send(batch) for batch in batches)), LOST) == [500] * 4
        assert await device.send(FRAME) == 1

    with loopback, vuser.Device(f"{path},queue_size=32") as device:
        asyncio.run(run(device))
        # A second event loop in the same program finds nothing of the first.
        asyncio.run(run(device))
        deadline = time.monotonic() + LOST
        while loopback.stats().received < 2 * 2001:
            assert time.monotonic() < deadline, loopback.stats()
            time.sleep(0.001)


def test_event_loops_go(tmp_path: Path) -> None:
    loopback, path = peer(tmp_path)
    with loopback, vuser.Device(path) as device:
        for _ in range(5):
            asyncio.run(device.send(FRAME))
    assert len(aio._turns) <= 1


def test_send_has_a_deadline(tmp_path: Path) -> None:
    loopback, path = peer(tmp_path)

    async def run(device: vuser.Device) -> None:
        # Nobody there, and frames for more than the ring.
        loopback.close()
        deadline = time.monotonic() + LOST
        while device.info.attached:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.001)
        with pytest.raises(TimeoutError, match="no room for 40 of 40 packets in 0.2 s"):
            await device.send([FRAME] * 40, timeout=0.2)

    with vuser.Device(path) as device:
        asyncio.run(run(device))


def test_other_tasks_run_while_frames_never_end(tmp_path: Path) -> None:
    loopback, path = peer(tmp_path, "mode=source")

    async def run(device: vuser.Device) -> int:
        count = 0

        async def look() -> None:
            nonlocal count
            async for _ in device.packets():
                count += 1

        task = asyncio.ensure_future(look())
        await asyncio.wait_for(asyncio.sleep(0.2), LOST)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return count

    with loopback, vuser.Device(path) as device:
        assert asyncio.run(run(device)) > 1000


def test_packets_end_when_the_device_is_closed(tmp_path: Path) -> None:
    loopback, path = peer(tmp_path)

    async def run(device: vuser.Device) -> list[bytes]:
        got: list[bytes] = []

        async def look() -> None:
            async for packet in device.packets():
                got.append(bytes(packet))

        task = asyncio.ensure_future(look())
        await device.send([b"%060d" % number for number in range(100)])
        deadline = time.monotonic() + LOST
        while len(got) < 100:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.001)
        device.close()
        await asyncio.wait_for(task, LOST)
        return got

    with loopback:
        device = vuser.Device(path)
        device.start()
        assert asyncio.run(run(device)) == [b"%060d" % number for number in range(100)]


def test_both_go_on_with_a_back_end_that_comes_back(tmp_path: Path) -> None:
    loopback, path = peer(tmp_path)

    async def run(device: vuser.Device) -> int:
        got = 0

        async def look() -> None:
            nonlocal got
            async for _ in device.packets():
                got += 1

        async def come(frames: int) -> None:
            await device.send([FRAME] * frames, timeout=LOST)
            deadline = time.monotonic() + LOST
            while got < frames:
                assert time.monotonic() < deadline, got
                await asyncio.sleep(0.001)

        task = asyncio.ensure_future(look())
        await come(10)
        loopback.close()
        while device.link:
            await asyncio.sleep(0.001)
        with peer(tmp_path)[0]:
            got = 0
            await come(20)
        assert not task.done()
        task.cancel()
        return got

    with vuser.Device(f"{path},reconnect_ms=20") as device:
        assert asyncio.run(run(device)) == 20
