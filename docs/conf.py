# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""How the site is built; scripts/docs.py calls it on a copy of the pages and what is generated beside them."""

import os
import re
import sys
from pathlib import Path

ROOT = Path(os.environ["VUSER_ROOT"])
sys.path.insert(0, str(ROOT / "bindings" / "python"))

project = "vuser"
author = "the vuser authors"
release = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
copyright = "the vuser authors; BSD-3-Clause OR Apache-2.0"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "docs/index"
# Repository files that pages refer to are there to be linked, not to be pages.
exclude_patterns = ["docs/conf.py", "docs/requirements.txt"]
myst_enable_extensions = ["deflist", "attrs_block"]
myst_heading_anchors = 3
# Fenced blocks say what they are; a comment before one may say why it is not run by a test.
myst_fence_as_directive = ["mermaid"] if "sphinxcontrib.mermaid" in extensions else []
suppress_warnings = ["myst.xref_missing_file"] if os.environ.get("VUSER_DOCS_LOOSE") else []
nitpicky = False

html_theme = "furo"
html_title = "vuser"
html_static_path = []
html_copy_source = False
html_show_sphinx = False
highlight_language = "text"
# The page must not need the network: no fonts, no scripts from elsewhere (Furo has its own).

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_mock_imports = ["scapy", "numpy", "rich"]
# Sites of others are not asked by make docs; make docs LINKS=1 does (sphinx-build -b linkcheck).
linkcheck_timeout = 20
