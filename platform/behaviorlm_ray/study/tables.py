"""Tables over the records of a study, in Markdown: means over seeds, differences to a reference paired by seed.

python -m behaviorlm_ray.study.tables FOLDER [REFERENCE]
"""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

from behaviorlm_ray.study.records import read_records
from behaviorlm_ray.study.settings import REFERENCE

Record = Mapping[str, Any]


def study_tables(records: Sequence[Record], reference: str) -> list[str]:
    """All tables: for each condition the comparison and retention, then the guards and what was found of difficulty."""
    lines: list[str] = []
    conditions = list(dict.fromkeys(record["condition"] for record in records))
    for condition in sorted(conditions, key=lambda name: name != "main"):
        chosen = [record for record in records if record["condition"] == condition]
        seeds = ", ".join(str(record["seed"]) for record in chosen)
        lines += [f"### {condition} (seeds {seeds})", "", *comparison(chosen, reference), ""]
        lines += [*retention(chosen), ""]
        if any(record["difficulty"] for record in chosen):
            lines += [*selections(chosen), "", *measures(chosen), ""]
    if len(conditions) > 1:
        lines += ["### Guards", "", *guards(records), ""]
    return lines[:-1]


def comparison(records: Sequence[Record], reference: str) -> list[str]:
    """One row a model: the endpoint in expectation under p*, its mean, and how far that is from the reference's."""
    header = ["model", "anchor accuracy", "tail macro recall", "mean of both", f"against {reference}"]
    header += ["anchor, as drawn", "tail, as drawn", "area of the front", "samples"]
    rows = []
    for name in records[0]["models"]:
        measured = [record["models"][name] for record in records]
        mean = [_endpoint(record, name) for record in records]
        compares = reference in records[0]["models"] and name != reference
        against = (
            [one - _endpoint(record, reference) for one, record in zip(mean, records, strict=True)]
            if compares
            else []
        )
        samples = [record["optimizer_samples"].get(name.partition("+")[0], 0) for record in records]
        rows.append(
            [
                name,
                _mean(found["expected"]["anchor_accuracy"] for found in measured),
                _mean(found["expected"]["tail_macro_recall"] for found in measured),
                _mean(mean),
                signed(against) if against else "",
                _mean(found["anchor_accuracy"]["value"] for found in measured),
                _mean(found["tail_macro_recall"]["value"] for found in measured),
                _mean((record["fronts"].get(name) for record in records), missing=""),
                f"{np.mean(samples):,.0f}" if any(samples) else "",
            ]
        )
    anchor = _mean(record["ceiling"]["anchor"] for record in records)
    tail = _mean(record["bound_of_tail_macro_recall"]["expected"] for record in records)
    return [
        *_table(header, rows),
        "",
        f"Nobody can do better in expectation than {anchor} on anchors and, by another predictor, {tail} on the tail.",
    ]


def _endpoint(record: Record, name: str) -> float:
    """Mean of anchor accuracy and tail macro recall, in expectation under p*."""
    found = record["models"][name]["expected"]
    return (found["anchor_accuracy"] + found["tail_macro_recall"]) / 2


def retention(records: Sequence[Record]) -> list[str]:
    """One row an arm: loss on held-out conversations of each source, and cloze answers."""
    arms = [arm for arm in records[0]["retention"] if records[0]["retention"][arm]]
    sources = [name for name in records[0]["retention"][arms[0]] if name != "cloze"] if arms else []
    kinds = list(records[0]["retention"][arms[0]].get("cloze", {})) if arms else []
    rows = [
        [
            arm,
            *(_mean(record["retention"][arm][source]["loss"] for record in records) for source in sources),
            *(_mean(record["retention"][arm]["cloze"][kind] for record in records) for kind in kinds),
        ]
        for arm in arms
    ]
    return _table(
        ["arm", *(f"loss on {source}" for source in sources), *(f"cloze: {k}" for k in kinds)], rows
    )


def selections(records: Sequence[Record]) -> list[str]:
    """One row an arm: how much of a selection is tail, and the mean true p of what was chosen."""
    arms = list(records[0]["difficulty"])
    rows = []
    for arm in arms:
        cells = []
        for which, group, key in (
            ("selected", "all", "samples"),
            ("selected", "tail", "samples"),
            ("selected", "anchor", "mean_true_p"),
            ("scored", "anchor", "mean_true_p"),
            ("selected", "tail", "mean_true_p"),
            ("scored", "tail", "mean_true_p"),
        ):
            values = [record["difficulty"][arm][which][group][key] for record in records]
            cells.append(f"{np.mean(values):,.0f}" if key == "samples" else f"{np.mean(values):.3f}")
        learned = [record["difficulty"][arm]["learned"]["on others"] for record in records]
        known = [value for value in learned if value is not None]
        rows.append([arm, *cells, f"{np.mean(known):.3f}" if known else "–"])
    header = ["arm", "selected", "of them tail", "true p of anchors", "(of all scored)", "true p of tail"]
    return _table([*header, "(of all scored)", "nats learned on samples not selected"], rows)


def measures(records: Sequence[Record]) -> list[str]:
    """One row a measure and the model that judged: rank correlations with -log p* and with what was learned."""
    rows = []
    for arm, found in records[0]["difficulty"].items():
        for name in found["measures"]:
            cells = []
            for against in ("with the truth", "with what was learned"):
                for group in ("all", "anchor", "tail"):
                    values = [
                        record["difficulty"][arm]["measures"][name][against][group] for record in records
                    ]
                    known = [value for value in values if value is not None]
                    cells.append(f"{np.mean(known):.2f}" if known else "–")
            rows.append([arm, name, *cells])
    header = ["arm", "measure", "-log p*: all", "within anchors", "within tail"]
    return _table([*header, "learned: all", "within anchors", "within tail"], rows)


def guards(records: Sequence[Record]) -> list[str]:
    """One row a condition and model: the endpoint in expectation, and the gain in tail macro recall over one-stage."""
    rows = []
    for condition in dict.fromkeys(record["condition"] for record in records):
        chosen = [record for record in records if record["condition"] == condition]
        for name in chosen[0]["models"]:
            if name.partition("+")[0] not in chosen[0]["optimizer_samples"]:
                continue  # baselines
            gain = [
                record["models"][name]["expected"]["tail_macro_recall"]
                - record["models"]["one_stage"]["expected"]["tail_macro_recall"]
                for record in chosen
                if "one_stage" in record["models"]
            ]
            rows.append(
                [
                    condition,
                    name,
                    _mean(record["models"][name]["expected"]["anchor_accuracy"] for record in chosen),
                    _mean(record["models"][name]["expected"]["tail_macro_recall"] for record in chosen),
                    signed(gain) if gain and name != "one_stage" else "",
                    str(len(chosen)),
                ]
            )
    header = [
        "condition",
        "model",
        "anchor accuracy",
        "tail macro recall",
        "tail gain over one_stage",
        "seeds",
    ]
    return _table(header, rows)


def signed(values: Sequence[float]) -> str:
    """Mean over seeds with its 95 % interval by Student's t; without an interval for one seed."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:+.3f}"
    half = float(t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"


def _mean(values: Iterable[float | None], missing: str = "–") -> str:
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.3f}" if known else missing


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


if __name__ == "__main__":
    folder, *chosen = sys.argv[1:]
    print("\n".join(study_tables(read_records(Path(folder)), *(chosen or [REFERENCE]))))
