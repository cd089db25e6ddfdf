# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""scapy on a device: ``VuserSocket``. Needs scapy, which nothing else of this package does.

    from scapy.all import Ether, IP, ICMP
    from vuser.scapy import VuserSocket

    with VuserSocket("path=/tmp/vhost.sock") as s:
        answer = s.sr1(Ether() / IP(dst="192.0.2.1") / ICMP(), timeout=2)

``s.sr``, ``s.sniff``, ``sendp(..., socket=s)``, ``AsyncSniffer(opened_socket=s)`` and ``bridge_and_sniff(s, other)`` work as with
scapy's own sockets. One thread may send while another receives. Filters in tcpdump's language are not there: use ``lfilter=``.
"""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from typing import Any

from scapy.config import conf
from scapy.data import MTU
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.supersocket import SuperSocket

from ._device import Device
from ._waiting import arm, send_all

_BURST = 64
# How long a full ring is waited for before a frame is dropped.
_LONGEST_SEND = 1.0


class VuserSocket(SuperSocket):
    """A queue pair of a device as a socket of scapy's.

    ``device`` is one that is started, which stays the caller's, or options to make one with, which ``close()`` ends.
    """

    desc = "read/write frames of a vhost-user back-end"
    # scapy then asks select() again and again, at its poll rate, in place of waking it by a pipe of its own.
    nonblocking_socket = True

    def __init__(self, device: Device | str, queue: int = 0, *, basecls: type[Packet] = Ether) -> None:
        self._own: Device | None = None
        if isinstance(device, str):
            device = self._own = Device(device)
            try:
                device.start()
            except BaseException:
                device.close()
                raise
        self._rx, self._tx = device.rx[queue], device.tx[queue]
        self._receiving, self._sending = threading.Lock(), threading.Lock()
        self._frames: deque[tuple[bytes, float]] = deque()
        self.basecls = basecls
        self.iface = "vuser"
        self.promisc = True

    def __str__(self) -> str:
        return f"{self._rx!r}"

    def __enter__(self) -> VuserSocket:
        return self

    def fileno(self) -> int:
        """The eventfd by which the device calls. To wait, use ``select()`` below, which asks it to."""
        return self._rx.fd()

    def send(self, x: Packet) -> int:
        """Sends a packet; how many bytes, 0 when the ring stayed full for a second."""
        frame = bytes(x)
        with self._sending:
            try:
                send_all(self._tx, [frame], _LONGEST_SEND)
            except TimeoutError:
                return 0
        try:
            x.sent_time = time.time()
        except AttributeError:
            # What is sent need not be a packet of scapy's.
            pass
        return len(frame)

    def recv_raw(self, x: int = MTU) -> tuple[type[Packet] | None, bytes | None, float | None]:
        """The next frame, if there is one, and when it was taken from the ring."""
        with self._receiving:
            if self.closed:
                raise EOFError("the socket was closed")
            if not self._fill():
                return None, None, None
            frame, when = self._frames.popleft()
        return self.basecls, frame[:x], when

    def _fill(self) -> bool:
        if not self._frames:
            packets = self._rx.burst(_BURST)
            now = time.time()
            self._frames.extend((bytes(packet), now) for packet in packets)
        return bool(self._frames)

    def _ready(self) -> bool:
        with self._receiving:
            return self._fill()

    def _armed(self) -> bool:
        """Asks the device to call; whether there is work already, and nothing to wait for."""
        with self._receiving:
            return bool(arm(self._rx))

    @staticmethod
    def select(sockets: list[SuperSocket], remain: float | None = conf.recv_poll_rate) -> list[SuperSocket]:
        """Which of these have frames, waiting a little if none has. Sockets of other kinds may be among them."""
        ours = [s for s in sockets if isinstance(s, VuserSocket)]
        others = [s for s in sockets if not isinstance(s, VuserSocket)]
        # One that was closed says so when it is asked for a frame.
        ready: list[SuperSocket] = [s for s in ours if s.closed or s._ready()]
        # Who asks first and looks afterwards loses no call; what has come meanwhile is not waited for.
        if not ready:
            ready = [s for s in ours if s._armed()]
        wait = 0.0 if ready else conf.recv_poll_rate if remain is None else min(remain, conf.recv_poll_rate)
        # poll() takes descriptors above 1023 too.
        poll, asked = select.poll(), [*others, *([] if ready else ours)]
        for s in asked:
            poll.register(s, select.POLLIN)
        called = {fd for fd, _ in poll.poll(max(wait, 0.0) * 1000)}
        return ready + [s for s in asked if s.fileno() in called]

    def close(self) -> None:
        """Ends the device if it was made here."""
        if self.closed:
            return
        self.closed = True
        own = getattr(self, "_own", None)
        if own is not None:
            own.close()


__all__: Any = ["VuserSocket"]
