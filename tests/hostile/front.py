# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""The driver's side of a hostile device, by the Python package. It does what front.c does, and says the same lines."""

from __future__ import annotations

import errno
import os
import sys
import time

import vuser

POOL, WINDOW, FRAMES, ATTEMPTS = 1024, 32, 48, 12
# The transmit ring is looked at when half of it is in use.
FRAMES_OF_RINGS = 300
FRAMES_WITHIN, TOLD_WITHIN, UP_WITHIN, LOST_AFTER, SETTLED_WITHIN = 5.0, 20.0, 5.0, 0.25, 5.0
LENGTHS = (64, 65, 127, 300, 601, 1024, 1518)
HEADER = bytes([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xB5])


class Stuck(Exception):
    """An attempt has come to nothing."""


class Front:
    def __init__(self) -> None:
        self.pool = vuser.Pool(count=POOL, huge=False)
        self.seed = os.urandom(8)
        self.number = 0
        self.received = self.corrupt = self.uncounted = 0
        self.slowest = self.patience = 0.0
        self.content = "-"
        # Of the device of now: frames taken and handed out, buffers of those that are not as they were sent, whether it was
        # started again, and the numbers of those that came whole.
        self.taken = self.handed = self.odd = 0
        self.mended = False
        self.seen: set[int] = set()

    def frame(self, number: int) -> bytes:
        head = HEADER + self.seed + number.to_bytes(8, "little")
        length = LENGTHS[number % len(LENGTHS)]
        step = (number * 31 + 7).to_bytes(8, "little")
        return (head + step * (length // 8))[:length]

    def check(self, data: bytes, buffers: int) -> None:
        number = int.from_bytes(data[22:30], "little")
        frame = self.frame(number) if len(data) >= 30 and number < self.number else b""
        # What was sent once comes once, unless a connection was lost meanwhile.
        if frame and data == frame and not (self.content == "whole" and number in self.seen):
            self.received += number not in self.seen
            self.seen.add(number)
            return
        same = min(len(data), len(frame))
        if self.content == "free" or (self.content == "length" and same and data[:same] == frame[:same]):
            self.odd += buffers
            return
        self.corrupt += 1
        print("corrupt", f"a frame of {len(data)} bytes: {data[:32].hex()}")

    def call(self, function, *arguments, optional=False):
        """Calls something that may talk to the back-end, and notes how long it took."""
        begin = time.monotonic()
        try:
            return function(*arguments)
        except vuser.Error as error:
            if optional and error.errno in (errno.ENOTSUP, errno.ENOTCONN):
                return None
            print("refused", f"{getattr(function, '__name__', function)}: {error}")
            if not optional:
                raise Stuck from error
        finally:
            self.slowest = max(self.slowest, time.monotonic() - begin)

    def start(self, device: vuser.Device) -> None:
        self.call(device.start)
        begin = time.monotonic()
        while not device.link:
            if time.monotonic() - begin > UP_WITHIN:
                print("refused the link does not come up")
                raise Stuck
            time.sleep(0.0005)

    def take(self, packets: list[vuser.Packet]) -> None:
        for packet in packets:
            self.check(bytes(packet), len(packet.segments))
            packet.free()
        self.handed += len(packets)

    def restart(self, device: vuser.Device) -> None:
        self.mended = True
        self.call(device.stop, optional=not self.patience)
        self.start(device)

    def exchange(self, device: vuser.Device, frames: int, told: str = "") -> None:
        """So many more frames there and back, after a lie was told: there is a file of this name then."""
        wanted, begin = None, time.monotonic()
        moved, came, under_way = begin, begin, 0
        while (wanted is None or self.received < wanted) and not self.corrupt:
            if wanted is None and (not told or os.path.exists(told)):
                wanted = self.received + frames
            try:
                device.rx[0].check()
                device.tx[0].check()
                sent = 0
                if under_way < WINDOW:
                    burst = [self.frame(self.number + k) for k in range(min(16, WINDOW - under_way))]
                    sent = device.tx[0].burst(burst)
                    self.number += sent
                    self.taken += sent
                packets = device.rx[0].burst()
            except vuser.Error as error:
                if error.errno != errno.EIO:
                    print("refused burst:", error)
                    raise Stuck from error
                print("broken", error)
                self.restart(device)
                came, under_way = time.monotonic(), 0
                continue
            self.take(packets)
            under_way = max(0, under_way + sent - len(packets))
            now = time.monotonic()
            if sent or packets:
                moved = now
            if packets:
                came = now
            idle = not sent and not packets
            if now - begin > (TOLD_WITHIN if self.patience else FRAMES_WITHIN) and (idle or wanted is None):
                print("refused no frames come any more")
                raise Stuck
            if self.patience and now - came > self.patience:
                print("stalled no frames come any more")
                self.restart(device)
                came, under_way = time.monotonic(), 0
            elif now - moved > LOST_AFTER:
                moved, under_way = now, 0
            elif idle:
                time.sleep(0.00005)

    def everything(self, device: vuser.Device) -> None:
        """All that talks to the back-end of a running device."""
        self.call(lambda: device.info, optional=True)
        self.call(lambda: device.status, optional=True)
        self.call(device.set_mtu, 1400, optional=True)
        self.call(device.announce, optional=True)
        self.call(device.set_mac, "02:00:00:00:00:07", optional=True)
        for queue in (device.rx[0], device.tx[0]):
            self.call(queue.stop, optional=True)
            self.call(queue.start, optional=True)
        self.call(device.set_link, False, optional=True)
        self.call(device.set_link, True, optional=True)
        device.events()
        self.call(device.reset, optional=True)

    def settle(self, device: vuser.Device) -> None:
        """Whether all frames that did not come are in the statistics: nothing was stopped, and the device echoes all."""
        end = time.monotonic() + SETTLED_WITHIN
        while True:
            self.take(device.rx[0].burst())
            rx = device.rx[0].stats()
            missing = self.taken - len(self.seen) - self.odd - rx.runt - rx.bad_header
            if missing == 0:
                return
            if time.monotonic() > end:
                self.uncounted += 1
                print("uncounted", f"{missing} frames that did not come")
                return

    def rings(self, device: vuser.Device, told: str) -> None:
        """Frames by rings that lie, by rings that are new, and whether all of them are in the statistics."""
        self.exchange(device, FRAMES_OF_RINGS, told)
        if self.content != "free" and not self.mended:
            self.settle(device)
        self.restart(device)
        self.content = "whole"
        self.exchange(device, FRAMES)
        self.call(device.stop)
        rx, tx = device.rx[0].stats(), device.tx[0].stats()
        sent = tx.packets + tx.bad_packet + tx.bad_offload + tx.bad_address + tx.too_many_segments
        if (rx.packets, sent) != (self.handed, self.taken):
            self.uncounted += 1
            print("uncounted", f"{rx.packets} of {self.handed} received, {sent} of {self.taken} sent")

    def attempt(self, config: str, content: str, told: str) -> int:
        """The connections that were lost meanwhile."""
        self.content, self.taken, self.handed, self.odd, self.mended = content, 0, 0, 0, False
        self.seen.clear()
        device = self.call(lambda: vuser.Device(config, pool=self.pool))
        try:
            self.start(device)
            if self.patience:
                self.rings(device, told)
            else:
                self.exchange(device, FRAMES)
                self.everything(device)
                self.start(device)
                self.exchange(device, FRAMES)
            return device.info.reconnects
        finally:
            self.call(device.close, optional=True)

    def life(self, path: str, timeout: str, devargs: str, content: str, patience: str) -> str:
        fds, self.slowest, before = len(os.listdir("/proc/self/fd")), 0.0, self.received
        self.corrupt = self.uncounted = 0
        self.patience = 0.0 if content == "-" else int(patience) / 1e3
        config = f"path={path},{devargs},timeout_ms={timeout},reconnect_ms=20"
        for _ in range(ATTEMPTS):
            try:
                lost = self.attempt(config, content, f"{path}.told")
                break
            except Stuck:
                time.sleep(0.005)
        else:
            return f"stuck after {ATTEMPTS} attempts"
        fds = len(os.listdir("/proc/self/fd")) - fds
        return (
            f"ok frames={self.received - before} corrupt={self.corrupt} lost={lost} fds={fds} "
            f"buffers={POOL - self.pool.available} uncounted={self.uncounted} slowest={self.slowest * 1e3:.0f}"
        )


front = Front()
for line in sys.stdin:
    print(front.life(*line.split()), flush=True)
