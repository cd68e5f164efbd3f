"""What is asked and answered over HTTP, as types. An answer is a `Prediction`."""

import math
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, WithJsonSchema, computed_field, model_validator

from behaviorlm.config import Settings
from behaviorlm.predictor.answers import Prediction
from behaviorlm.predictor.behavior_model import Choices
from behaviorlm.predictor.requests import Request


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("give a finite number")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("the text holds half of a character") from None
    elif value is not None and not isinstance(value, int | float):  # a bool is an int
        raise ValueError("give text, a number, true, false or null")
    return value


Plain = Annotated[
    Any, AfterValidator(_plain), WithJsonSchema({"type": ["string", "number", "boolean", "null"]})
]
"""A value of a log."""
Column = Annotated[str, AfterValidator(_plain)]
Event = dict[Column, Plain]
"""One row of a log, by its columns."""
Events = Annotated[list[Event], Field(fail_fast=True)]
"""The first that is wrong is told: errors of a million wrong ones would take a gigabyte and hold all others up."""
Names = Annotated[list[str], Field(fail_fast=True)]
MOST_EARLIER_EVENTS = 2**31 - 1
MOST_KEY_LETTERS = 256


class AskedHistory(Settings):
    """One prediction that is asked for."""

    history: Events | None = Field(
        default=None, description="Events with the log's columns, oldest first where they have no time."
    )
    context: dict[Column, Plain] | None = Field(
        default=None, description="What is known before the next event, by the log's columns."
    )
    at: Plain = Field(default=None, description="When the next event happens, in the log's own form.")
    earlier_events: int = Field(
        default=0,
        ge=0,
        le=MOST_EARLIER_EVENTS,
        description="Events of the user before the first of the history.",
    )
    user_key: Column | None = Field(
        default=None,
        max_length=MOST_KEY_LETTERS,
        description="Whose history it is, in any form; with prefix_cache.bytes, his next one is answered faster. It "
        "changes no answer.",
    )

    def request(self, tenant: str | None = None) -> Request:
        """As the predictor takes it. tenant: who asks; None: nothing may be kept."""
        owner = None if tenant is None or self.user_key is None else (tenant, self.user_key)
        return Request(self.history, self.context, self.at, self.earlier_events, owner)


class PredictBody(AskedHistory):
    """One history, or many in `requests`; all that is said of the answers holds for each."""

    requests: Annotated[list[AskedHistory], Field(fail_fast=True)] | None = Field(
        default=None,
        description="Many; then none of history, context, at, earlier_events and user_key stands beside it.",
    )
    k: int = Field(default=5, ge=1, description="Answers to each.")
    allow: Names | None = Field(default=None, description="Only these behaviors may be answered.")
    deny: Names = Field(default=[], description="None of these may be.")
    new_names: Names = Field(
        default=[], description="Behaviors that the vocabulary does not hold and that may be answered, too."
    )
    min_probability: float = Field(
        default=0.0, ge=0, le=1, description="Where the first answer is less likely, the prediction abstains."
    )
    explain: bool = Field(
        default=False,
        description="What each of the events adds that the answer rests on one by one (events_used).",
    )

    @model_validator(mode="after")
    def _one_or_many(self) -> Self:
        beside = sorted(set(AskedHistory.model_fields) & self.model_fields_set)
        if self.requests is not None and beside:
            raise ValueError(f"beside requests there may be no {', '.join(beside)}")
        return self

    @property
    def asked(self) -> list[AskedHistory]:
        """All that is asked for."""
        return [self] if self.requests is None else self.requests

    def choices(self) -> Choices:
        """As the predictor takes them; equal for requests that may be answered together."""
        return Choices(
            k=self.k,
            allow=None if self.allow is None else tuple(self.allow),
            deny=tuple(self.deny),
            new_names=tuple(self.new_names),
            min_probability=self.min_probability,
            explain=self.explain,
        )


class ServedPrediction(Prediction):
    """The answer to one history."""

    @computed_field(description="What comes next; null if it abstains.")  # type: ignore[prop-decorator]
    @property
    def behavior(self) -> str | None:
        return super().behavior


class PredictAnswer(Settings):
    """The answers in the order of what was asked."""

    model: str = Field(description="Fingerprint of the model that answered.")
    predictions: list[ServedPrediction]


class FeedbackBody(Settings):
    """What came next."""

    events: Events = Field(
        min_length=1, description="Rows with the log's columns; user, behavior and time are required."
    )


class FeedbackAnswer(Settings):
    """What was kept."""

    stored: int = Field(description="Events that are on disk now.")
    warnings: list[str] = Field(default=[], description="What is odd about them.")


class Problem(Settings):
    """Why a request was refused."""

    error: str = Field(description="What is wrong, and what is allowed.")
    key: str | None = Field(default=None, description="The key of the request, or of the service's settings.")


class ServedBehavior(Settings):
    """A behavior that may be answered."""

    name: str
    id: int
    group: str
    count: int = Field(description="Training targets of the log.")


class ServedOrder(Settings):
    """A column that puts events in order; that of `at`, where it is the first."""

    column: str
    kind: str = Field(description="time, integer or duration.")
    time_format: str | None = Field(description="Pattern that it is written by; null: ISO 8601, or a number.")


class ServedModel(Settings):
    """What is being served."""

    fingerprint: str = Field(description="Equal for equal predictors.")
    name: str = Field(description="What the run calls it.")
    run: str
    dataset: str
    created: str
    opened: str = Field(description="Since when it answers here; ISO 8601, UTC.")
    kind: str = Field(description="model, counts or fused.")
    rule: str = Field(
        description="What answers are ranked by: plain, own_mix, logit_adjusted, bayes or fitted."
    )
    behaviors: list[ServedBehavior]
    columns: dict[str, str] = Field(
        description="Further columns of a history: role, and the log's name for it."
    )
    context: list[str] = Field(description="Keys of `context`.")
    clock: list[str] = Field(description="What is taken from `at`.")
    order: list[ServedOrder] = Field(description="What puts events in order; the first counts most.")
    max_events: int = Field(description="Events of a history that a language model sees at most.")
    wants_whole_history: bool = Field(
        description="Whether all that a user did counts, by habits or in a profile line: hand over the whole "
        "history, or answers are others than the run's."
    )
    limits: dict[str, int] = Field(description="What a request may ask for.")
    takes_feedback: bool
