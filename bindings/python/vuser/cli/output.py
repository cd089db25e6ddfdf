# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""What a command says: text for people, or with ``--json`` one object a line; and how it is stopped."""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .._device import Device


class Failure(Exception):
    """A command can't do what it was asked for; the text says why, and what helps."""


class Output:
    """Where a command writes, and whether it shall stop."""

    def __init__(self, as_json: bool) -> None:
        self.json = as_json
        self.stop = threading.Event()

    def text(self, line: str = "") -> None:
        """A line for people."""
        if not self.json:
            print(line, flush=True)

    def record(self, **fields: Any) -> None:
        """An object for programs."""
        if self.json:
            print(json.dumps(fields, default=_plain), flush=True)

    def error(self, error: Exception) -> None:
        """What went wrong."""
        sentence = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if isinstance(error, OSError) and error.filename is not None and str(error.filename) not in sentence:
            sentence = f"{error.filename}: {sentence}"
        self.record(error=sentence, errno=getattr(error, "errno", None))
        print(f"vuser: {sentence}", file=sys.stderr)

    @contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM set ``stop``; a second Ctrl-C ends it at once."""
        def handle(number: int, _frame: object) -> None:
            self.stop.set()
            signal.signal(number, signal.default_int_handler)

        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        except KeyboardInterrupt:
            raise Failure("interrupted") from None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex(":")
    return str(value)


def command(commands: Any, name: str, run: Any, text: str, *, device: bool = True) -> argparse.ArgumentParser:
    """A command with what they all have."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    if device:
        parser.add_argument("device", metavar="PATH", help="socket of the back-end, or options as in the library: "
                            "path=/tmp/vhost.sock,packed_vq=1 (server=1: listen at it)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser


def device_of(text: str) -> Device:
    """The device that a PATH stands for."""
    return Device(text) if text.startswith("path=") or ",path=" in text else Device(path=text)


def seconds(text: str) -> float:
    """A time of an argument."""
    value = float(text)
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return value


def interval(text: str) -> float:
    """A time of an argument that can't be nothing."""
    value = seconds(text)
    if not value:
        raise argparse.ArgumentTypeError("it must be above zero")
    return value


def count(text: str) -> int:
    """A number of things of an argument."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below zero")
    return value
