"""Are our SASRec and GRU4Rec as good as RecBole's? Both on the same samples, history, behaviors and search.

A log is split by place in each timeline, .7 training, .1 validation, .2 test; samples are all events but the first of a
timeline, of behaviors that training has; no context, which RecBole's models do not take. Ours less RecBole's, with 95 %
intervals over users. RecBole 1.2.1 needs an environment of its own (numpy below 2, setuptools below 81, torch).

    python -m benchmarks.bench_opponents --log FILE.csv.gz --user user --order time --behavior category \\
        --recbole PYTHON --work FOLDER [--most-users N] [--write benchmarks/results/opponents.json]

FOLDER keeps the scores of each fit: what was cut short goes on where it was.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from behaviorlm.baselines import fit_baselines
from behaviorlm.baselines.timelines import TimelineArrays, timeline_arrays
from behaviorlm.metrics.intervals import paired_difference, percentile_intervals, resample
from behaviorlm.metrics.outcomes import outcomes
from behaviorlm.opponents.budget import NetworkBudget
from behaviorlm.opponents.fitting import fit_network
from behaviorlm.opponents.networks import NetworkName
from behaviorlm_ray.console.tables import interval_text

MODELS: dict[NetworkName, str] = {"sasrec": "SASRec", "gru4rec": "GRU4Rec"}
"""Ours, and what RecBole calls it."""
TOLD = (
    ("all", "accuracy"),
    ("all", "mrr"),
    ("anchor", "accuracy"),
    ("tail", "accuracy"),
    ("tail", "macro_recall_at_least_10"),
)
COUNTING = ("per_user_frequency", "markov_order_3")
"""Beside both."""


def read_log(path: Path, user: str, order: str, behavior: str, most_users: int | None = None) -> pa.Table:
    """Timelines in order, split by place; ties keep the order of the file. most_users: evenly taken; None: all."""
    table = pacsv.read_csv(path).select([user, order, behavior]).rename_columns(["user", "order", "behavior"])
    table = table.append_column("row", pa.array(np.arange(len(table))))
    if most_users is not None:
        every = np.unique(table["user"].to_numpy(zero_copy_only=False))
        chosen = every[
            np.unique(np.linspace(0, len(every) - 1, min(most_users, len(every))).astype(np.int64))
        ]
        table = table.filter(pc.is_in(table["user"], pa.array(chosen)))
    table = table.sort_by([("user", "ascending"), ("order", "ascending"), ("row", "ascending")])
    users = table["user"].cast(pa.string()).to_numpy(zero_copy_only=False)
    starts = np.flatnonzero(np.append(True, users[1:] != users[:-1]))
    sizes = np.diff(np.append(starts, len(users)))
    position = np.arange(len(users)) - np.repeat(starts, sizes)
    share = position / np.repeat(sizes, sizes)
    split = np.where(share < 0.7, 0, np.where(share < 0.8, 1, 2)).astype(np.int8)
    return pa.table(
        {
            "user": pa.array(users, pa.string()),
            "position": pa.array(position.astype(np.int32)),
            "behavior": table["behavior"].cast(pa.string()),
            "split": pa.array(split),
            "is_target": pa.array(position > 0),
        }
    )


def known(table: pa.Table) -> tuple[TimelineArrays, NDArray[np.int64]]:
    """The log as arrays over the behaviors of training targets, the most frequent first, and their counts."""
    is_training = (table["split"].to_numpy() == 0) & table["is_target"].to_numpy(zero_copy_only=False)
    behavior = table["behavior"].to_numpy(zero_copy_only=False)
    names, counts = np.unique(behavior[is_training], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return timeline_arrays(table, names[order].tolist()), counts[order]


def samples(timelines: TimelineArrays, split: int) -> NDArray[np.int64]:
    """Rows of the samples of a split, of known behaviors."""
    rows = timelines.target_rows(split)
    return rows[timelines.behavior[rows] >= 0]


def write_for_recbole(folder: Path, timelines: TimelineArrays, max_events: int) -> None:
    """Samples with histories as RecBole reads them; a behavior is its number, `unseen` one that training lacks."""
    (folder / "log").mkdir(parents=True)
    for split, name in enumerate(("train", "valid", "test")):
        lines = ["user_id:token\titem_id_list:token_seq\titem_id:token\tplace:float"]
        for place, row in enumerate(samples(timelines, split).tolist()):
            begin = max(int(timelines.user_start[row]), row - max_events)
            past = [str(one) if one >= 0 else "unseen" for one in timelines.behavior[begin:row].tolist()]
            lines.append(f"{timelines.user_start[row]}\t{' '.join(past)}\t{timelines.behavior[row]}\t{place}")
        (folder / "log" / f"log.{name}.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")


def compared(
    ours: dict[str, NDArray[np.float32]], timelines: TimelineArrays, counts: NDArray[np.int64], seed: int
) -> dict[str, Any]:
    """Each predictor's metrics on test, and ours less RecBole's; predictors by name, RecBole's in its spelling."""
    test = samples(timelines, 2)
    targets = timelines.behavior[test]
    is_repeat = timelines.behavior[test - 1] == targets
    is_anchor = counts > 0.01 * counts.sum()
    groups = timelines.user_start[test].astype(str).astype(object)
    drawn = {
        name: resample(
            outcomes(scores, targets, np.arange(len(test))),
            is_anchor,
            groups,
            is_repeat,
            resamples=1000,
            seed=seed,
        )
        for name, scores in ours.items()
    }
    metrics = {name: percentile_intervals(of) for name, of in drawn.items()}
    found: dict[str, Any] = {
        "metrics": {
            name: {f"{group} {metric}": of[group][metric] for group, metric in TOLD}
            for name, of in metrics.items()
        }
    }
    found["ours_less_recbole"] = {
        name: {
            f"{group} {metric}": difference[group][metric]
            for difference in [paired_difference(drawn[name], drawn[theirs])]
            for group, metric in TOLD
        }
        for name, theirs in MODELS.items()
        if theirs in drawn
    }
    return found


