#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Reads include/vuser.h, which is generated and therefore regular, for whatever is made from it: the reference on the
site, manual pages.

    scripts/header.py [HEADER]     prints the reference as MyST Markdown

As a module: read(path) gives a Header. Comments come as plain text, a paragraph per blank line.
"""

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

HEADER = Path(__file__).resolve().parent.parent / "include" / "vuser.h"


@dataclass
class Field:
    """A member of a struct."""

    name: str
    declaration: str  # as it stands in the header, without the semicolon
    text: str


@dataclass
class Item:
    """Something that the header declares: kind is function, struct, opaque, typedef or define."""

    kind: str
    name: str
    declaration: str  # on one line, without the semicolon; of a struct only "struct NAME"
    text: str
    line: int
    value: str = ""  # of a define
    fields: list = field(default_factory=list)  # of a struct


@dataclass
class Header:
    """All of it: the conventions of its first page, by title, and the items in their order."""

    about: str
    conventions: list  # (title, text)
    items: list

    def of(self, kind):
        """The items of a kind."""
        return [item for item in self.items if item.kind == kind]


def _comment(lines):
    """The text of comment lines: blank ones end a paragraph."""
    bare = [re.sub(r"^\s*// ?", "", line) for line in lines]
    paragraphs = "\n".join(bare).split("\n\n")
    return "\n\n".join(" ".join(p.split()) for p in paragraphs if p.strip())


def _conventions(lines):
    """The first comment: what the library is, and the conventions, each of which begins with its title."""
    text = _comment(lines)
    paragraphs = text.split("\n\n")
    at = paragraphs.index("CONVENTIONS")
    pairs = []
    for paragraph in paragraphs[at + 1 :]:
        match = re.match(r"([A-Z][a-z]+)\. (.*)", paragraph, re.S)
        pairs.append((match.group(1), match.group(2)) if match else ("", paragraph))
    return paragraphs[0], pairs


def _fields(body):
    """The members between the braces of a struct."""
    found, comment = [], []
    statement = ""
    for line in body:
        if line.strip().startswith("//"):
            comment.append(line)
            continue
        statement = f"{statement} {line.strip()}".strip()
        if not statement.endswith(";"):
            continue
        declaration = " ".join(statement[:-1].split())
        match = re.search(r"\(\*(\w+)\)|(\w+)(?:\[[^\]]*\])*$", declaration)
        found.append(Field(match.group(1) or match.group(2), declaration, _comment(comment)))
        comment, statement = [], ""
    return found


def _item(lines, at, comment):
    """The item that begins at a line, and the line after it."""
    line, text = lines[at], _comment(comment)
    if match := re.match(r"#define (VUSER_\w+)\s+(.+)", line):
        return Item("define", match[1], line.strip(), text, at + 1, value=match[2].strip()), at + 1
    if match := re.match(r"struct (\w+);", line):
        return Item("opaque", match[1], f"struct {match[1]}", text, at + 1), at + 1
    if match := re.match(r"struct (\w+)(?: __attribute__\(\(.*\)\))? \{|struct __attribute__\(\(.*\)\) (\w+) \{", line):
        end = next(i for i in range(at, len(lines)) if re.match(r"\}", lines[i]))
        name = match[1] or match[2]
        return Item("struct", name, f"struct {name}", text, at + 1, fields=_fields(lines[at + 1 : end])), end + 1
    end = next(i for i in range(at, len(lines)) if lines[i].rstrip().endswith(";"))
    declaration = " ".join(" ".join(lines[at : end + 1]).split())[:-1]
    if match := re.match(r"typedef .*\(\*(\w+)\)", declaration):
        return Item("typedef", match[1], declaration, text, at + 1), end + 1
    match = re.match(r"[\w\s*]*?(\w+)\(.*\)$", declaration)
    if not match:
        raise ValueError(f"line {at + 1} of the header is nothing that is known here: {line}")
    return Item("function", match[1], declaration, text, at + 1), end + 1


def read(path=HEADER):
    """Reads a header."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    first = next(i for i, line in enumerate(lines) if not line.startswith("//"))
    about, conventions = _conventions(lines[:first])
    items, comment, at, depth = [], [], first, 0
    while at < len(lines):
        line = lines[at]
        if line.startswith("//"):
            comment.append(line)
        elif re.match(r"#if", line):
            depth += "__cplusplus" in line
        elif line.startswith("#endif"):
            depth = max(0, depth - 1)
        elif not line.strip() or depth or (line.startswith("#") and not line.startswith("#define VUSER_")) or (
            line.startswith("#define VUSER_H") and line.strip() == "#define VUSER_H"
        ):
            comment = []
        else:
            item, at = _item(lines, at, comment)
            items.append(item)
            comment = []
            continue
        at += 1
    return Header(about, conventions, items)


