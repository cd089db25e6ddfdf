#!/usr/bin/env python3
"""Puts the crates that the library is made of into DIR, for builds without a network.

    packaging/vendor.py DIR

`cargo vendor` copies all that Cargo.lock names, 105 MB, most of it for tests and for other systems. cargo wants to see
each of them to believe Cargo.lock, but only its description: of what is not part of the library on Linux this is kept,
and the sources go.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys

TARGETS = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"]
CARGO = os.environ.get("CARGO", "cargo")


def used():
    """Names and versions of the crates that the library is made of."""
    crates = set()
    for target in TARGETS:
        command = [CARGO, "tree", "--locked", "--edges", "normal,build", "--prefix", "none", "--target", target]
        for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
            name, version = line.split()[:2]
            crates.add((name, version.lstrip("v")))
    return crates


def description(manifest):
    """Name and version: the first of each in a manifest that cargo has normalised, in [package]."""
    found = {}
    for line in manifest.read_text().splitlines():
        key, _, value = line.partition(" = ")
        if key in ("name", "version") and key not in found:
            found[key] = value.strip('"')
    return found["name"], found["version"]


def keep_description(crate):
    manifest, checksum = crate / "Cargo.toml", crate / ".cargo-checksum.json"
    for file in crate.iterdir():
        if file not in (manifest, checksum):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    # A crate must have something that could be compiled.
    (crate / "src").mkdir()
    (crate / "src/lib.rs").touch()
    package = json.loads(checksum.read_text())["package"]
    checksum.write_text(json.dumps({"files": {}, "package": package}))


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    out = pathlib.Path(sys.argv[1])
    shutil.rmtree(out, ignore_errors=True)
    subprocess.run([CARGO, "vendor", "--locked", "--quiet", out], check=True, stdout=subprocess.DEVNULL)
    wanted = used()
    for crate in out.iterdir():
        if description(crate / "Cargo.toml") not in wanted:
            keep_description(crate)


if __name__ == "__main__":
    main()
