"""Which kill happens when: every victim at every moment at which it exists, with the seed choosing the exact point."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

STAGES = ("prepare", "conversations", "a_tune", "score", "select", "b_tune")
"""Stages before those of evaluation, in the order in which they run."""

VICTIMS = ("train_worker", "scoring_worker", "raylet", "driver", "drained_node")

EVERYWHERE = frozenset({"raylet", "driver", "drained_node"})


@dataclass(frozen=True)
class Moment:
    """A request to S3 that tells when to kill: a PUT to a path below a stage's folder, the 1st up to the `last`th."""

    name: str
    stage: str
    path: str
    last: int
    victims: frozenset[str]


def _commit(stage: str) -> Moment:
    return Moment(f"commit_{stage}", stage, r"manifest\.json", 1, EVERYWHERE)


PROGRESS = r"checkpoints/[^/]+/progress\.json"

MOMENTS = (
    Moment("prepare", "prepare", r"attempts/", 4, EVERYWHERE),
    _commit("prepare"),
    Moment("a_tune", "a_tune", PROGRESS, 3, EVERYWHERE | {"train_worker"}),
    Moment("checkpoint", "a_tune", r"checkpoints/[^/]+/step-\d+/", 8, EVERYWHERE | {"train_worker"}),
    _commit("a_tune"),
    Moment("score", "score", r".*windows-", 4, EVERYWHERE | {"scoring_worker"}),
    _commit("score"),
    Moment("select", "select", r"attempts/", 1, EVERYWHERE),
    _commit("select"),
    Moment("b_tune", "b_tune", PROGRESS, 3, EVERYWHERE | {"train_worker"}),
    _commit("b_tune"),
)
"""In the order in which a run passes through them."""


@dataclass(frozen=True)
class Case:
    """One kill. `name` and `seed` say everything about it."""

    victim: str
    moment: Moment
    seed: int

    @property
    def name(self) -> str:
        return f"{self.victim}-{self.moment.name}"

    @property
    def random(self) -> random.Random:
        """For all that the seed decides."""
        return random.Random(f"{self.name}-{self.seed}")

    @property
    def number(self) -> int:
        """Which of the matching requests is waited for, from 1."""
        return self.random.randint(1, self.moment.last)

    @property
    def phase(self) -> int:
        """When: no request of a later phase comes before this one's."""
        return 2 * STAGES.index(self.moment.stage) + self.moment.name.startswith("commit_")

    @property
    def pattern(self) -> str:
        """Matches the path of the request."""
        return rf"/stages/{self.moment.stage}-[0-9a-f]+/{self.moment.path}"


def runs(cases: Sequence[Case], apart: bool = False) -> list[list[Case]]:
    """Cases by the run that they disturb: one for a victim and seed, killed at every moment, or each case `apart`."""
    if apart:
        return [[case] for case in cases]
    grouped: dict[tuple[str, int], list[Case]] = {}
    for case in cases:
        grouped.setdefault((case.victim, case.seed), []).append(case)
    return list(grouped.values())


def cases(seeds: Sequence[int], only: Sequence[str] = ()) -> list[Case]:
    """All cases of some seeds, or those whose names begin with one of `only`."""
    made = [
        Case(victim, moment, seed)
        for seed in seeds
        for moment in MOMENTS
        for victim in VICTIMS
        if victim in moment.victims
    ]
    return [case for case in made if not only or case.name.startswith(tuple(only))]
