"""What a log is like, in the few numbers by which the synthetic worlds were set to resemble real ones."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RANKS = 40
"""Tail exponent and entropies are taken over this many most common behaviors: as many as the world has."""
ANCHOR_SHARE = 0.01


@dataclass(frozen=True)
class LogStatistics:
    """Numbers of a log; a target is an event that has one before it in its sequence. Entropies are plug-in, in bits."""

    events: int
    behaviors: int
    anchors: int
    """Behaviors of more than 1 % of the events."""
    repeat_rate: float
    """Share of targets equal to the behavior right before."""
    anchor_share: float
    """Share of events that are anchor behaviors."""
    tail_exponent: float
    """Slope of log count on log rank (least squares) over the 40 most common behaviors."""
    entropy: float
    """Of the 40 most common behaviors."""
    conditional_entropy: float
    """Of a behavior given the one before, both among the 40 most common."""
    largest_share: float


def log_statistics(sequences: Sequence[Sequence[str]]) -> LogStatistics:
    """The statistics of a log given as the sequences of its users, each in order of time."""
    counts = Counter(name for sequence in sequences for name in sequence)
    events = sum(counts.values())
    top = [name for name, _ in counts.most_common(RANKS)]
    top_counts = np.array([counts[name] for name in top], np.float64)
    pairs = Counter(pair for sequence in sequences for pair in zip(sequence[:-1], sequence[1:], strict=True))
    index = {name: number for number, name in enumerate(top)}
    table = np.zeros((len(top), len(top)))
    for (before, after), count in pairs.items():
        if before in index and after in index:
            table[index[before], index[after]] = count
    shares = np.array(list(counts.values())) / events
    logs = np.log(np.arange(1, len(top) + 1)), np.log(top_counts)
    return LogStatistics(
        events=events,
        behaviors=len(counts),
        anchors=int((shares > ANCHOR_SHARE).sum()),
        repeat_rate=sum(count for (before, after), count in pairs.items() if before == after) / pairs.total(),
        anchor_share=float(shares[shares > ANCHOR_SHARE].sum()),
        tail_exponent=float(-np.polyfit(*logs, 1)[0]),
        entropy=_entropy(top_counts),
        conditional_entropy=_entropy(table.ravel()) - _entropy(table.sum(axis=1)),
        largest_share=float(shares.max()),
    )


def _entropy(counts: np.ndarray) -> float:
    """In bits, of the distribution proportional to `counts`."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())
