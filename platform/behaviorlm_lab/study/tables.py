"""Tables over the records of a study, in Markdown: python -m behaviorlm_lab.study.tables FOLDER [--write].

--write puts them, and the curve over shots, into the folder: tables.md and curve.svg. Records of older code are shown
as they are, and said to be.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from behaviorlm.baselines import BASELINES
from behaviorlm.errors import ConfigError
from behaviorlm.scoring.model_names import (
    ADJUSTED,
    BAYES,
    COUNTS,
    DECISION_RULES,
    FITTED,
    PLAIN,
    WITH_COUNTS,
    model_name,
    split_model_name,
)
from behaviorlm_lab.study.contrasts import contrast_table
from behaviorlm_lab.study.curve import curve
from behaviorlm_lab.study.intervals import estimate, mean
from behaviorlm_lab.study.provenance import changed_since
from behaviorlm_lab.study.records import kind_of, read_records
from behaviorlm_lab.study.roles import USER_AND_CLOCK, arm_of
from behaviorlm_lab.study.settings import SEARCHED
from behaviorlm_ray.console.tables import markdown

Record = Mapping[str, Any]

SHOWN_COUNTING = ("per_user_frequency", "markov_order_3", "markov_order_3_context", COUNTS, USER_AND_CLOCK)
"""Counting baselines in the tables, beside the best one by validation; records have all."""
TABLES, CURVE = "tables.md", "curve.svg"


def study_tables(records: Sequence[Record]) -> list[str]:
    """The contrasts of each base, then a table for each kind of cell, and the rates where several were tried."""
    kinds = [list(of) for _, of in groupby(records, key=kind_of)]
    lines: list[str] = []
    for knowledge in dict.fromkeys(record["knowledge"] for record in records):
        of_base = [of for of in kinds if of[0]["knowledge"] == knowledge]
        lines += [f"### Contrasts, knowledge {knowledge:g}", "", *contrast_table(of_base), ""]
    for of in kinds:
        seeds = ", ".join(str(record["seed"]) for record in of)
        lines += [f"### k = {of[0]['k']}, knowledge {of[0]['knowledge']:g} (seeds {seeds})", ""]
        lines += [_about(of), "", *values(of), ""]
        if any(SEARCHED in name for name in of[0]["models"]):
            lines += [*searched(of), ""]
    return lines[:-1]


def _about(records: Sequence[Record]) -> str:
    best = mean(record["best"]["both"] for record in records)
    lines = [f"The most that one predictor can have of both: {best}."]
    few = records[0]["samples"]["few_shot"]
    if few is not None:
        used = (
            f"{few[name]['tail']} of {few[name]['tail_there']} in {name}" for name in ("train", "validation")
        )
        lines.append(f"Samples of the tail that are used, by the first seed: {', '.join(used)}.")
    for role in records[0]["roles"]:
        if not role.endswith("adjusted"):
            chosen = dict.fromkeys(record["roles"][role]["model"] for record in records)
            both = mean(record["roles"][role]["both"] for record in records)
            lines.append(f"Chosen on validation as {role}: {', '.join(chosen)}, both {both}.")
    return " ".join(lines)


def values(records: Sequence[Record]) -> list[str]:
    """One row a predictor: both under each rule; under the one that validation prefers in each cell its parts, too, and
    how far it is ahead of the reference: over seeds with Student's t, of a single cell over users.
    """
    rows = []
    for shown in _rows(records):
        of_rules = [
            mean(_model(record, shown, rule)["both"] for record in records) for rule in DECISION_RULES
        ]
        preferred = [
            max((_model(record, shown, rule) for rule in DECISION_RULES), key=lambda of: of["validation"])
            for record in records
        ]
        ahead = [of["ahead"] for of in preferred]
        parts = [mean(of[key] for of in preferred) for key in ("anchor", "tail", "both", "validation")]
        rows.append([shown, *of_rules, *parts, _ahead(ahead)])
    header = ["model", "plain", "Bayes", "adjusted", "fitted", "preferred: anchor", "tail", "both"]
    assert DECISION_RULES == (PLAIN, BAYES, ADJUSTED, FITTED)
    return markdown([*header, "on validation", f"ahead of {records[0]['reference']}"], rows)


def searched(records: Sequence[Record]) -> list[str]:
    """One row an arm and rate: the objective of its adjusted form on validation, and what it has in expectation."""
    rows = []
    names = [name for name in records[0]["models"] if SEARCHED in name]
    for name in dict.fromkeys(split_model_name(name).predictor for name in names):
        if name.endswith(WITH_COUNTS):
            continue
        adjusted = [record["models"][model_name(name, ADJUSTED)] for record in records]
        rows.append([name, *(mean(of[key] for of in adjusted) for key in ("validation", "both"))])
    return markdown(["arm and rate in millionths", "adjusted, on validation", "both"], rows)


def _rows(records: Sequence[Record]) -> list[str]:
    """Predictors to show; arms without their rates, and the mixture, whatever arm it is of."""
    predictors = dict.fromkeys(split_model_name(name).predictor for name in records[0]["models"])
    arms = dict.fromkeys(arm_of(name) for name in predictors if not _is_counting(name))
    return [*arms, "mixture", *(name for name in predictors if name in SHOWN_COUNTING)]


def _is_counting(name: str) -> bool:
    return name in {*BASELINES, COUNTS, USER_AND_CLOCK} or name.endswith(WITH_COUNTS)


def _model(record: Record, shown: str, rule: str) -> Mapping[str, Any]:
    """What a record says of a predictor under a rule: of the rates that were tried, the one that validation prefers."""
    found = [
        of
        for name, of in record["models"].items()
        if (parts := split_model_name(name)).rule == rule
        and (
            parts.predictor.endswith(WITH_COUNTS)
            if shown == "mixture"
            else arm_of(parts.predictor) == shown and not parts.predictor.endswith(WITH_COUNTS)
        )
    ]
    chosen: Mapping[str, Any] = max(found, key=lambda of: of["validation"])
    return chosen


def _ahead(ahead: Sequence[Sequence[float]]) -> str:
    if len(ahead) > 1:
        return estimate([value for value, _, _ in ahead], sign=True)
    value, low, high = ahead[0]
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables over a folder of records. Returns the exit status, 2 for what cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m behaviorlm_lab.study.tables", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the records")
    parser.add_argument("--write", action="store_true", help="write tables.md and curve.svg there, too")
    given = parser.parse_args(arguments)
    try:
        records = read_records(given.folder)
    except ConfigError as error:
        parser.error(str(error))
    lines = study_tables(records)
    print("\n".join(lines))
    if changed := changed_since(record["made"] for record in records):
        print(f"note: made with older code: {'; '.join(changed)}", file=sys.stderr)
    if given.write:
        (given.folder / TABLES).write_text("\n".join(lines) + "\n", encoding="utf-8")
        (given.folder / CURVE).write_text(curve(records), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
