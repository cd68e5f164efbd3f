"""The truth: the exact probability of every next behavior given what was observed, with the hidden filtered out.

Our choice. A forward filter over (persona, state) of any `Generator`, float64, many timelines at once. *Whole history*:
everything observed before the event, and its clock; this bounds every predictor. *Window*: only the events from some
start on, as a model with a bounded history sees them.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from behaviorlm_lab.world.generator import (
    UNKNOWN,
    Floats,
    Generator,
    Integers,
    Moments,
    Timeline,
)

BATCH = 512
"""Windows filtered at once: about 4 MB of beliefs each for the main world."""


def filtered_timelines(generator: Generator, timelines: Sequence[Timeline]) -> list[Floats]:
    """p*(behavior t | all events before t, clock of t) for every event, one float64[n, K] for each timeline."""
    return windowed_timelines(
        generator, timelines, [np.zeros(len(timeline), np.int64) for timeline in timelines]
    )


def windowed_timelines(
    generator: Generator, timelines: Sequence[Timeline], starts: Sequence[NDArray[np.integer]]
) -> list[Floats]:
    """p*(behavior t | events starts[t] ... t - 1, clock of t) for every event, one float64[n, K] for each timeline.

    `starts` holds one int[n] for each timeline, 0 <= starts[t] <= t, else ValueError. Each window begins with the
    stationary prior, as a timeline does. One approximation: what lies right before the window is not known, and the
    window's first event is treated as following nothing, although a person may have repeated herself. The whole-history
    truth is the bound, this is a reference. Events that share a start share one pass.
    """
    result = [np.empty((len(timeline), len(generator.names))) for timeline in timelines]
    windows: list[tuple[int, int, int]] = []  # (length, timeline, start)
    for number, (timeline, of_timeline) in enumerate(zip(timelines, starts, strict=True)):
        positions = np.arange(len(timeline))
        if of_timeline.shape != positions.shape or (of_timeline < 0).any() or (of_timeline > positions).any():
            raise ValueError(
                f"timeline {number}: starts must be int[{len(timeline)}] with 0 <= starts[t] <= t"
            )
        for start in np.unique(of_timeline):
            last = int(positions[of_timeline == start].max())
            windows.append((last + 1 - int(start), number, int(start)))
    windows.sort(reverse=True)  # equally long windows together, so that a batch is never mostly padding
    for begin in range(0, len(windows), BATCH):
        batch = windows[begin : begin + BATCH]
        for step, probabilities in enumerate(_filter(generator, timelines, batch)):
            for row, (_, number, start) in enumerate(batch[: len(probabilities)]):
                if starts[number][start + step] == start:
                    result[number][start + step] = probabilities[row]
    return result


def _filter(
    generator: Generator, timelines: Sequence[Timeline], windows: list[tuple[int, int, int]]
) -> Iterator[Floats]:
    """Step by step the probabilities float64[U, K] of the windows, longest first, that are not over yet."""
    padded = np.zeros((3, len(windows), windows[0][0]), np.int64)
    for row, (length, number, start) in enumerate(windows):
        timeline = timelines[number]
        for column, values in enumerate((timeline.hours, timeline.behaviors, timeline.places)):
            padded[column, row, :length] = values[start : start + length]
    hours, behaviors, places = padded
    lengths = np.array([length for length, _, _ in windows])
    belief = np.tile(generator.initial_belief(), (len(windows), 1, 1))
    previous: Integers = np.full(len(windows), UNKNOWN, np.int64)
    for step in range(windows[0][0]):
        alive = int((lengths > step).sum())
        moments = Moments(
            hours[:alive, step], previous[:alive], behaviors[:alive, step], places[:alive, step]
        )
        probabilities, belief = generator.filter_step(belief[:alive], moments)
        previous = behaviors[:, step]
        yield probabilities
