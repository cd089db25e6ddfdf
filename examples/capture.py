#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""capture: receives frames and has the library write them into a pcapng file: the twin of capture.c."""

import os
import time

import common
import vuser
from common import BURST, Meter

USAGE = """usage: capture [options] DEVARGS FILE
Writes received frames into FILE, a pcapng file, or a named pipe that Wireshark reads.
  DEVARGS        the device, e.g. "path=/tmp/sock,queues=2"
  --snaplen N    keep the first N bytes of each frame (all)
  --bytes N      let the file have N bytes at most (no limit)
  --seconds N    stop after N seconds (0: never)
  --frames N     stop after N frames
  --help         this text
Ctrl-C stops it cleanly: the file is complete.
"""


def capture(args) -> int:
    """All of it."""
    config = vuser.Config(args.devargs)
    received = 0
    with vuser.Device(config, pool=common.make_pool(config)) as device:
        common.print_port("capture", device)
        with device.capture(args.file, snaplen=args.snaplen, max_bytes=args.bytes) as writer:
            meter = Meter(args.seconds or 0)
            while meter.tick(received, "received") and not (args.frames and received >= args.frames):
                before = received
                for rx in device.rx:
                    packets = rx.burst(min(BURST, args.frames - received) if args.frames else BURST)
                    received += len(packets)
                    for packet in packets:
                        packet.free()
                if received == before:
                    common.check_port(device)
                    os.sched_yield()
            stats = settle(writer, received)
        meter.total(stats.written, "written")
        if stats.dropped:
            why = "the file is full" if stats.full else "they came faster than they could be written"
            print(f"{stats.dropped} frames are missing: {why}")
        common.print_port_statistics("capture", device)
    return 0


def settle(writer, received: int) -> vuser.CaptureStats:
    """The writer is a moment behind; its last numbers are wanted."""
    end = time.monotonic() + 5
    while True:
        stats = writer.stats()
        if stats.error or stats.written + stats.dropped >= received or time.monotonic() >= end:
            return stats
        os.sched_yield()


def main() -> int:
    """Reads the command line."""
    parser = common.options("capture", USAGE)
    parser.add_argument("--snaplen", type=common.number(14, 65535), default=0)
    parser.add_argument("--bytes", type=common.number(4096, 2**64 - 1), default=0)
    parser.add_argument("devargs")
    parser.add_argument("file")
    return capture(parser.parse_args())


if __name__ == "__main__":
    common.run(main)
