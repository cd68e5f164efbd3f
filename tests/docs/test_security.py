"""docs/security.md: each row names tests that exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def missing(page: str) -> list[str]:
    """Tests that a page names and that are not there, and rows of its tables that name none."""
    found = [
        f"{file}::{name}"
        for file, name in NAMED.findall(page)
        if name not in defined_in(ROOT / "tests" / file)
    ]
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    headings = [place for place, line in enumerate(rows) if "tried by" in line]
    return found + [row for place, row in enumerate(rows) if place not in headings and not NAMED.search(row)]


def defined_in(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {
        node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_row_names_a_test_and_every_test_is_there() -> None:
    assert len(NAMED.findall(PAGE)) > 30
    assert missing(PAGE) == []


def test_a_row_without_a_test_and_a_test_that_is_gone_are_found() -> None:
    assert missing("| a log | harm | nothing | |") == ["| a log | harm | nothing | |"]
    assert missing("`docs/test_security.py::test_that_is_gone`") == [
        "docs/test_security.py::test_that_is_gone"
    ]
