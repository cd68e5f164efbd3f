"""What a log is like, in the few numbers by which the synthetic worlds were set to resemble real ones."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from behaviorlm_lab.truth.frontier import endpoint_frontier, group_frontier, macro_recall_bound, measured
from behaviorlm_lab.truth.probabilities import filtered_timelines
from behaviorlm_lab.world.generator import Generator, simulate_user, timeline_of

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
    pairs = Counter(pair for sequence in sequences for pair in pairwise(sequence))
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


def _entropy(counts: NDArray[np.float64]) -> float:
    """In bits, of the distribution proportional to `counts`."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def describe(generator: Generator, users: int, seed: int, events: tuple[int, int] = (20, 40)) -> list[str]:
    """Lines of text: statistics of a log of this world, how predictable it is, and the frontier; in bits and shares."""
    timelines = [simulate_user(generator, seed, user, events) for user in range(users)]
    statistics = log_statistics([[event.behavior for event in timeline] for timeline in timelines])
    lines = [f"{name}: {value:.4g}" for name, value in asdict(statistics).items()]
    arrays = [timeline_of(generator, timeline) for timeline in timelines]
    probabilities = np.concatenate(filtered_timelines(generator, arrays))
    targets = np.concatenate([timeline.behaviors for timeline in arrays])
    is_anchor = np.asarray(generator.is_common)
    surprise = -np.log2(probabilities[np.arange(len(targets)), targets])
    entropies = -(probabilities * np.log2(np.maximum(probabilities, 1e-300))).sum(axis=1)
    lines.append(f"entropy of p*: {entropies.mean():.3f} bits")
    for name, members in (("anchor", is_anchor[targets]), ("tail", ~is_anchor[targets])):
        lines.append(
            f"{name} targets: entropy of p* {entropies[members].mean():.3f}, -log2 p* {surprise[members].mean():.3f}"
        )
    best = measured(probabilities.argmax(axis=1), is_anchor, targets)
    lines.append("argmax p*: " + ", ".join(f"{name} {value:.3f}" for name, value in best.items()))
    bound = macro_recall_bound(probabilities, is_anchor, targets)
    lines.append(f"largest tail macro recall: expected {_shown(bound[0])}, realized {_shown(bound[1])}")
    for name, make in (("anchor/tail", group_frontier), ("endpoint", endpoint_frontier)):
        curve = make(probabilities, is_anchor, targets)
        for point in range(0, len(curve.weights), 3):
            lines.append(
                f"{name} frontier, anchor hit worth {curve.weights[point]:.2f}: "
                f"accuracy {curve.expected_accuracy[point]:.3f}, "
                f"anchor {curve.expected_anchor_accuracy[point]:.3f}, "
                f"tail {curve.expected_tail_accuracy[point]:.3f}, "
                f"tail macro recall {_shown(curve.expected_tail_macro_recall[point])} (expected)"
            )
    return lines


def _shown(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"
