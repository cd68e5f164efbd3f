"""What `behaviorlm_ray.evaluation.breakdowns` found, as typed data of the report."""

from pydantic import Field

from behaviorlm_ray.report.kinds_of_content import Row


class SliceRow(Row):
    """Test samples under one circumstance, and how often each predictor is right there."""

    label: str
    samples: int
    groups: int | None = None
    tail: float | None = Field(default=None, description="Share of tail targets")
    accuracy: dict[str, float | None] = Field(default_factory=dict)


class CoverageRow(Row):
    """The surest predictions: which share of all, from which confidence on, and how many of them are right."""

    coverage: float
    threshold: float
    samples: int
    precision: float | None = None


class UserPart(Row):
    """Users of like accuracy. `known`: events of the training part, of the middle one."""

    users: int
    samples: int
    lowest: float
    highest: float
    accuracy: float
    repeats: float | None = None
    tail: float | None = None
    known: float | None = None


class Users(Row):
    """How one predictor serves users. histogram: users by accuracy, in bins of equal width from 0 to 1."""

    users: int = 0
    left_out: int = 0
    minimum_samples: int = 1
    quantiles: dict[str, float] = Field(default_factory=dict)
    histogram: list[int] = Field(default_factory=list)
    parts: list[UserPart] = Field(default_factory=list)


class UsersAgainst(Row):
    """For how many users the subject is right more often than another, as often, or less often."""

    better: int = 0
    same: int = 0
    worse: int = 0


class Expected(Row):
    """A behavior that was ranked high."""

    behavior: str
    probability: float


class Example(Row):
    """One test sample. chosen: after the decision rule. rank: of what came, 1 first; None: unseen in training."""

    history: list[str] = Field(default_factory=list)
    events_seen: int = 0
    context: dict[str, str] = Field(default_factory=dict)
    expected: list[Expected] = Field(default_factory=list)
    chosen: str = ""
    came: str = ""
    is_anchor: bool | None = None
    is_unseen: bool = False
    rank: int | None = None


class GroupLosses(Row):
    """Mean loss on the validation samples, by group of their targets."""

    all: float | None = None
    anchor: float | None = None
    tail: float | None = None


class Breakdowns(Row):
    """subject: the predictor that users and examples are told of. Mappings are by predictor but for `slices`, which are
    by circumstance, and `validation_loss`, by arm. confusions: for each behavior in the order of its table, and last
    for the unseen, what was predicted in its place, (place in the table, times).
    """

    subject: str = ""
    test_samples: str = ""
    slices: dict[str, list[SliceRow]] = Field(default_factory=dict)
    confusions: dict[str, list[list[tuple[int, int]]]] = Field(default_factory=dict)
    coverage: dict[str, list[CoverageRow]] = Field(default_factory=dict)
    users: dict[str, Users] = Field(default_factory=dict)
    users_against: dict[str, UsersAgainst] = Field(default_factory=dict)
    examples: list[Example] = Field(default_factory=list)
    validation_loss: dict[str, GroupLosses] = Field(default_factory=dict)
