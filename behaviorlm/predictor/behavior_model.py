"""`BehaviorModel`: an artifact, opened, and asked what a user does next. API, batch job and service stand on it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.errors import ConfigError, DataError
from behaviorlm.predictor.answers import (
    Candidates,
    Contribution,
    Prediction,
    calibrated,
    candidates,
    decided,
    given_allowed,
    ranked,
)
from behaviorlm.predictor.artifact import Artifact, read_artifact
from behaviorlm.predictor.counts import read_counts
from behaviorlm.predictor.histories import History, read_histories
from behaviorlm.predictor.parts import Asked, Parts, without
from behaviorlm.predictor.places import local_folder
from behaviorlm.predictor.requests import Moment, Request

if TYPE_CHECKING:
    from behaviorlm.predictor.prefix_store import PrefixUse  # with torch behind it: counting does without

ANSWERS = pa.list_(
    pa.struct(
        [
            ("behavior", pa.string()),
            ("id", pa.int32()),
            ("probability", pa.float64()),
            ("score", pa.float64()),
        ]
    )
)
"""The column `answers` of a table of predictions."""


@dataclass(frozen=True)
class Choices:
    """What may be answered, and how. allow, deny: names of the vocabulary; new_names: further ones, scored exactly.

    k: answers of each request. min_probability: where the first answer is less likely, the prediction abstains.
    explain: also what each of the last events adds to the first answer, of those that it rests on one by one.
    """

    k: int = 5
    allow: Sequence[str] | None = None
    deny: Sequence[str] = ()
    new_names: Sequence[str] = ()
    min_probability: float = 0.0
    explain: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise DataError(f"k must be a whole number from 1, not {self.k!r}")
        number = self.min_probability
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 1:
            raise DataError(f"min_probability must lie between 0 and 1, not {number!r}")


@dataclass(frozen=True)
class Scored:
    """Histories as they were scored, before any answer is made of it.

    asked: of each of n. log_probabilities: of the C candidates, before calibration and any rule, float64[n, C]. Of the
    A that may be answered, float64[n, A]: scores, what the rule ranks by; shown, log probabilities after calibration.
    """

    chosen: Candidates
    asked: list[Asked]
    log_probabilities: NDArray[np.float64]
    scores: NDArray[np.float64]
    shown: NDArray[np.float64]


@dataclass(frozen=True)
class BehaviorModel:
    """A predictor: a language model, counting, or both. `load` opens one; it is a callable for `Dataset.map_batches`.

    opened: how it was opened, so that another process opens it again instead of being sent it.
    """

    parts: Parts
    opened: tuple[str, tuple[tuple[str, Any], ...]] = field(default=("", ()))

    @classmethod
    def load(cls, place: str | Path, *, revision: str | None = None, **loading: Any) -> Self:
        """Open a folder, s3://bucket/prefix, or a repository on the Hugging Face hub (`revision`: of the hub).

        loading: device ("cpu", "cuda"), base, trust_remote_code, max_tokens, prefix_bytes, see
        `language_model.Loading`. Raises ConfigError where nothing is there, DataError for an unknown or damaged
        artifact, ModelError for a model that cannot be used.
        """
        options = tuple(sorted({"revision": revision, **loading}.items()))
        with local_folder(place, revision) as folder:
            artifact = read_artifact(folder)
            language_model = None
            if artifact.predictor.kind != "counts":
                from behaviorlm.predictor.language_model import Loading, load_language_model

                language_model = load_language_model(folder, artifact, Loading(**loading))
            counts = None
            if artifact.predictor.kind != "model":
                counts = read_counts(folder, len(artifact.behaviors))
        return cls(Parts(artifact, language_model, counts), (str(place), options))

    @property
    def artifact(self) -> Artifact:
        """What its folder says of it: vocabulary, rule, metrics, origin."""
        return self.parts.artifact

    @property
    def prefix_use(self) -> "PrefixUse | None":
        """What kept prefixes were good for until now; None where none is kept."""
        model = self.parts.language_model
        return None if model is None or model.prefixes is None else model.prefixes.use

    def predict(
        self,
        history: Any = None,
        context: Mapping[str, Any] | None = None,
        *,
        at: Moment | None = None,
        earlier_events: int = 0,
        **choices: Any,
    ) -> Prediction:
        """What comes after a history; see `Request` for the first four, `Choices` for k, allow, deny, new_names,
        min_probability and explain. Raises DataError for what cannot be read.
        """
        return self.predict_many([Request(history, context, at, earlier_events)], **choices)[0]

    def predict_many(self, requests: Sequence[Request], **choices: Any) -> list[Prediction]:
        """The same for many at once, which share what they can; each answer is that of `predict`."""
        return self.predict_histories(self.read(requests), Choices(**choices))

    def read(self, requests: Sequence[Request]) -> list[History]:
        """The histories of requests, read as the log was. Raises DataError."""
        return read_histories(requests, self.artifact.events)

    def predict_histories(self, histories: Sequence[History], choices: Choices) -> list[Prediction]:
        """The same for histories that are read already, such as those of a prepared log."""
        if not histories:
            return []
        of_all = self.scored(histories, choices)
        chosen, found = of_all.chosen, []
        for history, of, scores, shown in zip(
            histories, of_all.asked, of_all.scores, of_all.shown, strict=True
        ):
            answers = ranked(shown, scores, chosen.allowed, choices.k)
            explained = (
                self._explain(history, of, chosen, shown, int(scores.argmax())) if choices.explain else None
            )
            found.append(
                Prediction(
                    answers=answers,
                    abstains=answers[0].probability < choices.min_probability,
                    events_given=history.earlier + history.size,
                    events_used=of.used,
                    warnings=[*history.warnings, *self._told(history, of)],
                    contributions=explained,
                )
            )
        return found

    def scored(self, histories: Sequence[History], choices: Choices) -> Scored:
        """What answers are made of, as arrays; of one history or more."""
        chosen = candidates(self.artifact, choices.allow, choices.deny, choices.new_names)
        asked = self.parts.asked(histories, chosen)
        log_probabilities = self.parts.log_probabilities(asked, chosen)
        scores = decided(log_probabilities, chosen, self.artifact.decision)[:, chosen.is_allowed]
        return Scored(chosen, asked, log_probabilities, scores, self._shown(log_probabilities, chosen))

    def _shown(self, log_probabilities: NDArray[np.float64], chosen: Candidates) -> NDArray[np.float64]:
        """After calibration, of those that may be answered."""
        return given_allowed(
            calibrated(log_probabilities, chosen.is_anchor, self.artifact.calibration), chosen
        )

    def log_probabilities(self, histories: Sequence[History]) -> NDArray[np.float64]:
        """Of the vocabulary, before calibration and any decision rule; float64[n, K]."""
        chosen = candidates(self.artifact)
        return self.parts.log_probabilities(self.parts.asked(histories, chosen), chosen)

    def __call__(self, batch: pa.Table | Mapping[str, Any]) -> pa.Table:
        """For `Dataset.map_batches(model, batch_format="pyarrow")`: a column `history` of lists of events, and where
        they are there `context` (a struct) and `at`. Adds the columns behavior, probability, answers and warnings.
        """
        table = (
            batch if isinstance(batch, pa.Table) else pa.table({name: list(batch[name]) for name in batch})
        )
        if "history" not in table.column_names:
            raise DataError(f"a batch needs a column 'history'; columns there: {table.column_names}")
        predictions = self.predict_many(
            [
                Request(row["history"], row.get("context"), row.get("at"), row.get("earlier_events") or 0)
                for row in table.to_pylist()
            ]
        )
        columns = {
            "behavior": pa.array([found.behavior for found in predictions], pa.string()),
            "probability": pa.array([found.answers[0].probability for found in predictions], pa.float64()),
            "answers": pa.array(
                [[vars(answer) for answer in of.answers] for of in predictions],
                ANSWERS,
            ),
            "warnings": pa.array([found.warnings for found in predictions], pa.list_(pa.string())),
        }
        for name, values in columns.items():
            table = table.append_column(name, values)
        return table

    def __reduce__(self) -> tuple[Any, ...]:
        if not self.opened[0]:
            raise ConfigError(
                "a predictor that was not opened by BehaviorModel.load cannot be sent elsewhere"
            )
        return _opened_again, self.opened

    def _explain(
        self,
        history: History,
        asked: Asked,
        chosen: Candidates,
        shown: NDArray[np.float64],
        best: int,
    ) -> list[Contribution]:
        """Leave one out: the first answer's probability without each event that was used, all in one batch."""
        if not asked.used:
            return []
        left_out = [without(asked, from_end) for from_end in range(asked.used, 0, -1)]
        log_probabilities = self.parts.log_probabilities(left_out, chosen)
        left = np.exp(self._shown(log_probabilities, chosen)[:, best]).tolist()
        whole = float(np.exp(shown[best]))
        first = history.size - asked.used
        names = history.events["behavior"].slice(first).to_pylist()
        return [
            Contribution(event=event, behavior=name, probability_without=part, adds=whole - part)
            for event, name, part in zip(history.given[first:].tolist(), names, left, strict=True)
        ]

    def _told(self, history: History, asked: Asked) -> Iterator[str]:
        if not history.size:
            yield "no history: the answer is what is likely of anybody"
        unknown = pc.invert(pc.is_in(history.events["behavior"], pa.array(self.artifact.names)))
        names = pc.unique(history.events["behavior"].filter(unknown)).to_pylist() if history.size else []
        if names:
            shown = ", ".join(f"{name!r}"[:60] for name in names[:5])
            yield f"the vocabulary does not hold {len(names)} behavior(s) of the history: {shown}"
        if asked.prompt is not None and asked.prompt.is_cut:
            yield "long events: fewer of them fit into the prompt than prompt.max_events allows"
        if asked.uncounted:
            yield (
                f"habits lack the {asked.uncounted} earlier events, which were not given: hand over the whole history, "
                "or the answer is another one than the run's"
            )
        if asked.prompt is not None and asked.prompt.uncounted:
            yield (
                f"the profile line lacks the {asked.prompt.uncounted} earlier events, which were not given: hand over "
                "the whole history, or the answer is another one than the run's"
            )


@lru_cache(maxsize=1)
def _opened_again(place: str, options: tuple[tuple[str, Any], ...]) -> BehaviorModel:
    return BehaviorModel.load(place, **dict(options))
