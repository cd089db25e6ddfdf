# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Queues, and their bursts."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import select
import threading
import time
from collections.abc import Sequence
from typing import Any, Union

from . import _abi
from ._core import Core
from ._errors import ClosedError, Error, check
from ._library import lib, quick
from ._memory import writable
from ._pool import MOST, Packet, Pool
from ._stats import QueueStats, fields, sized

Frame = Union[Packet, bytes, bytearray, memoryview]

_POINTER = ctypes.sizeof(ctypes.c_void_p)
# How soon somebody who waits notices that the device was closed.
_LOOK_MS = 100
# Longest wait for a burst of another thread to end before a device is closed.
_CLOSE_S = 10.0
# Formats of a buffer's numbers, which have the right size too.
_INTEGERS = ("I", "i", "L", "l")

_rx_burst, _tx_burst = quick.vuser_rx_burst, quick.vuser_tx_burst
_rx_copy, _tx_copy = lib.vuser_rx_burst_copy, lib.vuser_tx_burst_copy


def _readable(name: str, buffer: Any) -> tuple[Any, Any, int]:
    """As writable. What can't be written to is copied, but for bytes."""
    if type(buffer) is bytes:
        return buffer, buffer, len(buffer)
    view = memoryview(buffer)
    if view.readonly:
        copy = view.tobytes()
        return copy, copy, len(copy)
    return writable(name, view)


def _put_back(packets: Sequence[Any], found: Sequence[int]) -> None:
    """Packets that were not sent are what they were."""
    for packet, m in zip(packets, found):
        if m:
            packet._m = m


def _numbers(name: str, buffer: Any, n: int) -> None:
    """Whether a buffer has place for n numbers of 32 bits."""
    # What has no items, a bytearray for example, is taken as it is.
    view = memoryview(buffer) if hasattr(buffer, "itemsize") else None
    if view is not None and (view.itemsize != 4 or view.format.lstrip("@=<") not in _INTEGERS):
        raise TypeError(f"{name} must be an array of 32-bit numbers, numpy's uint32 or array('I')")
    if n < 0:
        raise ValueError("less than no frame can't be asked for")


