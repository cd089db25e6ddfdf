#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""generate: sends UDP/IPv4 frames of a given size at a given rate, and counts what comes back: the twin of generate.c.

Each queue pair sends from a UDP port of its own, so that a switch that spreads flows over queues has something to spread."""

import os
import socket
import struct
import time

import common
import vuser
from common import BURST, Meter

USAGE = """usage: generate [options] DEVARGS
Sends UDP/IPv4 frames.
  DEVARGS          the device, e.g. "path=/tmp/sock,queues=2"
  --size N         frame length without FCS, 60 to 1514 (60)
  --rate N         frames per second, all queues together (0: as many as go)
  --frames N       stop after N frames
  --seconds N      stop after N seconds (0: never)
  --dst-mac MAC    (ff:ff:ff:ff:ff:ff)
  --src IP:PORT    (10.0.0.1:1024; queue pair n sends from PORT + n)
  --dst IP:PORT    (10.0.0.2:9)
  --help           this text
Ctrl-C stops it cleanly.
"""


def mac(text: str) -> bytes:
    """An address as six bytes."""
    raw = bytes.fromhex(text.replace(":", ""))
    if len(raw) != 6:
        raise ValueError
    return raw


def address(port: int):
    """The type of an argument IP:PORT, where PORT may be left out."""

    def parse(text: str) -> tuple:
        host, _, given = text.partition(":")
        found = int(given) if given else port
        if not 1 <= found <= 65535 - 64:
            raise ValueError
        return socket.inet_pton(socket.AF_INET, host), found

    return parse


def checksum(header: bytes) -> int:
    """That of an IPv4 header."""
    total = sum(struct.unpack("!10H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def build(args, source: bytes, pair: int, number: int) -> bytes:
    """A frame. The UDP checksum stays 0, which in IPv4 means "none"."""
    length = args.size - 14
    (src, sport), (dst, dport) = args.src, args.dst
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, length, number & 0xFFFF, 0, 64, 17, 0, src, dst)
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    udp = struct.pack("!HHHH", sport + pair, dport, length - 20, 0)
    head = args.dst_mac + source + b"\x08\x00" + ip + udp + number.to_bytes(8, "little")
    return head + bytes(args.size - len(head))


def generate(args) -> int:
    """All of it."""
    config = vuser.Config(args.devargs)
    with vuser.Device(config, pool=common.make_pool(config)) as device:
        common.print_port("generate", device)
        source = mac(device.mac)
        sent = received = 0
        meter = Meter(args.seconds or 0)
        while meter.tick(sent, "sent") and not (args.frames and sent >= args.frames):
            moved = sent + received
            for pair, (rx, tx) in enumerate(zip(device.rx, device.tx)):
                due = min(BURST, args.frames - sent) if args.frames else BURST
                if args.rate:
                    due = max(0, min(due, int((time.monotonic() - meter.start) * args.rate) - sent))
                if due:
                    sent += tx.burst([build(args, source, pair, n) for n in range(sent, sent + due)])
                # Nobody asked for what comes back, but a ring that is never emptied would hold up the other side.
                back = rx.burst(BURST)
                received += len(back)
                for packet in back:
                    packet.free()
            if sent + received == moved:
                common.check_port(device)
                os.sched_yield()
        meter.total(sent, "sent")
        # Preamble, frame check sequence and gap count on a wire.
        rate = sent * (args.size + 24) * 8 / (time.monotonic() - meter.start) / 1e9
        print(f"{rate:.3f} Gb/s on the wire, {received} frames came back")
        common.print_port_statistics("generate", device)
    return 0


def main() -> int:
    """Reads the command line."""
    parser = common.options("generate", USAGE)
    parser.add_argument("--size", type=common.number(60, 1514), default=60)
    parser.add_argument("--rate", type=common.number(0, 1_000_000_000), default=0)
    parser.add_argument("--dst-mac", type=mac, default=bytes([0xFF] * 6))
    parser.add_argument("--src", type=address(1024), default=(bytes([10, 0, 0, 1]), 1024))
    parser.add_argument("--dst", type=address(9), default=(bytes([10, 0, 0, 2]), 9))
    parser.add_argument("devargs")
    return generate(parser.parse_args())


if __name__ == "__main__":
    common.run(main)
