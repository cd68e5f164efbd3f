"""The pages of this folder as a site, with search and the API from docstrings: `make docs`. Any warning is an error."""

from typing import Any

project = "behaviorlm"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = [".md"]
root_doc = "index"
exclude_patterns = ["**/__pycache__"]
suppress_warnings = ["myst.header"]  # of generated tables, which begin at a lower level

myst_heading_anchors = 4

autodoc_default_options = {"members": True, "member-order": "bysource", "exclude-members": "model_config"}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
python_use_unqualified_type_names = True
add_module_names = False
default_role = "code"  # what stands in backticks in a docstring

html_theme = "furo"
html_title = "behaviorlm"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False


def _with_fields(app: Any, what: str, name: str, shown: Any, options: Any, lines: list[str]) -> None:
    """Put the descriptions of a settings class's fields into its docstring: they stand beside the fields in code."""
    for field, found in getattr(shown, "model_fields", {}).items() if what == "class" else ():
        lines += ["", f":param {field}: {found.description or ''}"]


def _outside_navigation(app: Any, page: str, source: list[str]) -> None:
    """Long generated tables are reached from the page that reads them."""
    if page.startswith("study/"):
        source[0] = f"---\norphan: true\n---\n{source[0]}"


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _outside_navigation)
    app.connect("autodoc-process-docstring", _with_fields)
