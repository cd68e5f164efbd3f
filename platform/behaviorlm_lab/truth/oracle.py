"""What could be known at best: for a log of a synthetic world, its true probabilities, the ceiling, and the check.

The only part of the platform that knows of synthetic worlds; a run on a real log has no truth.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from behaviorlm.config import Settings
from behaviorlm.errors import DataError
from behaviorlm.metrics.front import endpoint_area
from behaviorlm.metrics.outcomes import Outcomes
from behaviorlm.timelines.parts import TimelinePart
from behaviorlm_lab.truth.frontier import endpoint_frontier, expected, group_frontier, macro_recall_bound
from behaviorlm_lab.truth.probabilities import windowed_timelines
from behaviorlm_lab.truth.violations import violations
from behaviorlm_lab.world.errands import errands_world
from behaviorlm_lab.world.generator import PLACES, UNKNOWN, Generator, Timeline
from behaviorlm_lab.world.opaque import OpaqueWorld
from behaviorlm_lab.world.process import default_world
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows

PLACE_COLUMN = "after.place"
HOUR = 3_600_000_000
"""Microseconds, the unit of `order` for times."""
FIRST_HOUR = 3 * 24
"""1970-01-01 was a Thursday."""
ENDPOINT_WEIGHTS = np.linspace(0.0, 1.0, 101)
"""Worth of the anchors along the endpoint's frontier: finer than a model's front, whose area is then the smaller."""


class TruthSettings(Settings):
    """Which synthetic world the log is from, so that models can be held against what can be known."""

    world: Literal["main", "second"] = Field(description="The world, as in `jobs.world --generator`.")
    opaque_seed: int | None = Field(
        default=None, ge=0, description="Seed of the codes that stand for names in the log; null: real names."
    )

    def generator(self) -> Generator:
        """The world itself."""
        world: Generator = default_world() if self.world == "main" else errands_world()
        return world if self.opaque_seed is None else OpaqueWorld(world, self.opaque_seed)


@dataclass(frozen=True)
class Truth:
    """p* of n samples for the K behaviors of the vocabulary, float64 [n, K] each; rows may sum to less than 1 where
    the world has behaviors that training never saw.

    whole: given everything observed before; windowed: given the window that models see.
    """

    whole: np.ndarray
    windowed: np.ndarray


def true_probabilities(log: PreparedLog, rows: SampleRows, settings: TruthSettings) -> Truth:
    """The truth about the chosen samples, parts one after another. Raises DataError if the log is of another world."""
    world = settings.generator()
    places = np.array(
        [world.names.index(name) if name in world.names else -1 for name in log.vocabulary.names]
    )
    if (places < 0).any():
        unknown = [name for name, place in zip(log.vocabulary.names, places, strict=True) if place < 0]
        raise DataError(
            f"evaluation.truth: the log has behaviors that the {settings.world} world does not have "
            f"({', '.join(map(repr, unknown[:3]))}); name the world that made the log, or leave `truth` out"
        )
    found = [
        _of_part(world, part, chosen) for part, chosen in zip(log.parts, rows, strict=True) if len(chosen)
    ]
    if not found:
        return Truth(np.zeros((0, len(places))), np.zeros((0, len(places))))
    whole, windowed = (np.concatenate(pieces)[:, places] for pieces in zip(*found, strict=True))
    return Truth(whole, windowed)


def ceiling(
    truth: Truth, is_anchor: np.ndarray, targets: np.ndarray
) -> tuple[dict[str, float], dict[str, Any]]:
    """What nobody can be better than in expectation: ({group: accuracy}, details with both frontiers and bounds).

    Of each group its own best, reached by different predictors: overall by argmax p*, anchors and tail at either end
    of the frontier.

    details["frontier"]["endpoint"] is to be read like a model's front: place i of each list is one predictor, the best
    for whom anchor accuracy is worth weights[i] and tail macro recall the rest (1 - weights[i]). Its `expected_…` lists
    are what it reaches in expectation under p*, to be held against a model's `expected`, and nobody is beyond them;
    the lists without a prefix are the same choices on the targets that were drawn, where chance may put a model ahead.
    `expected_area` and `area` are the areas below either, as `adjustment_front` has them for a model. None stands
    where nothing counts.
    """
    groups = group_frontier(truth.whole, is_anchor, targets)
    endpoint = endpoint_frontier(truth.whole, is_anchor, targets, ENDPOINT_WEIGHTS)
    best_expected, realized = macro_recall_bound(truth.whole, is_anchor, targets)
    best = {
        "all": float(truth.whole.max(axis=1).mean()),
        "anchor": float(np.nanmax(groups.expected_anchor_accuracy)),
        "tail": float(np.nanmax(groups.expected_tail_accuracy)),
    }
    entropy = -np.sum(truth.whole * np.log(np.maximum(truth.whole, 1e-300)), axis=1)
    details = {
        "accuracy_given_the_window": float(truth.windowed.max(axis=1).mean()),
        "tail_macro_recall": {"expected": _or_none(best_expected), "realized": _or_none(realized)},
        "mean_entropy_nats": float(entropy.mean()),
        "frontier": {"accuracy": _columns(groups), "endpoint": _with_areas(_columns(endpoint))},
    }
    return best, details


def expected_under_truth(
    truth: Truth, is_anchor: np.ndarray, measured: Mapping[str, Outcomes]
) -> dict[str, dict[str, float | None]]:
    """Each model's accuracies and tail macro recall in expectation under p*, given the choices that it made.

    None where nothing counts, as tail macro recall where no tail behavior has an expectation of 10 targets.
    """
    return {name: expected(model.predicted, truth.whole, is_anchor) for name, model in measured.items()}


def expected_endpoint(truth: Truth, is_anchor: np.ndarray, choices: np.ndarray) -> dict[str, float | None]:
    """{"anchor_accuracy", "tail_macro_recall"} of choices int[n] in expectation under p*."""
    found = expected(choices, truth.whole, is_anchor)
    return {name: found[name] for name in ("anchor_accuracy", "tail_macro_recall")}


def check_against_truth(truth: Truth, is_anchor: np.ndarray, measured: Mapping[str, Outcomes]) -> None:
    """Refuse what cannot be: a model beyond the frontier by more than chance allows. Raises DataError naming it."""
    problems = []
    for name, model in measured.items():
        beyond = violations(truth.whole, is_anchor, model.target, model.predicted)
        if beyond:
            worst = max(beyond, key=lambda violation: violation.excess / violation.bound)
            problems.append(
                f"{name}: {worst.comparison} (weight {worst.weight:.2f}) is ahead of the truth by {worst.excess:.4g}, "
                f"where chance allows {worst.bound:.4g}"
            )
    if problems:
        raise DataError(
            "a model predicts what cannot be known from what was observed; it has seen its answers, or scoring is "
            "wrong:\n" + "\n".join(problems)
        )


def _of_part(world: Generator, part: TimelinePart, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p* [n, K of the world] of the chosen rows, given the whole history and given their windows."""
    wanted = list(_timelines(world, part, chosen))
    timelines = [timeline for timeline, _, _ in wanted]
    whole_starts = [np.zeros(len(timeline), np.int64) for timeline in timelines]
    windows = [starts for _, starts, _ in wanted]
    return tuple(  # type: ignore[return-value]
        np.concatenate(
            [
                probabilities[rows]
                for probabilities, (_, _, rows) in zip(
                    windowed_timelines(world, timelines, starts), wanted, strict=True
                )
            ]
        )
        for starts in (whole_starts, windows)
    )


