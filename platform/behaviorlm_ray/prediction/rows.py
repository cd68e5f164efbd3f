"""The rows of predictions: one for each position that is asked for, as they lie in Parquet."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.log_files.config import EventsConfig
from behaviorlm.predictor.artifact import Artifact
from behaviorlm.predictor.behavior_model import BehaviorModel, Choices, Scored
from behaviorlm.timelines.gaps import SINCE_LAST
from behaviorlm_ray.prediction.positions import Timelines, histories

BATCH = 512
"""Positions that are scored together: those of one user share their history."""
NO_HISTORY, UNKNOWN_BEHAVIORS, CUT = "no_history", "unknown_behaviors", "long_events"
TIME_UNKNOWN, CONTEXT_UNKNOWN = "time_unknown", "context_unknown"
WARNINGS = {
    NO_HISTORY: "no event comes before: what is likely of anybody",
    UNKNOWN_BEHAVIORS: "the history holds behaviors that the vocabulary does not",
    CUT: "long events: fewer of them fit into the prompt than prompt.max_events allows",
    TIME_UNKNOWN: "when the next event comes is not known, and the predictor looks at the clock",
    CONTEXT_UNKNOWN: "the context of the next event is not known, and the predictor looks at it",
}
"""Codes of warnings, in words."""


def schema(mapping: EventsConfig, *, with_probabilities: bool) -> pa.Schema:
    """after, at: time of the last event before and of the next one, null where there is none; an integer where the
    log is ordered by one. behaviors, probabilities: the k answers, best first under the decision rule. group: of the
    first. actual and what belongs to it: of the next event, where it is there; its place among all, from 1, and its
    probability are null where the vocabulary does not hold it. log_probabilities: before calibration and any rule.
    """
    order = pa.timestamp("us", "UTC") if mapping.order.first_kind == "time" else pa.int64()
    fields = [
        pa.field("user", pa.string(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("after", order),
        pa.field("at", order),
        pa.field("behaviors", pa.list_(pa.string()), nullable=False),
        pa.field("probabilities", pa.list_(pa.float64()), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("events_used", pa.int32(), nullable=False),
        pa.field("warnings", pa.list_(pa.string()), nullable=False),
        pa.field("actual", pa.string()),
        pa.field("actual_place", pa.int32()),
        pa.field("actual_probability", pa.float64()),
    ]
    if with_probabilities:
        fields.append(pa.field("log_probabilities", pa.list_(pa.float64())))
    return pa.schema(fields)


def rows(
    model: BehaviorModel,
    lines: Timelines,
    chosen: NDArray[np.int64],
    mapping: EventsConfig,
    k: int,
    kept_every: int | None,
) -> pa.Table:
    """The rows of the chosen positions, in their order."""
    found = schema(mapping, with_probabilities=kept_every is not None)
    tables = [found.empty_table()]
    for start in range(0, len(chosen), BATCH):
        of_batch = chosen[start : start + BATCH]
        scored = model.scored(histories(lines, of_batch.tolist(), model.artifact), Choices(k=k))
        columns = _columns(model.artifact, lines, of_batch, scored, k) | _actual(lines, of_batch, scored)
        if kept_every is not None:
            columns["log_probabilities"] = [
                of.tolist() if place % kept_every == 0 and lines.has_next[place] else None
                for place, of in zip(of_batch.tolist(), scored.log_probabilities, strict=True)
            ]
        tables.append(pa.table([pa.array(columns[one.name], one.type) for one in found], schema=found))
    return pa.concat_tables(tables).combine_chunks()


def _columns(
    artifact: Artifact, lines: Timelines, chosen: NDArray[np.int64], scored: Scored, k: int
) -> dict[str, Sequence[object]]:
    first, size, row = lines.first[chosen], lines.size[chosen], lines.next_row[chosen]
    has_next = lines.has_next[chosen]
    order = np.append(lines.events["order"].to_numpy(), 0)
    best = np.argsort(-scored.scores, axis=1, kind="stable")[:, :k]
    probabilities = np.exp(np.take_along_axis(scored.shown, best, axis=1))
    names = scored.chosen.names
    return {
        "user": lines.events["user"].take(pa.array(first)).to_pylist(),
        "position": size.tolist(),
        "after": [int(order[at - 1]) if before else None for at, before in zip(row, size, strict=True)],
        "at": [int(order[at]) if known else None for at, known in zip(row, has_next, strict=True)],
        "behaviors": [[names[place] for place in of] for of in best.tolist()],
        "probabilities": probabilities.tolist(),
        "group": ["anchor" if is_anchor else "tail" for is_anchor in scored.chosen.is_anchor[best[:, 0]]],
        "events_used": [of.used for of in scored.asked],
        "warnings": [
            list(_warnings(artifact, lines, place, scored, number))
            for number, place in enumerate(chosen.tolist())
        ],
    }


def _actual(lines: Timelines, chosen: NDArray[np.int64], scored: Scored) -> dict[str, Sequence[object]]:
    """What came next, and how the predictor saw it."""
    rows = pa.array(lines.next_row[chosen], mask=~lines.has_next[chosen])
    actual = lines.events["behavior"].take(rows)
    target = pc.fill_null(pc.index_in(actual, value_set=pa.array(scored.chosen.names, pa.string())), -1)
    target = np.where(lines.has_next[chosen], target.to_numpy(), -1)
    number = np.arange(len(target))
    own = scored.scores[number, target][:, None]
    places = np.arange(scored.scores.shape[1])
    ahead = (scored.scores > own) | ((scored.scores == own) & (places[None, :] < target[:, None]))
    is_known = target >= 0
    return {
        "actual": actual.to_pylist(),
        "actual_place": np.ma.masked_array(ahead.sum(axis=1) + 1, ~is_known).tolist(),
        "actual_probability": np.ma.masked_array(np.exp(scored.shown[number, target]), ~is_known).tolist(),
    }


def _warnings(artifact: Artifact, lines: Timelines, place: int, scored: Scored, number: int) -> Iterator[str]:
    first, row = int(lines.begin[place]), int(lines.next_row[place])
    if row == first:
        yield NO_HISTORY
    if lines.unknown[row] > lines.unknown[first]:
        yield UNKNOWN_BEHAVIORS
    prompt = scored.asked[number].prompt
    if prompt is not None and prompt.is_cut:
        yield CUT
    if not lines.has_next[place]:
        # told of each user's own last event where the moment is known, and not in what is the same for all
        own = SINCE_LAST if lines.until is not None else None
        clock = [f"before.{name}" for name in artifact.events.clock]
        if any(lines.now[name][0].as_py() is None for name in clock if name != own):
            yield TIME_UNKNOWN
        if artifact.events.context_before:
            yield CONTEXT_UNKNOWN
