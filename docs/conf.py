"""Settings of the documentation site, which ``sphinx-build -W docs site`` builds."""

import re
from importlib.metadata import version as version_of
from typing import Any

import attrs
from sphinx.application import Sphinx

project = "partwise"
author = "The partwise authors"
copyright = "2026, The partwise authors"  # noqa: A001  # the name that Sphinx reads
version = release = version_of("partwise")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["conf.py"]
html_theme = "furo"
html_title = f"partwise {release}"
html_static_path = ["_static"]
html_css_files = ["partwise.css"]
html_show_sphinx = False
copybutton_prompt_text = "$ "  # not copied; nor are the lines without it, which are output
copybutton_line_continuation_character = "\\"
copybutton_selector = "div:not(.highlight-text) > div.highlight > pre"  # output is not there to be copied
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 88  # longer ones have a line for each argument
python_display_short_literal_types = True

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


def _contents(_app: Sphinx, name: str, source: list[str]) -> None:
    """
    Make the contents of the site from the lists of links of its first page.

    So that page is plain Markdown, and a document that it does not list fails the build.
    """
    if name == "index":
        for heading, links in re.findall(r"^## (.*)\n\n((?:- .*\n)+)", source[0], re.MULTILINE):
            pages = re.findall(r"\]\((\S+)\.md\)", links)
            source[0] += "\n".join(["\n```{toctree}", ":hidden:", f":caption: {heading}", "", *pages, "```\n"])


def _link_back(app: Sphinx, name: str, _template: str, context: dict[str, Any], _doctree: Any) -> None:
    """Fix the links from the source of a module to where its names are documented: some as of `partwise`, some not."""
    if name.startswith("_modules/"):
        module = name.removeprefix("_modules/").replace("/", ".")
        documented = app.env.get_domain("py").data["objects"]

        def target(link: re.Match[str]) -> str:
            return f"#{link[1]}" if link[1] in documented else f"#{module}.{link[1].removeprefix('partwise.')}"

        context["body"] = re.sub(r"#(partwise\.[\w.]+)", target, context["body"])


def setup(app: Sphinx) -> None:
    """Connect the hooks above."""
    app.connect("source-read", _contents)
    app.connect("html-page-context", _link_back)
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-signature", _shorten)
    app.connect("autodoc-process-docstring", _keep_colons, priority=400)  # before napoleon