def _timelines(
    world: Generator, part: TimelinePart, chosen: np.ndarray
) -> Iterator[tuple[Timeline, np.ndarray, np.ndarray]]:
    """Each timeline with a chosen row, up to the last one; its windows' starts and the chosen rows, counted within."""
    index = {name: number for number, name in enumerate(world.names)}
    starts = part.user_start[chosen]
    for rows in np.split(chosen, np.flatnonzero(np.diff(starts)) + 1):
        first, stop = int(part.user_start[rows[0]]), int(rows[-1]) + 1
        events = part.table.slice(first, stop - first)
        if PLACE_COLUMN not in events.column_names:
            raise DataError("evaluation.truth: the truth needs the place: events.context_after: [place]")
        behaviors = events["behavior"].to_pylist()
        strange = next((name for name in behaviors if name not in index), None)
        if strange is not None:
            raise DataError(f"evaluation.truth: the log has {strange!r}, which the world does not have")
        timeline = Timeline(
            (events["order"].to_numpy() // HOUR + FIRST_HOUR) % (7 * 24),
            np.array([index[name] for name in behaviors], np.int64),
            np.array(
                [
                    PLACES.index(place) if place in PLACES else UNKNOWN
                    for place in events[PLACE_COLUMN].to_pylist()
                ],
                np.int64,
            ),
        )
        yield timeline, part.window_start[first:stop] - first, rows - first


def _columns(frontier: Any) -> dict[str, list[float | None]]:
    return {
        name: [_or_none(round(float(value), 6)) for value in values]
        for name, values in asdict(frontier).items()
    }


def _with_areas(columns: dict[str, list[float | None]]) -> dict[str, Any]:
    areas = {
        f"{prefix}area": endpoint_area(
            [
                {"anchor_accuracy": anchor, "tail_macro_recall": tail}
                for anchor, tail in zip(
                    columns[f"{prefix}anchor_accuracy"], columns[f"{prefix}tail_macro_recall"], strict=True
                )
            ]
        )
        for prefix in ("", "expected_")
    }
    return columns | areas


def _or_none(value: float) -> float | None:
    """JSON has no NaN."""
    return None if np.isnan(value) else float(value)
