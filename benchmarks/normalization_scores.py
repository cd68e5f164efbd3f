"""Predictions of one model under both normalizations, without Ray, for `normalizations record`: sample by sample.

For large models on small machines: no rule is chosen, no prompt without history is scored, and it may be stopped and
started again at any time; what is there then is a random part of the test samples.

    python -m benchmarks.normalization_scores --config jobs/configs/gemma3-270m-foursquare.yaml --samples 200
        --prepared runs/stages/prepare-…/attempts/… [--tuned runs/stages/one_stage-…/attempts/…/model] --write FOLDER
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from numpy.typing import NDArray

from behaviorlm.config import load_settings
from behaviorlm.metrics.outcomes import outcomes
from behaviorlm.metrics.score_summary import summarize_scores
from behaviorlm.scoring.config import Normalization
from behaviorlm.scoring.label_scoring import LabelScorer, label_scorer
from behaviorlm.timelines.parts import labels_with_terminator, write_prompts
from behaviorlm.trees.token_tree import TreeWriter
from behaviorlm_ray.pipeline.model_scores import scoring_task
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import PreparedLog, group_names, limit_rows, rows_of_split
from behaviorlm_ray.scoring.replica import ScoringTask, open_model

NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)


@dataclass(frozen=True)
class Sample:
    """Where a test sample is, and whose."""

    part: int
    row: int
    group: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="of the run")
    parser.add_argument("--prepared", type=Path, required=True, help="what its preparation wrote")
    parser.add_argument("--tuned", type=Path, help="a tuned model (default: the base)")
    parser.add_argument("--samples", type=int, default=200, help="of test")
    parser.add_argument("--write", type=Path, required=True, help="a folder for predictions and config")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    settings = load_settings(RunSettings, options.config)
    log = PreparedLog(options.prepared.absolute(), settings.prompt)
    task = scoring_task(settings, log, None, measures=False)
    scorers = _scorers(task, None if options.tuned is None else options.tuned.absolute())
    name = "untuned" if options.tuned is None else "one_stage"
    options.write.mkdir(parents=True, exist_ok=True)
    predictions = options.write / "predictions.parquet"
    _write_config(options.write / "config.yaml", settings, options, name)
    done = pq.read_table(predictions) if predictions.exists() else None
    known = set() if done is None else set(done["sample_id"].to_pylist())
    for sample in _samples(log, options.samples):
        if log.parts[sample.part].sample_id[sample.row].tobytes() in known:
            continue
        tables = [] if done is None else [done]
        for normalization, scorer in scorers.items():
            predictor = name if normalization == "full" else f"{name}_{normalization}"
            tables.append(_row(log, sample, predictor, _scores(log, scorer, sample)))
        done = pa.concat_tables(tables)
        pq.write_table(done, predictions)
    return 0


def _scorers(task: ScoringTask, tuned: Path | None) -> dict[Normalization, LabelScorer]:
    model, attention = open_model(replace(task, trained=tuned))
    labels = labels_with_terminator(task.log.prompt)
    return {name: label_scorer(model, attention, labels, task.max_tokens, name) for name in NORMALIZATIONS}


def _samples(log: PreparedLog, number: int) -> Iterator[Sample]:
    """The test samples that a run with as many would take, in an order drawn by a seed."""
    rows = limit_rows(log, rows_of_split(log, "test"), number, 0)
    names = group_names(log, rows)
    places = [(part, int(row)) for part, of_part in enumerate(rows) for row in of_part]
    for index in np.random.default_rng(0).permutation(len(places)):
        part, row = places[index]
        yield Sample(part, row, str(names[index]))


def _scores(log: PreparedLog, scorer: LabelScorer, sample: Sample) -> NDArray[np.float32]:
    def write(writer: TreeWriter) -> list[int]:
        writer.open(log.prompt.instruction_ids)
        last = write_prompts(writer, log.parts[sample.part], np.array([sample.row]))
        writer.close()
        return last

    return scorer.score(write)


def _row(log: PreparedLog, sample: Sample, predictor: str, scores: NDArray[np.float32]) -> pa.Table:
    part = log.parts[sample.part]
    target = part.behavior[[sample.row]]
    found, summary, names = outcomes(scores, target), summarize_scores(scores, target), log.vocabulary.names
    unseen = bool(target[0] < 0)
    return pa.table(
        {
            "sample_id": pa.array([part.sample_id[sample.row].tobytes()], pa.binary()),
            "group": [sample.group],
            "predictor": [predictor],
            "target": pa.array([None if unseen else names[target[0]]], pa.string()),
            "target_group": ["anchor" if not unseen and log.vocabulary.is_anchor[target[0]] else "tail"],
            "target_probability": pa.array(
                np.exp(summary.target_score - summary.log_normalizer), mask=[unseen]
            ),
            "target_place": pa.array(found.rank + 1, pa.int32(), mask=[unseen]),
            "chosen_plain": [names[found.predicted[0]]],
            "chosen_bayes": pa.nulls(1, pa.string()),
            "top_probabilities": [found.confidence.tolist()],
        }
    )


def _write_config(path: Path, settings: RunSettings, options: argparse.Namespace, name: str) -> None:
    arms = {"arms": [name, f"{name}_trie"]}
    told = settings.model_dump(
        mode="json", include={"one_stage": True, "events": {"dataset"}, "model": {"base"}}
    )
    path.write_text(
        yaml.safe_dump({**told, "name": options.write.name, "evaluation": arms}), encoding="utf-8"
    )


if __name__ == "__main__":
    sys.exit(main())
