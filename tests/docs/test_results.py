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


@pytest.mark.parametrize("shots", [3, 10])
@pytest.mark.parametrize(
    ("shown", "predictor"),
    [
        ("untuned", "untuned"),
        ("one stage", "one_stage"),
        ("A → B at random", "a_then_b"),
        ("one stage mixed with counting", "one_stage+counts"),
        ("counting as it is served", "counts"),
        ("BERT4Rec", "bert4rec"),
        ("LightGBM", "lightgbm"),
    ],
)
def test_the_table_of_gemma_is_that_of_its_records(shown: str, predictor: str, shots: int) -> None:
    models = json.loads((DOCS / "results" / f"foursquare_nyc_gemma_k{shots}.json").read_text())["models"]
    section = (DOCS / "results.md").read_text().split("## A real language model with three and ten shots")[1]
    [row] = [line for line in section.split("\n## ")[0].splitlines() if line.startswith(f"| {shown} |")]
    forms = [models[f"{predictor}{rule}"] for rule in ("", "+bayes", "+adjusted")]
    pairs = [
        " / ".join(f"{form[group]['accuracy']['value']:.3f}"[1:] for group in ("anchor", "tail"))
        for form in forms
    ]
    mrr = f"{models[predictor]['all']['mrr']['value']:.3f}"[1:]
    first = 1 if shots == 3 else 5
    assert [cell.strip() for cell in row.strip("|").split("|")][first : first + 4] == [*pairs, mrr]
