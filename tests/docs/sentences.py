# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""The sentences that the library and its DPDK driver can say, read from their source; what varies in them is an ellipsis.

    tests/docs/sentences.py      prints those that docs/troubleshooting.md has no entry for
"""

import re
import sys
from pathlib import Path

STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.S)
# What is said to developers: asserts, and lines of the log that tell of no error.
INNER = re.compile(r"(debug|trace|info|assert\w*|expect|panic|unreachable)!?\(\s*(?:\w+, )?$")
# Parts of the source that say nothing to the library's user: the built-in device complains to the driver's side of
# its socket, and the standards are data.
OTHERS = ("src/device/", "src/spec/", "/tests/", "/tests.rs")


def normal(text):
    """A sentence with what varies as one ellipsis, without the brackets of a hint."""
    text = re.sub(r"\\\n\s*", "", text).replace('\\"', '"').replace("\\n", "")
    text = re.sub(r"\{\{|\}\}", "", text)
    text = re.sub(r"\{[^{}]*\}|%#?[-.*\d]*(?:z|l)*[a-z]|%(?= |$|:)", "…", text)
    text = re.sub(r"…+", "…", text.replace("`", "'")).strip()
    # A hint is in brackets.
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text


def _rust(root):
    for file in sorted(root.glob("src/**/*.rs")):
        name = file.relative_to(root).as_posix()
        if any(other in name for other in OTHERS):
            continue
        code = re.split(r"\n#\[cfg\(test\)\]\s*mod \w+ \{", file.read_text(encoding="utf-8"))[0]
        code = re.sub(r"(?m)^\s*(//|#!?\[(?!error)).*$", "", code)
        for string in STRING.finditer(code):
            if not INNER.search(code[max(0, string.start() - 50) : string.start()]):
                yield name, normal(string[1])


def _driver(root):
    for file in sorted(root.glob("bindings/dpdk/*.c")):
        code = file.read_text(encoding="utf-8")
        for call in re.finditer(r"VUSER_LOG\((ERR|WARNING|NOTICE), (.*?)\);", code, re.S):
            quoted = re.sub(r'" (PRI\w+) "', "", call[2])
            text = "".join(STRING.findall(re.match(r'(?:\s*"(?:[^"\\]|\\.)*")*', quoted)[0]))
            yield file.relative_to(root).as_posix(), normal(text)


def said(root):
    """All of them, each once: (file, sentence). Three words make a sentence."""
    seen = {}
    for name, text in [*_rust(root), *_driver(root)]:
        if text.count(" ") >= 2 and len(re.findall(r"[A-Za-z_]{2,}", text)) >= 3:
            seen.setdefault(text, name)
    return sorted(seen.items())


def entries(page):
    """The sentences that a page has an entry for: each code span in the first cell of a row."""
    cells = re.findall(r"^\| *((?:[^|\\]|\\.)*?) *\|", page, re.M)
    return {normal(span) for cell in cells for span in re.findall(r"`([^`]+)`", cell) if span.count(" ") >= 2}


def check(root):
    """Problems: sentences without an entry, entries that nothing says."""
    page = (root / "docs/troubleshooting.md").read_text(encoding="utf-8")
    known, all_said = entries(page), dict(said(root))
    problems = [f"docs/troubleshooting.md: no entry for what {name} says: {text}" for text, name in all_said.items() if text not in known]
    return problems + [f"docs/troubleshooting.md: nothing says: {text}" for text in sorted(known - set(all_said))]


if __name__ == "__main__":
    print("\n".join(check(Path(__file__).resolve().parent.parent.parent)))
    sys.exit(0)
