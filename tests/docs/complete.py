# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Where a page promises to have all of something, it is compared with the source."""

import re
import subprocess
import sys

import sentences


def _rows(text):
    """The first cells of all tables of a page, without the marks of code."""
    return [m[1].replace("`", "").strip() for m in re.finditer(r"^\| *((?:[^|\\]|\\.)*?) *\|", text, re.M)]


def devargs(root):
    """Every option that the parsers take has a row in the DPDK guide, and every row is one."""
    done = subprocess.run([root / "build/examples/loopback", "path=x,nosuch=1"], capture_output=True, text=True, check=False)
    known = re.search(r"there are: (.*?)(?: \(|$)", done.stderr, re.M)
    if not known:
        return [f"docs/dpdk.md: the library does not say which options there are: {done.stderr}"]
    names = set(re.findall(r"\w+", known[1]))
    driver = (root / "bindings/dpdk/vuser_devargs.c").read_text(encoding="utf-8")
    names |= {m for m in re.findall(r'"(\w+)="', driver) if m in ("bounce",)}
    page = (root / "docs/dpdk.md").read_text(encoding="utf-8")
    section = page.split("## Every argument")[1].split("\n## ")[0]
    rows = {name for row in _rows(section) for name in re.findall(r"\w+", row)} - {"argument"}
    problems = [f"docs/dpdk.md: no row for the argument {name}" for name in sorted(names - rows)]
    return problems + [f"docs/dpdk.md: {name} is no argument" for name in sorted(rows - names)]


def pictures(root):
    """The pictures of the performance page are those of the results."""
    done = subprocess.run([sys.executable, root / "scripts/plots.py", "--check"], capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else [done.stdout + done.stderr]


CHECKS = [devargs, pictures, sentences.check]
