#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""forward: what comes in at one device goes out at the other, with the two MAC addresses swapped; with one device, it goes
back where it came from. Frames are not copied: both devices use one pool. The twin of forward.c."""

import os

import common
import vuser
from common import BURST, Meter

USAGE = """usage: forward [options] DEVARGS [DEVARGS]
Swaps the MAC addresses of every frame and sends it on: from the first device to the second and
back, or back to where it came from if there is one device only.
  DEVARGS        a device, e.g. "path=/tmp/sock0,queues=2"
  --keep-macs    leave the frames as they are
  --seconds N    stop after N seconds (0: never)
  --frames N     stop after N frames
  --help         this text
Ctrl-C stops it cleanly.
"""


def swap_macs(packet: vuser.Packet) -> None:
    """In place."""
    data = packet.data
    data[:12] = bytes(data[6:12]) + bytes(data[:6])


def forward(devargs: list, swap: bool, seconds: float, limit: int) -> int:
    """All of it."""
    configs = [vuser.Config(text) for text in devargs]
    if len({config.queues for config in configs}) != 1:
        raise SystemExit("both devices need the same number of queues")
    pool = common.make_pool(*configs)
    ports = [vuser.Device(config, pool=pool) for config in configs]
    forwarded = dropped = 0
    try:
        for number, port in enumerate(ports):
            port.start()
            common.print_port(f"port {number}", port)
        ways = [(rx, tx) for here, there in zip(ports, reversed(ports)) for rx, tx in zip(here.rx, there.tx)]
        meter = Meter(seconds)
        while meter.tick(forwarded, "forwarded") and not (limit and forwarded >= limit):
            moved = 0
            for rx, tx in ways:
                packets = rx.burst(BURST)
                if swap:
                    for packet in packets:
                        swap_macs(packet)
                sent = tx.burst(packets) if packets else 0
                # The ring is full: a forwarder drops, for waiting would only move the queue to somewhere else.
                for packet in packets[sent:]:
                    packet.free()
                forwarded += sent
                dropped += len(packets) - sent
                moved += len(packets)
            if moved == 0:
                for port in ports:
                    common.check_port(port)
                os.sched_yield()
        meter.total(forwarded, "forwarded")
        print(f"{dropped} dropped because the way out was full")
        for number, port in enumerate(ports):
            common.print_port_statistics(f"port {number}", port)
    finally:
        for port in ports:
            port.close()
    return 0


def main() -> int:
    """Reads the command line."""
    parser = common.options("forward", USAGE)
    parser.add_argument("--keep-macs", action="store_true")
    parser.add_argument("devargs", nargs="+")
    args = parser.parse_args()
    if len(args.devargs) > 2:
        parser.error("one device or two")
    return forward(args.devargs, not args.keep_macs, args.seconds or 0, args.frames)


if __name__ == "__main__":
    common.run(main)
