"""`BehaviorModel`: an artifact, opened, and asked what a user does next. API, batch job and service stand on it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.errors import ConfigError, DataError
from behaviorlm.metrics.label_probabilities import normalize_label_scores
from behaviorlm.predictor.answers import (
    Candidates,
    Contribution,
    Prediction,
    calibrated,
    candidates,
    decided,
    ranked,
)
from behaviorlm.predictor.artifact import Artifact, FusedPredictor, read_artifact
from behaviorlm.predictor.counts import Counts, read_counts
from behaviorlm.predictor.histories import History, Moment, Request, read_histories
from behaviorlm.predictor.places import local_folder

if TYPE_CHECKING:
    from behaviorlm.predictor.language_model import (
        LanguageModel,
    )  # with torch behind it: counting does without
    from behaviorlm.predictor.prompts import Prompt

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
    explain: also what each event of the history adds to the first answer.
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
class _Asked:
    """What predictors are asked about, without any text.

    prompt: None without a language model. past: ids of the last behaviors, one more than counting looks at, so that it
    can do without one of them. context: its code. used: the last so many events of the history decide the answer.
    """

    prompt: "Prompt | None"
    past: tuple[int, ...]
    context: int
    used: int


@dataclass(frozen=True)
class BehaviorModel:
    """A predictor: a language model, counting, or both. `load` opens one; it is a callable for `Dataset.map_batches`.

    opened: how it was opened, so that another process opens it again instead of being sent it.
    """

    artifact: Artifact
    language_model: "LanguageModel | None"
    counts: Counts | None
    opened: tuple[str, tuple[tuple[str, Any], ...]] = field(default=("", ()))

    @classmethod
    def load(cls, place: str | Path, *, revision: str | None = None, **loading: Any) -> Self:
        """Open a folder, s3://bucket/prefix, or a repository on the Hugging Face hub (`revision`: of the hub).

        loading: device ("cpu", "cuda"), base, trust_remote_code, max_tokens, see `language_model.Loading`. Raises
        ConfigError where nothing is there, DataError for an unknown or damaged artifact, ModelError for a model that
        cannot be used.
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
        return cls(artifact, language_model, counts, (str(place), options))

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
        chosen = candidates(self.artifact, choices.allow, choices.deny, choices.new_names)
        asked = self._asked(histories, chosen)
        log_probabilities = self._log_probabilities(asked, chosen)
        scores = decided(log_probabilities, chosen, self.artifact)
        contributions: list[list[Contribution] | None] = [None] * len(histories)
        if choices.explain:
            contributions = [
                self._explain(history, of, chosen, log_probabilities[row], int(scores[row].argmax()))
                for row, (history, of) in enumerate(zip(histories, asked, strict=True))
            ]
        found = []
        for row, (history, of) in enumerate(zip(histories, asked, strict=True)):
            answers = ranked(log_probabilities[row], scores[row], chosen, choices.k)
            found.append(
                Prediction(
                    answers=answers,
                    abstains=answers[0].probability < choices.min_probability,
                    events_given=history.earlier + history.size,
                    events_used=of.used,
                    warnings=[*history.warnings, *self._told(history, of)],
                    contributions=contributions[row],
                )
            )
        return found

    def label_scores(self, histories: Sequence[History]) -> NDArray[np.float32]:
        """The language model's own label scores of the vocabulary, as a run has them; float32[n, K]."""
        names = self.artifact.names
        model = self._model
        return model.label_scores(model.prompts(histories, names), names)

    def counts_of(self, histories: Sequence[History]) -> NDArray[np.float32]:
        """The log probabilities of the vocabulary by counting alone; float32[n, K]."""
        if self.counts is None:
            raise DataError("this predictor is a language model alone: it does not count")
        pasts = [_past(history, self.artifact.names, self.counts.order) for history in histories]
        codes = self.counts.context_codes(pa.concat_tables([history.now for history in histories]))
        return self.counts.log_probabilities(pasts, codes)

    def log_probabilities(self, histories: Sequence[History]) -> NDArray[np.float64]:
        """Of the vocabulary, before any decision rule; float64[n, K]."""
        chosen = candidates(self.artifact)
        return self._log_probabilities(self._asked(histories, chosen), chosen)

    def __call__(self, batch: pa.Table | Mapping[str, Any]) -> pa.Table:
        """For `Dataset.map_batches(model, batch_format="pyarrow")`: a column `history` of lists of events, and where
        they are there `context` (a struct) and `at`. Adds the columns behavior, probability, answers and warnings.
        """
        table = (
            batch if isinstance(batch, pa.Table) else pa.table({name: list(batch[name]) for name in batch})
        )
        if "history" not in table.column_names:
            raise DataError(f"a batch needs a column 'history'; columns there: {table.column_names}")
        predictions = self.predict_many([_request(row) for row in table.to_pylist()])
        columns = {
            "behavior": pa.array([found.behavior for found in predictions], pa.string()),
            "probability": pa.array([found.answers[0].probability for found in predictions], pa.float64()),
            "answers": pa.array(
                [[answer.model_dump(include=_ANSWER_KEYS) for answer in of.answers] for of in predictions],
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

    @property
    def _model(self) -> "LanguageModel":
        if self.language_model is None:
            raise DataError("this predictor only counts: it has no language model")
        return self.language_model

    def _asked(self, histories: Sequence[History], chosen: Candidates) -> list[_Asked]:
        prompts: Sequence[Prompt | None] = [None] * len(histories)
        if self.language_model is not None:
            prompts = self.language_model.prompts(histories, chosen.names)
        pasts: list[tuple[int, ...]] = [()] * len(histories)
        contexts, order = np.zeros(len(histories), np.int32), 0
        if self.counts is not None:
            if self.artifact.predictor.kind == "counts" and (chosen.ids < 0).any():
                raise DataError("new_names: this predictor only counts, so it knows nothing of a new name")
            order = self.counts.order
            pasts = [_past(history, self.artifact.names, order + 1) for history in histories]
            contexts = self.counts.context_codes(pa.concat_tables([history.now for history in histories]))
        return [
            _Asked(
                prompt,
                past,
                context,
                max(0 if prompt is None else len(prompt.lines), min(order, history.size)),
            )
            for history, prompt, past, context in zip(
                histories, prompts, pasts, contexts.tolist(), strict=True
            )
        ]

    def _log_probabilities(self, asked: Sequence[_Asked], chosen: Candidates) -> NDArray[np.float64]:
        """Of the candidates, calibrated; float64[n, C]."""
        of_model = of_counts = None
        if self.language_model is not None:
            prompts = [of.prompt for of in asked if of.prompt is not None]
            of_model = normalize_label_scores(self.language_model.label_scores(prompts, chosen.names))
        if self.counts is not None:
            every = self.counts.log_probabilities(
                [of.past for of in asked], np.array([of.context for of in asked])
            )
            if (
                chosen.ids >= 0
            ).any():  # else only new names may be answered, of which counting knows nothing
                of_counts = normalize_label_scores(np.where(chosen.ids >= 0, every[:, chosen.ids], -np.inf))
        found = mixed(of_model, of_counts, self.artifact.predictor)
        return calibrated(found, chosen, self.artifact.calibration)

    def _explain(
        self,
        history: History,
        asked: _Asked,
        chosen: Candidates,
        log_probabilities: NDArray[np.float64],
        best: int,
    ) -> list[Contribution]:
        """Leave one out: the first answer's probability without each event that was used, all in one batch."""
        if not asked.used:
            return []
        left_out = [_without(asked, from_end) for from_end in range(asked.used, 0, -1)]
        without = np.exp(self._log_probabilities(left_out, chosen)[:, best]).tolist()
        whole = float(np.exp(log_probabilities[best]))
        first = history.size - asked.used
        names = history.events["behavior"].slice(first).to_pylist()
        return [
            Contribution(event=event, behavior=name, probability_without=part, adds=whole - part)
            for event, name, part in zip(history.given[first:].tolist(), names, without, strict=True)
        ]

    def _told(self, history: History, asked: _Asked) -> Iterator[str]:
        if not history.size:
            yield "no history: the answer is what is likely of anybody"
        unknown = pc.invert(pc.is_in(history.events["behavior"], pa.array(self.artifact.names)))
        names = pc.unique(history.events["behavior"].filter(unknown)).to_pylist() if history.size else []
        if names:
            shown = ", ".join(f"{name!r}"[:60] for name in names[:5])
            yield f"the vocabulary does not hold {len(names)} behavior(s) of the history: {shown}"
        if asked.prompt is not None and asked.prompt.is_cut:
            yield "long events: fewer of them fit into the prompt than prompt.max_events allows"


def mixed(
    of_model: NDArray[np.float64] | None, of_counts: NDArray[np.float64] | None, predictor: Any
) -> NDArray[np.float64]:
    """Log probabilities of a predictor from those of its parts, float64[n, C] each."""
    if of_model is not None and of_counts is not None:
        weight = predictor.counts_weight if isinstance(predictor, FusedPredictor) else 0.0
        with np.errstate(divide="ignore"):
            return np.logaddexp(np.log1p(-weight) + of_model, np.log(weight) + of_counts)
    found = of_counts if of_model is None else of_model
    assert found is not None
    return found


def _past(history: History, names: Sequence[str], number: int) -> tuple[int, ...]:
    """Ids of the last behaviors, -1 for those that are not known, also for those before the history."""
    latest = history.events["behavior"].slice(max(0, history.size - number))
    ids = pc.fill_null(pc.index_in(latest, value_set=pa.array(names, pa.string())), -1).to_pylist()
    return (*[-1] * min(history.earlier, number - len(ids)), *ids)


def _without(asked: _Asked, from_end: int) -> _Asked:
    """As if the event at this place, 1 for the last, had not been; the window stays where it is."""
    prompt, past = asked.prompt, asked.past
    if prompt is not None and from_end <= len(prompt.lines):
        prompt = prompt.without(len(prompt.lines) - from_end)
    if from_end <= len(past):
        cut = len(past) - from_end
        past = past[:cut] + past[cut + 1 :]
    return replace(asked, prompt=prompt, past=past)


def _request(row: Mapping[str, Any]) -> Request:
    return Request(row["history"], row.get("context"), row.get("at"), row.get("earlier_events") or 0)


_ANSWER_KEYS = {"behavior", "id", "probability", "score"}


@lru_cache(maxsize=1)
def _opened_again(place: str, options: tuple[tuple[str, Any], ...]) -> BehaviorModel:
    return BehaviorModel.load(place, **dict(options))
