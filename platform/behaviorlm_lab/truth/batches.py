"""The true probabilities of chosen samples of a prepared log, in batches of whole timelines."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.timelines.parts import TimelinePart
from behaviorlm_lab.truth.probabilities import windowed_timelines
from behaviorlm_lab.world.generator import PLACES, UNKNOWN, Floats, Generator, Integers, Timeline
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows

BATCH_BYTES = 16 * 2**20
"""Probabilities of the events that are filtered at a time; more only where a single timeline has more."""
PLACE_COLUMN = "after.place"
HOUR = 3_600_000_000
"""Microseconds, the unit of `order` for times."""
FIRST_HOUR = 3 * 24
"""1970-01-01 was a Thursday."""


@dataclass(frozen=True)
class TrueProbabilities:
    """p* of some of the chosen samples for the K behaviors of the vocabulary, float64 [b, K].

    Rows may sum to less than 1 where the world has behaviors that training never saw. places: where the samples stand
    among those chosen, int64[b].
    """

    places: NDArray[np.int64]
    probabilities: Floats


def vocabulary_in_world(log: PreparedLog, world: Generator, name: str) -> Integers:
    """Where each behavior of the vocabulary stands in the world, int64[K]. Raises DataError if one is unknown to it."""
    index = {behavior: number for number, behavior in enumerate(world.names)}
    unknown = [behavior for behavior in log.vocabulary.names if behavior not in index]
    if unknown:
        raise DataError(
            f"evaluation.truth: the log has behaviors that the {name} world does not have "
            f"({', '.join(map(repr, unknown[:3]))}); name the world that made the log, or leave `truth` out"
        )
    return np.array([index[behavior] for behavior in log.vocabulary.names], np.int64)


def truth_batches(
    log: PreparedLog, rows: SampleRows, world: Generator, columns: Integers, *, windowed: bool = False
) -> Iterator[TrueProbabilities]:
    """The truth about the chosen samples, in their order: given everything observed before each.

    columns: `vocabulary_in_world`. windowed: given the window that models see instead. Raises DataError if the log is
    of another world.
    """
    limit = max(1, BATCH_BYTES // (8 * len(world.names)))
    done = 0
    for part, chosen in zip(log.parts, rows, strict=True):
        for asked in _asked_timelines(world, part, chosen, limit):
            starts = [one.window_starts if windowed else np.zeros_like(one.window_starts) for one in asked]
            found = windowed_timelines(world, [one.timeline for one in asked], starts)
            pieces = [of_timeline[one.rows] for of_timeline, one in zip(found, asked, strict=True)]
            probabilities = np.concatenate(pieces)[:, columns]
            yield TrueProbabilities(np.arange(done, done + len(probabilities)), probabilities)
            done += len(probabilities)


@dataclass(frozen=True)
class _Asked:
    """A timeline with chosen rows, up to the last one; its windows' starts and the chosen rows, counted within."""

    timeline: Timeline
    window_starts: Integers
    rows: Integers


def _asked_timelines(
    world: Generator, part: TimelinePart, chosen: Integers, limit: int
) -> Iterator[list[_Asked]]:
    """In groups of at most `limit` events, but of one timeline at least."""
    index = {name: number for number, name in enumerate(world.names)}
    group: list[_Asked] = []
    events = 0
    starts = part.user_start[chosen]
    for rows in np.split(chosen, np.flatnonzero(np.diff(starts)) + 1) if len(chosen) else []:
        asked = _until_the_last(part, rows, index)
        if group and events + len(asked.timeline) > limit:
            yield group
            group, events = [], 0
        group.append(asked)
        events += len(asked.timeline)
    if group:
        yield group


def _until_the_last(part: TimelinePart, rows: Integers, index: dict[str, int]) -> _Asked:
    first, stop = int(part.user_start[rows[0]]), int(rows[-1]) + 1
    if first < 0:
        raise DataError(
            "evaluation.truth: a user has more events than a part holds; raise preparation.partition_megabytes"
        )
    events = part.table.slice(first, stop - first)
    if PLACE_COLUMN not in events.column_names:
        raise DataError("evaluation.truth: the truth needs the place: events.context_after: [place]")
    behaviors = events["behavior"].to_pylist()
    strange = next((name for name in behaviors if name not in index), None)
    if strange is not None:
        raise DataError(f"evaluation.truth: the log has {strange!r}, which the world does not have")
    places = events[PLACE_COLUMN].to_pylist()
    timeline = Timeline(
        (events["order"].to_numpy() // HOUR + FIRST_HOUR) % (7 * 24),
        np.array([index[name] for name in behaviors], np.int64),
        np.array([PLACES.index(place) if place in PLACES else UNKNOWN for place in places], np.int64),
    )
    return _Asked(timeline, part.window_start[first:stop] - first, rows - first)
