# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Frames there and back, as packets and as arrays."""

from __future__ import annotations

from array import array

import pytest
import vuser
from conftest import frame, receive, until


def test_packets_come_back_as_they_were_sent(device: vuser.Device) -> None:
    sent = [frame(i, 60 + i) for i in range(100)]
    assert device.tx[0].burst(sent) == 100
    found = receive(device.rx[0], 100)
    assert [bytes(p) for p in found] == sent
    assert [len(p) for p in found] == [len(f) for f in sent]
    stats = device.stats()
    assert (stats.rx_packets, stats.tx_packets, stats.tx_bytes) == (100, 100, sum(map(len, sent)))


def test_a_packet_is_changed_in_place_and_sent_back(device: vuser.Device) -> None:
    device.tx[0].burst([frame(1)])
    (packet,) = receive(device.rx[0], 1)
    packet.data[0:6], packet.data[6:12] = bytes(packet.data[6:12]), bytes(packet.data[0:6])
    assert device.tx[0].burst([packet]) == 1
    (back,) = receive(device.rx[0], 1)
    assert bytes(back) == frame(1)[6:12] + frame(1)[0:6] + frame(1)[12:]


def test_frames_of_many_buffers(device: vuser.Device) -> None:
    big = bytes(range(256)) * 36
    assert device.tx[0].burst([big, bytearray(big), memoryview(big)]) == 3
    for packet in receive(device.rx[0], 3):
        assert len(packet) == len(big)
        assert bytes(packet) == big
        assert len(packet.segments) > 1
        assert b"".join(packet.segments) == big


def test_a_packet_grows_and_shrinks(device: vuser.Device) -> None:
    packet = device.pool.packet(b"middle")
    packet.append(b"end")
    packet.prepend(b"begin")
    assert bytes(packet) == b"beginmiddleend"
    packet.strip(5)
    assert bytes(packet) == b"middleend"
    with pytest.raises(vuser.Error):
        packet.prepend(bytes(1000))
    with pytest.raises(vuser.Error):
        packet.append(bytes(70000))
    with pytest.raises(ValueError):
        packet.strip(-1)


@pytest.mark.parametrize("kind", ["numpy", "array"])
def test_arrays(device: vuser.Device, kind: str) -> None:
    if kind == "numpy":
        numpy = pytest.importorskip("numpy")
        data, offsets, lengths = numpy.zeros(65536, "u1"), numpy.zeros(64, "u4"), numpy.zeros(64, "u4")
    else:
        data, offsets, lengths = bytearray(65536), array("I", bytes(256)), array("I", bytes(256))
    frames = [frame(i, 64 + i) for i in range(64)]
    given = b"".join(frames)
    starts = array("I", [sum(map(len, frames[:i])) for i in range(64)])
    assert device.tx[0].burst_from(given, starts, array("I", map(len, frames))) == 64
    until(lambda: device.rx[0].count() == 64)
    assert device.rx[0].burst_into(data, offsets, lengths, 60) == 60
    assert [bytes(data[o : o + n]) for o, n in zip(offsets[:60], lengths)] == frames[:60]
    assert device.rx[0].burst_into(data, offsets, lengths) == 4
    assert [bytes(data[o : o + n]) for o, n in zip(offsets[:4], lengths)] == frames[60:]
    assert device.tx[0].burst_from(data, offsets, lengths, 4) == 4
    until(lambda: device.rx[0].count() == 4)
    assert device.rx[0].burst_into(data, offsets, lengths, 0) == 0
    assert [bytes(packet) for packet in device.rx[0].burst()] == frames[60:]


def test_a_checksum_is_finished_in_a_copy() -> None:
    """The device leaves it to be done, as one of the same machine does."""
    head = bytes.fromhex("020000000002 020000000001 0800 450000400000000040110000 c0000201 c0000202 03e803e9002c0000")
    with vuser.Device(path="loopback", csum=True, rx_csum=True) as device:
        packet = device.pool.packet(head + bytes(range(36)))
        packet.flags = vuser.VUSER_MBUF_F_TX_IPV4 | vuser.VUSER_MBUF_F_TX_UDP_CKSUM
        packet.set_tx_offload(14, 20, 8)
        assert device.tx[0].prepare([packet]) == 1
        assert device.tx[0].burst([packet]) == 1
        data, offsets, lengths = bytearray(200), array("I", [0]), array("I", [0])
        until(lambda: device.rx[0].burst_into(data, offsets, lengths))
        assert lengths[0] == 78
        # Addresses and the datagram, its length and protocol once more.
        words = sum(int.from_bytes(data[at : at + 2], "big") for at in range(26, 78, 2)) + 17 + 44
        assert words % 0xFFFF == 0


def test_arrays_that_can_not_be(device: vuser.Device) -> None:
    numbers = array("I", bytes(16))
    rx, tx = device.rx[0], device.tx[0]
    with pytest.raises(TypeError):
        rx.burst_into(bytes(100), numbers, numbers)
    with pytest.raises(TypeError):
        rx.burst_into(bytearray(100), array("H", bytes(16)), numbers)
    with pytest.raises(TypeError):
        rx.burst_into(memoryview(bytearray(100))[::2], numbers, numbers)
    with pytest.raises(ValueError):
        rx.burst_into(bytearray(100), numbers, numbers, -1)
    with pytest.raises(TypeError):
        tx.burst_from(b"", array("Q", [1]), numbers)
    with pytest.raises(TypeError):
        tx.burst_from(b"", array("f", [1]), numbers)
    # Frames that do not lie in the buffer are dropped, and counted.
    assert tx.burst_from(bytes(100), array("I", [0xFFFFFFFF, 50]), array("I", [64, 51])) == 2
    assert tx.stats().bad_packet == 2
    assert rx.burst_into(bytearray(), numbers, numbers) == 0


