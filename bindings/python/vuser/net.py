# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Frames of Ethernet, ARP, IPv4, ICMP echo, UDP and DHCP: as much of them as a host needs to be reached.

Each class has ``pack()``, which gives bytes, and ``parse(data)``, which gives None for what is not one: too short, of
another kind, with a wrong checksum. What comes from a network is never trusted, and never raises.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address

BROADCAST = b"\xff" * 6
NOBODY = IPv4Address("0.0.0.0")
EVERYBODY = IPv4Address("255.255.255.255")

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_ARP = 0x0806
PROTOCOL_ICMP = 1
PROTOCOL_UDP = 17
SHORTEST_FRAME = 60


def mac_text(mac: bytes) -> str:
    """The usual form of a MAC address: ``02:00:00:00:00:01``."""
    return ":".join(f"{byte:02x}" for byte in mac)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071): 0 of data that hold their own."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass(frozen=True)
class Ethernet:
    """A frame."""

    dst: bytes
    src: bytes
    ethertype: int
    payload: bytes

    def pack(self) -> bytes:
        frame = self.dst + self.src + struct.pack("!H", self.ethertype) + self.payload
        return frame.ljust(SHORTEST_FRAME, b"\0")

    @classmethod
    def parse(cls, data: bytes) -> Ethernet | None:
        if len(data) < 14:
            return None
        return cls(data[:6], data[6:12], int.from_bytes(data[12:14], "big"), data[14:])


@dataclass(frozen=True)
class Arp:
    """Who has an address (operation 1), and who it is (2)."""

    operation: int
    sender_mac: bytes
    sender: IPv4Address
    target_mac: bytes
    target: IPv4Address

    _HEAD = struct.pack("!HHBB", 1, ETHERTYPE_IPV4, 6, 4)

    def pack(self) -> bytes:
        return (self._HEAD + struct.pack("!H", self.operation) + self.sender_mac + self.sender.packed
                + self.target_mac + self.target.packed)

    @classmethod
    def parse(cls, data: bytes) -> Arp | None:
        if len(data) < 28 or data[:6] != cls._HEAD:
            return None
        return cls(int.from_bytes(data[6:8], "big"), data[8:14], IPv4Address(data[14:18]), data[18:24],
                   IPv4Address(data[24:28]))


@dataclass(frozen=True)
class Ipv4:
    """A packet that is not a fragment."""

    src: IPv4Address
    dst: IPv4Address
    protocol: int
    payload: bytes
    ttl: int = 64

    def pack(self) -> bytes:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(self.payload), 0, 0x4000, self.ttl, self.protocol, 0)
        head += self.src.packed + self.dst.packed
        return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + self.payload

    @classmethod
    def parse(cls, data: bytes) -> Ipv4 | None:
        if len(data) < 20 or data[0] >> 4 != 4:
            return None
        head, length, fragment = (data[0] & 15) * 4, int.from_bytes(data[2:4], "big"), int.from_bytes(data[6:8], "big")
        if head < 20 or not head <= length <= len(data) or fragment & 0x3FFF or checksum(data[:head]):
            return None
        return cls(IPv4Address(data[12:16]), IPv4Address(data[16:20]), data[9], data[head:length], data[8])


@dataclass(frozen=True)
class Echo:
    """ICMP's echo request (kind 8) or reply (kind 0)."""

    kind: int
    ident: int
    sequence: int
    payload: bytes

    REPLY = 0
    REQUEST = 8

    def pack(self) -> bytes:
        head = struct.pack("!BBHHH", self.kind, 0, 0, self.ident, self.sequence)
        return head[:2] + struct.pack("!H", checksum(head + self.payload)) + head[4:] + self.payload

    @classmethod
    def parse(cls, data: bytes) -> Echo | None:
        if len(data) < 8 or data[0] not in (cls.REPLY, cls.REQUEST) or data[1] or checksum(data):
            return None
        ident, sequence = struct.unpack_from("!HH", data, 4)
        return cls(data[0], ident, sequence, data[8:])


