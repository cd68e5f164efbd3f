"""Where predictors are right and where not: by history, by user, by confidence, by what is mistaken for what.

Everything here is counted from the outcomes on the test samples that the headline numbers come from. Users are told in
numbers only; no name of one is in it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behaviorlm.metrics.outcomes import Outcomes
from behaviorlm.timelines.splits import SPLIT_NAMES
from behaviorlm_ray.evaluation.examples import examples, validation_losses
from behaviorlm_ray.evaluation.predictors import ArmScores, Predictor
from behaviorlm_ray.evaluation.samples import SampleFacts
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows, gather

CLASS_STARTS = (0, 1, 2, 3, 4, 6, 8, 10, 12, 16, 24, 32, 50, 100, 200, 500, 1000)
"""Where classes of counts begin; the last has no end."""
COVERAGES = tuple(step / 20 for step in range(1, 21))
"""Shares of the samples, those that a predictor is surest of first."""
CONFUSED = 3
"""Wrong predictions that are named for each behavior."""
USER_SAMPLES = 5
"""Test samples from which on a user's own accuracy is looked at (our choice)."""
USER_PARTS = 5
"""Users ordered by accuracy are cut into so many parts."""
ACCURACY_BINS = 10
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
CLOCK = ("hour", "weekday")

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Circumstances:
    """Of each of n test samples what it was asked under.

    history: events that the model saw; known: events of the user in the training part; both int64[n]. clock: its hour,
    weekday as text, object[n], where the log has a clock. groups: int64[n], a number for each group.
    """

    history: Int64
    known: Int64
    is_repeat: NDArray[np.bool_]
    is_tail: NDArray[np.bool_]
    groups: Int64
    clock: dict[str, NDArray[np.object_]]


def breakdowns(
    log: PreparedLog,
    rows: SampleRows,
    facts: SampleFacts,
    outcomes: Mapping[str, Outcomes],
    subject: str,
    scores: Mapping[str, ArmScores],
    baselines: Mapping[str, Predictor],
) -> dict[str, Any]:
    """What details.json holds of it. subject: the predictor, one of `outcomes`, that users and examples are told of."""
    found = circumstances(log, rows, facts)
    plain = subject.partition("+")[0]
    batches = scores[plain].test if plain in scores else baselines.get(plain)
    is_mixture = "+counts" in subject
    return {
        "subject": subject,
        "test_samples": samples_fingerprint(log, rows),
        "slices": slices(found, outcomes),
        "confusions": {name: confusions(of) for name, of in outcomes.items()},
        "coverage": {name: coverage(of) for name, of in outcomes.items()},
        "users": {name: users(found, of) for name, of in outcomes.items()},
        "users_against": users_against(found, outcomes, subject),
        "examples": examples(
            log, rows, facts, outcomes[subject], None if batches is None or is_mixture else batches()
        ),
        "validation_loss": validation_losses(scores, facts),
    }


def circumstances(log: PreparedLog, rows: SampleRows, facts: SampleFacts) -> Circumstances:
    """Read from the prepared log."""
    is_anchor = np.append(facts.vocabulary.is_anchor, False)
    clock = {}
    for name in CLOCK:
        if all(f"before.{name}" in part.table.column_names for part in log.parts):
            texts = [
                part.table[f"before.{name}"].take(chosen).to_pylist()
                for part, chosen in zip(log.parts, rows, strict=True)
            ]
            clock[name] = np.array([text for of_part in texts for text in of_part], dtype=object)
    history, known = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for part, chosen in zip(log.parts, rows, strict=True):
        history.append(chosen - part.window_start[chosen])
        trained = part.user_start[part.split == SPLIT_NAMES.index("train")]
        known.append(np.bincount(trained, minlength=len(part) + 1)[part.user_start[chosen]])
    _, groups = np.unique(facts.groups.astype(str), return_inverse=True)
    return Circumstances(
        np.concatenate(history),
        np.concatenate(known),
        facts.is_repeat,
        ~is_anchor[facts.targets],
        groups.astype(np.int64),
        clock,
    )


def samples_fingerprint(log: PreparedLog, rows: SampleRows) -> str:
    """Names the test samples, whatever their order and the model: runs with the same one can be compared by numbers."""
    ids = gather(log, rows, "sample_id")
    ordered = np.sort(np.ascontiguousarray(ids).view(f"V{ids.shape[1]}").ravel()) if len(ids) else ids
    return hashlib.sha256(ordered.tobytes()).hexdigest()


def slices(found: Circumstances, outcomes: Mapping[str, Outcomes]) -> dict[str, list[dict[str, Any]]]:
    """Accuracy of every predictor by each circumstance: rows in order, only those that have samples."""
    by_class = {"history": count_classes(found.history), "known": count_classes(found.known)}
    divided: dict[str, tuple[NDArray, Sequence[str]]] = {
        **by_class,
        "repeat": (found.is_repeat.astype(np.int64), ("changes", "repeats")),
    }
    for name, texts in found.clock.items():
        values = sorted({text for text in texts if text is not None}, key=str)
        code = {value: number for number, value in enumerate(values)}
        divided[name] = (np.array([code.get(text, -1) for text in texts], np.int64), values)
    return {name: _rows(code, labels, found, outcomes) for name, (code, labels) in divided.items()}


