"""Both normalizations of label scores held against each other on the same test samples, from runs that have both.

A run has the arm `untuned`, `one_stage` or both, and each once more with `values: {scoring.normalization: trie}` under
the name with `_trie`: the tuned model is the same. Its `predictions.parquet` and `config.yaml` are read. Differences
are trie less full, with 95 % intervals from resamples of whole groups, paired.

    python -m benchmarks.normalizations record runs/NAME [runs/NAME ...] --write docs/study/normalizations.json
    python -m benchmarks.normalizations table docs/study/normalizations.json
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from behaviorlm.metrics.intervals import paired_difference, percentile_intervals, resample
from behaviorlm.metrics.outcomes import Outcomes
from behaviorlm_ray.console.command_line import option_parser

Float64 = NDArray[np.float64]
MODELS = ("untuned", "one_stage")
RESAMPLES = 2000
MEASURES = {
    "mrr": ("all", "mrr"),
    "accuracy": ("all", "accuracy"),
    "anchor_accuracy": ("anchor", "accuracy"),
    "tail_accuracy": ("tail", "accuracy"),
    "tail_macro_recall": ("tail", "macro_recall"),
    "tail_macro_recall_at_least_10": ("tail", "macro_recall_at_least_10"),
}
"""Of outcomes, by group and metric. `log_loss` stands beside them: mean −log p of the targets that training has."""
SHOWN = {
    "log_loss": "log loss",
    "mrr": "MRR",
    "anchor_accuracy": "anchor accuracy",
    "tail_macro_recall": "tail macro recall",
    "anchor_accuracy, bayes": "anchor accuracy, Bayes",
    "tail_macro_recall, bayes": "tail macro recall, Bayes",
}
RULES = ("plain", "bayes")


def recorded(folder: Path) -> dict[str, Any]:
    """A run's record: its config, and of each model the measures of full, of trie, and of their difference."""
    table = pq.read_table(folder / "predictions.parquet")
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    there = [model for model in MODELS if model in config["evaluation"]["arms"]]
    found = {model: _compared(_of(table, model), _of(table, f"{model}_trie")) for model in there}
    first, tuned = _of(table, there[0]), config["one_stage"]
    return {
        "name": config["name"],
        "log": config["events"]["dataset"],
        "base": Path(config["model"]["base"]).name,
        "samples": first.num_rows,
        "groups": len(pc.unique(first["group"])),
        "tuned_samples": tuned["max_steps"] * tuned["samples_per_step"],
        "models": found,
    }


def _of(table: pa.Table, predictor: str) -> pa.Table:
    found = table.filter(pc.equal(table["predictor"], predictor)).sort_by("sample_id")
    if not found.num_rows:
        raise SystemExit(f"there is no predictor {predictor!r}")
    return found


def _compared(full: pa.Table, trie: pa.Table) -> dict[str, Any]:
    if not full["sample_id"].equals(trie["sample_id"]):
        raise SystemExit("the two have other samples")
    found: dict[str, Any] = {"log_loss": _log_loss(full, trie)}
    groups = full["group"].to_numpy()
    same = pc.equal(full["chosen_plain"], trie["chosen_plain"])
    found["same_choice"] = pc.mean(pc.cast(same, pa.float64())).as_py()
    for rule in RULES:
        if any(table[f"chosen_{rule}"].null_count for table in (full, trie)):
            continue
        both = [_outcomes(table, f"chosen_{rule}", [full, trie]) for table in (full, trie)]
        one, other = (
            resample(outcomes, is_anchor, groups, resamples=RESAMPLES) for outcomes, is_anchor in both
        )
        of_full, of_trie = percentile_intervals(one), percentile_intervals(other)
        difference = paired_difference(other, one)
        for measure, (group, metric) in MEASURES.items():
            if rule != "plain" and metric == "mrr":
                continue
            name = measure if rule == "plain" else f"{measure}, {rule}"
            found[name] = {
                "full": of_full[group][metric],
                "trie": of_trie[group][metric],
                "difference": difference[group][metric],
            }
    return found


