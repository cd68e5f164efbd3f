"""The main comparison as a Markdown table, which the docs quote, and in short, printed at the end of a run.

python -m behaviorlm_ray.report.results_table runs/<name>/results.json
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from behaviorlm.scoring.model_names import DECISION_RULES, split_model_name
from behaviorlm_ray.console.tables import interval_text, markdown, table_lines
from behaviorlm_ray.evaluation.recommendation import Option, best

COLUMNS = (
    ("anchor accuracy", "anchor", "accuracy", True),
    ("tail macro recall ≥ 10", "tail", "macro_recall_at_least_10", True),
    ("accuracy", "all", "accuracy", True),
    ("tail accuracy", "tail", "accuracy", False),
    ("changes accuracy", "changes", "accuracy", False),
    ("MRR", "all", "mrr", False),
    ("ECE", "all", "expected_calibration_error", False),
)
"""Title, group, metric, with interval. The first two are the primary endpoint."""
EXPECTED = (
    "Expected: the endpoint of the same choices under the known truth; the tail's behaviors are those with an "
    "expectation of 10 test targets. Nobody can be beyond either bound; no one predictor reaches both."
)


def results_table(results: Mapping[str, Any]) -> list[str]:
    """Lines of the table: one row for each model and baseline, values with 95 % intervals over groups."""
    retention = {
        name: found["loss"] for sources in [results.get("retention", {})] for name, found in _losses(sources)
    }
    expected = results.get("in_expectation")
    titles = ["model", *(title for title, *_ in COLUMNS), *(["conversation loss"] if retention else [])]
    titles += ["anchor, expected", "tail, expected"] if expected else []
    rows = []
    for name, groups in results["models"].items():
        cells = [_cell(groups[group][metric], wide) for _, group, metric, wide in COLUMNS]
        if retention:
            cells.append(f"{retention[name]:.2f}" if name in retention else "")
        if expected:
            cells += _expected_cells(expected["models"].get(name, {}))
        rows.append([name, *cells])
    if expected:
        bounds = _expected_cells(expected["bound"])
        rows.append(["**bound**", *([""] * (len(titles) - 1 - len(bounds))), *bounds])
    lines = [*markdown(titles, rows), *(["", EXPECTED] if expected else [])]
    if results.get("ceiling"):
        best = ", ".join(f"{group} {value:.3f}" for group, value in results["ceiling"].items())
        lines += ["", f"Ceiling of accuracy, each group's own, expected under the truth: {best}"]
    return lines


def short_table(results: Mapping[str, Any]) -> list[str]:
    """Lines of at most 110 characters: the primary endpoint with intervals and accuracy of each model and baseline.

    Each plainly, and what can be served under the rule that validation prefers for it, too. On a synthetic log the
    endpoint in expectation as well, with its bound.
    """
    expected, preferred = results.get("in_expectation"), _preferred(results)
    shown = [column for column in COLUMNS if column[3]]
    rows = [["", *(title for title, *_ in shown), *(["anchor, exp.", "tail, exp."] if expected else [])]]
    for name, groups in results["models"].items():
        if name not in preferred and split_model_name(name).rule in DECISION_RULES[1:]:
            continue
        cells = [_cell(groups[group][metric], group != "all") for _, group, metric, _ in shown]
        rows.append([name, *cells, *(_expected_cells(expected["models"].get(name, {})) if expected else [])])
    if expected:
        rows.append(["bound", *([""] * len(shown)), *_expected_cells(expected["bound"])])
    return table_lines(rows)


def _preferred(results: Mapping[str, Any]) -> set[str]:
    """What validation prefers of each predictor that can be served, and what is recommended."""
    found = [Option(**one) for one in results["recommended"]["compared"]]
    names = {option.predictor for option in found}
    chosen = [best([option for option in found if option.predictor == name]) for name in names]
    return {option.model for option in chosen if option is not None} | {results["recommended"].get("model")}


def _expected_cells(found: Mapping[str, float | None]) -> list[str]:
    """The endpoint in expectation, a dash where nothing counts."""
    values = [found.get(name) for name in ("anchor_accuracy", "tail_macro_recall")]
    return ["–" if value is None else f"{value:.3f}" for value in values]


def _losses(retention: Mapping[str, Any]) -> list[tuple[str, dict[str, float]]]:
    """The first source's losses of each model that has any."""
    first = [(name, next(iter(sources.values()))) for name, sources in retention.items() if sources]
    return [(name, found) for name, found in first if "loss" in found]


def _cell(measured: Mapping[str, float | None], with_interval: bool) -> str:
    return interval_text(measured if with_interval else {"value": measured["value"]})


if __name__ == "__main__":
    print("\n".join(results_table(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