class Queue:
    """What receive and transmit queues have in common.

    Bursts of several threads take turns; a queue that one thread uses is faster. When the device is closed, whatever is
    done with its queues raises ClosedError.
    """

    _rx = False

    def __init__(self, core: Core, pair: int) -> None:
        self.pair = pair
        self._core = core
        self._handle = 0
        self._pool: Pool | None = None
        self._lock: Any = threading.RLock()
        # Whether a burst is under way: a signal handler comes through the lock that its own thread holds.
        self._busy = False
        self._room = 0
        self._array: Any = None
        self._at = 0
        self._grow(32)
        core.queues.add(self)

    def _open(self, device: int, pool: Pool) -> None:
        """After its set-up."""
        find = lib.vuser_rx_queue if self._rx else lib.vuser_tx_queue
        with self._lock:
            self._pool, self._handle = pool, find(device, self.pair) or 0

    def _may_close(self) -> None:
        """Error: a signal handler is what closes the device, above a call that can't end before it."""
        if self._lock._is_owned():
            raise self._interrupted()

    def _close(self) -> None:
        """After this no thread is in it, and none comes."""
        if not self._lock.acquire(timeout=_CLOSE_S):
            raise Error(errno.EBUSY, "the device can't be closed: a queue of it is in use")
        self._handle = 0
        self._forget()
        self._lock.release()

    def _forget(self) -> None:
        """Ends what it has lent."""

    def _forked(self) -> None:
        self._lock = threading.RLock()
        self._busy = False
        self._handle = 0

    def _enter(self) -> int:
        """The handle, for a call that holds the lock."""
        if self._busy:
            raise self._interrupted()
        if not self._handle:
            raise self._closed()
        return self._handle

    @staticmethod
    def _interrupted() -> Error:
        return Error(
            errno.EDEADLK,
            "a signal handler came in the middle of a call of this queue on the same thread, and can't use or close it: set "
            "a flag in the handler, and look at it between bursts",
        )

    def _closed(self) -> ClosedError:
        kind = "receive" if self._rx else "transmit"
        return ClosedError(
            f"{kind} queue {self.pair} is not set up, or its device was closed or belongs to another process"
        )

    def _grow(self, n: int) -> None:
        """Makes room for bursts of n."""
        if not 0 <= n <= MOST:
            raise ValueError(f"a burst has 0 to {MOST} packets, not {n}")
        self._room = n
        self._array = (ctypes.c_void_p * n)()
        self._at = ctypes.addressof(self._array)

    @property
    def pool(self) -> Pool:
        """The pool that it was set up with."""
        if self._pool is None:
            raise self._closed()
        return self._pool

    def _call(self, function: Any, *arguments: Any) -> int:
        with self._lock:
            if not self._handle:
                raise self._closed()
            return check(function(self._handle, *arguments))

    def check(self) -> None:
        """Error: the queue does nothing, and why: the device is stopped, or the back-end broke the rules."""
        self._call(lib.vuser_queue_status)

    def fd(self) -> int:
        """A descriptor that becomes readable when the device calls: see arm. It stays the queue's."""
        return self._call(lib.vuser_queue_fd)

    fileno = fd

    def arm(self) -> bool:
        """Asks the device to call, once, when there is something to do: fd() becomes readable then. True: there is already,
        so do not wait but burst. It also takes back a former call."""
        return bool(self._call(lib.vuser_queue_call, 1))

    def disarm(self) -> None:
        """Asks the device not to call, which is how a queue begins."""
        self._call(lib.vuser_queue_call, 0)

    def wait(self, timeout: float | None = None) -> bool:
        """Sleeps until there may be something to do: a frame to receive, or room to send. False: not within so many
        seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self.arm():
            left = _LOOK_MS if end is None else min(_LOOK_MS, max(0, int((end - time.monotonic()) * 1000 + 0.999)))
            poll = select.poll()
            poll.register(self.fd(), select.POLLIN)
            if poll.poll(left):
                return True
            if end is not None and time.monotonic() >= end:
                return False
        return True

    def count(self) -> int:
        """Descriptors that the device has used and the queue has not taken."""
        return self._call(lib.vuser_queue_count)

    def stats(self) -> QueueStats:
        """The counters of the queue."""
        stats = sized(_abi.vuser_queue_stats)
        self._call(lib.vuser_queue_get_stats, ctypes.byref(stats))
        made: QueueStats = fields(stats, QueueStats)
        return made

    def reset_stats(self) -> None:
        """Sets the counters to zero."""
        self._call(lib.vuser_queue_reset_stats)

    def start(self) -> None:
        """Starts a queue that was stopped."""
        self._control(lib.vuser_rx_queue_start if self._rx else lib.vuser_tx_queue_start)

    def stop(self) -> None:
        """Stops the queue of a running device."""
        self._control(lib.vuser_rx_queue_stop if self._rx else lib.vuser_tx_queue_stop)

    def _control(self, function: Any) -> None:
        with self._core as device:
            check(function(device, self.pair))

    def __repr__(self) -> str:
        return f"<vuser.{type(self).__name__} {self.pair}{'' if self._handle else ', closed'}>"


class RxQueue(Queue):
    """A receive queue."""

    _rx = True

    def __init__(self, core: Core, pair: int) -> None:
        super().__init__(core, pair)
        # Frames that are lent, and in how many buffers each lies.
        self._lent: list[memoryview] = []
        self._parts: list[int] = []
        self._told: Any = None

    def peek(self, n: int = 32) -> list[memoryview]:
        """Lends the frames that are to be received next, in up to n buffers (or as many as the first needs), in order, as
        views that can be read: nothing is copied (but a frame that lies in several buffers), and no packet is made. They are told again until they are given
        back by ``release`` or received by a burst, which ends their views. A back-end that misbehaves can change them: copy
        what is checked and then used. Never waits."""
        if not 0 <= n <= MOST:
            raise ValueError(f"{n} buffers can't be lent, only 0 to {MOST}")
        pool = self.pool
        with self._lock:
            self._enter()
            self._busy = True
            try:
                self._take_back()
                while not self._lend(pool, n):
                    if n == MOST:
                        raise Error(errno.EMSGSIZE, f"the next frame lies in more than {MOST} buffers")
                    n = min(2 * n, MOST)
                return self._lent[:]
            finally:
                self._busy = False

    def _lend(self, pool: Pool, n: int) -> bool:
        """Whether n buffers were enough for a frame, if there is one."""
        if self._told is None or len(self._told) < n:
            self._told = (_abi.vuser_frame * n)()
        told = self._told
        buffers = quick.vuser_rx_peek(self._handle, ctypes.addressof(told), n)
        parts: list[memoryview] = []
        for frame in told[:buffers]:
            begin = frame.data - pool._base
            parts.append(pool._memory[begin : begin + frame.len].toreadonly())
            if not frame.flags & _abi.VUSER_FRAME_MORE:
                self._lent.append(parts[0] if len(parts) == 1 else memoryview(b"".join(parts)))
                self._parts.append(len(parts))
                parts = []
        # What is left over is the beginning of a frame, which is told when there is room for its end.
        return bool(self._lent) or buffers < n or not n

    def release(self, n: int | None = None) -> None:
        """Gives the first n frames that are lent, or all, back to the device. Their views end."""
        with self._lock:
            handle = self._enter()
            n = len(self._lent) if n is None else n
            if not 0 <= n <= len(self._lent):
                raise ValueError(f"{n} frames can't be given back, {len(self._lent)} are lent")
            for view in self._lent[:n]:
                view.release()
            buffers = sum(self._parts[:n])
            del self._lent[:n], self._parts[:n]
            quick.vuser_rx_release(handle, buffers)

    def stop(self) -> None:
        """Stops the queue of a running device. What is lent ends."""
        super().stop()
        self._forget()

    def _forget(self) -> None:
        with self._lock:
            for view in self._lent:
                # Something else may look through it, an array for example: the memory is there as long.
                with contextlib.suppress(BufferError):
                    view.release()
            self._lent.clear()
            self._parts.clear()

    def _take_back(self) -> None:
        """What was lent is not to be looked at any more."""
        for view in self._lent:
            view.release()
        self._lent.clear()
        self._parts.clear()

    def burst(self, n: int = 32) -> list[Packet]:
        """Receives up to n frames. Never waits."""
        pool = self._pool
        if pool is None:
            raise self._closed()
        if pool._dropped or pool._looked_at:
            pool._flush()
        with self._lock:
            handle = self._enter()
            self._busy = True
            try:
                if not 0 <= n <= self._room:
                    self._grow(n)
                if self._lent:
                    self._take_back()
                found = iter(self._array[: _rx_burst(handle, self._at, n)])
            finally:
                self._busy = False
        try:
            return [Packet(pool, m) for m in found]
        except BaseException:
            # Of a signal handler: those that are no packets yet.
            pool._dropped.extend(found)
            raise

    def burst_into(self, buffer: Any, offsets: Any, lengths: Any, n: int | None = None) -> int:
        """Receives up to n frames by copying them into a buffer (a numpy array, a bytearray), one behind the other, and
        returns how many: the i-th begins at offsets[i] and has lengths[i] bytes. offsets and lengths are arrays of 32-bit
        numbers; n is their length unless given. A checksum that the device left to be done (rx_csum) is finished in the
        copy. One call, and no object for each frame. Never waits."""
        pool = self._pool
        if pool is not None and (pool._dropped or pool._looked_at):
            pool._flush()
        data, at, size = writable("buffer", buffer)
        where, where_at, where_size = writable("offsets", offsets)
        long, long_at, long_size = writable("lengths", lengths)
        places = min(where_size, long_size, MOST * 4) // 4
        n = places if n is None else min(n, places)
        _numbers("offsets", offsets, n)
        _numbers("lengths", lengths, n)
        with self._lock:
            handle = self._enter()
            if self._lent:
                self._take_back()
            return int(_rx_copy(handle, at, size, where_at, long_at, n))


class TxQueue(Queue):
    """A transmit queue."""

    def burst(self, packets: Sequence[Frame]) -> int:
        """Sends packets, from the first on, and returns how many were taken. Those are gone; the others stay yours, and can
        be sent again. Frames that are bytes are copied into packets of the queue's pool; if the pool is empty, the burst
        ends with those before. Never waits."""
        found: list[int] = []
        try:
            # Each is taken out of its object at once: nobody else can free or send it meanwhile.
            for packet in packets:
                if packet._view is not None:  # type: ignore[union-attr]
                    packet._hide()  # type: ignore[union-attr]
                m = packet._m  # type: ignore[union-attr]
                packet._m = 0  # type: ignore[union-attr]
                found.append(m)
        except AttributeError:
            _put_back(packets, found)
            return self._mixed(packets)
        except BaseException:
            _put_back(packets, found)
            raise
        n = len(found)
        if n > MOST or 0 in found:
            _put_back(packets, found)
            if n > MOST:
                raise ValueError(f"a burst has 0 to {MOST} packets, not {n}")
            if len(set(map(id, packets))) != n:
                raise ValueError("a packet is in the burst twice")
            raise ClosedError("a packet was freed or sent before")
        given: list[int] = []
        try:
            sent = self._send(found, given)
        except BaseException:
            # Nothing was sent, or it is not known what, if a signal handler came after the burst.
            if not given:
                _put_back(packets, found)
            raise
        if sent < n:
            _put_back(packets[sent:], found[sent:])
        return sent

    def _send(self, found: list[int], given: list[int]) -> int:
        """What the library takes of these packets; ``given`` tells whether it was asked, if there is an exception."""
        n = len(found)
        with self._lock:
            handle = self._enter()
            self._busy = True
            try:
                if n > self._room:
                    self._grow(n)
                self._array[:n] = found
                given += (n,)
                return int(_tx_burst(handle, self._at, n))
            finally:
                self._busy = False

    def _mixed(self, packets: Sequence[Frame]) -> int:
        """Frames that are no packets yet, or some of them."""
        pool = self.pool
        if any(isinstance(p, Packet) for p in packets):
            if any(isinstance(p, Packet) and not p._m for p in packets):
                raise ClosedError("a packet was freed or sent before")
            sent = 0
            for p in packets:
                if not (self.burst([p]) if isinstance(p, Packet) else self._mixed([p])):
                    break
                sent += 1
            return sent
        n = min(len(packets), MOST)
        try:
            found = pool._fill(packets[:n])
        except MemoryError:
            # What was sent long ago may lie in the ring still.
            self.cleanup()
            found = self._few(pool, packets[:n])
        given: list[int] = []
        try:
            sent = self._send(found, given)
        except BaseException:
            if not given:
                pool._dropped.extend(found)
            raise
        if sent < len(found):
            pool._dropped.extend(found[sent:])
        return sent

    @staticmethod
    def _few(pool: Pool, frames: Sequence[Frame]) -> list[int]:
        """As many of the first as the pool has buffers for."""
        n = len(frames)
        while n:
            try:
                return pool._fill(frames[:n])
            except MemoryError:
                n //= 2
        return []

    def burst_from(self, buffer: Any, offsets: Any, lengths: Any, n: int | None = None) -> int:
        """Sends up to n frames by copying them out of a buffer (a numpy array, bytes), and returns how many were taken: the
        i-th begins at offsets[i] and has lengths[i] bytes. offsets and lengths are arrays of 32-bit numbers; n is their
        length unless given. One call, and no object for each frame. Never waits."""
        data, at, size = _readable("buffer", buffer)
        where, where_at, where_size = _readable("offsets", offsets)
        long, long_at, long_size = _readable("lengths", lengths)
        places = min(where_size, long_size, MOST * 4) // 4
        n = places if n is None else min(n, places)
        _numbers("offsets", offsets, n)
        _numbers("lengths", lengths, n)
        pool = self._pool
        if pool is not None and (pool._dropped or pool._looked_at):
            pool._flush()
        with self._lock:
            if not self._handle:
                raise self._closed()
            return int(_tx_copy(self._handle, at, size, where_at, long_at, n))

    def cleanup(self, n: int = MOST) -> int:
        """Gives packets that have been sent back to their pool now, about n of them, and returns how many."""
        with self._lock:
            if not self._handle:
                raise self._closed()
            return int(lib.vuser_tx_done_cleanup(self._handle, max(0, min(n, MOST))))

    def prepare(self, packets: Sequence[Packet]) -> int:
        """Prepares packets for the offloads that their flags ask for; how many, from the first on, can be sent."""
        found = [packet._m for packet in packets]
        if not all(found):
            raise ClosedError("a packet was freed or sent before")
        with self._lock:
            handle = self._enter()
            self._busy = True
            try:
                if len(found) > self._room:
                    self._grow(len(found))
                self._array[: len(found)] = found
                return int(lib.vuser_tx_prepare(handle, self._at, len(found)))
            finally:
                self._busy = False