def test_bursts_that_can_not_be(device: vuser.Device) -> None:
    with pytest.raises(ValueError):
        device.rx[0].burst(-1)
    with pytest.raises(ValueError):
        device.rx[0].burst(65536)
    assert device.rx[0].burst(0) == []
    assert device.rx[0].burst(65535) == []
    assert device.tx[0].burst([]) == 0
    with pytest.raises(TypeError):
        device.tx[0].burst([1])  # type: ignore[list-item]


def test_more_than_the_ring_takes() -> None:
    with vuser.Device(path="loopback", mode="sink", queue_size=64) as device:
        packets = [device.pool.packet(frame(i)) for i in range(300)]
        sent = device.tx[0].burst(packets)
        assert 0 < sent < 300
        assert not any(packets[:sent])
        assert all(packets[sent:])
        while sent < 300:
            device.tx[0].wait(1)
            sent += device.tx[0].burst(packets[sent:])


def test_waiting(device: vuser.Device) -> None:
    rx = device.rx[0]
    assert not rx.wait(0.01)
    device.tx[0].burst([frame(1)])
    assert rx.wait(10)
    assert len(receive(rx, 1)) == 1
    assert not rx.arm()
    rx.disarm()
    assert rx.fd() > 2


def test_packets_and_bytes_in_one_burst(device: vuser.Device) -> None:
    packet = device.pool.packet(frame(2))
    free = device.pool.packet(frame(4))
    free.free()
    assert device.tx[0].burst([frame(1), packet, bytearray(frame(3))]) == 3
    assert not packet
    assert [bytes(p) for p in receive(device.rx[0], 3)] == [frame(1), frame(2), frame(3)]
    with pytest.raises(vuser.ClosedError):
        device.tx[0].burst([free, frame(5)])
    with pytest.raises(ValueError):
        device.tx[0].burst([bytes(300000)])


def test_more_bytes_than_the_pool_has() -> None:
    pool = vuser.Pool(600, huge=False)
    with vuser.Device(path="loopback", mode="sink", queue_size=256, pool=pool) as device:
        taken, frames = 0, [frame(i) for i in range(1000)]
        while taken < 1000:
            taken += device.tx[0].burst(frames[taken:])
        until(lambda: device.tx[0].cleanup() or device.tx[0].stats().packets == 1000)
        until(lambda: device.tx[0].cleanup() or device.pool.available > 150)


def test_frames_are_lent_and_given_back(device: vuser.Device) -> None:
    rx, big = device.rx[0], bytes(range(256)) * 20
    assert rx.peek() == []
    rx.release()
    device.tx[0].burst([frame(1), frame(2), big, frame(3)])
    until(lambda: len(rx.peek()) == 4)
    first = rx.peek()
    assert [bytes(view) for view in first] == [frame(1), frame(2), big, frame(3)]
    assert all(view.readonly for view in first)
    rx.release(1)
    with pytest.raises(ValueError):
        first[0][0]
    assert bytes(first[1]) == frame(2)
    again = rx.peek()
    with pytest.raises(ValueError):
        first[1][0]
    assert [bytes(view) for view in again] == [frame(2), big, frame(3)]
    with pytest.raises(ValueError):
        rx.release(4)
    with pytest.raises(ValueError):
        rx.peek(-1)
    rx.release(2)
    (packet,) = rx.burst()
    assert bytes(packet) == frame(3)
    with pytest.raises(ValueError):
        again[2][0]
    assert rx.stats().packets == 4
    for number in range(1000):
        device.tx[0].burst([frame(number)])
        until(rx.peek)
        assert bytes(rx.peek(1)[0]) == frame(number)
        rx.release()
    device.close()
    with pytest.raises(vuser.ClosedError):
        rx.peek()
    with pytest.raises(vuser.ClosedError):
        rx.release()


def test_what_is_lent_is_whole_frames_and_ends_with_the_device() -> None:
    with vuser.Device(path="loopback") as device:
        rx, frames = device.rx[0], [frame(1), frame(2, 5120), frame(3, 5120), frame(4)]
        assert device.tx[0].burst(frames) == 4
        until(lambda: len(rx.peek()) == 4)
        for n in (1, 2, 3):
            assert [bytes(view) for view in rx.peek(n)] == frames[:1]
        rx.release()
        for n in (1, 2, 3, 5):
            assert [bytes(view) for view in rx.peek(n)] == frames[1:2]
        rx.release(1)
        assert [bytes(view) for view in rx.peek()] == frames[2:]
        rx.release(1)
        (view,) = rx.peek()
        device.stop()
        with pytest.raises(ValueError):
            view[0]
        device.start()
        assert device.tx[0].burst(frames[:1]) == 1
        until(rx.peek)
        (view,) = rx.peek()
    with pytest.raises(ValueError):
        view[0]
