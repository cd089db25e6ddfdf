# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""``vuser dhcp``: asks for an address, and says what was given."""

from __future__ import annotations

import argparse
from typing import Any

from ..host import Host, NoAnswer
from .output import Output, command, device_of, seconds


def add(commands: Any) -> None:
    parser = command(commands, "dhcp", run, "Ask the DHCP server behind a back-end for an address.")
    parser.add_argument("-W", "--timeout", type=seconds, default=10.0, help="seconds to wait (default 10)")


def run(args: argparse.Namespace, out: Output) -> int:
    with device_of(args.device) as device:
        try:
            lease = Host(device).dhcp(args.timeout)
        except NoAnswer as error:
            out.text(str(error))
            out.record(error=str(error), errno=None)
            return 1
    out.record(**vars(lease))
    rows = (("address", lease.address), ("router", lease.router), ("DNS", ", ".join(map(str, lease.dns))),
            ("server", lease.server), ("lease", lease.seconds and f"{lease.seconds} s"), ("MTU", lease.mtu))
    for name, value in rows:
        out.text(f"{name:8} {value if value else '-'}")
    return 0
