# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""What can be read of devices and queues, as dataclasses."""

from __future__ import annotations

import ctypes
import enum
import os
from dataclasses import dataclass
from typing import Any

from . import _abi


class EventKind(enum.IntEnum):
    """What has happened to a device."""

    LINK_UP = _abi.VUSER_EVENT_LINK_UP
    LINK_DOWN = _abi.VUSER_EVENT_LINK_DOWN
    RECONNECTED = _abi.VUSER_EVENT_RECONNECTED
    REFUSED = _abi.VUSER_EVENT_REFUSED
    CONFIG = _abi.VUSER_EVENT_CONFIG
    QUEUE_ERROR = _abi.VUSER_EVENT_QUEUE_ERROR
    NEEDS_RESET = _abi.VUSER_EVENT_NEEDS_RESET
    ANNOUNCE = _abi.VUSER_EVENT_ANNOUNCE
    LOST = _abi.VUSER_EVENT_LOST

    @classmethod
    def _missing_(cls, value: object) -> EventKind | None:
        """A kind that a newer library knows."""
        if not isinstance(value, int):
            return None
        new = int.__new__(cls, value)
        new._name_, new._value_ = f"KIND_{value}", value
        return new


@dataclass(frozen=True)
class Event:
    """Something that has happened to a device without being asked for."""

    kind: EventKind
    #: A ring or how many, as the kind says.
    number: int
    #: A sentence, may be empty.
    text: str


@dataclass(frozen=True)
class Feature:
    """A feature, and how it stands with it."""

    #: "virtio" (of the device) or "protocol" (of the vhost-user protocol).
    kind: str
    bit: int
    name: str
    #: The back-end offers it.
    offered: bool
    #: It is used, or will be from the next start on.
    used: bool
    #: This library can make use of it.
    known: bool
    #: Why it is not used although it is offered, or not there although it is wanted; else empty.
    why: str


@dataclass(frozen=True)
class DeviceInfo:
    """What is known of a device; see struct vuser_dev_info in vuser.h."""

    device_features: int
    features: int
    protocol_features: int
    max_queue_pairs: int
    queue_pairs: int
    queue_size: int
    mtu: int
    hdr_len: int
    #: As text, "02:00:00:00:00:01".
    mac: str
    status: int
    link_up: bool
    packed: bool
    in_order: bool
    mergeable: bool
    #: In Mb/s; None when nothing is known.
    speed: int | None
    #: Kind of back-end and where it is.
    backend: str
    #: Name of the data path: layout and lanes.
    path: str
    offloads: int
    offload_capa: int
    queue_pairs_used: int
    attached: bool
    reconnects: int
    refused: int
    protocol_features_offered: int


@dataclass(frozen=True)
class QueueStats:
    """The counters of a queue; see struct vuser_queue_stats in vuser.h."""

    packets: int
    bytes: int
    kicks: int
    no_buffer: int
    runt: int
    bad_header: int
    ring_full: int
    bad_packet: int
    bad_offload: int
    bad_address: int
    too_many_segments: int
    lost: int
    multicast: int
    broadcast: int
    size_bins: tuple[int, ...]
    tx_resent: int
    tx_dropped_on_reconnect: int

    @property
    def dropped(self) -> int:
        """Packets that were dropped, for whatever reason."""
        return (
            self.runt + self.bad_header + self.bad_packet + self.bad_offload + self.bad_address
            + self.too_many_segments + self.lost + self.tx_dropped_on_reconnect
        )  # fmt: skip


@dataclass(frozen=True)
class DeviceStats:
    """The counters of all queues of a device, by pair."""

    rx: tuple[QueueStats, ...]
    tx: tuple[QueueStats, ...]

    @property
    def rx_packets(self) -> int:
        """Frames received."""
        return sum(queue.packets for queue in self.rx)

    @property
    def rx_bytes(self) -> int:
        """Their bytes."""
        return sum(queue.bytes for queue in self.rx)

    @property
    def tx_packets(self) -> int:
        """Frames sent."""
        return sum(queue.packets for queue in self.tx)

    @property
    def tx_bytes(self) -> int:
        """Their bytes."""
        return sum(queue.bytes for queue in self.tx)

    @property
    def rx_dropped(self) -> int:
        """Received frames that were dropped."""
        return sum(queue.dropped for queue in self.rx)

    @property
    def tx_dropped(self) -> int:
        """Packets to be sent that were dropped."""
        return sum(queue.dropped for queue in self.tx)


@dataclass(frozen=True)
class RssLimits:
    """What can be chosen with :meth:`Device.set_rss`."""

    #: Hash types that can be had, VUSER_HASH_*.
    types: int
    #: Bytes of the longest key.
    key_len: int
    #: Entries of the longest table; 0: the device does not spread frames by their hash.
    table_len: int


@dataclass(frozen=True)
class LoopbackStats:
    """What a back-end of this library's has counted."""

    received: int
    sent: int
    dropped: int


@dataclass(frozen=True)
class CaptureStats:
    """What has come of a capture; see struct vuser_capture_stats in vuser.h."""

    captured: int
    dropped: int
    bytes: int
    written: int
    file_bytes: int
    #: 0, or what ended the capture, a negative errno.
    error: int
    #: The file has as many bytes as it may have.
    full: bool
    #: What ended the capture, as a sentence; else empty.
    why: str


def sized(kind: Any) -> Any:
    """A struct that says how large it is."""
    made = kind()
    made.size = ctypes.sizeof(made)
    return made


def fields(struct: ctypes.Structure, kind: type[Any]) -> Any:
    """A dataclass made of the fields that both have, as Python has them."""
    return kind(**{name: _value(name, getattr(struct, name)) for name in kind.__dataclass_fields__})


_SWITCHES = {"link_up", "packed", "in_order", "mergeable", "attached", "offered", "used", "known", "full"}


def _value(name: str, value: Any) -> Any:
    if isinstance(value, bytes):
        return os.fsdecode(value)
    if name == "mac":
        return ":".join(f"{byte:02x}" for byte in value)
    if name == "size_bins":
        return tuple(value)
    if name in _SWITCHES:
        return bool(value)
    if name == "speed":
        return None if value == 0xFFFFFFFF else value
    return value
