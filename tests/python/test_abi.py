# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""What ctypes believe of the C interface is what the header says and what the library has."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import vuser
from conftest import ROOT
from vuser import _abi, _library


def test_the_table_is_made_of_the_header() -> None:
    subprocess.run([sys.executable, ROOT / "scripts" / "python_abi.py", "--check"], check=True)


def test_a_compiler_sees_the_same(tmp_path: Path) -> None:
    """Each number, the place and size of each field, and each prototype, as a C compiler has them."""
    lines: list[str] = []
    expected: list[str] = []
    for name in dir(_abi):
        if name.startswith("VUSER_"):
            lines.append(f'printf("{name} %llu\\n", (unsigned long long)({name}));')
            expected.append(f"{name} {getattr(_abi, name)}")
    for name, struct in _abi.STRUCTS.items():
        # Aligned more strictly than ctypes can say; nobody makes one in Python.
        lines.append(f'printf("{name} %zu\\n", sizeof(struct {name}));')
        expected.append(f"{name} {ctypes.sizeof(struct)}")
        for field, *_ in struct._fields_:
            lines.append(
                f'printf("{name}.{field} %zu %zu\\n", offsetof(struct {name}, {field}), sizeof(((struct {name} *)0)->{field}));'
            )
            place = getattr(struct, field)
            expected.append(f"{name}.{field} {place.offset} {place.size}")
    kinds: dict[Any, str] = {
        None: "void",
        ctypes.c_char_p: "const char *",
        ctypes.c_void_p: "void *",
        _abi.vuser_log_fn: "vuser_log_fn",
    }
    for kind in ("int", "uint"):
        for bits in (8, 16, 32, 64):
            kinds.setdefault(getattr(ctypes, f"c_{kind}{bits}"), f"{kind}{bits}_t")
    for function, (result, arguments) in _abi.FUNCTIONS.items():
        # How each argument is passed: sizes, and whether it is a pointer. A wrong count does not compile.
        given = ", ".join(f"({kinds[a]})0" for a in arguments)
        call = f"{function}({given})"
        lines.append(f"(void)sizeof(({call}, 0));")
        if result is not None:
            lines.append(f'printf("{function} %zu\\n", sizeof({call}));')
            expected.append(f"{function} {ctypes.sizeof(result)}")
    source = tmp_path / "abi.c"
    body = "\n  ".join(lines)
    source.write_text(f"#include <stddef.h>\n#include <stdio.h>\n#include <vuser.h>\nint main(void) {{\n  {body}\n}}\n")
    command: list[str | Path] = [
        os.environ.get("CC", "cc"),
        "-Wall",
        "-Wno-unused-value",
        "-Werror",
        "-I",
        ROOT / "include",
        source,
    ]
    subprocess.run([*command, "-o", tmp_path / "abi"], check=True)
    printed = subprocess.run([tmp_path / "abi"], check=True, capture_output=True, text=True).stdout
    assert printed.splitlines() == expected


def test_the_library_gives_the_size_of_every_struct() -> None:
    count = ctypes.c_size_t()
    first = _library.lib.vuser_abi(ctypes.byref(count))
    entries = (_abi.vuser_abi_entry * count.value).from_address(first)
    assert {e.name.decode(): e.size for e in entries} == {n: ctypes.sizeof(s) for n, s in _abi.STRUCTS.items()}


def test_a_library_of_another_version_is_refused(tmp_path: Path) -> None:
    def refused(name: str, **change: str) -> str:
        environment = dict(os.environ, PYTHONPATH=str(ROOT / "bindings" / "python"), **change)
        done = subprocess.run([sys.executable, "-c", "import vuser"], capture_output=True, text=True, env=environment)
        assert done.returncode, name
        assert "ImportError" in done.stderr, done.stderr
        return done.stderr

    (tmp_path / "text").write_text("no library")
    assert "VUSER_LIBRARY" in refused("no library", VUSER_LIBRARY=str(tmp_path / "text"))
    # A library with everything, but the sizes of another version.
    stubs = "".join(f"void {f}(void) {{}}\n" for f in _abi.FUNCTIONS if f not in ("vuser_abi", "vuser_version"))
    for struct, size in (("vuser_mbuf", 192), ("vuser_config", 8)):
        (tmp_path / "stub.c").write_text(
            "#include <stddef.h>\nstruct entry { const char *name; size_t size; };\n"
            f'static const struct entry all[] = {{ {{ "{struct}", {size} }} }};\n'
            'const char *vuser_version(void) { return "9.9.9"; }\n'
            "const struct entry *vuser_abi(size_t *count) { *count = 1; return all; }\n" + stubs
        )
        library = tmp_path / f"{struct}.so"
        subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", tmp_path / "stub.c", "-o", library], check=True)
        sentence = refused(struct, VUSER_LIBRARY=str(library))
        assert f"{struct} has {size} bytes" in sentence
        assert f"{ctypes.sizeof(_abi.STRUCTS[struct])} in this package" in sentence
    (tmp_path / "old.c").write_text('const char *vuser_version(void) { return "0.0.1"; }\n')
    subprocess.run(["cc", "-shared", "-fPIC", tmp_path / "old.c", "-o", tmp_path / "old.so"], check=True)
    assert "vuser 0.0.1, which has no" in refused("old", VUSER_LIBRARY=str(tmp_path / "old.so"))


def test_the_version_is_cargos() -> None:
    text = (ROOT / "Cargo.toml").read_text()
    assert f'\nversion = "{vuser.__version__}"\n' in text


@pytest.mark.parametrize("function", sorted(_abi.FUNCTIONS))
def test_each_function_has_its_prototype(function: str) -> None:
    result, arguments = _abi.FUNCTIONS[function]
    entry = getattr(_library.lib, function)
    assert (entry.restype, entry.argtypes) == (result, arguments)
