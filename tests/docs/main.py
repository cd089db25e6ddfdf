#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Promise: what the README and the pages of docs/ tell people to type works, and what they say is complete.

    tests/docs/main.py [PAGE...]      all pages, or these; after make all pmd

A page's commands are run in its order by one shell, in the root of the repository; /tmp and the home directory are
folders of the page's own, and whatever was started is ended with it. Nothing is added to them: what has to be waited for
is waited for on the page. A page that installs the Python package uses what it has installed, the others the one of this
checkout. See blocks.py for what can be said of a block.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
import complete  # noqa: E402
import fragments  # noqa: E402
from blocks import LANGUAGES, blocks  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/*.md", "bindings/*/README.md", "benches/README.md"]
LIMIT = 300  # seconds for a page

PROLOGUE = "set -eu -o pipefail\n"  # before the commands of a page


class Failure(Exception):
    """What is wrong with a page."""


def sandbox_text(text, folder):
    """The text as it is for this page: what lies in /tmp lies in a folder of its own."""
    return text.replace("/tmp/", f"{folder}/tmp/")


def shell_lines(block, folder):
    """The commands of a block, which say where they come from when they fail."""
    return f"trap 'echo \"{block.place}: failed: $BASH_COMMAND\" >&2' ERR\n{sandbox_text(block.text, folder)}"


def installs(page, text):
    """Whether the commands of a page install the Python package."""
    return any(b.language == "sh" and not b.why_not and "pip install ." in b.text for b in blocks(page, text))


def page_script(page, text, folder, counts, reasons):
    """The script that a page is."""
    script = [PROLOGUE]
    for number, block in enumerate(blocks(page, text)):
        if block.language not in LANGUAGES:
            raise Failure(f"{block.place}: a block of {block.language or 'nothing'}: say one of {', '.join(sorted(LANGUAGES))}")
        if block.language == "text":
            continue
        if block.why_not:
            counts["commands not run" if block.language == "sh" else "blocks not run"] += max(1, len(block.commands()) if block.language == "sh" else 1)
            reasons.append(f"{block.place}: {block.why_not}")
            continue
        if block.file:
            target = Path(sandbox_text(block.file, folder))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(sandbox_text(block.text, folder), encoding="utf-8")
        if block.language == "sh":
            counts["commands run"] += len(block.commands())
            script.append(shell_lines(block, folder))
        elif block.language == "c":
            fragments.compile_c(ROOT, block, folder, number)
            counts["C blocks compiled"] += 1
        elif block.language == "python":
            program = folder / f"block{number}.py"
            program.write_text(sandbox_text(block.text, folder), encoding="utf-8")
            script.append(f"trap 'echo \"{block.place}: failed\" >&2' ERR\nPYTHONWARNINGS=error python3 {program}")
            counts["Python blocks run"] += 1
        elif block.language == "yaml":
            fragments.parse_yaml(block)
            counts["YAML blocks parsed"] += 1
    return "\n".join(script)


def environment(folder, installed):
    """What the commands see. What is installed by them must be found without help."""
    env = dict(os.environ, HOME=str(folder / "home"), TMPDIR=str(folder / "tmp"))
    # The tools of a user keep what they need in the home directory.
    for name, default in (("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")):
        env.setdefault(name, str(Path.home() / default))
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "VUSER_LIBRARY", "PYTHONPATH", "LD_LIBRARY_PATH", "PKG_CONFIG_PATH"):
        env.pop(name, None)
    env.update(PYTHONDONTWRITEBYTECODE="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
    if not installed:
        env.update(VUSER_LIBRARY=str(ROOT / "build/libvuser.so.0"), PYTHONPATH=str(ROOT / "bindings/python"), PYTHONWARNINGS="error")
        env["PATH"] = f"{ROOT}/build/venv/bin:{env['PATH']}"
    env["PATH"] += ":/usr/sbin:/sbin"
    return env


def run_script(page, script, folder, installed):
    """Runs it; what it started is ended."""
    log = folder / "log"
    with open(log, "wb") as output:
        shell = subprocess.Popen(["bash", "-c", script], cwd=ROOT, env=environment(folder, installed), stdin=subprocess.DEVNULL,
                                 stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = shell.wait(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            status = f"no end within {LIMIT} s"
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(shell.pid, number)
            except ProcessLookupError:
                break
            time.sleep(0.2)
        shell.wait()
    if status != 0:
        text = log.read_text(encoding="utf-8", errors="replace")
        raise Failure(f"{page}: {status}\n" + "\n".join(f"    {line}" for line in text.splitlines()[-40:]))


def check_page(page, totals):
    """One page; prints what was done."""
    text = (ROOT / page).read_text(encoding="utf-8")
    counts, reasons, begin = Counter(), [], time.monotonic()
    # Short: a socket's path has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="vd-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for part in ("tmp", "home"):
            (folder / part).mkdir()
        script = page_script(page, text, folder, counts, reasons)
        if counts["commands run"] + counts["Python blocks run"]:
            run_script(page, script, folder, installs(page, text))
    what = ", ".join(f"{n} {what}" for what, n in counts.items()) or "nothing to run"
    print(f"ok   {page}: {what} ({time.monotonic() - begin:.1f} s)", flush=True)
    for reason in reasons:
        print(f"     not run: {reason}", flush=True)
    totals.update(counts)


def main():
    """All pages, then what they have to be complete in."""
    pages = sys.argv[1:] or sorted({str(p.relative_to(ROOT)) for pattern in PAGES for p in ROOT.glob(pattern)})
    totals, failures = Counter(), []
    for check in [] if sys.argv[1:] else complete.CHECKS:
        for problem in check(ROOT):
            failures.append(problem)
    for page in pages:
        try:
            check_page(page, totals)
        except Failure as failure:
            failures.append(str(failure))
        except fragments.Wrong as wrong:
            failures.append(str(wrong))
    print("docs: " + ", ".join(f"{n} {what}" for what, n in sorted(totals.items())))
    for failure in failures:
        print(f"FAIL {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
