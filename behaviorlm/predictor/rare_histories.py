"""Back-off counts without rare histories: what few events stand behind would give somebody away.

A history of two or more behaviors, or one with its context, that few events stand behind is somebody's history. Such
counts are dropped, and what trust a history loses goes to the shorter one below it: probabilities still sum to 1, and
the most frequent histories predict as before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from behaviorlm.baselines.levels import CONTEXT, LevelCounts, state_blocks
from behaviorlm.baselines.markov import Markov
from behaviorlm.predictor.counts import Counts

MINIMUM = 5
"""Events that must stand behind a count of a longer history (our choice)."""


def without_rare(counts: Counts, minimum: int = MINIMUM) -> tuple[Counts, int, int]:
    """The same counts without rare long histories; how many pairs of history and behavior are left, how many gone.

    Longer histories are those of two behaviors on, and all that name a context.
    """
    markov, values = counts.markov, len(counts.markov.prior) + 2
    levels: list[LevelCounts] = []
    trusts: list[NDArray[np.float64]] = []
    places: dict[int, NDArray[np.int64]] = {}
    dropped = 0
    for number, (level, trust) in enumerate(zip(markov.levels, markov.trust, strict=True)):
        is_long = _names_context(level, markov.levels) or level.added > 1
        radix = counts.unknown_context + 1 if level.added == CONTEXT else values
        of_base = None if level.base < 0 else (places[level.base], radix)
        pieces = [
            _frequent(level, trust, states, minimum if is_long else 0, of_base)
            for states in state_blocks(level)
        ]
        left, trust_left, is_left = _joined(level, pieces)
        levels.append(left)
        trusts.append(trust_left)
        if any(later.base == number for later in markov.levels):
            places[number] = np.where(is_left, np.cumsum(is_left) - 1, -1)
        dropped += len(level.counts) - len(left.counts)
    kept = sum(len(level.counts) for level in levels)
    used = _contexts_in(levels, counts.unknown_context + 1)
    contexts = {values: code for values, code in counts.contexts.items() if code in used}
    pruned = _without_empty(Markov(markov.prior, tuple(levels), tuple(trusts)))
    return replace(counts, markov=pruned, contexts=contexts), kept, dropped


@dataclass(frozen=True)
class _Piece:
    """What is left of some states of a level. is_left: bool, one for each state there was; sizes: int64, how many
    behaviors each of those left has; the others as in `LevelCounts` and `Markov`.
    """

    is_left: NDArray[np.bool_]
    keys: NDArray[np.int64]
    totals: NDArray[np.float64]
    trust: NDArray[np.float64]
    sizes: NDArray[np.int64]
    behaviors: NDArray[np.int32]
    counts: NDArray[np.float64]


def _frequent(
    level: LevelCounts,
    trust: NDArray[np.float64],
    states: slice,
    minimum: int,
    of_base: tuple[NDArray[np.int64], int] | None,
) -> _Piece:
    """Of some states the counts of at least `minimum` events. of_base: of a level that refines another the new place of
    each of that one's states, -1 where it is gone, and how many values the added condition has.
    """
    starts = level.starts[states.start : states.stop + 1]
    pairs = slice(int(starts[0]), int(starts[-1]))
    counts, keys, sizes = level.counts[pairs], level.keys[states], np.diff(starts)
    keep = counts >= minimum
    state = np.repeat(np.arange(len(keys)), sizes)
    left = np.bincount(state[keep], counts[keep], len(keys)).astype(np.float64)
    known = left > 0
    if of_base is not None:
        places, radix = of_base
        base = places[keys // radix]
        known &= base >= 0
        keys = base * radix + keys % radix
        keep &= known[state]
    return _Piece(
        is_left=known,
        keys=keys[known],
        totals=left[known],
        trust=(trust[states] * left / level.totals[states])[known],
        sizes=np.bincount(state[keep], minlength=len(keys))[known],
        behaviors=level.behaviors[pairs][keep],
        counts=counts[keep],
    )


def _joined(
    level: LevelCounts, pieces: Sequence[_Piece]
) -> tuple[LevelCounts, NDArray[np.float64], NDArray[np.bool_]]:
    """What is left of a level, the trust in each of its states, and which of the states there were are among them."""
    whole = {
        field.name: np.concatenate([getattr(piece, field.name) for piece in pieces])
        for field in fields(_Piece)
    }
    is_left, trust, sizes = whole.pop("is_left"), whole.pop("trust"), whole.pop("sizes")
    return LevelCounts(level.base, level.added, starts=np.cumsum([0, *sizes]), **whole), trust, is_left


def _without_empty(markov: Markov) -> Markov:
    """Without levels of which nothing is left: what refines one is empty, too."""
    left = [number for number, level in enumerate(markov.levels) if len(level.keys)]
    place = {number: new for new, number in enumerate(left)} | {-1: -1}
    levels = tuple(replace(markov.levels[number], base=place[markov.levels[number].base]) for number in left)
    return Markov(markov.prior, levels, tuple(markov.trust[number] for number in left))


def _names_context(level: LevelCounts, levels: Sequence[LevelCounts]) -> bool:
    """Whether the level, or one that it refines, is about the context."""
    return level.added == CONTEXT or (level.base >= 0 and _names_context(levels[level.base], levels))


def _contexts_in(levels: Sequence[LevelCounts], radix: int) -> set[int]:
    """Codes of contexts that a count is left of."""
    return {
        int(code)
        for level in levels
        if level.added == CONTEXT
        for code in np.unique(level.keys % radix if level.base >= 0 else level.keys)
    }
