#!/usr/bin/env python3
"""How much of src/ring, src/net and src/backend/vhost_user the tests reach: `make coverage`.

Builds the library and its tests with counters, runs the tests that need neither DPDK nor root, and prints, for each file,
how many of its lines and of its branches' outcomes were seen. A branch counts once, whatever types its function is made
for: an outcome is seen if it was seen for any of them. `--missing` names the outcomes that were not, each with its line.
"""

import argparse
import collections
import json
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FLOORS = ["src/ring", "src/net", "src/backend/vhost_user"]
GOAL = 95.0
TESTS = ["rings", "lies", "wrap", "offloads", "life", "vhost_user", "reconnect", "inflight", "wakeups", "capture", "turnstile"]


def tool(name: str) -> str:
    """LLVM's tools as rustup's component llvm-tools has them; another LLVM's may not read what this compiler writes."""
    places = [pathlib.Path(os.environ["LLVM_TOOLS"])] if "LLVM_TOOLS" in os.environ else []
    sysroot = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True).stdout.strip()
    places += sorted(pathlib.Path(sysroot).parent.glob("*/lib/rustlib/*/bin"))
    for place in places:
        if (place / name).exists():
            return str(place / name)
    found = shutil.which(name)
    if not found:
        sys.exit(f"{name} is needed: rustup component add llvm-tools, or LLVM_TOOLS=its folder")
    return found


def run_tests(out: pathlib.Path, tests: list) -> list:
    """Runs the tests with counters; the programs that have them."""
    shutil.rmtree(out / "raw", ignore_errors=True)
    flags = "-Cinstrument-coverage -Zcoverage-options=branch"
    env = dict(os.environ, RUSTC_BOOTSTRAP="1", RUSTFLAGS=flags, CARGO_TARGET_DIR=str(out / "target"),
               LLVM_PROFILE_FILE=str(out / "raw/%p-%8m.profraw"))
    cargo = ["cargo", "test", "--locked", "--lib", *[word for test in tests for word in ("--test", test)]]
    built = subprocess.run([*cargo, "--no-run", "--message-format=json"], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    if built.returncode:
        sys.exit("the tests can't be built with counters")
    messages = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
    programs = [m["executable"] for m in messages if m.get("executable")]
    for program in programs:
        print("runs", pathlib.Path(program).name, flush=True)
        if subprocess.run([program, "--quiet"], cwd=ROOT, env=env, stdout=subprocess.DEVNULL).returncode:
            sys.exit(f"{program} failed: what a failing test reaches says nothing")
    return programs


def export(out: pathlib.Path, programs: list) -> dict:
    """What LLVM has counted."""
    raw = [str(file) for file in (out / "raw").glob("*.profraw")]
    subprocess.run([tool("llvm-profdata"), "merge", "-sparse", "-o", str(out / "all.profdata"), *raw], check=True)
    first, *others = programs
    command = [tool("llvm-cov"), "export", f"-instr-profile={out / 'all.profdata'}", first]
    command += [word for program in others for word in ("-object", program)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def tests_begin(path: pathlib.Path) -> int:
    """The line from which on a file is its own tests."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.strip() == "#[cfg(test)]":
            return number
    return 1 << 30


class Counts:
    """The outcomes of the branches of one file, and its lines, each with how often it was seen."""

    def __init__(self, path: pathlib.Path):
        self.path, self.end = path, tests_begin(path)
        self.outcomes: dict = collections.Counter()
        self.lines: dict = collections.Counter()

    def add(self, function: dict, number: int) -> None:
        for line, column, line2, column2, true, false, file, *_ in function["branches"]:
            if file == number and line < self.end:
                self.outcomes[line, column, line2, column2, True] += true
                self.outcomes[line, column, line2, column2, False] += false
        for line, _, last, _, count, file, _, kind in function["regions"]:
            if file == number and kind == 0 and line < self.end:
                # A region is seen or not; the lines it begins and ends at stand for it.
                self.lines[line] += count
                self.lines[last] += count

    def row(self) -> list:
        seen = sum(1 for count in self.outcomes.values() if count)
        lines = sum(1 for count in self.lines.values() if count)
        return [lines, len(self.lines), seen, len(self.outcomes)]


def collect(data: dict) -> dict:
    """The counts of each file of the floors."""
    files: dict = {}
    for function in data["data"][0]["functions"]:
        for number, name in enumerate(function["filenames"]):
            path = pathlib.Path(name)
            path = path if path.is_absolute() else ROOT / path
            if any(path.is_relative_to(ROOT / floor) for floor in FLOORS):
                files.setdefault(path, Counts(path)).add(function, number)
    return files


def share(part: int, whole: int) -> str:
    return f"{part}/{whole} ({100 * part / whole:.1f} %)" if whole else "-"


def report(files: dict, missing: bool) -> bool:
    """Prints the table; whether the goal is met on every floor."""
    met = True
    for floor in FLOORS:
        rows = {path: counts.row() for path, counts in sorted(files.items()) if path.is_relative_to(ROOT / floor)}
        total = [sum(column) for column in zip(*rows.values())]
        for name, row in [*((p.relative_to(ROOT), r) for p, r in rows.items()), (f"all of {floor}", total)]:
            print(f"{name!s:40} lines {share(row[0], row[1]):24} branches {share(row[2], row[3])}")
        met &= 100 * total[2] >= GOAL * total[3]
    if missing:
        for path, counts in sorted(files.items()):
            text = path.read_text().splitlines()
            for (line, column, line2, column2, outcome), count in sorted(counts.outcomes.items()):
                if not count:
                    code = text[line - 1][column - 1 : column2 - 1 if line2 == line else None]
                    print(f"{path.relative_to(ROOT)}:{line}: never {str(outcome).lower()}: {code}")
    return met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=pathlib.Path, help="folder for what is built")
    parser.add_argument("--missing", action="store_true", help="name the outcomes that were not seen")
    parser.add_argument("--tests", nargs="*", default=TESTS, help="targets to run")
    options = parser.parse_args()
    out = options.build.resolve() / "coverage"
    out.mkdir(parents=True, exist_ok=True)
    if not report(collect(export(out, run_tests(out, options.tests))), options.missing):
        sys.exit(f"fewer than {GOAL} % of the branches of a floor are tested")


if __name__ == "__main__":
    main()
