#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Writes bindings/python/vuser/_abi.py, the header as ctypes see it.

    scripts/python_abi.py            writes it (`make header` does this too)
    scripts/python_abi.py --check    fails when it is not what the header says
"""

import re
import sys
from pathlib import Path

import header

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "bindings" / "python" / "vuser" / "_abi.py"

PLAIN = {
    "int": "c_int", "unsigned int": "c_uint", "size_t": "c_size_t", "char": "c_char", "float": "c_float",
    "double": "c_double", "bool": "c_bool",
    **{f"{sign}int{bits}_t": f"c_{sign}int{bits}" for sign in ("u", "") for bits in (8, 16, 32, 64)},
}

HEAD = '''# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
# Made from include/vuser.h by scripts/python_abi.py; do not edit.
"""The C interface as it stands in vuser.h: numbers, structs, and the prototype of each function.

Pointers are addresses (c_void_p), strings are c_char_p.
"""

from __future__ import annotations

import ctypes
from ctypes import {names}
from typing import Any
'''


def kind(text, functions):
    """The ctypes name of a C type without a name in it; None is void."""
    text = " ".join(re.sub(r"\b(const|struct)\b", " ", text).replace("*", " * ").split())
    if text in functions:
        return text
    if text == "void":
        return None
    if text == "char *":
        return "c_char_p"
    if text.endswith("*"):
        return "c_void_p"
    return PLAIN[text]


def split(declaration):
    """Type and name of a parameter or member."""
    match = re.match(r"(.*?)(\w+)$", declaration.strip())
    return match[1].strip(), match[2]


def parameters(text, functions):
    """The ctypes names of what stands between the parentheses."""
    return [] if text.strip() in ("", "void") else [kind(split(p)[0], functions) for p in text.split(",")]


def member(declaration, functions):
    """The ctypes expression of a member of a struct."""
    if "(*" in declaration:
        return "c_void_p"
    lengths = re.findall(r"\[(\w+)\]", declaration)
    what = kind(split(re.sub(r"\[\w+\]", "", declaration))[0], functions)
    return " * ".join([what, *reversed(lengths)])


def number(value):
    """A define's value as Python."""
    plain = re.sub(r"\bU?INT\d+_C\((\w+)\)", r"\1", value)
    plain = re.sub(r"\b(0x[0-9a-fA-F]+|\d+)[uUlL]+\b", r"\1", plain)
    if not re.fullmatch(r"[\w\s<|()+-]+", plain):
        raise ValueError(f"{value} is no number that is known here")
    return int(eval(plain, {}))  # pylint: disable=eval-used


def text():
    """All of the module."""
    read = header.read()
    callbacks = {t.name: t.declaration for t in read.of("typedef")}
    out = []
    for item in read.of("define"):
        out.append(f"{item.name} = {number(item.value):#x}")
    out.append("")
    for name, declaration in callbacks.items():
        match = re.match(r"typedef (.*)\(\*\w+\)\((.*)\)", declaration)
        types = [kind(match[1], callbacks), *parameters(match[2], callbacks)]
        out.append(f"{name} = ctypes.CFUNCTYPE({', '.join(map(str, types))})")
    structs = read.of("struct")
    for item in structs:
        out += ["", "", f"class {item.name}(ctypes.Structure):  # noqa: N801", "    _fields_ = ["]
        out += [f'        ("{f.name}", {member(f.declaration, callbacks)}),' for f in item.fields]
        out += ["    ]"]
    out += ["", "", "STRUCTS: dict[str, type[ctypes.Structure]] = {"]
    out += [f'    "{item.name}": {item.name},' for item in structs]
    out += ["}", "", "# What each function returns, and takes.", "FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {"]
    for item in read.of("function"):
        match = re.match(rf"(.*?)\b{item.name}\((.*)\)$", item.declaration)
        given = ", ".join(map(str, parameters(match[2], callbacks)))
        out.append(f'    "{item.name}": ({kind(match[1], callbacks)}, [{given}]),')
    body = "\n".join(out) + "\n}\n"
    names = sorted(set(re.findall(r"\bc_\w+\b", body)))
    return HEAD.format(names=", ".join(names)) + "\n" + body


def main():
    new = text()
    if sys.argv[1:] == ["--check"]:
        if not OUTPUT.exists() or OUTPUT.read_text(encoding="utf-8") != new:
            sys.exit(f"{OUTPUT.relative_to(ROOT)} is not what the header says: run scripts/python_abi.py")
    else:
        OUTPUT.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
