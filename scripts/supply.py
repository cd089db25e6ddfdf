#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""What the library is built from, held to what is said of it. Python 3.11.

    scripts/supply.py check     Cargo.lock against deny.toml and docs/dependencies.md; needs no network (make test)
    scripts/supply.py prove     whether check would notice what it is for; the same needs
    scripts/supply.py page      brings the tables of docs/dependencies.md up to date, but for what people have to write
    scripts/supply.py audit     the same as check, then cargo deny and cargo audit (make supply); what could not be done is
                                said, counted, and an error. ADVISORY_DB: a clone of the database, in place of fetching it
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/dependencies.md"
CARGO = os.environ.get("CARGO", "cargo")
DATABASE = "https://github.com/rustsec/advisory-db"

# Chapters of the page. What tests need beyond what Cargo.toml names for them, and what other systems need, has no rows.
LINKED, BUILD, TESTS, ELSEWHERE = "In the library", "To build it", "To test it", "In Cargo.lock only"
REST = "what tests need besides"
COLUMNS = "| crate | version | released | licence | `unsafe` | why | who keeps it |"


def config():
    """deny.toml."""
    return tomllib.loads((ROOT / "deny.toml").read_text(encoding="utf-8"))


def locked():
    """Name and version of each package of Cargo.lock but our own, with all that it says."""
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text(encoding="utf-8"))
    return {(p["name"], p["version"]): p for p in lock["package"] if p["name"] != "vuser"}


def metadata(target):
    """What cargo says of all crates that are compiled for a target, for tests and with all features, too."""
    command = [CARGO, "metadata", "--locked", "--all-features", "--format-version", "1", "--filter-platform", target]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"supply: {' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout)


def chapters(target):
    """Packages by id, and the ids of each chapter."""
    said = metadata(target)
    packages = {p["id"]: p for p in said["packages"]}
    edges = {n["id"]: [(d["pkg"], {k["kind"] for k in d["dep_kinds"]}) for d in n["deps"]] for n in said["resolve"]["nodes"]}
    root = said["resolve"]["root"]

    def is_macro(package):
        return any("proc-macro" in t["kind"] for t in packages[package]["targets"])

    def reach(start, follows):
        found, todo = set(start), list(start)
        while todo:
            for package, kinds in edges[todo.pop()]:
                if package not in found and follows(package, kinds):
                    found.add(package)
                    todo.append(package)
        return found

    # What macros and build scripts are made of runs in the compiler.
    linked = reach([root], lambda p, kinds: None in kinds and not is_macro(p))
    build = reach(linked, lambda _, kinds: kinds & {None, "build"})
    tests = reach({root}, lambda _, kinds: True)
    named = {p for p, kinds in edges[root] if "dev" in kinds}
    return packages, {LINKED: linked - {root}, BUILD: build - linked, TESTS: (tests - build) & named, REST: tests - build - named}


def crates():
    """Each crate's package and the first of the chapters that it is in, of both kinds of machines; by name and version."""
    found = {}
    for target in config()["graph"]["targets"]:
        packages, parts = chapters(target)
        order = list(parts)
        for chapter in order:
            for package in (packages[p] for p in parts[chapter]):
                key = (package["name"], package["version"])
                if key not in found or order.index(chapter) < order.index(found[key][1]):
                    found[key] = (package, chapter)
    return found


def allowed(expression, names):
    """Whether a licence expression can be met by some of these names: OR, AND, WITH and brackets, as SPDX has them."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def one():
        word = tokens.pop(0)
        if word == "(":
            result = either()
            tokens.pop(0)
            return result
        if tokens[:1] == ["WITH"]:
            word = f"{word} WITH {tokens[1]}"
            del tokens[:2]
        return word in names

    def both():
        result = one()
        while tokens[:1] == ["AND"]:
            tokens.pop(0)
            result = one() and result
        return result

    def either():
        result = both()
        while tokens[:1] == ["OR"]:
            tokens.pop(0)
            result = both() or result
        return result

    return either()


def licences(found):
    """Licences that deny.toml does not allow, and exceptions that nobody needs."""
    rules = config()["licenses"]
    extra = {e["crate"]: e["allow"] for e in rules["exceptions"]}
    for (name, version), (package, chapter) in sorted(found.items()):
        said = package["license"] or "no licence that it names"
        if not allowed(said, rules["allow"] + extra.get(name, [])):
            yield f"{name} {version} is under {said}, which deny.toml does not allow"
        if name in extra and chapter == LINKED:
            yield f"{name} is in the library: there are no exceptions from what deny.toml allows for that"
    for name in sorted(set(extra) - {name for name, _ in found}):
        yield f"deny.toml has an exception for {name}, which is not used"


def sources(lock):
    """Crates that come from elsewhere, or whose contents Cargo.lock does not fix."""
    places = {f"registry+{place}" for place in config()["sources"]["allow-registry"]}
    for (name, version), package in sorted(lock.items()):
        if package.get("source") not in places:
            yield f"{name} {version} comes from {package.get('source', 'a directory')}, which deny.toml does not allow"
        elif not re.fullmatch(r"[0-9a-f]{64}", package.get("checksum", "")):
            yield f"{name} {version} has no checksum in Cargo.lock"


def duplicates(found):
    """Crates that are there in several versions, but for those of deny.toml; and what it names needlessly."""
    skip = {s["crate"]: s["reason"] for s in config()["bans"]["skip"]}
    versions = {}
    for name, version in found:
        versions.setdefault(name, []).append(version)
    used = set()
    for name, all_of_it in sorted(versions.items()):
        skipped = {v: s for v in all_of_it for s in skip if s == name or s.startswith(f"{name}@") and f"{v}.".startswith(f"{s.split('@')[1]}.")}
        used |= set(skipped.values())
        if len(all_of_it) - len(skipped) > 1:
            yield f"{name} is there as {' and '.join(sorted(all_of_it))}"
    yield from (f"deny.toml skips {s}, which is not there" for s in sorted(set(skip) - used))


def has_unsafe(package):
    """Whether a crate's sources say `unsafe` anywhere but in comments and in words."""
    source = Path(package["manifest_path"]).parent / "src"
    for file in sorted(source.rglob("*.rs")):
        for line in file.read_text(encoding="utf-8").splitlines():
            if re.search(r"\bunsafe\b(?!_)", re.sub(r'//.*|"[^"]*"|`[^`]*`', "", line)):
                return "yes"
    return "no"


