#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""A network without root: gets an address by DHCP, finds a neighbour by ARP, pings it, and sends it a UDP datagram.

The other end is passt (https://passt.top), a vhost-user back-end in user space that turns frames into ordinary sockets of
the user who runs it. No root, no capability, no huge pages, no tap.

    python3 unprivileged_ping.py                 starts a passt of its own and talks to it
    python3 unprivileged_ping.py PATH            talks to the back-end at a socket: passt --vhost-user -s PATH

With a passt of its own, what answers at the gateway's address is this machine's loopback: the ping is answered by the kernel,
through an unprivileged ping socket of passt's, and the datagram by a thread of this program. With another back-end, the ping
goes to its gateway, and no datagram is sent unless --udp says where to.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from vuser import Device, Error
from vuser.host import Host, NoAnswer
from vuser.net import mac_text

# Addresses for documentation (RFC 5737): no network of anybody's is meant.
ADDRESS, GATEWAY, PREFIX = "192.0.2.2", "192.0.2.1", "24"


@contextlib.contextmanager
def passt(program: str) -> Iterator[str]:
    """A passt of our own; its socket."""
    with tempfile.TemporaryDirectory(prefix="vuser-passt-") as directory:
        path, log = Path(directory, "socket"), Path(directory, "log")
        command = [program, "--foreground", "--vhost-user", "--socket", str(path), "--interface", "lo", "--address", ADDRESS,
                   "--netmask", PREFIX, "--gateway", GATEWAY, "--map-host-loopback", GATEWAY]
        with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
            try:
                yield str(path)
            except Error:
                print(log.read_text(), file=sys.stderr)
                raise
            finally:
                process.terminate()


@contextlib.contextmanager
def udp_echo() -> Iterator[int]:
    """A thread that returns datagrams; its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def run() -> None:
            with contextlib.suppress(OSError):
                while True:
                    data, sender = server.recvfrom(65536)
                    if not data:
                        return
                    server.sendto(data, sender)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.sendto(b"", server.getsockname())
            thread.join()


def connect(path: str) -> Device:
    """A device; a back-end that has just been started has a moment to listen."""
    deadline = time.monotonic() + 5
    while True:
        try:
            return Device(path=path)
        except Error as error:
            if error.errno not in (errno.ENOENT, errno.ECONNREFUSED) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def talk(path: str, pings: int, udp: str | None) -> int:
    """The four steps; how many went wrong."""
    wrong = 0
    with connect(path) as device:
        host = Host(device)
        lease = host.dhcp()
        print(f"DHCP  {lease.address} by {lease.server}, router {lease.router}, DNS {', '.join(map(str, lease.dns)) or '-'}")
        peer = lease.router or lease.server
        if peer is None:
            raise SystemExit("the DHCP server names no router to talk to")
        print(f"ARP   {peer} is at {mac_text(host.resolve(peer))}")
        for _ in range(pings):
            try:
                answer = host.ping(peer)
                print(f"ping  {answer.source}: seq={answer.sequence} ttl={answer.ttl} time={answer.seconds * 1e3:.3f} ms")
            except NoAnswer as error:
                wrong += 1
                print(f"ping  {error}. passt needs ping sockets: sysctl net.ipv4.ping_group_range")
        if udp:
            address, port = udp.rsplit(":", 1)
            reply = host.udp(address, int(port), b"hello from user space")
            print(f"UDP   {udp} answers {reply.decode()!r}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", nargs="?", help="socket of the back-end; without it, a passt is started")
    parser.add_argument("--passt", default="passt", help="the program (default passt)")
    parser.add_argument("--pings", type=int, default=3)
    parser.add_argument("--udp", metavar="ADDRESS:PORT", help="where a datagram is answered")
    args = parser.parse_args()
    try:
        if args.path:
            return talk(args.path, args.pings, args.udp)
        if not shutil.which(args.passt):
            raise SystemExit(f"{args.passt} is not there: install passt of 2025-02-17 or newer, or give its path with --passt")
        with udp_echo() as port, passt(args.passt) as path:
            return talk(path, args.pings, args.udp or f"{GATEWAY}:{port}")
    except (Error, NoAnswer) as error:
        print(f"unprivileged_ping: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