def _outcomes(table: pa.Table, chosen: str, both: Sequence[pa.Table]) -> tuple[Outcomes, NDArray[np.bool_]]:
    """Outcomes by a column of choices, and which of the behaviors are anchors: of those that are a target of some."""
    columns = [column for one in both for column in (one["target"], one[chosen])]
    names = pc.drop_null(pc.unique(pa.concat_arrays([column.combine_chunks() for column in columns])))
    is_anchor = pc.is_in(
        names, value_set=pc.unique(table.filter(pc.equal(table["target_group"], "anchor"))["target"])
    )
    target = pc.fill_null(pc.index_in(table["target"], value_set=names), -1).to_numpy().astype(np.int32)
    predicted = pc.index_in(table[chosen], value_set=names).to_numpy().astype(np.int32)
    rank = pc.fill_null(pc.subtract(table["target_place"], 1), -1).to_numpy().astype(np.int32)
    if chosen != "chosen_plain":  # places are those of the scores: of a rule only what is first is known
        rank = np.where(target < 0, -1, np.where(target == predicted, 0, np.maximum(rank, 1))).astype(
            np.int32
        )
    confidence = pc.list_element(table["top_probabilities"], 0).to_numpy()
    return Outcomes(target, predicted, rank, confidence, len(names)), is_anchor.to_numpy(zero_copy_only=False)


def _log_loss(full: pa.Table, trie: pa.Table) -> dict[str, Any]:
    """Mean −log p of targets that training has, and intervals from resamples of groups, the same for both."""
    known = full["target"].is_valid().to_numpy()
    _, group = np.unique(full["group"].to_numpy()[known], return_inverse=True)
    losses = np.stack([-np.log(table["target_probability"].to_numpy()[known]) for table in (full, trie)])
    number = int(group.max()) + 1
    sums = np.stack([np.bincount(group, row, number) for row in losses])
    sizes = np.bincount(group, minlength=number)
    weights = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), RESAMPLES)
    spread = sums @ weights.T / (sizes @ weights.T)
    return {
        "full": _interval(losses[0].mean(), spread[0]),
        "trie": _interval(losses[1].mean(), spread[1]),
        "difference": _interval(losses[1].mean() - losses[0].mean(), spread[1] - spread[0]),
    }


def _interval(value: float, spread: Float64) -> dict[str, float]:
    low, high = np.quantile(spread, (0.025, 0.975))
    return {"value": float(value), "low": float(low), "high": float(high)}


def table_lines(records: Sequence[dict[str, Any]]) -> list[str]:
    """Markdown: a row for each run and model, in each cell what full gives and by how much trie differs."""
    heads = ["log, base", "samples", "model", *SHOWN.values()]
    lines = ["| " + " | ".join(heads) + " |", "|---|---:|---" + "|---:" * len(SHOWN) + "|"]
    for record in records:
        for model, found in record["models"].items():
            row = [f"{record['log']}, {record['base']}", f"{record['samples']}", model.replace("_", "-")]
            row += [_cell(found[measure]) if measure in found else "–" for measure in SHOWN]
            lines.append("| " + " | ".join(row) + " |")
    return lines


def _cell(found: dict[str, dict[str, float | None]]) -> str:
    value = found["full"]["value"]
    return "–" if value is None else f"{value:.3f}; {_signed(found['difference'])}"


def _signed(found: dict[str, float | None]) -> str:
    value, low, high = found["value"], found["low"], found["high"]
    if value is None or low is None or high is None:
        return "–"
    text = f"{value:+.3f} [{low:+.3f}, {high:+.3f}]".replace("-", "−")
    return f"**{text}**" if min(abs(low), abs(high)) >= 0.0005 and low * high > 0 else text


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = option_parser(__doc__, None)
    parser.add_argument("what", choices=("record", "table"))
    parser.add_argument("given", nargs="+", type=Path, help="folders of runs, or a file of records")
    parser.add_argument("--write", type=Path, help="the file of records; those of the same runs are replaced")
    parser.add_argument("--commit", help="of the code that ran")
    options = parser.parse_args(arguments)
    if options.what == "record":
        found = [recorded(folder) | {"commit": options.commit} for folder in options.given]
        names = {record["name"] for record in found}
        known = _read(options.write) if options.write.exists() else []
        kept = [record for record in known if record["name"] not in names]
        records = sorted(kept + found, key=lambda record: (record["log"], record["base"]))
        options.write.write_text(json.dumps({"runs": records}, indent=1) + "\n", encoding="utf-8")
    else:
        print("\n".join(table_lines(_read(options.given[0]))))
    return 0


def _read(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["runs"]
    return found


if __name__ == "__main__":
    sys.exit(main())
