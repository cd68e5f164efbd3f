"""Who stands for each side of a contrast in a cell: chosen on the cell's validation part, never on test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from behaviorlm.baselines import BASELINES
from behaviorlm.scoring.model_names import ADJUSTED, COUNTS, WITH_COUNTS
from behaviorlm_lab.study.settings import SEARCHED, UNTUNED

REFERENCE = "one stage, adjusted"
"""What every model of a cell is held against: it costs nothing beyond plain tuning, and is hard to beat."""

OF_ARMS = {
    REFERENCE: "at_once",
    "A+B, adjusted": "a_then_b",
    "A+B keeping the tail, adjusted": "kept_a_then_b",
    "one stage thinned, adjusted": "thinned_at_once",
}
"""Arms of the study that stand for a side under logit adjustment, at the rate that validation prefers."""
RECOMMENDED, SINGLE, COUNTING = "recommended", "best single model", "best counting"
USER_AND_CLOCK = "user_and_clock"
"""A predictor and a role of the negative control alone, whose reference it is."""


@dataclass(frozen=True)
class Contrast:
    """first less second, of `both`."""

    name: str
    first: str
    second: str


CONTRASTS = (
    Contrast("(a) the paper's A+B less one stage", "A+B, adjusted", REFERENCE),
    Contrast(
        "(b) A+B keeping the tail less one stage thinned",
        "A+B keeping the tail, adjusted",
        "one stage thinned, adjusted",
    ),
    Contrast("(c1) what is recommended less the best single model", RECOMMENDED, SINGLE),
    Contrast("(c2) what is recommended less the best counting", RECOMMENDED, COUNTING),
)
"""The family, at k = 3 and k = 10 each: docs/study/contrasts.md says what it is and how it is decided."""


@dataclass(frozen=True)
class Candidate:
    """A predictor under a rule. objectives: what validation says of each of its rules."""

    name: str
    predictor: str
    rule: str
    objectives: Mapping[str, float | None]

    @property
    def objective(self) -> float:
        """What validation says of this one; below all where it says nothing."""
        found = self.objectives.get(self.rule)
        return -1.0 if found is None else found


def roles(candidates: Sequence[Candidate], arms: Sequence[str]) -> dict[str, str]:
    """The model of each role, by name; of equal ones the first. arms: of the study, without their rates.

    A single model is an arm or the untuned base, never an opponent; counting is a baseline or counting as it is served;
    what is recommended is the best of these and of the mixture of both.
    """

    def best(chosen: Sequence[Candidate]) -> str:
        return max(chosen, key=lambda one: round(one.objective, 9)).name

    counting = [one for one in candidates if one.predictor in {*BASELINES, COUNTS, USER_AND_CLOCK}]
    control = [one for one in counting if one.predictor == USER_AND_CLOCK]
    # opponents are compared, but are no choice of this study
    own = [one for one in candidates if arm_of(one.predictor.removesuffix(WITH_COUNTS)) in {UNTUNED, *arms}]
    models = [one for one in own if not one.predictor.endswith(WITH_COUNTS)]
    served = [one for one in candidates if one in own or one.predictor == COUNTS]
    found = {
        role: best([one for one in models if arm_of(one.predictor) == arm and one.rule == ADJUSTED])
        for role, arm in OF_ARMS.items()
        if arm in arms
    }
    found |= {RECOMMENDED: best(served), SINGLE: best(models), COUNTING: best(counting)}
    return found | ({USER_AND_CLOCK: best(control)} if control else {})


def arm_of(predictor: str) -> str:
    """The arm of the study that a model is of, without the rate it is tried with."""
    return predictor.partition(SEARCHED)[0]
