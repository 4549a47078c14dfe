"""Sphinx configuration. A warning fails the build; nothing is fetched from the network."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import saga

project = "pgsaga"
author = "pgsaga contributors"
copyright = "2026, pgsaga contributors"
version = release = saga.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "directives"]
exclude_patterns = ["_build", "_ext"]

html_theme = "furo"
html_static_path = ["_static"]
html_title = f"pgsaga {release}"
html_show_sphinx = False
smartquotes = False  # it makes a dash of `--wait`

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
