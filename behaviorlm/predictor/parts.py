"""What a predictor is made of, and what it says: log probabilities by a model, by counting, or by both."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.metrics.label_probabilities import normalize_label_scores
from behaviorlm.predictor.answers import Candidates
from behaviorlm.predictor.artifact import Artifact, FusedPredictor, NaturalPrior
from behaviorlm.predictor.counts import Counts
from behaviorlm.predictor.histories import History

if TYPE_CHECKING:
    from behaviorlm.predictor.language_model import (
        LanguageModel,
    )  # with torch behind it: counting does without
    from behaviorlm.predictor.prompts import Prompt


@dataclass(frozen=True)
class Asked:
    """What predictors are asked about, without any text.

    prompt: None without a language model. past: ids of the last behaviors, one more than counting looks at, so that it
    can do without one of them. context: its code. used: the last so many events of the history decide the answer.
    """

    prompt: "Prompt | None"
    past: tuple[int, ...]
    context: int
    used: int


@dataclass(frozen=True)
class Parts:
    """A predictor opened: what its kind needs is there, the rest None."""

    artifact: Artifact
    language_model: "LanguageModel | None"
    counts: Counts | None

    def asked(self, histories: Sequence[History], chosen: Candidates) -> list[Asked]:
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
            Asked(
                prompt,
                past,
                context,
                max(0 if prompt is None else len(prompt.lines), min(order, history.size)),
            )
            for history, prompt, past, context in zip(
                histories, prompts, pasts, contexts.tolist(), strict=True
            )
        ]

    def log_probabilities(self, asked: Sequence[Asked], chosen: Candidates) -> NDArray[np.float64]:
        """Of the candidates, before calibration and any rule; float64[n, C]."""
        of_model = of_counts = None
        natural = self.artifact.to_natural or NaturalPrior()
        if self.language_model is not None:
            prompts = [of.prompt for of in asked if of.prompt is not None]
            scores = self.language_model.label_scores(prompts, chosen.names)
            of_model = _at_natural_prior(scores, natural.model, chosen)
        if self.counts is not None:
            every = self.counts.log_probabilities(
                [of.past for of in asked], np.array([of.context for of in asked])
            )
            counted = np.where(chosen.ids >= 0, every[:, chosen.ids], -np.inf)
            of_counts = _at_natural_prior(counted, natural.counts, chosen)
        predictor = self.artifact.predictor
        if of_model is not None and of_counts is not None and isinstance(predictor, FusedPredictor):
            return mixed(of_model, of_counts, predictor.weights(chosen.is_anchor))
        found = of_counts if of_model is None else of_model
        assert found is not None
        return found

    def label_scores(self, histories: Sequence[History]) -> NDArray[np.float32]:
        """The language model's own label scores of the vocabulary, as a run has them; float32[n, K]."""
        names = self.artifact.names
        model = self.language_model
        if model is None:
            raise DataError("this predictor only counts: it has no language model")
        return model.label_scores(model.prompts(histories, names), names)

    def counts_of(self, histories: Sequence[History]) -> NDArray[np.float32]:
        """The log probabilities of the vocabulary by counting alone; float32[n, K]."""
        if self.counts is None:
            raise DataError("this predictor is a language model alone: it does not count")
        pasts = [_past(history, self.artifact.names, self.counts.order) for history in histories]
        codes = self.counts.context_codes(pa.concat_tables([history.now for history in histories]))
        return self.counts.log_probabilities(pasts, codes)


def mixed(
    of_model: NDArray[np.float64], of_counts: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Log probabilities of a linear mixture, normalized, float64[n, C] like those of its parts; weights: counting's
    shares, float64[C].
    """
    with np.errstate(divide="ignore"):
        found = of_model + np.log1p(-weights)
        np.logaddexp(found, of_counts + np.log(weights), out=found)
    found -= np.logaddexp.reduce(found, axis=1, keepdims=True)
    return found


def _at_natural_prior(
    scores: NDArray[np.floating], shift: Sequence[float] | None, chosen: Candidates
) -> NDArray[np.float64]:
    """Log probabilities of the candidates, float64[n, C]; a new name has no share to be brought back to."""
    moved = scores if shift is None else scores + np.append(shift, 0.0)[chosen.ids]
    return normalize_label_scores(moved)


def _past(history: History, names: Sequence[str], number: int) -> tuple[int, ...]:
    """Ids of the last behaviors, -1 for those that are not known, also for those before the history."""
    latest = history.events["behavior"].slice(max(0, history.size - number))
    ids = pc.fill_null(pc.index_in(latest, value_set=pa.array(names, pa.string())), -1).to_pylist()
    return (*[-1] * min(history.earlier, number - len(ids)), *ids)


def without(asked: Asked, from_end: int) -> Asked:
    """As if the event at this place, 1 for the last, had not been; the window stays where it is."""
    prompt, past = asked.prompt, asked.past
    if prompt is not None and from_end <= len(prompt.lines):
        prompt = prompt.without(len(prompt.lines) - from_end)
    if from_end <= len(past):
        cut = len(past) - from_end
        past = past[:cut] + past[cut + 1 :]
    return replace(asked, prompt=prompt, past=past)