def our_fit(name: NetworkName, timelines: TimelineArrays, options: argparse.Namespace) -> dict[str, Any]:
    """Our search, each fit kept: a rate is fitted the same whichever others there are."""
    fits = []
    for rate in NetworkBudget().learning_rates:
        written = options.work / f"{name}-{rate:g}.json"
        if not written.exists():
            begun = time.process_time()
            budget = replace(NetworkBudget(), learning_rates=(rate,))
            fitted = fit_network(name, timelines, options.max_events, options.seed, budget)
            np.save(written.with_suffix(".npy"), fitted.predict(timelines, samples(timelines, 2)))
            told = asdict(fitted.fits[0]) | {"cpu_seconds": round(time.process_time() - begun, 1)}
            written.write_text(json.dumps(told))
        fits.append(json.loads(written.read_text()) | {"scores": str(written.with_suffix(".npy"))})
        print(name, fits[-1], flush=True)
    return _best(fits, lambda fit: -float(fit["loss"]))


def _best(fits: list[dict[str, Any]], worth: Callable[[dict[str, Any]], float]) -> dict[str, Any]:
    """All fits without their scores, and the scores of the one worth most."""
    told = [{key: value for key, value in fit.items() if key != "scores"} for fit in fits]
    return {"fits": told, "scores": max(fits, key=worth)["scores"]}


def their_fit(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """RecBole's search with the same rates and patience, each fit kept; the one that its validation prefers."""
    budget = NetworkBudget()
    side = Path(__file__).with_name("recbole_side.py").resolve()
    fits = []
    for rate in budget.learning_rates:
        written = (options.work / f"{model}-{rate:g}.json").resolve()
        if not written.exists():
            numbers = (budget.most_epochs, budget.patience, options.max_events, options.seed, rate)
            told = [str(options.work.resolve()), model, *map(str, numbers), str(written)]
            subprocess.run([options.recbole, "-W", "ignore", str(side), *told], check=True, cwd=options.work)
        fits.append(json.loads(written.read_text()) | {"scores": str(written.with_suffix(".npy"))})
        print(model, fits[-1], flush=True)
    return _best(fits, lambda fit: float(fit["validation_mrr"]))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Fit all, and compare."""
    table = read_log(options.log, options.user, options.order, options.behavior, options.most_users)
    timelines, counts = known(table)
    test = samples(timelines, 2)
    if not (options.work / "log").exists():
        write_for_recbole(options.work, timelines, options.max_events)
    searches: dict[str, Any] = {name: our_fit(name, timelines, options) for name in MODELS}
    if options.recbole:
        searches |= {theirs: their_fit(theirs, options) for theirs in MODELS.values()}
    baselines = fit_baselines(timelines)
    said = {name: baselines[name].predict(timelines, test) for name in COUNTING}
    said |= {name: np.load(found.pop("scores")) for name, found in searches.items()}
    splits = {name: len(samples(timelines, split)) for split, name in enumerate(("train", "valid", "test"))}
    return {
        "log": options.log.name,
        "users": len(np.unique(timelines.user_start)),
        "samples": splits,
        "behaviors": timelines.behaviors,
        "max_events": options.max_events,
        "seed": options.seed,
        "searches": searches,
        **compared(said, timelines, counts, options.seed),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--log", type=Path, required=True)
    for name in ("user", "order", "behavior"):
        parser.add_argument(f"--{name}", required=True, help="a column")
    parser.add_argument("--max-events", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--recbole", help="the Python of an environment with RecBole 1.2.1; without: ours alone"
    )
    parser.add_argument("--work", type=Path, required=True, help="a folder for what is done")
    parser.add_argument("--most-users", type=int, help="evenly taken; all without it")
    parser.add_argument("--commit", help="of the code that ran")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args(arguments)
    command = " ".join(["python -m benchmarks.bench_opponents", *(arguments or sys.argv[1:])])
    found = {"command": command, "commit": options.commit, **run(options)}
    for name, of in found["metrics"].items():
        print(f"{name:20}", *(f"{what} {interval_text(value)}" for what, value in of.items()), sep="  ")
    for name, of in found["ours_less_recbole"].items():
        print(
            f"{name} less RecBole's:",
            *(f"{what} {interval_text(value)}" for what, value in of.items()),
            sep="  ",
        )
    if options.write:
        options.write.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
