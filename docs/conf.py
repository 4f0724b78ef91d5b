"""Settings of the documentation site, which ``sphinx-build -W docs site`` builds."""

from importlib.metadata import version as version_of
from typing import Any

import attrs
from sphinx.application import Sphinx

project = "partwise"
author = "The partwise authors"
copyright = "2026, The partwise authors"  # noqa: A001  # the name that Sphinx reads
version = release = version_of("partwise")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["conf.py"]
html_theme = "furo"
html_title = f"partwise {release}"
html_static_path = ["_static"]
html_css_files = ["partwise.css"]
toc_object_entries_show_parents = "hide"

myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]  # code of other SDKs is shown in part

# In docstrings a single backtick marks a name.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "undoc-members": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False


def _skip(*event: Any) -> bool | None:
    """Skip the fields of values, which are documented as arguments."""
    _, _, _, member, _, _ = event
    return True if repr(member) == "SLOTS_ATTR" else None  # it has no public name in every version of Sphinx


def _shorten(*event: Any) -> tuple[str | None, str | None]:
    """Show factory defaults as "...", and protocols without a signature."""
    *_, signature, returns = event
    if signature == "(*args, **kwargs)":
        return "", None
    return signature and signature.replace(repr(attrs.NOTHING), "..."), returns


def _keep_colons(*event: Any) -> None:
    """Keep napoleon from reading a type before a colon in the first line of a property's docstring."""
    _, what, _, _, _, lines = event
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]  # napoleon looks at the first line only, and this one is not shown


def setup(app: Sphinx) -> None:
    """Connect the hooks above."""
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-signature", _shorten)
    app.connect("autodoc-process-docstring", _keep_colons, priority=400)  # before napoleon
