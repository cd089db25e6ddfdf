# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Reads captures: pcap and pcapng, of either byte order, without loading them whole.

``packets(path)`` gives ``(nanoseconds, frame)`` one after the other. Only Ethernet is given; a file of another kind is
refused with a sentence. Nothing in a file is trusted: a length that can't be ends it with ``CaptureError``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_ETHERNET = 1
# Longer than any frame, and any block of frames, that there can be.
_LONGEST = 16 << 20
_SECTION = 0x0A0D0D0A
_INTERFACE, _SIMPLE, _ENHANCED = 1, 3, 6
_OPTION_TSRESOL, _OPTION_TSOFFSET = 9, 14

Captured = tuple[int, bytes]


class CaptureError(ValueError):
    """A file that is no capture, or is damaged; the text says where."""


def packets(path: str | os.PathLike[str]) -> Iterator[Captured]:
    """The frames of a file, each with its time in nanoseconds since 1970 (0 where the file has none)."""
    with open(path, "rb") as file:
        yield from read(file)


def read(file: BinaryIO) -> Iterator[Captured]:
    """The same of an open file, which need not be seekable."""
    magic = file.read(4)
    for order in "<>":
        number = int.from_bytes(magic, "little" if order == "<" else "big")
        if number in (0xA1B2C3D4, 0xA1B23C4D):
            return _classic(file, order, 1 if number == 0xA1B23C4D else 1000)
    if magic == _SECTION.to_bytes(4, "big"):
        return _Blocks(file).packets()
    raise CaptureError("this is no capture: it begins like neither pcap nor pcapng")


def _exactly(file: BinaryIO, size: int, what: str) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise CaptureError(f"the file ends in the middle of {what}")
    return data


def _ethernet_only(link: int) -> None:
    if link != _ETHERNET:
        raise CaptureError(f"frames of link type {link} can't be replayed: only Ethernet (1) can")


def _classic(file: BinaryIO, order: str, unit: int) -> Iterator[Captured]:
    *_, link = struct.unpack(order + "HHiIII", _exactly(file, 20, "its header"))
    _ethernet_only(link & 0xFFFF)
    while True:
        head = file.read(16)
        if not head:
            return
        if len(head) != 16:
            raise CaptureError("the file ends in the middle of a packet's header")
        seconds, fraction, length, _ = struct.unpack(order + "IIII", head)
        if length > _LONGEST:
            raise CaptureError(f"a packet of {length} bytes can't be: the file is damaged")
        yield seconds * 1_000_000_000 + fraction * unit, _exactly(file, length, "a packet")


@dataclass
class _Interface:
    link: int
    snaplen: int
    numerator: int = 1000
    """A tick is numerator / denominator nanoseconds."""
    denominator: int = 1
    offset: int = 0

    def nanoseconds(self, ticks: int) -> int:
        return ticks * self.numerator // self.denominator + self.offset * 1_000_000_000


class _Blocks:
    """pcapng: sections, each with a byte order and interfaces of its own."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._order = "<"
        self._interfaces: list[_Interface] = []

    def packets(self) -> Iterator[Captured]:
        # Its type was read to know the file.
        self._section()
        while True:
            head = self._file.read(4)
            if not head:
                return
            if len(head) != 4:
                raise CaptureError("the file ends in the middle of a block")
            kind = self._unpack("I", head)[0]
            # Reads the same in either order, so that a section can begin with another.
            if kind == _SECTION:
                self._section()
                continue
            body = self._body(self._unpack("I", _exactly(self._file, 4, "a block"))[0])
            if kind == _INTERFACE:
                self._interfaces.append(self._interface(body))
            elif kind == _ENHANCED:
                yield self._enhanced(body)
            elif kind == _SIMPLE:
                yield self._simple(body)

    def _unpack(self, form: str, data: bytes) -> tuple[int, ...]:
        return struct.unpack_from(self._order + form, data)

    def _body(self, length: int) -> bytes:
        if length < 12 or length % 4 or length > _LONGEST:
            raise CaptureError(f"a block of {length} bytes can't be: the file is damaged")
        rest = _exactly(self._file, length - 8, "a block")
        if self._unpack("I", rest[-4:])[0] != length:
            raise CaptureError("a block does not end with the length that it begins with: the file is damaged")
        return rest[:-4]

    def _section(self) -> None:
        length, order = _exactly(self._file, 4, "a section"), _exactly(self._file, 4, "a section")
        if order not in (b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d"):
            raise CaptureError("a section does not say its byte order: the file is damaged")
        self._order = "<" if order[0] == 0x4D else ">"
        total = self._unpack("I", length)[0]
        if total < 28 or total % 4 or total > _LONGEST:
            raise CaptureError(f"a section header of {total} bytes can't be: the file is damaged")
        _exactly(self._file, total - 12, "a section")
        self._interfaces = []

    def _interface(self, body: bytes) -> _Interface:
        if len(body) < 8:
            raise CaptureError("an interface without a link type: the file is damaged")
        link, _, snaplen = self._unpack("HHI", body)
        interface, at = _Interface(link, snaplen), 8
        while at + 4 <= len(body):
            code, size = self._unpack("HH", body[at:])
            value, at = body[at + 4:at + 4 + size], at + 4 + (size + 3) // 4 * 4
            if code == 0:
                break
            if code == _OPTION_TSRESOL and size == 1:
                per_second = 2 ** (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
                interface.numerator, interface.denominator = 1_000_000_000, per_second
            elif code == _OPTION_TSOFFSET and len(value) == 8:
                interface.offset = self._unpack("q", value)[0]
        return interface

    def _of(self, index: int) -> _Interface:
        if index >= len(self._interfaces):
            raise CaptureError(f"a packet of interface {index}, which the file does not describe: it is damaged")
        _ethernet_only(self._interfaces[index].link)
        return self._interfaces[index]

    def _enhanced(self, body: bytes) -> Captured:
        if len(body) < 20:
            raise CaptureError("a packet block without its header: the file is damaged")
        index, high, low, length, _ = self._unpack("IIIII", body)
        if length > len(body) - 20:
            raise CaptureError("a packet that is longer than its block: the file is damaged")
        return self._of(index).nanoseconds(high << 32 | low), body[20:20 + length]

    def _simple(self, body: bytes) -> Captured:
        if len(body) < 4:
            raise CaptureError("a packet block without its header: the file is damaged")
        length, interface = self._unpack("I", body)[0], self._of(0)
        length = min(length, interface.snaplen or length, len(body) - 4)
        return 0, body[4:4 + length]