# What a function is about, by what its name begins with: the longest that fits.
CHAPTERS = [
    ("The library", ["vuser_"]),
    ("Configuration", ["vuser_config_"]),
    ("Devices", ["vuser_dev_"]),
    ("The log of written pages", ["vuser_dirty_"]),
    ("Queues", ["vuser_rx_queue", "vuser_tx_queue", "vuser_queue_", "vuser_dev_rx_queue", "vuser_dev_tx_queue"]),
    ("Bursts", ["vuser_rx_", "vuser_tx_"]),
    ("Packets", ["vuser_mbuf_"]),
    ("Pools", ["vuser_pool_"]),
    ("Capture", ["vuser_capture_"]),
    ("The built-in back-end", ["vuser_loopback_"]),
]


def chapter(name):
    """The chapter that a function belongs to."""
    return max((len(p), title) for title, starts in CHAPTERS for p in starts if name.startswith(p))[1]


def _directive(kind, declaration, text):
    colons = "`" * 3
    return f"{colons}{{c:{kind}}} {declaration}\n\n{_escaped(text)}\n{colons}\n"


def _escaped(text):
    """Markdown that says what the comment says."""
    text = re.sub(r"`([^`]*)`", r"\1", text)
    names = r"\b(?:vuser|VUSER)_\w+(?:\(\))?\*?|\b[a-z]+(?:_[a-z]+)+\b|\b\w+->\w+\b|\bpath=\S+?(?=[,;.]?(?:\s|$))"
    return re.sub(names, lambda m: f"`{m.group(0)}`", text).replace("<", "&lt;")


def reference(header):
    """The whole reference as MyST Markdown."""
    out = ["# C reference", "", "Made from the header, [include/vuser.h](../include/vuser.h), which is the same text in one file.", ""]
    out += ["## Conventions", ""]
    out += [f"**{title}.** {_escaped(text)}\n" if title else _escaped(text) + "\n" for title, text in header.conventions]
    functions = header.of("function")
    for title, _ in CHAPTERS:
        mine = [item for item in functions if chapter(item.name) == title]
        if mine:
            out += [f"## {title}", ""]
            out += [_directive("function", item.declaration, item.text) for item in mine]
    out += ["## Types", ""]
    for item in header.items:
        if item.kind in ("struct", "opaque"):
            text = item.text
            body = "\n".join(f"`{f.declaration}`\n: {_escaped(f.text) or '—'}\n" for f in item.fields)
            out.append(f"```{{c:struct}} {item.name}\n\n{_escaped(text)}\n\n{body}\n```\n")
        if item.kind == "typedef":
            out += [f"```{{c:type}} {item.declaration[len('typedef '):]}\n\n{_escaped(item.text)}\n```\n"]
    out += ["## Numbers", "", "| name | value | |", "|---|---|---|"]
    out += [f"| `{d.name}` | `{d.value}` | {_escaped(d.text)} |" for d in header.of("define")]
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    print(reference(read(*sys.argv[1:2])), end="")
