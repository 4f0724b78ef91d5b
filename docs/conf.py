"""The documents as a site: ``sphinx-build -W docs site``."""

from importlib.metadata import version as version_of

project = "partwise"
author = "The partwise authors"
copyright = "2026, The partwise authors"  # noqa: A001  # the name that Sphinx reads
version = release = version_of("partwise")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["conf.py"]
html_theme = "furo"
html_title = f"partwise {release}"

myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing", "misc.highlighting_failure"]  # the README's links are those of the repository

# In docstrings a single backtick marks a name.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "undoc-members": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
