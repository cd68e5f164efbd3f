"""A log that does not exist yet, from a few numbers: timelines drawn by them, which stand for all of it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from behaviorlm.prompts.encoder import PromptTokens
from behaviorlm.timelines.parts import TimelinePart, TokenRuns, Window, no_profiles, window_starts
from behaviorlm_ray.costs.config import ImaginedLog
from behaviorlm_ray.costs.log_sample import LogSample

DRAWN_EVENTS = 20_000
FIXED_BYTES = 120
"""Of a prepared event beside its tokens: user, group, names, context, order, marks and a sample id of 16."""


def imagined_sample(
    log: ImaginedLog,
    window: tuple[int, int],
    shares: Mapping[str, float],
    anchor_share: float,
    sources: list[str],
) -> LogSample:
    """window: events of a history and its stride. shares: of the events of a user, by split. anchor_share: from which
    share of the targets on a behavior is an anchor.
    """
    of_user = max(2, round(min(log.events / log.users, DRAWN_EVENTS)))
    users = max(1, DRAWN_EVENTS // of_user)
    rows = users * of_user
    start = np.repeat(np.arange(users) * of_user, of_user)
    position = np.arange(rows) - start
    share = 1 / np.arange(1, log.behaviors + 1)
    share /= share.sum()
    behavior = np.random.default_rng(0).choice(log.behaviors, rows, p=share).astype(np.int32)
    lines, questions = _runs(rows, log.line_tokens), _runs(rows, log.question_tokens)
    part = TimelinePart(
        Path("imagined"),
        pa.table({}),
        start,
        window_starts(start, lines.lengths(), Window(*window, 2**30)),
        lines,
        questions,
        no_profiles(rows),
        np.zeros(rows, np.int64),
        behavior,
        np.zeros(rows, np.int8),
        position > 0,
        np.zeros(rows, bool),
        np.arange(rows, dtype=np.uint64).repeat(2).view(np.uint8).reshape(rows, 16),
    )
    bounds = np.cumsum([0.0, *shares.values()]) * of_user
    targets = {
        split: np.flatnonzero((position >= low) & (position < high) & (position > 0))
        for split, low, high in zip(shares, bounds[:-1], bounds[1:], strict=True)
    }
    scale = log.events / rows
    # in the second token names part again
    names = tuple(
        np.array([5 + index // 5, 5 + index % 5, *range(5, 3 + log.name_tokens)], np.int32)
        for index in range(log.behaviors)
    )
    found = np.bincount(behavior[targets["train"]], minlength=log.behaviors)
    counts = found.astype(np.float64) * scale
    return LogSample(
        [part],
        {split: [of_split] for split, of_split in targets.items()},
        PromptTokens(np.zeros(log.instruction_tokens, np.int32), np.array([2], np.int32), names, 2**30),
        counts > anchor_share * counts.sum(),
        counts,
        {split: scale * len(of_split) for split, of_split in targets.items()},
        log.events,
        log.events * (FIXED_BYTES + 4 * (log.line_tokens + log.question_tokens)),
        {source: float(log.conversation_tokens) for source in sources},
        "numbers alone",
    )


def _runs(rows: int, tokens: int) -> TokenRuns:
    return TokenRuns(np.zeros(rows * tokens, np.int32), np.arange(rows + 1, dtype=np.int64) * tokens)
