# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Promise: both formats of captures are read, in either byte order, and damaged ones are refused with a sentence."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path

import pytest
from vuser import pcap

FRAMES = [bytes([k]) * (60 + k) for k in range(5)]
Captured = list[tuple[int, bytes]]


def classic(order: str, magic: int, unit: int, link: int = 1) -> bytes:
    data = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    for k, frame in enumerate(FRAMES):
        data += struct.pack(order + "IIII", 1000 + k, 500 * unit, len(frame), len(frame)) + frame
    return data


def block(order: str, kind: int, body: bytes) -> bytes:
    body = body.ljust((len(body) + 3) // 4 * 4, b"\0")
    return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)


def section(order: str) -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(order: str, resolution: int, offset: int = 0, link: int = 1) -> bytes:
    options = struct.pack(order + "HHB3x", 9, 1, resolution) + struct.pack(order + "HHq", 14, 8, offset)
    return block(order, 1, struct.pack(order + "HHI", link, 0, 0) + options + bytes(4))


def enhanced(order: str, number: int, ticks: int, frame: bytes) -> bytes:
    head = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame))
    return block(order, 6, head + frame)


def read(data: bytes) -> Captured:
    return list(pcap.read(io.BytesIO(data)))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("magic, unit, ns", [(0xA1B2C3D4, 1, 1000), (0xA1B23C4D, 1, 1)])
def test_classic(order: str, magic: int, unit: int, ns: int) -> None:
    expected = [((1000 + k) * 10**9 + 500 * ns, frame) for k, frame in enumerate(FRAMES)]
    assert read(classic(order, magic, unit)) == expected


@pytest.mark.parametrize("order", "<>")
def test_blocks(order: str) -> None:
    data = section(order) + interface(order, 9) + interface(order, 0x8A, offset=3) + block(order, 0xBAD, b"unknown")
    data += enhanced(order, 0, 5 << 32, FRAMES[0]) + enhanced(order, 1, 1536, FRAMES[1])
    data += block(order, 3, struct.pack(order + "I", len(FRAMES[2])) + FRAMES[2])
    # Another section, of the other byte order, with interfaces of its own.
    other = "<>"[order == "<"]
    data += section(other) + interface(other, 6) + enhanced(other, 0, 7, FRAMES[3])
    assert read(data) == [(5 << 32, FRAMES[0]), (4_500_000_000, FRAMES[1]), (0, FRAMES[2]), (7000, FRAMES[3])]


def test_what_others_write(tmp_path: Path) -> None:
    utils = pytest.importorskip("scapy.utils")
    layers = pytest.importorskip("scapy.layers.l2")
    for name, write in (("a.pcap", utils.wrpcap), ("a.pcapng", utils.wrpcapng)):
        path = tmp_path / name
        write(str(path), [layers.Ether(frame) for frame in FRAMES])
        assert [frame for _, frame in pcap.packets(path)] == FRAMES


def test_damage_is_said() -> None:
    whole = section("<") + interface("<", 9) + enhanced("<", 0, 1, FRAMES[0])
    assert len(read(whole)) == 1
    for wrong, text in (
        (b"", "no capture"),
        (b"\x7fELF" + bytes(100), "no capture"),
        (whole[:-1], "ends in the middle"),
        (section("<") + enhanced("<", 0, 1, FRAMES[0]), "interface 0"),
        (section("<") + interface("<", 9, link=113) + enhanced("<", 0, 1, FRAMES[0]), "link type 113"),
        (section("<") + struct.pack("<II", 6, 0xFFFFFFF0), "can't be"),
        (classic("<", 0xA1B2C3D4, 1)[:-1], "ends in the middle"),
        (classic("<", 0xA1B2C3D4, 1, link=101), "link type 101"),
    ):
        with pytest.raises(pcap.CaptureError, match=text):
            read(wrong)


def test_no_file_raises_anything_else() -> None:
    chance = random.Random(2)
    seeds = [classic("<", 0xA1B2C3D4, 1), section(">") + interface(">", 9) + b"".join(enhanced(">", 0, k, f) for k, f in enumerate(FRAMES))]
    for _ in range(20000):
        data = bytearray(chance.choice(seeds))
        for _ in range(1 + chance.randrange(3)):
            data[chance.randrange(min(len(data), 200))] = chance.randrange(256)
        try:
            read(bytes(data[:chance.randrange(len(data) + 1)]))
        except pcap.CaptureError:
            pass
