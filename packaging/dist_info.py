#!/usr/bin/env python3
"""Writes what pip would: DIR/vuser-VERSION.dist-info, for distributions' packages, from pyproject.toml.

    packaging/dist_info.py VERSION DIR
"""
import pathlib
import sys
import tomllib


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    version, folder = sys.argv[1], pathlib.Path(sys.argv[2], f"vuser-{sys.argv[1]}.dist-info")
    project = tomllib.loads((pathlib.Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {version}", f"Summary: {project['description']}"]
    lines += [f"License: {project['license']}", f"Requires-Python: {project['requires-python']}"]
    for extra, needs in project["optional-dependencies"].items():
        lines += [f"Provides-Extra: {extra}", *(f'Requires-Dist: {need}; extra == "{extra}"' for need in needs)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