def count_classes(counts: Int64) -> tuple[Int64, list[str]]:
    """The class of each count, int64[n], and what each class is called."""
    ends = [*(start - 1 for start in CLASS_STARTS[1:]), None]
    names = [
        f"{start}+" if end is None else str(start) if start == end else f"{start}–{end}"
        for start, end in zip(CLASS_STARTS, ends, strict=True)
    ]
    return np.searchsorted(CLASS_STARTS, counts, side="right") - 1, names


def confusions(of: Outcomes) -> list[list[list[int]]]:
    """For each behavior of the vocabulary, and last for the unseen, what was predicted in its place: [index, times]."""
    wrong = of.predicted != of.target
    target = np.where(of.target < 0, of.behaviors, of.target).astype(np.int64)[wrong]
    pairs, times = np.unique(target * of.behaviors + of.predicted[wrong], return_counts=True)
    result: list[list[list[int]]] = [[] for _ in range(of.behaviors + 1)]
    for place in np.lexsort((pairs, -times)):
        behavior, instead = divmod(int(pairs[place]), of.behaviors)
        if len(result[behavior]) < CONFUSED:
            result[behavior].append([instead, int(times[place])])
    return result


def coverage(of: Outcomes) -> list[dict[str, float]]:
    """How often a predictor is right where only its surest predictions are taken: threshold and precision.

    A threshold takes every prediction that is at least as sure, so a row's own coverage may be above what was asked
    for.
    """
    order = np.sort(of.confidence)[::-1]
    result = []
    for share in COVERAGES:
        threshold = float(order[max(round(share * len(of)), 1) - 1])
        taken = of.confidence >= threshold
        result.append(
            {
                "coverage": float(taken.mean()),
                "threshold": threshold,
                "samples": int(taken.sum()),
                "precision": float((of.rank[taken] == 0).mean()),
            }
        )
    return result


def users(found: Circumstances, of: Outcomes) -> dict[str, Any]:
    """How accuracy is spread over users (groups) with enough samples, and what sets the badly served apart."""
    number, accuracy = _by_user(found, of)
    order = np.lexsort((number, accuracy))
    parts = []
    for chosen in np.array_split(order, min(USER_PARTS, len(order))) if len(order) else []:
        members = np.isin(found.groups, number[chosen])
        parts.append(
            {
                "users": len(chosen),
                "samples": int(members.sum()),
                "lowest": float(accuracy[chosen].min()),
                "highest": float(accuracy[chosen].max()),
                "accuracy": float((of.rank[members] == 0).mean()),
                "repeats": float(found.is_repeat[members].mean()),
                "tail": float(found.is_tail[members].mean()),
                "known": float(np.median(found.known[members])),
            }
        )
    bins = np.minimum((accuracy * ACCURACY_BINS).astype(np.int64), ACCURACY_BINS - 1)
    return {
        "users": len(number),
        "left_out": int(found.groups.max(initial=-1)) + 1 - len(number),
        "minimum_samples": USER_SAMPLES,
        "quantiles": {f"{at:g}": float(np.quantile(accuracy, at)) for at in QUANTILES} if len(number) else {},
        "histogram": np.bincount(bins, minlength=ACCURACY_BINS).tolist(),
        "parts": parts,
    }


def users_against(
    found: Circumstances, outcomes: Mapping[str, Outcomes], subject: str
) -> dict[str, dict[str, int]]:
    """For how many users the subject is right more often than each other predictor, as often, or less often."""
    _, own = _by_user(found, outcomes[subject])
    result = {}
    for name, of in outcomes.items():
        if name != subject:
            _, others = _by_user(found, of)
            better, worse = int((own > others).sum()), int((own < others).sum())
            result[name] = {"better": better, "same": len(own) - better - worse, "worse": worse}
    return result


def _by_user(found: Circumstances, of: Outcomes) -> tuple[Int64, NDArray[np.float64]]:
    """Of each group with enough samples: its number, its accuracy."""
    samples = np.bincount(found.groups)
    right = np.bincount(found.groups, of.rank == 0)
    number = np.flatnonzero(samples >= USER_SAMPLES)
    return number, right[number] / samples[number]


def _rows(
    code: Int64, labels: Sequence[str], found: Circumstances, outcomes: Mapping[str, Outcomes]
) -> list[dict[str, Any]]:
    result = []
    for number, label in enumerate(labels):
        members = code == number
        if members.any():
            result.append(
                {
                    "label": label,
                    "samples": int(members.sum()),
                    "groups": len(np.unique(found.groups[members])),
                    "tail": float(found.is_tail[members].mean()),
                    "accuracy": {
                        name: float((of.rank[members] == 0).mean()) for name, of in outcomes.items()
                    },
                }
            )
    return result
