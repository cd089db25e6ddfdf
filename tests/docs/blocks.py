# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""The fenced blocks of a page, and what is said about each in a comment before it.

    ```sh                     commands, run in order, one shell a page
    ```c                      a program (it has a main) is compiled and linked, anything else is compiled
    ```python                 a program, run
    ```yaml                   parsed
    ```text                   neither; a drawing, or what a command prints

    <!-- not run: why -->     before a block: it isn't, and why
    <!-- file: /tmp/x.c -->   before a block: it is also written there, for the commands that follow
"""

import re
from dataclasses import dataclass

LANGUAGES = {"sh", "c", "python", "yaml", "text", "toml", "rust"}


@dataclass
class Block:
    """A fenced block."""

    page: str
    line: int
    language: str
    text: str
    why_not: str = ""
    file: str = ""

    @property
    def place(self):
        """Where it begins."""
        return f"{self.page}:{self.line}"

    def commands(self):
        """Its lines, of which those that go on are one; comments and blank lines are left out."""
        joined = re.sub(r"\\\n\s*", "", self.text)
        return [line for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]


def blocks(page, text):
    """All blocks of a page. Directives of the site (```{toctree}) are none."""
    found, marks, lines, at = [], {}, text.splitlines(), 0
    while at < len(lines):
        line = lines[at]
        if mark := re.match(r"\s*<!-- (not run|file): (.*?) *-->\s*$", line):
            marks[mark[1]] = mark[2]
        elif fence := re.match(r"(\s*)(`{3,}|~{3,})(.*)$", line):
            indent, ticks, language = fence[1], fence[2], fence[3].strip()
            end = next(i for i in range(at + 1, len(lines)) if lines[i].strip() == ticks)
            body = "\n".join(one[len(indent):] if one.startswith(indent) else one for one in lines[at + 1 : end])
            if not language.startswith("{"):
                found.append(Block(page, at + 1, language, body + "\n", marks.get("not run", ""), marks.get("file", "")))
            marks, at = {}, end
        elif line.strip():
            marks = {}
        at += 1
    return found
