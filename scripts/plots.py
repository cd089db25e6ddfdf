#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Draws what the benchmark beside DPDK's driver has measured: benches/results/*.csv to docs/img/*.svg.

    scripts/plots.py           writes the pictures
    scripts/plots.py --check   fails if they are not what the results say

The same results give the same bytes: nothing but the figures goes in.
"""

import csv
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benches" / "results"
IMAGES = ROOT / "docs" / "img"
COLOURS = {"a": "#9aa5b1", "b": "#1f6feb"}
NAMES = {"a": "DPDK net_virtio_user", "b": "vuser"}
BAR, GAP, LEFT, WIDTH, TOP = 11, 9, 190, 760, 58

# Picture, title, results, stage, direction, unit
PICTURES = [
    ("cycles-rx", "Receive: cycles per packet (less is better)", "2026-11-25-quick", "cpu", "rx"),
    ("cycles-tx", "Transmit: cycles per packet (less is better)", "2026-11-25-quick", "cpu", "tx"),
    ("instructions-rx", "Receive: instructions per packet (less is better)", "2026-11-25-quick", "instructions", "rx"),
    ("instructions-tx", "Transmit: instructions per packet (less is better)", "2026-11-25-quick", "instructions", "tx"),
    ("forward-null", "Forwarding, a device that copies nothing on the other core, near: Mpps (more is better)", "2026-11-25", "cross", "forward"),
    ("forward-vhost", "Forwarding, DPDK's vhost on the other core, near: Mpps (more is better)", "2026-11-25", "vhost", "forward"),
]


def rows(results, stage, direction):
    """Path, and what each driver needed: bursts of 32, the standard frame and ring, one queue, near cores."""
    lines = (RESULTS / f"{results}.csv").read_text(encoding="utf-8").splitlines()
    table = csv.DictReader(line for line in lines if not line.startswith("#"))
    for row in table:
        right = row["stage"] == stage and row["direction"] == direction and row["regime"] in ("", "near")
        if right and (row["burst"], row["size"], row["ring"], row["queues"]) == ("32", "64", "256", "1"):
            yield row["path"], {side: (float(row[side]), float(row[f"{side}_q1"]), float(row[f"{side}_q3"])) for side in "ab"}


def text(x, y, what, anchor="start", size=12, weight="normal"):
    """A piece of text."""
    return (f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}">'
            f'{what.replace("&", "&amp;")}</text>')


def draw(title, results, stage, direction):
    """A picture: two bars for each path, with a line from quartile to quartile."""
    data = list(rows(results, stage, direction))
    most = max(values[side][0] for _, values in data for side in "ab")
    scale = (WIDTH - LEFT - 70) / most
    height = TOP + len(data) * (2 * BAR + GAP) + 12
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
           'font-family="sans-serif" fill="#24292f">', f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
           text(10, 20, title, size=14, weight="bold")]
    for number, side in enumerate("ab"):
        x = LEFT + 200 * number
        out += [f'<rect x="{x}" y="32" width="12" height="12" fill="{COLOURS[side]}"/>', text(x + 18, 43, NAMES[side])]
    for number, (path, values) in enumerate(data):
        y = TOP + number * (2 * BAR + GAP)
        out.append(text(LEFT - 8, y + BAR + 4, path, "end"))
        for line, side in enumerate("ab"):
            middle, low, high = values[side]
            top = y + line * BAR
            out.append(f'<rect x="{LEFT}" y="{top}" width="{middle * scale:.1f}" height="{BAR - 1}" fill="{COLOURS[side]}"/>')
            if high > low:
                at = top + BAR / 2 - 0.5
                ends = min(high, most * 1.04) * scale
                out.append(f'<path d="M{LEFT + low * scale:.1f} {at}H{LEFT + ends:.1f}" stroke="#24292f" stroke-width="1"/>')
            label = max(middle, min(high, most * 1.04)) * scale
            out.append(text(f"{LEFT + label + 5:.1f}", top + BAR - 2, f"{middle:.1f}", size=10))
    return "\n".join(out + ["</svg>"]) + "\n"


def main():
    """Writes or compares all pictures."""
    check, wrong = "--check" in sys.argv, []
    for name, title, results, stage, direction in PICTURES:
        picture, file = draw(title, results, stage, direction), IMAGES / f"{name}.svg"
        if not check:
            file.write_text(picture, encoding="utf-8")
        elif not file.is_file() or file.read_text(encoding="utf-8") != picture:
            wrong.append(f"{file.relative_to(ROOT)} is not what benches/results says: run scripts/plots.py")
    print("\n".join(wrong) or f"{len(PICTURES)} pictures")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
