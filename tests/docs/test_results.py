"""The records in docs/results are those that the page of results reads from."""

import json
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("path", sorted((DOCS / "results").glob("*.json")), ids=lambda path: path.stem)
def test_a_record_says_how_it_was_made_and_has_what_it_recommends(path: Path) -> None:
    record = json.loads(path.read_text())
    assert record["made"]["command"].startswith(("make ", "behaviorlm run "))
    assert record["made"]["commit"] and "evaluate" in record["made"]["stages"]
    assert record["recommended"]["model"] in record["models"]
