# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""``vuser ping``: echo requests to an address behind a back-end."""

from __future__ import annotations

import argparse
import time
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

from ..host import Answer, Host, NoAnswer
from .output import Output, command, count, device_of, seconds


def add(commands: Any) -> None:
    parser = command(commands, "ping", run, "Ping an address behind a back-end.")
    parser.add_argument("address", type=IPv4Address, help="whom to ping")
    add_host_arguments(parser)
    parser.add_argument("-c", "--count", type=count, default=4, help="requests to send; 0: until stopped (default 4)")
    parser.add_argument("-i", "--interval", type=seconds, default=1.0, help="seconds from one to the next (default 1)")
    parser.add_argument("-W", "--timeout", type=seconds, default=2.0, help="seconds to wait for an answer (default 2)")
    parser.add_argument("-s", "--size", type=int, choices=range(1473), metavar="0..1472", default=56,
                        help="bytes of a request (default 56)")


def add_host_arguments(parser: argparse.ArgumentParser) -> None:
    """Who we are to be."""
    parser.add_argument("-a", "--address", dest="own", metavar="ADDRESS/BITS", type=IPv4Interface,
                        help="our address; without it a DHCP server is asked")
    parser.add_argument("-g", "--gateway", type=IPv4Address, help="where other networks are")


def run(args: argparse.Namespace, out: Output) -> int:
    with device_of(args.device) as device:
        host = Host(device, args.own, args.gateway)
        if args.own is None:
            lease = host.dhcp()
            out.text(f"DHCP gave us {lease.address}")
            out.record(type="lease", lease=lease)
        out.text(f"PING {args.address} from {host.address}: {args.size} bytes of data")
        return _ping(args, out, host)


def _ping(args: argparse.Namespace, out: Output, host: Host) -> int:
    answers: list[Answer] = []
    sent, begin = 0, time.monotonic()
    while not out.stop.is_set() and (not args.count or sent < args.count):
        host.serve(begin + sent * args.interval - time.monotonic())
        sent += 1
        try:
            answer = host.ping(args.address, args.timeout, size=args.size)
        except NoAnswer as error:
            out.text(f"{error}: seq={sent}")
            out.record(type="timeout", sequence=sent, text=str(error))
            continue
        answers.append(answer)
        out.text(f"{answer.size + 8} bytes from {answer.source}: seq={answer.sequence} ttl={answer.ttl} "
                 f"time={answer.seconds * 1e3:.3f} ms")
        out.record(type="answer", **vars(answer))
    _summary(args, out, sent, [answer.seconds for answer in answers])
    return 0 if answers else 1


def _summary(args: argparse.Namespace, out: Output, sent: int, times: list[float]) -> None:
    lost = 100 * (sent - len(times)) / sent if sent else 0.0
    out.text(f"--- {args.address}: {sent} sent, {len(times)} answered, {lost:.0f} % lost")
    if times:
        out.text(f"    min/mean/max {min(times) * 1e3:.3f}/{sum(times) / len(times) * 1e3:.3f}/{max(times) * 1e3:.3f} ms")
    out.record(type="summary", sent=sent, answered=len(times), min=min(times, default=None),
               mean=sum(times) / len(times) if times else None, max=max(times, default=None))