def _pseudo_header(src: IPv4Address, dst: IPv4Address, length: int) -> bytes:
    return src.packed + dst.packed + struct.pack("!BBH", 0, PROTOCOL_UDP, length)


@dataclass(frozen=True)
class Udp:
    """A datagram. Its checksum covers the addresses of the packet it is in."""

    src_port: int
    dst_port: int
    payload: bytes

    def pack(self, src: IPv4Address, dst: IPv4Address) -> bytes:
        length = 8 + len(self.payload)
        data = struct.pack("!HHHH", self.src_port, self.dst_port, length, 0) + self.payload
        # A sum of zero is written as its other form, since zero means that there is none.
        total = checksum(_pseudo_header(src, dst, length) + data) or 0xFFFF
        return data[:6] + struct.pack("!H", total) + data[8:]

    @classmethod
    def parse(cls, packet: Ipv4) -> Udp | None:
        data = packet.payload
        if packet.protocol != PROTOCOL_UDP or len(data) < 8:
            return None
        src_port, dst_port, length, total = struct.unpack_from("!HHHH", data)
        if not 8 <= length <= len(data):
            return None
        data = data[:length]
        if total and checksum(_pseudo_header(packet.src, packet.dst, length) + data):
            return None
        return cls(src_port, dst_port, data[8:])


@dataclass(frozen=True)
class Dhcp:
    """A message of DHCP (RFC 2131), its options (RFC 2132) by number."""

    op: int
    xid: int
    mac: bytes
    options: dict[int, bytes] = field(default_factory=dict)
    offered: IPv4Address = NOBODY
    server: IPv4Address = NOBODY

    CLIENT_PORT = 68
    SERVER_PORT = 67
    DISCOVER, OFFER, REQUEST, ACK, NAK = 1, 2, 3, 5, 6
    # Options: what they are called in RFC 2132.
    MASK, ROUTER, DNS, MTU, ADDRESS, LEASE_TIME, TYPE, SERVER, PARAMETERS = 1, 3, 6, 26, 50, 51, 53, 54, 55

    _COOKIE = bytes((99, 130, 83, 99))
    _PAD, _END = 0, 255

    @property
    def kind(self) -> int:
        """Which message it is: DISCOVER, OFFER and so on; 0 of one that does not say it."""
        return self.options.get(self.TYPE, b"\0")[0]

    def address(self, option: int) -> IPv4Address | None:
        """The first address in an option."""
        data = self.options.get(option, b"")
        return IPv4Address(data[:4]) if len(data) >= 4 else None

    def number(self, option: int) -> int | None:
        """The number in an option."""
        data = self.options.get(option)
        return int.from_bytes(data, "big") if data and len(data) <= 4 else None

    def pack(self) -> bytes:
        # Bit 15 of the flags asks for answers by broadcast, for a client has no address yet.
        data = struct.pack("!BBBBIHH", self.op, 1, 6, 0, self.xid, 0, 0x8000)
        data += NOBODY.packed + self.offered.packed + self.server.packed + NOBODY.packed
        data += self.mac.ljust(16, b"\0") + bytes(192) + self._COOKIE
        data += b"".join(bytes((number, len(value))) + value for number, value in self.options.items())
        return (data + bytes((self._END,))).ljust(300, b"\0")

    @classmethod
    def parse(cls, data: bytes) -> Dhcp | None:
        if len(data) < 240 or data[1:3] != b"\x01\x06" or data[236:240] != cls._COOKIE:
            return None
        options: dict[int, bytes] = {}
        at = 240
        while at < len(data) and data[at] != cls._END:
            if data[at] == cls._PAD:
                at += 1
                continue
            if at + 2 > len(data) or at + 2 + data[at + 1] > len(data):
                return None
            if data[at + 1]:
                options[data[at]] = data[at + 2:at + 2 + data[at + 1]]
            at += 2 + data[at + 1]
        return cls(data[0], int.from_bytes(data[4:8], "big"), data[28:34], options, IPv4Address(data[16:20]),
                   IPv4Address(data[20:24]))
