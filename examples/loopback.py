#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""loopback: sends numbered frames through a device and checks those that come back: the twin of loopback.c.

Without arguments the other side is the library's own back-end in the same process. With --serve this program is a back-end
for others."""

import os
import time

import common
import vuser
from common import BURST, Meter

USAGE = """usage: loopback [options] [DEVARGS]
       loopback [options] --serve PATH[,ARGS]
Sends frames through a device and checks those that come back.
  DEVARGS        the device: "path=loopback" by default, or "path=/tmp/sock,packed_vq=1,queues=2", ...
  --serve PATH   be the back-end: listen on PATH and send every frame back
  --size N       frame length, 60 to 1514 (64)
  --seconds N    stop after N seconds (5; 0: never; --serve: 0)
  --frames N     stop after N frames came back
  --help         this text
Ctrl-C stops it cleanly.
"""

ETHER = bytes.fromhex("020000000002 020000000001 88b5")


class Pair:
    """A queue pair, with the next number to send and to expect."""

    def __init__(self, device: vuser.Device, number: int, size: int) -> None:
        self.rx, self.tx = device.rx[number], device.tx[number]
        self.sent = self.received = self.wrong = 0
        self.rest = bytes(size - len(ETHER) - 8)

    def send(self) -> None:
        """What the ring has no room for goes out next time."""
        first = self.sent
        self.sent += self.tx.burst([ETHER + n.to_bytes(8, "little") + self.rest for n in range(first, first + BURST)])

    def receive(self) -> None:
        """The number of a frame is all that is in it."""
        for packet in self.rx.burst(BURST):
            right = ETHER + self.received.to_bytes(8, "little") + self.rest
            self.wrong += bytes(packet) != right
            self.received += 1
            packet.free()


def drive(devargs: str, size: int, seconds: float, limit: int) -> int:
    """The front-end."""
    config = vuser.Config(devargs)
    with vuser.Device(config, pool=common.make_pool(config)) as device:
        common.print_port("loopback", device)
        pairs = [Pair(device, number, size) for number in range(config.queues)]
        # Never more under way than half a ring: a back-end drops what it finds no room for.
        window, received, meter = config.queue_size // 2, 0, Meter(seconds)
        while meter.tick(received, "came back") and not (limit and received >= limit):
            before = received
            for pair in pairs:
                if pair.sent - pair.received + BURST <= window:
                    pair.send()
                pair.receive()
            received = sum(pair.received for pair in pairs)
            if received == before:
                common.check_port(device)
                os.sched_yield()
        meter.total(received, "came back")
        common.print_port_statistics("loopback", device)
    wrong = sum(pair.wrong for pair in pairs)
    print(f"{wrong} wrong frames")
    return 0 if wrong == 0 and received > 0 else 1


def serve(path: str, seconds: float) -> int:
    """The back-end: it has a thread of its own; there is nothing to do here."""
    socket, *more = path.split(",")
    start = time.monotonic()
    with vuser.Loopback(socket, **dict(option.split("=", 1) for option in more)):
        print(f"serving {path}; connect with: loopback path={socket}")
        while not common.stopping and not (seconds and time.monotonic() - start >= seconds):
            time.sleep(0.1)
    print(f"served {time.monotonic() - start:.1f} s")
    return 0


def main() -> int:
    """Reads the command line."""
    parser = common.options("loopback", USAGE)
    parser.add_argument("--serve")
    parser.add_argument("--size", type=common.number(60, 1514), default=64)
    parser.add_argument("devargs", nargs="?")
    args = parser.parse_args()
    if args.serve:
        return parser.error("--serve and DEVARGS exclude each other") if args.devargs else serve(args.serve, args.seconds or 0)
    seconds = args.seconds if args.seconds is not None else 0 if args.frames else 5
    return drive(args.devargs or "path=loopback", args.size, seconds, args.frames)


if __name__ == "__main__":
    common.run(main)
