#!/usr/bin/env python3
"""Which branches of rings, queues and the vhost-user back-end the tests take: `make coverage`, docs/coverage.md.

Builds the library and its tests with counters, runs tests that need no other program, and prints of each floor how many
outcomes of its branches were seen, and which were not. A branch of a function with parameters (layout, lanes) is one branch
of the source, seen if it was seen with any of them; beside it stands what was seen with both layouts, and how much of the
code was run. 1 where fewer than GOAL % of a floor's outcomes were seen, or where one was not that docs/coverage.md does not
explain.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FLOORS = ["src/ring", "src/net", "src/backend/vhost_user"]
GOAL = 95.0
TESTS = ["lies", "hostile_rings", "wrap", "offloads", "life", "vhost_user", "reconnect"]
EXPLAINED = ROOT / "docs/coverage.md"
# - `src/ring/ledger.rs` `lend` `Some(s)` never false
EXPLANATION = re.compile(r"^- `(\S+)` `(\w+)` `(.+)` never (true|false)")
LAYOUTS = ["SplitRing", "PackedRing"]


def output(*command: object) -> str:
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True).stdout


def host() -> str:
    return next(line.split()[1] for line in output("rustc", "-vV").splitlines() if line.startswith("host:"))


def tools() -> pathlib.Path:
    """LLVM's tools as rustup has them for this compiler; those of another LLVM can't read what it writes."""
    folder = pathlib.Path(output("rustc", "--print", "target-libdir").strip()).parent / "bin"
    if not (folder / "llvm-cov").exists():
        sys.exit(f"no llvm-cov in {folder}: rustup component add llvm-tools")
    return folder


def build(out: pathlib.Path, tests: list) -> list:
    """Builds the library's own tests and these with counters: the programs."""
    # A stable compiler has counters of branches only if it is told so. The names of functions are to tell their parameters.
    flags = "-Cinstrument-coverage -Zcoverage-options=branch -Csymbol-mangling-version=v0 -Zinline-mir=no"
    env = dict(os.environ, RUSTC_BOOTSTRAP="1", RUSTFLAGS=flags, CARGO_TARGET_DIR=str(out), CARGO_PROFILE_DEV_DEBUG="0")
    command = [os.environ.get("CARGO", "cargo"), "test", "--locked", "--target", host(), "--lib", "--no-run"]
    command += ["--message-format=json", *(word for test in tests for word in ("--test", test))]
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit("the tests can't be built with counters")
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [pathlib.Path(message["executable"]) for message in messages if message.get("executable")]


def measure(out: pathlib.Path, program: pathlib.Path, llvm: pathlib.Path) -> list:
    """Runs a program of tests: its functions, with what was counted of each. Each program has counters of its own."""
    raw = out / "raw" / program.name
    shutil.rmtree(raw, ignore_errors=True)
    print("runs", program.name, flush=True)
    env = dict(os.environ, LLVM_PROFILE_FILE=str(raw / "%p-%8m.profraw"))
    done = subprocess.run([program, "--quiet"], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}{program.name} failed: what a failing test takes says nothing")
    data = raw / "all.profdata"
    output(llvm / "llvm-profdata", "merge", "-sparse", "-o", data, *raw.glob("*.profraw"))
    exported = json.loads(output(llvm / "llvm-cov", "export", f"-instr-profile={data}", program))
    shutil.rmtree(raw)
    return exported["data"][0]["functions"]


class Source:
    """A file of a floor, and what was counted in it."""

    def __init__(self, path: pathlib.Path):
        self.name = str(path.relative_to(ROOT))
        self.lines = path.read_text().splitlines()
        tests = (number for number, line in enumerate(self.lines, 1) if re.match(r"\s*mod tests \{", line))
        self.end = next(tests, len(self.lines) + 1)
        # How often each piece of code ran, and each outcome of a branch was seen, by the layout of its function.
        self.code: collections.Counter = collections.Counter()
        self.outcomes: dict = collections.defaultdict(collections.Counter)

    def add(self, function: dict, number: int) -> None:
        """Adds what was counted in a function, where its regions are of this file."""
        layouts = [name for name in LAYOUTS if name in function["name"]] or ["none"]
        for *place, count, file, _, kind in function["regions"]:
            if file == number and kind == 0 and place[0] < self.end:
                self.code[tuple(place)] += count
        for *place, true, false, file, _, _ in function["branches"]:
            if file == number and place[0] < self.end:
                for outcome, count in (("true", true), ("false", false)):
                    for layout in layouts:
                        self.outcomes[(*place, outcome)][layout] += count

    def text(self, line: int, column: int, last: int, behind: int) -> tuple:
        """What stands at a place, wherever it has moved to: file, function, code in one line."""
        names = (re.search(r"\bfn (\w+)", text) for text in reversed(self.lines[:line]))
        lines = self.lines[line - 1 : last]
        lines[-1] = lines[-1][: behind - 1]
        lines[0] = lines[0][column - 1 :]
        return self.name, next((name[1] for name in names if name), "-"), " ".join(" ".join(lines).split())


def collect(functions: list, sources: dict) -> None:
    """Adds what was counted to the files of the floors."""
    for function in functions:
        for number, name in enumerate(function["filenames"]):
            path = ROOT / name
            if any(path.is_relative_to(ROOT / floor) for floor in FLOORS):
                if path not in sources:
                    sources[path] = Source(path)
                sources[path].add(function, number)


def share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({100 * part / whole:.1f} %)"


def report(sources: dict, pieces: bool) -> bool:
    """Prints what was seen; whether that is enough."""
    found = (EXPLANATION.match(line) for line in EXPLAINED.read_text().splitlines())
    explained = {match.groups() for match in found if match}
    met, unseen = True, set()
    for floor in FLOORS:
        files = [source for _, source in sorted(sources.items()) if source.name.startswith(f"{floor}/")]
        outcomes = [of for source in files for of in source.outcomes.values()]
        code = [count for source in files for count in source.code.values()]
        seen = sum(any(of.values()) for of in outcomes)
        print(f"{floor}: {share(seen, len(outcomes))} outcomes of branches seen; with each layout that there is "
              f"{share(sum(all(of.values()) for of in outcomes), len(outcomes))}; pieces of code run "
              f"{share(sum(map(bool, code)), len(code))}")
        met &= 100 * seen >= GOAL * len(outcomes)
        for source in files:
            for key in sorted(key for key, of in source.outcomes.items() if not any(of.values())):
                row = (*source.text(*key[:4]), key[4])
                unseen.add(row)
                print(f"  {row[0]}:{key[0]} `{row[1]}` `{row[2]}` never {row[3]}{'' if row in explained else ', NOT EXPLAINED'}")
            for place in sorted(place for place, count in source.code.items() if pieces and not count):
                name, function, text = source.text(*place)
                print(f"  {name}:{place[0]} `{function}` not run: {text[:100]}")
    for row in sorted(explained - unseen):
        print(f"docs/coverage.md explains what was seen, or is not there: {row}")
    return met and unseen <= explained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=pathlib.Path, help="folder for what is built")
    parser.add_argument("--pieces", action="store_true", help="name the pieces of code that were not run, too")
    options = parser.parse_args()
    out, llvm, sources = options.build.resolve(), tools(), {}
    for program in build(out, TESTS):
        collect(measure(out, program, llvm), sources)
    if not report(sources, options.pieces):
        sys.exit(f"not enough: {GOAL} % of each floor are wanted, and that docs/coverage.md explains the rest")


if __name__ == "__main__":
    main()