def rows(text, chapter):
    """The rows of a chapter's table: crate and version, and all cells."""
    section = text.partition(f"\n## {chapter}\n")[2].partition("\n## ")[0]
    table = [[c.strip() for c in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| `")]
    return {(row[0].strip("`"), row[1]): row for row in table}


def page(found):
    """What is wrong with the tables of docs/dependencies.md."""
    text = PAGE.read_text(encoding="utf-8")
    for chapter in (LINKED, BUILD, TESTS):
        said = rows(text, chapter)
        true = {key: package for key, (package, where) in found.items() if where == chapter}
        for name, version in sorted(true.keys() - said.keys()):
            yield f"docs/dependencies.md: {chapter}: no row for {name} {version}; scripts/supply.py page"
        for name, version in sorted(said.keys() - true.keys()):
            yield f"docs/dependencies.md: {chapter}: {name} {version} is not used there"
        for (name, version), row in sorted(said.items()):
            package = true.get((name, version))
            if package and row[3] != package["license"]:
                yield f"docs/dependencies.md: {name} is under {package['license']}, not {row[3]}"
            if package and row[4] != has_unsafe(package):
                yield f"docs/dependencies.md: {name} {version}: `unsafe` is not {row[4]}"
            if len(row) != 7 or not all(row) or "?" in row[5:]:
                yield f"docs/dependencies.md: {name} {version}: why is it there, and who keeps it?"


def released(name, version):
    """The day on which a version came to the registry, if cargo has kept what it was told of it; else a question mark."""
    path = {1: f"1/{name}", 2: f"2/{name}", 3: f"3/{name[0]}/{name}"}.get(len(name), f"{name[:2]}/{name[2:4]}/{name}")
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    for file in home.glob(f"registry/index/*/.cache/{path}"):
        for line in file.read_bytes().split(b"\0"):
            if line.startswith(b"{") and (entry := json.loads(line))["vers"] == version and "pubtime" in entry:
                return entry["pubtime"][:10]
    return "?"


def write_page():
    """Brings the tables up to date; what was written of a crate, whatever its version, is kept."""
    text, found, lock = PAGE.read_text(encoding="utf-8"), crates(), locked()
    written = {name: row for chapter in (LINKED, BUILD, TESTS) for (name, _), row in rows(text, chapter).items()}
    for chapter in (LINKED, BUILD, TESTS):
        table = [COLUMNS, "|---|---|---|---|---|---|---|"]
        for (name, version), (package, where) in sorted(found.items()):
            if where == chapter:
                kept = written.get(name, ["?"] * 7)
                day = released(name, version)
                day = kept[2] if day == "?" and kept[1] == version else day
                table.append(f"| `{name}` | {version} | {day} | {package['license']} | {has_unsafe(package)} | {kept[5]} | {kept[6]} |")
        before, heading, rest = text.partition(f"\n## {chapter}\n")
        section, more, after = rest.partition("\n## ")
        lines = [line for line in section.splitlines() if not line.startswith("|")]
        text = before + heading + "\n".join(lines).rstrip() + "\n\n" + "\n".join(table) + "\n" + more + after
    # A list stands in a line that begins with a name.
    tests = [key for key, (_, where) in found.items() if where == REST]
    for chapter, keys in ((TESTS, tests), (ELSEWHERE, lock.keys() - found.keys())):
        before, heading, rest = text.partition(f"\n## {chapter}\n")
        section, more, after = rest.partition("\n## ")
        lines = [line for line in section.splitlines() if not line.startswith("`")]
        names = ", ".join(f"`{name} {version}`" for name, version in sorted(keys))
        text = before + heading + "\n".join(lines).rstrip() + f"\n\n{names}\n" + more + after
    PAGE.write_text(text, encoding="utf-8")


def check():
    """All that needs no network; what is wrong."""
    found, lock = crates(), locked()
    wrong = [*licences(found), *sources(lock), *duplicates(found), *page(found)]
    if not wrong:
        count = {chapter: sum(1 for _, where in found.values() if where == chapter) for chapter in (LINKED, BUILD, TESTS, REST)}
        print(f"supply: licences, sources, versions and page agree: {count[LINKED]} crates in the library, {count[BUILD]} more to "
              f"build it, {count[TESTS] + count[REST]} more to test it, {len(lock) - len(found)} of other systems")
    return wrong


def prove():
    """Whether each kind of fault is noticed; those that are not."""
    found, lock = crates(), locked()
    name, (package, _) = next((n, f) for n, f in sorted(found.items()) if f[1] == LINKED)

    def with_licence(licence):
        return {**found, name: ({**package, "license": licence}, LINKED)}

    faults = {
        "a licence that is not allowed": licences(with_licence("GPL-3.0-only")),
        "one that is allowed in part only": licences(with_licence("MIT AND (GPL-2.0-only OR BSL-1.0)")),
        "no licence": licences(with_licence(None)),
        "a crate from a git repository": sources({**lock, name: {"source": "git+https://example.org/x"}}),
        "a crate without a checksum": sources({**lock, name: {**lock[name], "checksum": ""}}),
        "a second version": duplicates({**found, (name[0], "99.0.0"): (package, LINKED)}),
        "a crate that the page has not": page({**found, ("new", "1.0.0"): (package, LINKED)}),
        "one that only the page has": page({k: v for k, v in found.items() if k != name}),
        "another version than the page's": page({(n, "99" if n == name[0] else v): p for (n, v), p in found.items()}),
        "another licence than the page's": page(with_licence("MIT AND Apache-2.0")),
    }
    missed = [f"nobody would notice {what}" for what, wrong in faults.items() if not list(wrong)]
    if not missed:
        print(f"supply: each of {len(faults)} faults is noticed")
    return missed


def database():
    """Where the database of advisories is: a clone that was named or is where cargo audit keeps its own. And its day."""
    place = Path(os.environ.get("ADVISORY_DB", Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo")) / "advisory-db"))
    done = subprocess.run(["git", "-C", place, "log", "-1", "--format=%cs"], capture_output=True, text=True, check=False)
    return (place, done.stdout.strip()) if done.returncode == 0 and (place / "crates").is_dir() else (None, None)


def run(what, command):
    """Runs a tool; what is wrong."""
    print(f"supply: {what}: {' '.join(map(str, command))}", flush=True)
    done = subprocess.run(command, cwd=ROOT, check=False)
    return [f"{what}: exit status {done.returncode}"] if done.returncode else []


def fetched():
    """Whether the database can be had from where it is kept: then cargo audit fetches it by itself."""
    command = ["git", "ls-remote", "--exit-code", DATABASE, "HEAD"]
    try:
        done = subprocess.run(command, env={**os.environ, "GIT_TERMINAL_PROMPT": "0"}, capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def advisories():
    """Asks the database; what is wrong, and what was not done."""
    command = ["cargo-audit", "audit", "--deny", "warnings"]
    if not os.environ.get("ADVISORY_DB") and fetched():
        return run("advisories of today", command), []
    place, day = database()
    undone = [] if os.environ.get("ADVISORY_DB") and place else [f"advisories of today: {DATABASE} can't be reached, and ADVISORY_DB "
                                                                 "names no clone of it"]
    if not place:
        return [], undone
    age = (date.today() - date.fromisoformat(day)).days
    return run(f"advisories of {day}, {age} days ago", [*command, "--no-fetch", "--stale", "--db", place]), undone


def audit():
    """All tools; what is wrong, and what was not done."""
    wrong, undone, parts = check(), [], 3
    for tool in ("cargo-deny", "cargo-audit"):
        if not shutil.which(tool):
            undone.append(f"{tool} is missing: cargo install {tool} --locked")
    if shutil.which("cargo-deny"):
        wrong += run("licences, versions, sources", ["cargo-deny", "--offline", "check", "licenses", "bans", "sources"])
    if shutil.which("cargo-audit"):
        found, missed = advisories()
        wrong, undone = wrong + found, undone + missed
    print(f"supply: {parts - len(undone)} of {parts} parts done, {len(undone)} not done", flush=True)
    return wrong, undone


def main():
    """Does what was asked for."""
    if sys.argv[1:] == ["page"]:
        write_page()
        return 0
    kinds = {"check": lambda: (check(), []), "prove": lambda: (prove(), []), "audit": audit}
    if len(sys.argv) != 2 or sys.argv[1] not in kinds:
        raise SystemExit(__doc__)
    wrong, undone = kinds[sys.argv[1]]()
    for what in wrong:
        print(f"supply: {what}", file=sys.stderr)
    for what in undone:
        print(f"supply: NOT DONE: {what}", file=sys.stderr)
    return 1 if wrong or undone else 0


if __name__ == "__main__":
    sys.exit(main())
