"""What an answer says of the behaviors: a ranking, or probabilities from those of its tokens; as label scores.

Both are our choice: the probability of the behavior at a place of a ranking is taken as proportional to 1/place, and
the behaviors that it does not name share the mean of the places that are left, the most frequent in training first. So
metrics of ranks are the answer's own, and probabilities are not: they say nothing about calibration.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm_ray.endpoints.prompts import listed_name

Step = tuple[str, dict[str, float]]
"""A token of an answer, and the log probabilities of tokens in its place, its own among them."""

LEAST = 1e-6
"""Added to every probability that is read from tokens."""

_BULLET = re.compile(r"^\s*(?:[-*•]|\d+\s*[.):])\s*")
_AROUND = " \t\"'`*.,;:“”‘’"


@dataclass(frozen=True)
class Heard:
    """What answers were like, in numbers that add up. answers: all; without: those that name no behavior at all.

    named: lines that name a behavior for the first time; repeated: again; outside: lines that name none of the
    vocabulary; cut: answers that the limit on their length cut off.
    """

    answers: int = 0
    without: int = 0
    named: int = 0
    repeated: int = 0
    outside: int = 0
    cut: int = 0

    def __add__(self, other: "Heard") -> "Heard":
        return Heard(*(one + two for one, two in zip(vars(self).values(), vars(other).values(), strict=True)))


class Names:
    """The closed vocabulary as answers spell it: exactly, or but for case and what stands around it."""

    def __init__(self, names: Sequence[str]) -> None:
        self._exact = {listed_name(name): index for index, name in enumerate(names)}
        folded: dict[str, set[int]] = {}
        for index, name in enumerate(names):
            folded.setdefault(_folded(name), set()).add(index)
        self._folded = {name: of.pop() for name, of in folded.items() if len(of) == 1}
        self.folded = [_folded(name) for name in names]

    def __len__(self) -> int:
        return len(self.folded)

    def find(self, line: str) -> int | None:
        """The behavior that a line names: as it stands, without a bullet or number, or after a colon."""
        bare = _BULLET.sub("", line)
        for text in (line, bare, bare.partition(":")[2]):
            exact = self._exact.get(text.strip())
            found = self._folded.get(_folded(text)) if exact is None else exact
            if found is not None:
                return found
        return None


def ranking_of(answer: str, names: Names) -> tuple[list[int], Heard]:
    """The behaviors that an answer names, each once, in its order; a line may name several with commas between them."""
    ranking: list[int] = []
    repeated = outside = 0
    for line in filter(str.strip, answer.splitlines()):
        whole = names.find(line)
        found = [whole] if whole is not None else [names.find(piece) for piece in line.split(",")]
        for index in found:
            if index is None:
                outside += 1
            elif index in ranking:
                repeated += 1
            else:
                ranking.append(index)
    return ranking, Heard(1, int(not ranking), len(ranking), repeated, outside)


def ranked_scores(ranking: Sequence[int], behaviors: int) -> NDArray[np.float32]:
    """Label scores of a ranking, float32[K]: −log place."""
    scores = np.full(behaviors, -math.log((len(ranking) + 1 + behaviors) / 2), np.float32)
    scores[np.asarray(ranking, np.int64)] = -np.log(np.arange(1, len(ranking) + 1))
    return scores


def token_scores(steps: Sequence[Step], names: Names) -> tuple[NDArray[np.float32], Heard]:
    """Label scores float32[K] by what tokens were likely along an answer.

    At each token the probability so far goes to the behaviors that each other token would have begun, in equal shares,
    and what no token was told for to those that none begins; the token itself goes on, until one behavior is left.
    """
    found = np.zeros(len(names))
    left, mass, prefix = np.arange(len(names)), 1.0, ""
    for token, logprobs in steps:
        shares = {text: math.exp(value) for text, value in logprobs.items()}
        begun = np.zeros(len(names), bool)
        for text, share in shares.items():
            started = _beginning(left, prefix + text, names)
            begun[started] = True
            if text != token and len(started):
                found[started] += mass * share / len(started)
        others = left[~begun[left]]
        if len(others):
            found[others] += mass * max(0.0, 1 - sum(shares.values())) / len(others)
        mass *= shares.get(token, 0.0)
        prefix += token
        left = _beginning(left, prefix, names)
        if len(left) < 2:
            break
    ended = [index for index in left if names.folded[index] == _folded(prefix)] or left.tolist()
    if ended:
        found[ended] += mass / len(ended)
    return np.log(found + LEAST).astype(np.float32), Heard(
        1, int(not ended), len(ended[:1]), 0, int(not ended)
    )


def _beginning(among: NDArray[np.int64], text: str, names: Names) -> NDArray[np.int64]:
    """Which of some behaviors a text is the beginning of, or the whole and more that is no part of a name."""
    begun = text.casefold().lstrip(_AROUND)
    whole = begun.rstrip(_AROUND + "\r\n")
    return among[
        [names.folded[index].startswith(begun) or names.folded[index] == whole for index in among.tolist()]
    ].astype(np.int64)


def _folded(name: str) -> str:
    return listed_name(name).strip(_AROUND).casefold()
