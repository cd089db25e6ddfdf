# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Memory that a device is given, what of it was written, and hashes by which frames are told apart."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

import pytest
import vuser
from conftest import frame, receive

SIZE = 1 << 20


@pytest.fixture
def mapped() -> Iterator[tuple[mmap.mmap, int]]:
    """Memory of a file, and the file."""
    fd = os.memfd_create("vuser-test")
    os.ftruncate(fd, SIZE)
    memory = mmap.mmap(fd, SIZE)
    yield memory, fd
    memory.close()
    os.close(fd)


def test_memory_is_given_and_taken_away(device: vuser.Device, mapped: tuple[mmap.mmap, int]) -> None:
    memory, fd = mapped
    assert device.mem_contains(device.pool)
    assert not device.mem_contains(memory)
    device.mem_register(memory, fd)
    assert device.mem_contains(memory)
    with pytest.raises(vuser.Error, match="overlaps"):
        device.mem_register(memoryview(memory)[4096:], fd, 4096)
    # It can't go as long as the device may use it.
    with pytest.raises(BufferError):
        memory.close()
    device.tx[0].burst([frame(1)])
    assert bytes(receive(device.rx[0], 1)[0]) == frame(1)
    device.mem_unregister(memory)
    assert not device.mem_contains(memory)
    with pytest.raises(FileNotFoundError):
        device.mem_unregister(memory)
    device.mem_register(memory, fd)
    device.close()
    with pytest.raises(vuser.ClosedError):
        device.mem_contains(memory)


def test_memory_that_can_not_be(device: vuser.Device, mapped: tuple[mmap.mmap, int]) -> None:
    memory, fd = mapped
    with pytest.raises(TypeError):
        device.mem_register(bytes(4096), fd)
    for wrong in ((-1, 0), (1 << 32, 0), (fd, -1), (fd, 1 << 64)):
        with pytest.raises(ValueError):
            device.mem_register(memory, *wrong)
    with open(os.devnull, "rb") as null, pytest.raises(vuser.Error):
        device.mem_register(memory, null.fileno())
    # What was refused is not kept.
    memory.resize(SIZE // 2)


@pytest.mark.parametrize("packed", [False, True])
def test_what_the_back_end_writes_is_noted(packed: bool) -> None:
    with vuser.Device(path="loopback", packed_vq=packed) as device:
        pool = device.pool
        copy = bytearray(pool.memory)
        with device.dirty_log() as log:
            with pytest.raises(vuser.Error, match="log already"):
                device.dirty_log()
            log.read(pool)
            assert log.read(pool) == []
            for lap in range(3):
                device.tx[0].burst([frame(lap * 10 + k) for k in range(5)])
                packets = receive(device.rx[0], 5)
                written = log.read(pool)
                assert written
                assert all(a.stop < b.start for a, b in zip(written, written[1:]))
                assert sum(part.stop - part.start for part in written) < len(copy)
                for part in written:
                    copy[part] = pool.memory[part]
                # All that has come is in the copy, and nothing else was written since.
                assert all(bytes(packet) in copy for packet in packets)
                assert log.read(pool) == []
            # Any writable buffer can be asked about; of one that the device does not know nothing was written.
            assert log.read(bytearray(10000)) == []
            assert log.read(bytearray()) == []
        with pytest.raises(vuser.Error, match="no log"):
            log.read(pool)
        log.close()
        again = device.dirty_log()
    again.close()
    with pytest.raises(TypeError):
        pool.memory[0] = 1


def test_a_hash_is_chosen() -> None:
    # As Microsoft's verification suite has it: 66.9.149.187:2794 to 161.142.100.80:1766 by UDP.
    udp = bytes.fromhex("020202020202 040404040404 0800 4500002e0000000040110000 420995bb a18e6450 0aea 06e6") + bytes(22)
    with vuser.Device(path="loopback", hash=True) as device:
        limits = device.rss_limits
        assert (limits.key_len, limits.table_len) == (40, 0)
        assert limits.types & vuser.VUSER_HASH_UDPV4

        def hashed() -> int | None:
            device.tx[0].burst([udp])
            return receive(device.rx[0], 1)[0].hash

        device.set_rss(vuser.VUSER_HASH_IPV4 | vuser.VUSER_HASH_UDPV4)
        assert hashed() == 0x51CCC178
        device.set_rss(vuser.VUSER_HASH_IPV4)
        assert hashed() == 0x323E8FC2
        device.set_rss(vuser.VUSER_HASH_IPV4, key=bytes(40))
        assert hashed() == 0
        device.set_rss(0)
        assert hashed() is None
        with pytest.raises(vuser.Error, match="key"):
            device.set_rss(vuser.VUSER_HASH_IPV4, key=bytes(41))
        with pytest.raises(vuser.Error):
            device.set_rss(vuser.VUSER_HASH_IPV4, table=[0, 0])
        for wrong in ({"types": -1}, {"types": 1 << 32}, {"types": 1, "table": [1 << 16]}, {"types": 1, "table": [-1]}):
            with pytest.raises(ValueError):
                device.set_rss(**wrong)
