# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""The driver's side of a hostile device, by the Python package. It does what front.c does, and says the same lines."""

from __future__ import annotations

import errno
import os
import sys
import time

import vuser

POOL, WINDOW, FRAMES, ATTEMPTS = 1024, 32, 48, 12
FRAMES_WITHIN, UP_WITHIN, LOST_AFTER = 5.0, 5.0, 0.25
LENGTHS = (64, 65, 127, 300, 601, 1024, 1518)
HEADER = bytes([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xB5])


class Stuck(Exception):
    """An attempt has come to nothing."""


class Front:
    def __init__(self) -> None:
        self.pool = vuser.Pool(count=POOL, huge=False)
        self.seed = os.urandom(8)
        self.number = 0
        self.received = self.corrupt = 0
        self.slowest = 0.0

    def frame(self, number: int) -> bytes:
        head = HEADER + self.seed + number.to_bytes(8, "little")
        length = LENGTHS[number % len(LENGTHS)]
        step = (number * 31 + 7).to_bytes(8, "little")
        return (head + step * (length // 8))[:length]

    def check(self, data: bytes) -> None:
        number = int.from_bytes(data[22:30], "little")
        if len(data) >= 30 and number < self.number and data == self.frame(number):
            self.received += 1
        else:
            self.corrupt += 1

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

    def exchange(self, device: vuser.Device, frames: int) -> None:
        """So many more frames there and back."""
        wanted, begin = self.received + frames, time.monotonic()
        moved, under_way = begin, 0
        while self.received < wanted and not self.corrupt:
            try:
                device.rx[0].check()
                device.tx[0].check()
                sent = 0
                if under_way < WINDOW:
                    burst = [self.frame(self.number + k) for k in range(min(16, WINDOW - under_way))]
                    sent = device.tx[0].burst(burst)
                    self.number += sent
                packets = device.rx[0].burst()
            except vuser.Error as error:
                if error.errno != errno.EIO:
                    print("refused burst:", error)
                    raise Stuck from error
                print("broken", error)
                self.call(device.stop, optional=True)
                self.start(device)
                under_way = 0
                continue
            for packet in packets:
                self.check(bytes(packet))
                packet.free()
            under_way = max(0, under_way + sent - len(packets))
            now = time.monotonic()
            if sent or packets:
                moved = now
            elif now - begin > FRAMES_WITHIN:
                print("refused no frames come any more")
                raise Stuck
            elif now - moved > LOST_AFTER:
                moved, under_way = now, 0
            else:
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

    def attempt(self, config: str) -> int:
        """The connections that were lost meanwhile."""
        device = self.call(lambda: vuser.Device(config, pool=self.pool))
        try:
            self.start(device)
            self.exchange(device, FRAMES)
            self.everything(device)
            self.start(device)
            self.exchange(device, FRAMES)
            return device.info.reconnects
        finally:
            self.call(device.close, optional=True)

    def life(self, path: str, packed: str, timeout: str) -> str:
        fds, self.slowest, self.corrupt, before = len(os.listdir("/proc/self/fd")), 0.0, 0, self.received
        config = f"path={path},packed_vq={packed},timeout_ms={timeout},reconnect_ms=20"
        for _ in range(ATTEMPTS):
            try:
                lost = self.attempt(config)
                break
            except Stuck:
                time.sleep(0.005)
        else:
            return f"stuck after {ATTEMPTS} attempts"
        fds = len(os.listdir("/proc/self/fd")) - fds
        return (
            f"ok frames={self.received - before} corrupt={self.corrupt} lost={lost} fds={fds} "
            f"buffers={POOL - self.pool.available} slowest={self.slowest * 1e3:.0f}"
        )


front = Front()
for line in sys.stdin:
    print(front.life(*line.split()), flush=True)
