#!/usr/bin/env python3
"""Compares the C interface with the one that was promised.

    scripts/abi.py check HEADER MAP DIR       fails, and says where, if programs of before would break
    scripts/abi.py baseline HEADER MAP DIR    writes the promise, DIR/libvuser.0.abi and .constants, anew
    scripts/abi.py prove HEADER MAP DIR       makes changes of each kind to a copy: the wrong ones must fail

What is compared is the interface that vuser.h and vuser.map describe: a library of empty functions is compiled from
them and given to abidw and abidiff. That needs no build of the real one, and knows nothing of what is behind opaque
pointers, which may change. Tests see to it that the real one has these functions, versions and sizes
(tests/symbols.rs, tests/header.rs, tests/capi).

What may grow (docs/abi.md): functions and constants may be added, and structs that begin with `size` may get new fields
behind their end.
"""
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml

import header as c

NAME = "libvuser.0"


def stub(header):
    """C source that defines each function of the header."""
    lines = [f'#include "{header.resolve()}"']
    for item in c.read(header).of("function"):
        nothing = item.declaration.startswith("void vuser_")
        lines.append(item.declaration + (" {}" if nothing else " { return 0; }"))
    return "\n".join(lines) + "\n"


def constants(header):
    """The constants of the header as NAME VALUE lines."""
    return [f"{item.name} {item.value}" for item in c.read(header).of("define")]


def compiled(header, symbols, directory):
    """A library with that interface."""
    source = directory / "stub.c"
    source.write_text(stub(header))
    made = directory / "libvuser.so.0"
    command = [os.environ.get("CC", "cc"), "-g", "-O0", "-w", "-fPIC", "-shared", "-Wl,-soname,libvuser.so.0"]
    subprocess.run([*command, f"-Wl,--version-script={symbols}", "-o", made, source], check=True)
    return made


def baseline(header, symbols, where, directory):
    made = compiled(header, symbols, directory)
    options = ["--no-corpus-path", "--no-comp-dir-path", "--no-show-locs"]
    subprocess.run(["abidw", *options, "--out-file", where / f"{NAME}.abi", made], check=True)
    (where / f"{NAME}.constants").write_text("\n".join(constants(header)) + "\n")
    return []


def promised_structs(where):
    """Of each struct of the promise: the names of its fields, and its size in bytes."""
    for decl in xml.parse(where / f"{NAME}.abi").getroot().iter("class-decl"):
        if decl.get("size-in-bits") and decl.get("is-declaration-only") != "yes":
            names = [field.get("name") for field in decl.iterfind("data-member/var-decl")]
            yield decl.get("name"), names, int(decl.get("size-in-bits")) // 8


def shortened(header, where, directory):
    """The header without what its sized structs have got since, which must lie behind their former end."""
    text, asserts, wrong = header.read_text(), [], []
    structs = {item.name: item.fields for item in c.read(header).of("struct")}
    for name, old, size in promised_structs(where):
        fields = structs.get(name, [])
        names = [field.name for field in fields]
        # abidiff takes a field of the same type in the same place for the same one.
        if names[: len(old)] != old:
            wrong.append(f"struct {name} began with {', '.join(old)}, and now is {', '.join(names) or 'not there'}")
        elif len(names) > len(old) and names[0] == "size":
            asserts.append(f'_Static_assert(offsetof(struct {name}, {names[len(old)]}) >= {size}, "{name}: {names[len(old)]} '
                           f'is in the padding that the struct had at its end, which programs of before did not set");')  # fmt: skip
            kept = "".join(f"    {field.declaration};\n" for field in fields[: len(old)])
            text = re.sub(rf"struct {name} \{{\n.*?\n\}};", f"struct {name} {{\n{kept}}};", text, flags=re.S)
    short = directory / "vuser.h"
    short.write_text(text)
    source = directory / "asserts.c"
    source.write_text(f'#include "{header.resolve()}"\n' + "\n".join(asserts) + "\n")
    result = subprocess.run([os.environ.get("CC", "cc"), "-fsyntax-only", source], capture_output=True, text=True)
    failed = re.findall(r'static assertion failed: "(.*?)"', result.stderr)
    return short, wrong + (failed or ([result.stderr] if result.returncode else []))


