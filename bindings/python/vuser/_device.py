# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Devices."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import select
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import _abi
from ._capture import Capture
from ._config import Config, Option
from ._core import Core
from ._errors import check
from ._library import lib
from ._memory import DirtyLog, place
from ._pool import Pool
from ._queue import Frame, Queue, RxQueue, TxQueue
from ._stats import DeviceInfo, DeviceStats, Event, EventKind, Feature, RssLimits, fields, sized

if TYPE_CHECKING:
    from .aio import Packets

# What a queue keeps near itself, as vuser_pool_config says, and what is left for the application.
_NEAR, _SPARE = 144, 4096


class Device:
    """A virtio-net device whose other half is a vhost-user back-end.

    ``Device("path=/tmp/vhost.sock")``, ``Device(path="/tmp/vhost.sock", queues=2)`` or ``Device(config)`` connects; with
    ``with`` it is started too, and closed at the end::

        with vuser.Device(path="loopback") as device:
            device.tx[0].burst([frame])
            packets = device.rx[0].burst()

    Queues that were not set up otherwise use ``pool``, or one that is made for them. Its methods may be called by any
    thread, and take turns.
    """

    def __init__(self, config: Config | str = "", *, pool: Pool | None = None, **options: Option) -> None:
        self.config = Config() if isinstance(config, str) else config.copy()
        self.config.update(config if isinstance(config, str) else "", **options)
        handle = ctypes.c_void_p()
        check(lib.vuser_dev_init(ctypes.byref(self.config._struct), ctypes.byref(handle)))
        self._core = Core(handle.value or 0)
        self._pool = pool
        #: Receive queues, by pair.
        self.rx: tuple[RxQueue, ...] = tuple(RxQueue(self._core, pair) for pair in range(self.config.queues))
        #: Transmit queues, by pair.
        self.tx: tuple[TxQueue, ...] = tuple(TxQueue(self._core, pair) for pair in range(self.config.queues))
        self._queues: list[Queue] = [*self.rx, *self.tx]

    # Life

    def setup(self, pool: Pool | None = None, size: int = 0, pairs: Iterable[int] | None = None) -> None:
        """Sets the queues of all pairs up, or of some: their buffers come from ``pool``, they have ``size`` descriptors (0:
        as configured). Only while the device is stopped."""
        chosen = range(len(self.rx)) if pairs is None else pairs
        for pair in chosen:
            self.setup_rx(pair, pool, size)
            self.setup_tx(pair, pool, size)

    def setup_rx(self, pair: int, pool: Pool | None = None, size: int = 0) -> None:
        """Sets one receive queue up."""
        self._setup(self.rx[pair], lib.vuser_rx_queue_setup, pool, size)

    def setup_tx(self, pair: int, pool: Pool | None = None, size: int = 0) -> None:
        """Sets one transmit queue up."""
        self._setup(self.tx[pair], lib.vuser_tx_queue_setup, pool, size)

    def _setup(self, queue: Queue, function: Any, pool: Pool | None, size: int) -> None:
        if not 0 <= size <= 0xFFFF:
            raise ValueError(f"a queue can't have {size} descriptors")
        pool = pool or self.pool
        with self._core as handle:
            queue._may_close()
            if pool not in self._core.pools:
                self._core.pools.append(pool)
            check(function(handle, queue.pair, size, pool._use()))
            queue._open(handle, pool)

    @property
    def pool(self) -> Pool:
        """The pool of queues that are set up with no other."""
        if self._pool is None:
            count = 2 * len(self.rx) * (self.config.queue_size + _NEAR) + _SPARE
            self._pool = Pool(count=max(8192, count), huge=bool(self.config.huge))
        return self._pool

    def start(self) -> None:
        """Starts the device. Queues that were not set up are, unless some were."""
        if not any(queue._pool for queue in self._queues):
            self.setup()
        self._control(lib.vuser_dev_start)

    def stop(self) -> None:
        """Stops the device; it can be started again."""
        self._control(lib.vuser_dev_stop)
        for queue in self.rx:
            queue._forget()

    def reset(self) -> None:
        """Stops the device and forgets the choice of features."""
        self._control(lib.vuser_dev_reset)
        for queue in self.rx:
            queue._forget()

    def close(self) -> None:
        """Stops the device and closes the connection. Its queues can't be used any more, packets can. Once more does
        nothing."""
        self._core.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return not self._core.open

    def __enter__(self) -> Device:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _control(self, function: Any, *arguments: Any) -> int:
        with self._core as handle:
            return check(function(handle, *arguments))

    # What is known of it

    @property
    def info(self) -> DeviceInfo:
        """What is known of the device."""
        info = sized(_abi.vuser_dev_info)
        self._control(lib.vuser_dev_get_info, ctypes.byref(info))
        made: DeviceInfo = fields(info, DeviceInfo)
        return made

    @property
    def mac(self) -> str:
        """Its MAC address, as text."""
        return self.info.mac

    @property
    def mtu(self) -> int:
        """Its MTU."""
        return self.info.mtu

    @property
    def link(self) -> bool:
        """Whether frames can come and go. Asks nobody."""
        return bool(self._control(lib.vuser_dev_link))

    @property
    def status(self) -> int:
        """The device status, VUSER_STATUS_*."""
        with self._core as handle:
            return int(lib.vuser_dev_get_status(handle))

    def stats(self) -> DeviceStats:
        """The counters of all queues that were set up."""
        return DeviceStats(
            rx=tuple(queue.stats() for queue in self.rx if queue._handle),
            tx=tuple(queue.stats() for queue in self.tx if queue._handle),
        )

    def reset_stats(self) -> None:
        """Sets all counters to zero."""
        for queue in self._queues:
            if queue._handle:
                queue.reset_stats()

    def features(self) -> list[Feature]:
        """What the back-end offers, and what of it is used, in words."""
        found: list[Feature] = []
        feature = sized(_abi.vuser_feature)
        with self._core as handle:
            while lib.vuser_dev_feature(handle, len(found), ctypes.byref(feature)) == 0:
                one: Feature = fields(feature, Feature)
                kind = "protocol" if feature.kind == _abi.VUSER_FEATURE_PROTOCOL else "virtio"
                found.append(dataclasses.replace(one, kind=kind))
        return found

    def capture(
        self, to: str | os.PathLike[str] | int, snaplen: int = 0, frames: int = 0, max_bytes: int = 0
    ) -> Capture:
        """Captures the frames of all queues that are set up in a pcapng file, a named pipe, or a descriptor, until it is
        closed: ``snaplen`` bytes of each (0: all), with room for ``frames`` of each queue that are not written yet (0:
        4096), in a file of at most ``max_bytes`` (0: no limit). What can't be written in time is dropped and counted."""
        return Capture(self._core, to, snaplen, frames, max_bytes)

    # Events

    def fd(self) -> int:
        """A descriptor that is readable when there are events. It stays the device's."""
        return self._control(lib.vuser_dev_fd)

    fileno = fd

    def events(self, timeout: float | None = 0) -> list[Event]:
        """What has happened since this was last asked, the oldest first: waits at most so many seconds (None: as long as it
        takes) for the first. With events="manual" this must be called when fd() is readable: it is what looks for a back-end
        that has gone."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            found = self._process()
            left = 0.1 if end is None else min(0.1, end - time.monotonic())
            if found or left <= 0:
                return found
            poll = select.poll()
            poll.register(self.fd(), select.POLLIN)
            poll.poll(int(left * 1000) + 1)

    def _process(self) -> list[Event]:
        array = (_abi.vuser_event * 32)()
        array[0].size = ctypes.sizeof(_abi.vuser_event)
        n = self._control(lib.vuser_dev_process, array, len(array))
        return [Event(EventKind(e.kind), e.number, e.text.decode(errors="replace")) for e in array[:n]]

    # asyncio

    def packets(self, queue: int = 0) -> Packets:
        """What a receive queue gets, for ``async for packet in device.packets()``; it ends when the device is closed."""
        from .aio import Packets

        return Packets(self, queue)

    async def send(self, packets: Frame | Iterable[Frame], queue: int = 0, timeout: float = 10.0) -> int:
        """Sends a packet or several, waiting for room in the ring; how many. TimeoutError: there was none in time."""
        from .aio import send

        return await send(self, packets, queue, timeout)

    # Choices

    def set_features(self, features: int) -> None:
        """Chooses virtio features, of those offered, for the next start."""
        self._control(lib.vuser_dev_set_features, features)

    def set_offloads(self, offloads: int) -> None:
        """Chooses offloads, VUSER_OFFLOAD_*, for the next start."""
        self._control(lib.vuser_dev_set_offloads, offloads)

    def set_queue_pairs(self, pairs: int) -> None:
        """Chooses how many queue pairs are used."""
        self._control(lib.vuser_dev_set_queue_pairs, _word(pairs, "pairs"))

    def set_link(self, up: bool) -> None:
        """Sets the link up or down."""
        self._control(lib.vuser_dev_set_link, bool(up))

    def set_mtu(self, mtu: int) -> None:
        """Chooses the MTU."""
        self._control(lib.vuser_dev_set_mtu, _word(mtu, "mtu"))

    def set_mac(self, mac: str | bytes) -> None:
        """Chooses another MAC address, "02:00:00:00:00:01" or six bytes."""
        self._control(lib.vuser_dev_set_mac, _address(mac))

    def set_promiscuous(self, on: bool = True) -> None:
        """Receives all frames, or only those for our addresses."""
        self._control(lib.vuser_dev_set_promiscuous, bool(on))

    def set_allmulticast(self, on: bool = True) -> None:
        """Receives all multicast frames, or only those for our addresses."""
        self._control(lib.vuser_dev_set_allmulticast, bool(on))

    def set_addresses(self, addresses: Iterable[str | bytes]) -> None:
        """Receives frames for these addresses too, and for no others that were given before."""
        found = [_address(address) for address in addresses]
        self._control(lib.vuser_dev_set_addresses, b"".join(found), _word(len(found), "addresses"))

    def vlan_filter(self, vlan: int, on: bool = True) -> None:
        """Receives frames of a VLAN too, or no longer."""
        self._control(lib.vuser_dev_vlan_filter, _word(vlan, "vlan"), bool(on))

    def set_rss(self, types: int, key: bytes = b"", table: Sequence[int] = ()) -> None:
        """Chooses what is hashed of received frames, VUSER_HASH_*, by which key (none: Microsoft's), and, where the device
        spreads frames by their hash, the receive queue (pair) of each hash modulo the length of the table, a power of two
        (none: evenly). A device made with hash=1 gives each packet its ``hash``."""
        words = (ctypes.c_uint16 * len(table))(*(_word(pair, "table") for pair in table))
        raw = (ctypes.c_uint8 * len(key))(*key)
        rss = sized(_abi.vuser_rss)
        rss.types, rss.key_len, rss.table_len = _dword(types, "types"), _word(len(key), "key"), _word(len(table), "table")
        rss.key = ctypes.addressof(raw) if key else None
        rss.table = ctypes.addressof(words) if table else None
        self._control(lib.vuser_dev_set_rss, ctypes.byref(rss))

    @property
    def rss_limits(self) -> RssLimits:
        """What can be chosen with set_rss."""
        limits = sized(_abi.vuser_rss_limits)
        self._control(lib.vuser_dev_rss_limits, ctypes.byref(limits))
        made: RssLimits = fields(limits, RssLimits)
        return made

    # Memory

    def mem_register(self, memory: Any, fd: int, offset: int = 0) -> None:
        """Gives memory of yours to the device, a writable mapping (``mmap.mmap``) from ``offset`` of the file ``fd`` on, a memfd
        for example: for code in C that makes packets in it, since packets made here are of a Pool, which needs no such call.
        It stays where it is until it is taken away again or the device is closed."""
        held, at, size = place(memory)
        if not 0 <= fd <= 0x7FFFFFFF or not 0 <= offset < 1 << 64:
            raise ValueError(f"fd={fd}, offset={offset} can't be")
        with self._core as device:
            check(lib.vuser_mem_register(device, fd, offset, size, at))
            self._core.memory[at] = held

    def mem_unregister(self, memory: Any) -> None:
        """Takes memory away from the device that was given to it by mem_register."""
        held, at, _ = place(memory)
        with self._core as device:
            check(lib.vuser_mem_unregister(device, at))
            self._core.memory.pop(at, None)
        del held

    def mem_contains(self, memory: Any) -> bool:
        """Whether the device was told of all of this memory, a pool or a writable buffer, or will be at its next start."""
        held, at, size = place(memory)
        with self._core as device:
            told = bool(lib.vuser_mem_contains(device, at, size))
        del held
        return told

    def dirty_log(self) -> DirtyLog:
        """Has the back-end note which memory it writes, page by page, until the log is closed."""
        return DirtyLog(self._core)

    # Its address in the network

    def announce(self) -> None:
        """Has the back-end tell the network that the device's address is here now."""
        self._control(lib.vuser_dev_announce)

    def announced(self) -> None:
        """Tells the device, which had asked for it, that its address has been announced."""
        self._control(lib.vuser_dev_announced)

    def __repr__(self) -> str:
        return f"<vuser.Device path={self.config.path!r}{', closed' if self.closed else ''}>"


def _word(value: int, name: str) -> int:
    """ctypes would cut off what does not fit."""
    if not 0 <= value <= 0xFFFF:
        raise ValueError(f"{name}={value} is not a number from 0 to 65535")
    return value


def _dword(value: int, name: str) -> int:
    if not 0 <= value <= 0xFFFFFFFF:
        raise ValueError(f"{name}={value} is not a number of 32 bits")
    return value


def _address(mac: str | bytes) -> bytes:
    raw = bytes.fromhex(mac.replace(":", "").replace("-", "")) if isinstance(mac, str) else bytes(mac)
    if len(raw) != 6:
        raise ValueError(f"{mac!r} is not a MAC address")
    return raw
