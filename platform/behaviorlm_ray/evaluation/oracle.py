"""Where the truth about a log is asked for: what an oracle knows of chosen samples, and how one is found by name.

A log of a synthetic world has a truth, the exact probability of every next behavior. Packages offer oracles by entry
points of the group `behaviorlm.oracles`. An entry point names a function of the opaque seed that returns an Oracle;
nothing of its package is imported before an oracle is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from behaviorlm.config import Settings
from behaviorlm.metrics.endpoint import Endpoint

if TYPE_CHECKING:
    from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows

ORACLES = "behaviorlm.oracles"
"""The group of entry points."""


class TruthSettings(Settings):
    """Which synthetic world the log is from, so that models can be held against what can be known."""

    world: str = Field(
        description="The world, as in `behaviorlm world --generator`: an entry point of the group `behaviorlm.oracles`."
    )
    opaque_seed: int | None = Field(
        default=None, ge=0, description="Seed of the codes that stand for names in the log; null: real names."
    )

    @field_validator("world")
    @classmethod
    def _is_known(cls, world: str) -> str:
        known = installed_oracles()
        if not known:
            raise ValueError(
                f"no package offers an oracle (entry points of the group {ORACLES}); the package must be installed "
                "for that: pip install -e ."
            )
        if world not in known:
            raise ValueError(f"there is no world {world!r}; known: {', '.join(sorted(known))}")
        return world

    def open(self) -> Oracle:
        """The oracle itself; imports the package that offers it."""
        oracle: Oracle = installed_oracles()[self.world].load()(self.opaque_seed)
        return oracle


@cache
def installed_oracles() -> Mapping[str, EntryPoint]:
    """Every entry point of the group by name, read once from the metadata of the installed packages."""
    return {point.name: point for point in entry_points(group=ORACLES)}


class Oracle(Protocol):
    """Who knows the truth of one world."""

    @property
    def version(self) -> str:
        """Names the world and its version."""
        ...

    def about(self, log: PreparedLog, rows: SampleRows) -> Knowledge:
        """The truth about the chosen samples. Raises DataError if the log is of another world."""
        ...


class Knowledge(Protocol):
    """The true probabilities of chosen samples."""

    def hold(
        self,
        choices: Mapping[str, NDArray[np.integer]],
        fronts: Mapping[str, NDArray[np.integer]],
    ) -> HeldAgainstTruth:
        """What can be known of the samples, and how predictors compare.

        choices: the behavior that each predictor chose, int[n] in order of the samples. fronts: what it chose at each
        point of its front, int[n, points]. Raises DataError for a predictor of `choices` that does better than can
        be known by more than chance allows.
        """
        ...


@dataclass(frozen=True)
class ExpectedAccuracy:
    """What choices reach in expectation under the truth; None where nothing counts.

    tail_macro_recall: over the tail behaviors with an expectation of at least 10 targets.
    """

    accuracy: float | None
    anchor_accuracy: float | None
    tail_accuracy: float | None
    tail_macro_recall: float | None

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint alone."""
        return Endpoint(self.anchor_accuracy, self.tail_macro_recall)


@dataclass(frozen=True)
class HeldAgainstTruth:
    """ceiling: the best accuracy in expectation of each group, `all`, `anchor`, `tail`.

    tail_macro_recall: the largest in expectation, None where nothing counts. details: more of the kind, JSON values.
    expected: of each predictor. fronts: of each predictor at each point of its front.
    """

    ceiling: dict[str, float]
    tail_macro_recall: float | None
    details: dict[str, Any]
    expected: dict[str, ExpectedAccuracy]
    fronts: dict[str, list[ExpectedAccuracy]]
