# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Packets, and the pools that they come from.

The memory of a pool is one memoryview; a packet's data are a slice of it. That memory goes when nothing refers to it any
more, neither the pool, nor a packet, nor a device, nor a view: what is looked at is always there.
"""

from __future__ import annotations

import ctypes
import errno
import threading
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Any, Union

from . import _abi, _process
from ._errors import ClosedError, Error, check
from ._library import lib, quick
from ._stats import sized

Buffer = Union[bytes, bytearray, memoryview]

#: Most packets in one call.
MOST = 0xFFFF
_SIZE = ctypes.sizeof(_abi.vuser_mbuf)
_POINTER = ctypes.sizeof(ctypes.c_void_p)
# Dropped packets that are given back in one call.
_MANY = 64
# Longest wait for another thread that gives packets back.
_FLUSH_S = 0.1


def _places(name: str, bits: int) -> int:
    """Where a field of the descriptor is, in numbers of so many bits."""
    return int(getattr(_abi.vuser_mbuf, name).offset) * 8 // bits


_ADDR = _places("buf_addr", 64)
_FLAGS = _places("ol_flags", 64)
_NEXT = _places("next", 64)
_LEN = _places("pkt_len", 32)
_TYPE = _places("packet_type", 32)
_HASH = _places("hash_rss", 32)
_OFF = _places("data_off", 16)
_SEGS = _places("nb_segs", 16)
_PORT = _places("port", 16)
_DATA = _places("data_len", 16)
_VLAN = _places("vlan_tci", 16)


class Packet:
    """A packet in memory that it shares with the device.

    ``data`` is a memoryview of it, without a copy, which ends with the packet: when the packet is freed or sent, or nobody
    refers to it any more. What was made of that view, a slice or a numpy array, must not be kept longer: it does not end
    with it, and its bytes become another packet's. ``bytes(packet)`` is a copy.
    """

    __slots__ = ("__weakref__", "_m", "_pool", "_view")

    def __init__(self, pool: Pool, m: int) -> None:
        self._pool = pool
        self._m = m
        self._view: memoryview | None = None

    def _place(self) -> int:
        """Which of the pool's descriptors it is."""
        m = self._m
        if not m:
            raise ClosedError("the packet was freed or sent")
        place: int = (m - self._pool._first) // _SIZE
        return place

    @property
    def data(self) -> memoryview:
        """The frame. If it lies in several buffers, which only frames above some 2000 bytes do, a copy of it."""
        view = self._view
        if view is not None:
            return view
        place, pool = self._place(), self._pool
        d16 = pool._d16
        at = place * (_SIZE // 2)
        if d16[at + _SEGS] != 1:
            return memoryview(b"".join(self._segments()))
        begin = place * pool._stride + d16[at + _OFF]
        view = self._view = pool._memory[begin : begin + d16[at + _DATA]]
        return view

    def _segments(self) -> list[memoryview]:
        pool, m, found = self._pool, self._m, []
        while m:
            place = (m - pool._first) // _SIZE
            at = place * (_SIZE // 2)
            begin = place * pool._stride + pool._d16[at + _OFF]
            found.append(pool._memory[begin : begin + pool._d16[at + _DATA]])
            m = pool._d64[place * (_SIZE // 8) + _NEXT]
        return found

    @property
    def segments(self) -> list[memoryview]:
        """The frame, buffer by buffer, without a copy."""
        self._place()
        return self._segments() if self._view is None else [self._view]

    def __bytes__(self) -> bytes:
        return bytes(self.data)

    def __len__(self) -> int:
        return int(self._pool._d32[self._place() * (_SIZE // 4) + _LEN])

    def __bool__(self) -> bool:
        return bool(self._m)

    @property
    def flags(self) -> int:
        """VUSER_MBUF_F_*: what is known of the frame, or shall be done with it."""
        return int(self._pool._d64[self._place() * (_SIZE // 8) + _FLAGS])

    @flags.setter
    def flags(self, value: int) -> None:
        self._pool._d64[self._place() * (_SIZE // 8) + _FLAGS] = value

    @property
    def port(self) -> int:
        """The port it came in by: the option port of the device."""
        return int(self._pool._d16[self._place() * (_SIZE // 2) + _PORT])

    @property
    def packet_type(self) -> int:
        """What it is made of, as far as the device said it."""
        return int(self._pool._d32[self._place() * (_SIZE // 4) + _TYPE])

    @property
    def hash(self) -> int | None:
        """The hash of the frame, if there is one."""
        place = self._place()
        if not self._pool._d64[place * (_SIZE // 8) + _FLAGS] & _abi.VUSER_MBUF_F_RX_RSS_HASH:
            return None
        return int(self._pool._d32[place * (_SIZE // 4) + _HASH])

    @property
    def vlan_tci(self) -> int:
        """The VLAN tag that was taken out, or shall be put in (with VUSER_MBUF_F_TX_VLAN in flags)."""
        return int(self._pool._d16[self._place() * (_SIZE // 2) + _VLAN])

    @vlan_tci.setter
    def vlan_tci(self, value: int) -> None:
        self._pool._d16[self._place() * (_SIZE // 2) + _VLAN] = value

    def set_tx_offload(self, l2_len: int, l3_len: int, l4_len: int = 0, tso_segsz: int = 0) -> None:
        """Lengths of the headers, for the offloads that flags asks for: see vuser_mbuf_set_tx_offload."""
        self._place()
        check(lib.vuser_mbuf_set_tx_offload(self._m, l2_len, l3_len, l4_len, tso_segsz))

    def append(self, data: Buffer) -> None:
        """Puts bytes behind the frame, in the same buffer."""
        self._place()
        self._hide()
        view = memoryview(data).cast("B")
        at = quick.vuser_mbuf_append(self._m, len(view)) if len(view) <= MOST else None
        if at is None:
            raise Error(errno.ENOSPC, f"there is no room for {len(view)} bytes more in the buffer")
        begin = at - self._pool._base
        self._pool._memory[begin : begin + len(view)] = view

    def prepend(self, data: Buffer) -> None:
        """Puts bytes in front of the frame, in its headroom."""
        self._place()
        self._hide()
        view = memoryview(data).cast("B")
        at = quick.vuser_mbuf_prepend(self._m, len(view)) if len(view) <= MOST else None
        if at is None:
            raise Error(errno.ENOSPC, f"the headroom is too small for {len(view)} bytes")
        begin = at - self._pool._base
        self._pool._memory[begin : begin + len(view)] = view

    def strip(self, n: int) -> None:
        """Takes n bytes off the front of the frame."""
        self._place()
        if not 0 <= n <= MOST:
            raise ValueError(f"{n} bytes can't be taken off")
        self._hide()
        check(lib.vuser_mbuf_adj(self._m, n))

    def _hide(self) -> None:
        """Ends the view. BufferError: something else looks through it, a numpy array for example."""
        view = self._view
        if view is not None:
            view.release()
            self._view = None

    def free(self) -> None:
        """Gives the packet up; its view ends. Once more does nothing."""
        if self._m:
            self._hide()
            m, self._m = self._m, 0
            if m:
                self._pool._drop(m)

    def __enter__(self) -> Packet:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.free()

    def __del__(self) -> None:
        m = self._m
        if m:
            self._m = 0
            view = self._view
            if view is not None:
                try:
                    view.release()
                except BufferError:
                    self._pool._looked_at.append((view, m))
                    return
            self._pool._drop(m)

    def __repr__(self) -> str:
        return f"<vuser.Packet of {len(self)} bytes>" if self._m else "<vuser.Packet, freed or sent>"


def _free_pool(handle: int, dropped: list[int]) -> None:
    """The end of a pool, when nothing refers to its memory any more."""
    if dropped:
        array = (ctypes.c_void_p * len(dropped))(*dropped)
        for at in range(0, len(dropped), MOST):
            lib.vuser_mbuf_free_bulk(ctypes.addressof(array) + at * _POINTER, min(MOST, len(dropped) - at))
    lib.vuser_pool_free(handle)


class Pool(_process.Closing):
    """Packet buffers in memory that can be shared with devices. Any thread may use it.

    ``count`` buffers (8192) of ``data_size`` bytes (2176), of which ``headroom`` (128) lie in front of a received frame; in
    huge pages if there are any, unless ``huge`` is False.
    """

    def __init__(self, count: int = 0, data_size: int = 0, headroom: int = 0, huge: bool = True) -> None:
        config = sized(_abi.vuser_pool_config)
        for name, value in (("count", count), ("data_size", data_size), ("headroom", headroom)):
            setattr(config, name, value)
            if getattr(config, name) != value:
                raise ValueError(f"{name}={value} can't be")
        config.no_huge = not huge
        handle = ctypes.c_void_p()
        check(lib.vuser_pool_create(ctypes.byref(config), ctypes.byref(handle)))
        # What closes it is the memory's end: until then its pointers are good.
        self._handle: int | None = handle.value
        self._mine = handle.value or 0
        self._lock = threading.Lock()
        self._dropped: list[int] = []
        self._drop = self._dropped.append
        self._looked_at: list[tuple[memoryview, int]] = []
        self.count = int(lib.vuser_pool_available(handle))
        self._survey()
        _process.remember(self)

    def _survey(self) -> None:
        """Finds out where descriptors and buffers lie: takes all of them, and gives them back."""
        count = self.count
        array = (ctypes.c_void_p * count)()
        parts = [(ctypes.addressof(array) + at * _POINTER, min(MOST, count - at)) for at in range(0, count, MOST)]
        for place, n in parts:
            check(lib.vuser_mbuf_alloc_bulk(self._mine, place, n))
        first, last = min(array), max(array)
        one = _abi.vuser_mbuf.from_address(first)
        self._first, self._base, self.data_size = first, one.buf_addr, one.buf_len
        two = _abi.vuser_mbuf.from_address(last)
        self._stride = (two.buf_addr - one.buf_addr) // (count - 1) if count > 1 else one.buf_len
        self.headroom = int(one.data_off)
        for place, n in parts:
            lib.vuser_mbuf_free_bulk(place, n)
        if last - first != (count - 1) * _SIZE or self._base + (count - 1) * self._stride != two.buf_addr:
            lib.vuser_pool_free(self._mine)
            raise Error(errno.ENOTSUP, "the library's pools do not lie in memory as this package expects it")
        area: Any = type(
            "_Area",
            (ctypes.Array,),
            {"_type_": ctypes.c_ubyte, "_length_": (count - 1) * self._stride + self.data_size},
        )
        memory = area.from_address(self._base)
        # Whatever looks at the memory refers to this.
        memory.owner = _process.own(partial(_free_pool, self._mine, self._dropped))
        self._memory = memoryview(memory).cast("B")
        self._d64 = memoryview((ctypes.c_uint64 * (count * _SIZE // 8)).from_address(first)).cast("B").cast("Q")
        self._d32 = self._d64.cast("B").cast("I")
        self._d16 = self._d64.cast("B").cast("H")
        self._room = self.data_size - self.headroom

    def _use(self) -> int:
        """The library's pool, if it can be used."""
        if self._handle is None:
            raise ClosedError("the pool was closed, or belongs to the process that this one was forked from")
        return self._handle

    def _flush(self, wait: float = 0.0) -> None:
        """Gives dropped packets back, unless another thread is doing it, for which it waits at most so many seconds."""
        if not self._lock.acquire(timeout=wait):
            return
        try:
            if self._looked_at:
                self._look_again()
            batch = self._dropped[:]
            n = len(batch)
            array = (ctypes.c_void_p * n)(*batch)
            for at in range(0, n, MOST):
                place, some, free = ctypes.addressof(array) + at * _POINTER, min(MOST, n - at), quick.vuser_mbuf_free_bulk
                # No signal handler comes between these two.
                del self._dropped[:some]
                free(place, some)
        finally:
            self._lock.release()

    def _look_again(self) -> None:
        """Packets that went while something looked through their view."""
        batch, self._looked_at = self._looked_at, []
        for view, m in batch:
            try:
                view.release()
                self._drop(m)
            except BufferError:
                self._looked_at.append((view, m))

    @property
    def memory(self) -> memoryview:
        """All memory of its buffers, to be read: what :meth:`DirtyLog.read` says is about this."""
        self._use()
        return self._memory.toreadonly()

    @property
    def available(self) -> int:
        """Free buffers, not counting those that queues keep near."""
        handle = self._use()
        self._flush()
        return int(lib.vuser_pool_available(handle))

    def alloc(self, n: int = 1) -> list[Packet]:
        """n empty packets. MemoryError: there are fewer."""
        array = self._take(n)
        return [Packet(self, m) for m in array]

    def _take(self, n: int) -> list[int]:
        handle = self._use()
        if not 0 <= n <= MOST:
            raise ValueError(f"{n} packets can't be had at once, only 0 to {MOST}")
        if self._dropped or self._looked_at:
            self._flush()
        array = (ctypes.c_void_p * n)()
        if not quick.vuser_mbuf_alloc_bulk(handle, array, n):
            return array[:]  # type: ignore[return-value]
        # Another thread may be giving some back.
        self._flush(_FLUSH_S)
        if quick.vuser_mbuf_alloc_bulk(handle, array, n):
            raise MemoryError(f"the pool of {self.count} packet buffers has fewer than {n} left")
        return array[:]  # type: ignore[return-value]

    def packet(self, data: Buffer) -> Packet:
        """A packet with a frame in it."""
        return Packet(self, self._fill([data])[0])

    def packets(self, frames: Sequence[Buffer]) -> list[Packet]:
        """A packet for each frame."""
        return [Packet(self, m) for m in self._fill(frames)]

    def _fill(self, frames: Sequence[Any]) -> list[int]:
        """Buffers with these frames in them; one that is too long takes several, chained."""
        room, memory, first, stride, headroom = self._room, self._memory, self._first, self._stride, self.headroom
        d16, d32 = self._d16, self._d32
        found = self._take(len(frames))
        try:
            for m, frame in zip(found, frames):
                n = len(frame)
                if n > room or type(frame) is not bytes:
                    self._chain(m, memoryview(frame).cast("B"))
                    continue
                # As vuser_mbuf_append does it, in an empty buffer.
                place = (m - first) // _SIZE
                begin = place * stride + headroom
                memory[begin : begin + n] = frame
                d16[place * (_SIZE // 2) + _DATA] = n
                d32[place * (_SIZE // 4) + _LEN] = n
        except BaseException:
            self._dropped.extend(found)
            raise
        return found

    def _chain(self, m: int, frame: memoryview) -> None:
        if len(frame) > MOST * 4:
            raise ValueError(f"a frame of {len(frame)} bytes can't be")
        for at in range(0, max(len(frame), 1), self._room):
            part = frame[at : at + self._room]
            segment = self._take(1)[0] if at else m
            quick.vuser_mbuf_append(segment, len(part))
            begin = (segment - self._first) // _SIZE * self._stride + self.headroom
            self._memory[begin : begin + len(part)] = part
            if at and lib.vuser_mbuf_chain(m, segment):
                self._drop(segment)
                raise Error(errno.EMSGSIZE, f"a frame of {len(frame)} bytes has too many segments")

    def close(self) -> None:
        """No more packets from it. Its memory goes with the last that looks at it."""
        if self._handle is not None:
            self._flush()
            self._handle = None

    def _forked(self) -> None:
        """In a child of this process: its free list is shared with nobody, but its memory is."""
        self._handle = None
        self._lock = threading.Lock()

    def _exit(self) -> None:
        """Its memory stays: other threads may look at it."""

    def __repr__(self) -> str:
        return f"<vuser.Pool of {self.count} buffers of {self.data_size} bytes{', closed' if self._handle is None else ''}>"
