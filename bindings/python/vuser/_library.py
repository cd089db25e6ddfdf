# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Finds libvuser.so, and looks whether it is the one that _abi.py describes."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from . import _abi

SONAME = "libvuser.so.0"


def _candidates() -> list[tuple[str, str]]:
    """Where the library may be, the first that is there counts: why, and its name."""
    named = os.environ.get("VUSER_LIBRARY")
    if named:
        return [("named by VUSER_LIBRARY", named)]
    package = Path(__file__).resolve().parent
    found = [("beside the package", str(package / SONAME))]
    root = package.parents[2] if len(package.parents) > 2 else package
    if (root / "Cargo.toml").is_file() and (root / "include" / "vuser.h").is_file():
        target = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
        built = [root / "build" / SONAME, root / target / "release" / "libvuser.so"]
        there = sorted((b for b in built if b.is_file()), key=lambda b: b.stat().st_mtime, reverse=True)
        found += [("built in the checkout", str(b)) for b in there]
    return [(why, name) for why, name in found if Path(name).is_file()] + [("installed", SONAME)]


def _load() -> tuple[ctypes.CDLL, str]:
    why, name = _candidates()[0]
    try:
        return ctypes.CDLL(name, use_errno=False), name
    except OSError as error:
        raise ImportError(
            f"{name} ({why}) can't be loaded: {error}. Install libvuser, or name its file in VUSER_LIBRARY, or, in a "
            "checkout, run make"
        ) from error


def _prototypes(library: ctypes.CDLL, name: str) -> None:
    version = ""
    for function, (result, arguments) in sorted(_abi.FUNCTIONS.items(), key=lambda f: f[0] != "vuser_version"):
        try:
            entry = getattr(library, function)
        except AttributeError:
            raise ImportError(
                f"{name} is vuser{version}, which has no {function}: install a newer one, or, in a checkout, run make"
            ) from None
        entry.restype, entry.argtypes = result, arguments
        version = version or f" {entry().decode()}"


def _sizes(library: ctypes.CDLL, name: str) -> None:
    """Structs that begin with their size may have grown in the library, never shrunk; the others are as they are."""
    count = ctypes.c_size_t()
    entries = (_abi.vuser_abi_entry * 0).from_address(library.vuser_abi(ctypes.byref(count)))
    entries = (_abi.vuser_abi_entry * count.value).from_address(ctypes.addressof(entries))
    theirs = {entry.name.decode(): entry.size for entry in entries}
    for struct, ours in _abi.STRUCTS.items():
        size = theirs.get(struct)
        mine = ctypes.sizeof(ours)
        grows = ours._fields_[0][0] == "size"
        if size is not None and (size < mine or (size > mine and not grows)):
            raise ImportError(
                f"struct {struct} has {size} bytes in {name} and {mine} in this package: they are of different versions"
            )


lib, path = _load()
_prototypes(lib, path)
_sizes(lib, path)

# The same functions called without letting other threads run: for calls that never wait, take no lock and are shorter
# than handing over would be.
quick = ctypes.PyDLL(path)
_prototypes(quick, path)


def version() -> str:
    """The version of the library that is in use, "0.1.0" for example."""
    return str(lib.vuser_version().decode())
