# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""The command line: ``python -m vuser``, also installed as ``vuser``.

Each command is a module with ``add(commands)``, which describes its arguments, and ``run(args, out)``, which returns the exit
status: 0, or 1 when nobody answered. 2 says that it could not be tried.
"""

from __future__ import annotations

import argparse
import sys

from . import bench, capture, dhcp, loopback, ping, probe, replay, stat
from .output import Failure, Output

COMMANDS = (probe, ping, dhcp, capture, replay, stat, loopback, bench)


def parser() -> argparse.ArgumentParser:
    """All that can be typed."""
    from .. import library_version

    top = argparse.ArgumentParser(prog="vuser", description="Talk to a vhost-user back-end as an ordinary user.",
                                  epilog="vuser COMMAND --help says more of each.")
    top.add_argument("--version", action="version", version=f"vuser {library_version()}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in COMMANDS:
        module.add(commands)
    return top


def main(argv: list[str] | None = None) -> int:
    """Runs a command; its exit status."""
    args = parser().parse_args(argv)
    out = Output(args.json)
    try:
        with out.stopped_by_signals():
            return int(args.run(args, out))
    except (Failure, OSError, ValueError) as error:
        # A reader that has gone (`vuser ... | head`) is no error of ours, and can't be told anything.
        if isinstance(error, BrokenPipeError):
            sys.stderr.close()
            return 2
        out.error(error)
        return 2
