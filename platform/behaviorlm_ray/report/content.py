"""What a report is made of, as typed data that goes to JSON and back. Any part but the title may be missing.

The rows of tables take the columns of `behaviorlm.metrics.per_behavior_table`, `reliability` and of a loss
curve as they are, and ignore columns that the page does not show; the report itself refuses unknown keys, so
that a misspelled part is noticed.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from behaviorlm_ray.report.breakdown_content import Breakdowns
from behaviorlm_ray.report.kinds_of_content import Part, Row


class Interval(Row):
    """A value and the bounds of its interval; None where undefined."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


class Endpoint(Row):
    """The primary endpoint of one model in expectation, or its bounds; None where nothing counts."""

    anchor_accuracy: float | None = None
    tail_macro_recall: float | None = None


class InExpectation(Row):
    """The endpoint of the models' choices in expectation under the known truth."""

    bound: Endpoint = Field(default=Endpoint(), description="The largest of each that anybody could reach")
    models: dict[str, Endpoint] = Field(default_factory=dict)


class Compared(Row):
    """A predictor under a decision rule. `model` is its key in `Results.models`; `objective` is that on validation, and
    `gain` how far that is above the safe choice's.
    """

    predictor: str | None = None
    rule: str | None = None
    model: str | None = None
    objective: float | None = None
    gain: Interval | None = Field(default=None, description="None in results of earlier versions")


class Recommended(Compared):
    """What to use of all that can be served; all None but the reason where validation has nothing to choose by."""

    reason: str | None = None
    compared: list[Compared] = Field(default_factory=list, description="In the order of the tables")


class Results(Row):
    """The content of `results.json`."""

    recommended: Recommended | None = Field(default=None, description="None in results of earlier versions")

    in_expectation: InExpectation | None = Field(default=None, description="Where the truth is known")

    ceiling: dict[str, float | None] | None = Field(
        default=None, description="Best possible accuracy by group, where the truth is known"
    )
    models: dict[str, dict[str, dict[str, Interval]]] = Field(
        default_factory=dict, description="{model: {group: {metric: interval}}}, in the order to be shown"
    )
    samples: dict[str, Any] = Field(
        default_factory=dict, description="How many samples were measured, freely nested"
    )
    retention: dict[str, dict[str, Interval]] = Field(
        default_factory=dict,
        description="{model: {measure: interval}} of general knowledge left",
    )


class ModelNote(Part):
    """What the report says about a model beside its name."""

    kind: Literal["baseline", "untuned", "tuned", "opponent"] = Field(
        default="tuned", description="Marker and color in plots"
    )
    description: str = Field(default="", description="A few words: how it was made")


class DatasetSummary(Part):
    """The log after preparation. Counts are None where unknown."""

    name: str | None = None
    rows: int | None = None
    users: int | None = None
    groups: int | None = Field(default=None, description="Groups that splits and intervals keep together")
    behaviors: int | None = None
    anchors: int | None = None
    tail: int | None = None
    samples_per_split: dict[str, int] = Field(default_factory=dict)
    quarantined: dict[str, int] = Field(default_factory=dict, description="Rows set aside, by reason")
    repeat_rate: float | None = Field(
        default=None, description="Share of targets that repeat the behavior right before them"
    )
    as_read: dict[str, str] = Field(default_factory=dict, description="What was read, {what: in words}")


class PairedDifference(Row):
    """first − second of one metric on the same samples."""

    first: str
    second: str
    group: str
    metric: str
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None


class Front(Row):
    """What one model reaches at each strength of logit adjustment; or what the truth allows."""

    anchor_accuracy: list[float | None]
    tail_macro_recall: list[float | None]
    tau: list[float] | None = Field(
        default=None, description="The strengths; None: not known, or from none on"
    )
    area: float | None = Field(default=None, description="Below the front of the drawn targets, of 1")
    expected_area: float | None = Field(
        default=None, description="The same in expectation, where the truth is known"
    )


class LossPoint(Row):
    """One optimizer step of a loss curve."""

    step: int
    loss: float | None = None
    parts: dict[str, float | None] = Field(default_factory=dict)


class SelectedBehavior(Row):
    """One behavior in the selection for B-Tuning. `mean_difficulty` is over the available samples."""

    behavior: str
    available: int
    quota: int
    is_anchor: bool | None = None
    mean_difficulty: float | None = None


class SelectionSummary(Part):
    """The balanced subset: what was asked for, what was there."""

    behaviors: list[SelectedBehavior] = Field(default_factory=list)
    requested: int | None = None
    selected: int | None = None
    shortfall: int | None = None
    outside_band: int | None = None
    difficulty: str | None = Field(default=None, description="Name of the difficulty measure")


class BehaviorRow(Row):
    """One behavior as one model predicts it; the name None stands for all targets unseen in training."""

    behavior: str | None
    is_anchor: bool | None = None
    training_targets: int | None = None
    targets: int | None = None
    predicted: int | None = None
    recall: float | None = None
    precision: float | None = None


class ReliabilityBin(Row):
    """Predictions whose confidence lies in (low, high]."""

    low: float
    high: float
    samples: int
    mean_confidence: float | None = None
    accuracy: float | None = None


class StageRow(Part):
    """One stage of the pipeline."""

    stage: str
    fingerprint: str = ""
    reused: bool = False
    seconds: float | None = None
    tokens: int | None = None
    rows: int | None = None
    warnings: list[str] = Field(default_factory=list)


class ReportData(Part):
    """Everything one report shows."""

    title: str
    run: str = Field(default="", description="Name of the run")
    created: datetime | None = Field(default=None, description="When; ISO 8601 in JSON")
    synthetic: bool = Field(default=False, description="The log is generated; the page says so plainly")
    warnings: list[str] = Field(default_factory=list)
    dataset: DatasetSummary | None = None
    results: Results = Field(default_factory=Results)
    models: dict[str, ModelNote] = Field(
        default_factory=dict, description="Notes by the name used in results"
    )
    comparisons: list[PairedDifference] = Field(default_factory=list)
    fronts: dict[str, Front] = Field(default_factory=dict, description="By tuned model")
    truth_front: Front | None = Field(default=None, description="Expected, where the truth is known")
    loss_curves: dict[str, list[LossPoint]] = Field(default_factory=dict, description="By stage")
    selection: SelectionSummary | None = None
    behaviors: dict[str, list[BehaviorRow]] = Field(
        default_factory=dict, description="Per-behavior table by model"
    )
    reliability: dict[str, list[ReliabilityBin]] = Field(default_factory=dict, description="Bins by model")
    breakdowns: Breakdowns | None = Field(
        default=None, description="Where predictors are right and where not"
    )
    objectives: dict[str, dict[str, float | None]] = Field(
        default_factory=dict, description="{arm: {rule: objective on validation}}"
    )
    tail_minimum_targets: int = Field(default=10, description="Of a tail behavior that the endpoint counts")
    fingerprints: dict[str, str] = Field(default_factory=dict, description="Of the data, by what of them")
    stages: list[StageRow] = Field(default_factory=list)
    configuration: dict[str, Any] = Field(
        default_factory=dict, description="The resolved configuration, plain data"
    )
    commands: list[str] = Field(default_factory=list, description="Commands that repeat the run")
