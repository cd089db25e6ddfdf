# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""``vuser probe``: what a back-end offers, what would be used of it, and why the rest would not."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from .output import Output, command, device_of

_TITLES = {"virtio": "virtio features", "protocol": "vhost-user protocol features"}


def add(commands: Any) -> None:
    parser = command(commands, "probe", run, "Say what a back-end offers, what would be used, and why the rest would not.")
    parser.add_argument("-v", "--verbose", action="store_true", help="also features that neither side has to do with")


def run(args: argparse.Namespace, out: Output) -> int:
    device = device_of(args.device)
    try:
        info, features = device.info, device.features()
    finally:
        device.close()
    masks = {name: hex(value) for name, value in asdict(info).items() if "features" in name}
    out.record(info={**asdict(info), **masks}, features=[asdict(feature) for feature in features])
    for name, value in (
        ("back-end", info.backend),
        ("MAC address", info.mac),
        ("MTU", info.mtu),
        ("speed", "not known" if info.speed is None else f"{info.speed} Mb/s"),
        ("queue pairs", f"{info.max_queue_pairs} offered, {info.queue_pairs} asked for"),
        ("rings", f"{'packed' if info.packed else 'split'}, {info.queue_size} descriptors, "
                  f"{'in order' if info.in_order else 'in any order'}"),
        ("received frames", "may span buffers" if info.mergeable else "must fit one buffer each"),
        ("data path", info.path),
    ):
        out.text(f"{name:16} {value}")
    for kind, title in _TITLES.items():
        rows = [f for f in features if f.kind == kind and (args.verbose or f.offered or f.used or f.why)]
        if rows:
            out.text()
            out.text(f"{title}: {sum(f.offered for f in rows)} offered, {sum(f.used for f in rows)} would be used")
        for feature in rows:
            mark = "used" if feature.used else "not used" if feature.offered else "not offered"
            out.text(f"  {feature.bit:3}  {feature.name:24} {mark:12} {feature.why}".rstrip())
    return 0
