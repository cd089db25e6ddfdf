#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Builds the site: build/docs/docs/index.html. Called by make docs, with the Python that has docs/requirements.txt.

    scripts/docs.py [BUILD] [--links]     --links asks the sites of others, too, whether their pages are there

The pages lie in the repository so that they can be read there. A copy of them, in the same places, is what Sphinx sees;
beside them come the pages that are generated: the references. A warning is an error.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True

import header  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "bindings/*/README.md", "benches/README.md"]
# What pages refer to by a relative link: offered as downloads.
FILES = ["include/*.h", "examples/*", "src/lib.rs", "benches/results/*", "docs/**/*", "LICENSE*", "CODE_OF_CONDUCT.md"]


def stage(build):
    """A copy of the pages, and the generated ones; where it is."""
    target = build / "docs-source"
    shutil.rmtree(target, ignore_errors=True)
    for pattern in PAGES + FILES:
        for source in ROOT.glob(pattern):
            if source.is_file() and "__pycache__" not in source.parts:
                copy = target / source.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)
    for page in target.rglob("CODE_OF_CONDUCT.md"):
        page.rename(page.with_suffix(".txt"))
    (target / "docs" / "c-reference.md").write_text(header.reference(header.read()), encoding="utf-8")
    (target / "docs" / "python-reference.md").write_text(python_reference(), encoding="utf-8")
    index = target / "docs" / "index.md"
    text = index.read_text(encoding="utf-8")
    # Pages that nobody has given a place in the index are at its end.
    named = {(index.parent / f"{word}.md").resolve() for word in text.split()}
    rest = [p for p in sorted(target.rglob("*.md")) if p.resolve() not in named | {index}]
    index.write_text(text.rstrip().removesuffix("```") + "\n".join(os.path.relpath(p.with_suffix(""), index.parent) for p in rest)
                     + "\n```\n", encoding="utf-8")
    return target


def python_reference():
    """The page that Sphinx fills from docstrings, one chapter for each module that people import."""
    package = ROOT / "bindings" / "python" / "vuser"
    out = ["# Python reference", "", "Made from the docstrings of the package.", ""]
    for name, file in [("vuser", "__init__"), ("vuser.aio", "aio"), ("vuser.scapy", "scapy"), ("vuser.replay", "replay")]:
        if (package / f"{file}.py").is_file():
            out += [f"## {name}", "", "```{eval-rst}", f".. automodule:: {name}", "   :members:"]
            out += ["   :imported-members:", "   :show-inheritance:"] if name == "vuser" else ["   :show-inheritance:"]
            out += ["```", ""]
    return "\n".join(out)


def main():
    """Stages and builds."""
    args = [arg for arg in sys.argv[1:] if arg != "--links"]
    build = Path(args[0] if args else ROOT / "build").resolve()
    source = stage(build)
    library = build / "libvuser.so.0"
    env = dict(os.environ, VUSER_ROOT=str(ROOT), PYTHONDONTWRITEBYTECODE="1")
    if library.is_file():
        env.setdefault("VUSER_LIBRARY", str(library))
    builder = "linkcheck" if "--links" in sys.argv else "html"
    output = build / ("docs-links" if builder == "linkcheck" else "docs")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E", "-j", "2", "-b", builder, "-c", str(ROOT / "docs")]
    command += ["-d", str(build / "docs-doctrees"), str(source), str(output)]
    status = subprocess.run(command, env=env, check=False).returncode
    if status == 0 and builder == "html":
        print(f"docs: {len(list(output.rglob('*.html')))} pages, no warning: {output}/docs/index.html")
    return status


if __name__ == "__main__":
    sys.exit(main())
