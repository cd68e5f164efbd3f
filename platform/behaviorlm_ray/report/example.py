"""One prediction in words: what a user did, what the model expects next, and what came."""

from collections.abc import Sequence

import numpy as np

from behaviorlm.metrics.label_probabilities import normalize_label_scores
from behaviorlm_ray.pipeline.evaluate import arms_of
from behaviorlm_ray.pipeline.predict import SCORES, evaluated_samples
from behaviorlm_ray.pipeline.prepare import open_log, prepare
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.preparation.prepared_log import SampleRows, union_rows
from behaviorlm_ray.report.wording import readable
from behaviorlm_ray.scoring.score_files import open_scores
from behaviorlm_ray.stages.runner import Runner

LISTED = 3
"""Predictions that are named."""


def example_lines(run: Run, runner: Runner) -> list[str]:
    """The first test sample with a tail target (or the first of all) under A+B, or the last arm. Empty if none."""
    settings = run.settings
    log = open_log(runner.run(prepare(run)), settings)
    samples = evaluated_samples(log, settings)
    rows = samples.test
    arms = settings.evaluation.arms
    arm = "ab_tuned" if "ab_tuned" in arms else arms[-1]
    if not sum(map(len, rows)):
        return []
    scored = runner.run(arms_of(run)[arm])
    names, is_anchor = log.vocabulary.names, log.vocabulary.is_anchor
    candidates = [(number, int(row)) for number, chosen in enumerate(rows) for row in chosen]
    targets = [log.parts[number].behavior[row] for number, row in candidates]
    index = next((i for i, target in enumerate(targets) if target >= 0 and not is_anchor[target]), 0)
    number, row = candidates[index]
    part = log.parts[number]
    files = open_scores(scored.folder / SCORES, union_rows(samples.validation, rows))
    [batch] = files.batches(_only(rows, number, row), len(names))
    probabilities = np.exp(normalize_label_scores(batch.label_scores)[0])
    before = part.table["behavior"].slice(part.window_start[row], row - part.window_start[row]).to_pylist()
    context = [
        value
        for name in part.table.column_names
        if name.startswith("before.") and (value := part.table[name][row].as_py()) is not None
    ]
    return described(
        before,
        context,
        [(names[best], float(probabilities[best])) for best in np.argsort(-probabilities)[:LISTED]],
        str(part.table["behavior"][row].as_py()),
        arm,
    )


def _only(rows: SampleRows, number: int, row: int) -> SampleRows:
    """One of the samples: a row of a part."""
    return [chosen[chosen == row] if place == number else chosen[:0] for place, chosen in enumerate(rows)]


def described(
    before: Sequence[str],
    context: Sequence[str],
    expected: Sequence[tuple[str, float]],
    came: str,
    arm: str,
) -> list[str]:
    """The words; of nobody by name. Text of the log is written as Python writes it, so that nothing in it can act."""
    shown = ", ".join(repr(name) for name in before[-6:]) or "nothing"
    when = f" ({', '.join(map(readable, context))})" if context else ""
    best = ", ".join(f"{name!r} ({100 * probability:.0f} %)" for name, probability in expected)
    return [
        f"example, {arm}: somebody did {'… ' if len(before) > 6 else ''}{shown}.",
        f"  Next{when} it expects {best}; it was {came!r}.",
    ]