def check(header, symbols, where, directory):
    """What is wrong, in words; empty if all is well."""
    short, wrong = shortened(header, where, directory)
    have = set(constants(header))
    wrong += [f"#define {line}: not so any more" for line in (where / f"{NAME}.constants").read_text().splitlines()
              if line not in have]  # fmt: skip
    made = compiled(short, symbols, directory)
    command = ["abidiff", "--no-added-syms", where / f"{NAME}.abi", made]
    result = subprocess.run(command, capture_output=True, text=True)
    return wrong + ([result.stdout + result.stderr] if result.returncode else [])


# (what, pattern in the header, replacement, pattern in the map, replacement, whether it may be)
CHANGES = [
    ("nothing", "", "", "", "", True),
    ("a function more", r"int vuser_dev_stop\(", r"int vuser_more(int a);\n\n\g<0>", "vuser_abi;", r"\g<0>\nvuser_more;", True),
    ("a field at the end of a sized struct", r"    uint64_t dropped;\n(?=};)", r"\g<0>    uint64_t more;\n", "", "", True),
    ("a constant more", r"#define VUSER_EVENT_LOST 9", r"\g<0>\n\n#define VUSER_EVENT_MORE 10", "", "", True),
    ("a function less", r"int vuser_dev_stop\(struct vuser_dev \*dev\);", "", "vuser_dev_stop;", "", False),
    ("a symbol less", "", "", "vuser_dev_stop;", "", False),
    ("another version", "", "", "VUSER_0", "VUSER_1", False),
    ("a wider argument", r"uint16_t pairs\)", "uint64_t pairs)", "", "", False),
    ("an argument more", r"vuser_dev_stop\(struct", "vuser_dev_stop(int how, struct", "", "", False),
    ("another result", r"int vuser_dev_stop\(", "uint64_t vuser_dev_stop(", "", "", False),
    ("a wider field", r"uint16_t mtu;", "uint32_t mtu;", "", "", False),
    ("a field less", r"    uint64_t sent;\n", "", "", "", False),
    ("a field in the middle", r"    uint64_t dropped;\n(?=};)", r"    uint64_t more;\n\g<0>", "", "", False),
    ("a field in the padding at the end", r"    uint8_t no_huge;\n", r"\g<0>    uint8_t more;\n", "", "", False),
    ("a field at the end of a struct of fixed size", r"    uint32_t dynfield\[9\];\n", r"\g<0>    uint64_t more[8];\n", "", "", False),
    ("a constant with another value", r"#define VUSER_EVENT_LOST 9", "#define VUSER_EVENT_LOST 10", "", "", False),
]


def prove(header, symbols, _, directory):
    """Whether changes of each kind, against a promise that holds now, are told apart."""
    wrong = []
    baseline(header, symbols, directory, directory)
    for number, (what, old, new, old_symbol, new_symbol, may) in enumerate(CHANGES):
        place = directory / str(number)
        place.mkdir()
        changed, map_changed = place / "changed.h", place / "changed.map"
        for source, pattern, replacement, out in (
            (header, old, new, changed),
            (symbols, old_symbol, new_symbol, map_changed),
        ):
            text, count = re.subn(pattern, replacement, source.read_text(), count=1) if pattern else (source.read_text(), 1)
            if not count:
                wrong.append(f"{what}: nothing to change it in")
            out.write_text(text)
        found = check(changed, map_changed, directory, place)
        print(f"abi: {what}: {'refused' if found else 'accepted'}")
        if bool(found) == may:
            wrong.append(f"{what}: that is wrong: " + "\n".join(found))
    return wrong


def main():
    actions = {"check": check, "baseline": baseline, "prove": prove}
    if len(sys.argv) != 5 or sys.argv[1] not in actions:
        raise SystemExit(__doc__)
    if platform.machine() != "x86_64":
        raise SystemExit(print("abi: skipped: the promise is written down for x86_64, and this is no such machine"))
    with tempfile.TemporaryDirectory() as directory:
        wrong = actions[sys.argv[1]](*(pathlib.Path(a) for a in sys.argv[2:]), pathlib.Path(directory))
    for sentence in wrong:
        print(f"abi: {sentence}", file=sys.stderr)
    if wrong and sys.argv[1] == "check":
        print("abi: programs that were built before would break. docs/abi.md says what may change; as long as nothing\n"
              "abi: was released, `make abi-baseline` makes a new promise.", file=sys.stderr)  # fmt: skip
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
