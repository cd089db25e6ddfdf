#!/usr/bin/env python3
"""Prints debian/copyright: TEMPLATE, with a stanza for each licence that a crate in VENDOR says it is under.

    packaging/copyright.py TEMPLATE VENDOR

A licence that has no paragraph in TEMPLATE is an error.
"""
import pathlib
import re
import sys
import textwrap
import tomllib

PLACE = "@CRATES@\n"


def licence(expression):
    """What Cargo.toml says, in the words of debian/copyright; a choice is put in one order."""
    expression = expression.replace("/", " OR ")
    choice, *more = re.split(r"\)? AND ", expression)
    names = sorted(re.sub(r" WITH (\S+)-exception", r" with \1 exception", name) for name in choice.strip("()").split(" OR "))
    names = [re.sub(r"-or-later$", "+", name) for name in names]
    said = " or ".join(names)
    return ", and ".join([said, *more]) if len(names) > 1 else " and ".join([said, *more])


def holders(crate, package):
    """Who holds the copyright: whom its licences name, and its authors."""
    found = []
    for file in sorted(crate.glob("LICEN[CS]E*")):
        if file.is_file():
            for line in file.read_text(encoding="utf-8").splitlines():
                if said := re.match(r"\s*Copyright (?:\([cC]\)|©)?\s*(\d{4}.*\w.*)", line):
                    found.append(said[1].strip())
    return [*found, *package.get("authors", [])] or [f"The developers of {package['name']}"]


def stanzas(vendor):
    """One for each licence, with all crates under it."""
    groups = {}
    for crate in sorted(path for path in vendor.iterdir() if path.is_dir()):
        package = tomllib.loads((crate / "Cargo.toml").read_text(encoding="utf-8"))["package"]
        if "license" not in package:
            raise SystemExit(f"copyright.py: {crate.name} does not say in its Cargo.toml what it is under")
        files, who = groups.setdefault(licence(package["license"]), ([], {}))
        files.append(f"vendor/{crate.name}/*")
        who.update(dict.fromkeys(holders(crate, package)))
    return groups


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    template = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
    groups = stanzas(pathlib.Path(sys.argv[2]))
    known = set(re.findall(r"(?m)^License: (.*)\n ", template))
    text = []
    for said, (files, who) in sorted(groups.items()):
        for name in re.split(r", and | and | or ", said):
            if name not in known:
                raise SystemExit(f"copyright.py: {files[0]} is under {name}, of which {sys.argv[1]} has no paragraph")
        listed = textwrap.fill(" ".join(files), 76, initial_indent=" ", subsequent_indent=" ", break_on_hyphens=False).strip()
        text.append(f"Files: {listed}\nCopyright: {chr(10).join(who).replace(chr(10), chr(10) + ' ')}\nLicense: {said}\n")
    if template.count(PLACE) != 1:
        raise SystemExit(f"copyright.py: {sys.argv[1]} does not say where the crates go: {PLACE}")
    sys.stdout.reconfigure(encoding="utf-8")
    sys.stdout.write(template.replace(PLACE, "\n".join(text)))


if __name__ == "__main__":
    main()
