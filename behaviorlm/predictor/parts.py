"""What a predictor is made of, and what it says: log probabilities by a model, by counting, or by both."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.baselines.habits import Habits, counted_in
from behaviorlm.errors import DataError
from behaviorlm.metrics.label_probabilities import normalize_label_scores
from behaviorlm.predictor.answers import Candidates
from behaviorlm.predictor.artifact import Artifact, FusedPredictor, NaturalPrior
from behaviorlm.predictor.counts import Counts
from behaviorlm.predictor.histories import History

if TYPE_CHECKING:
    # with torch behind them: counting does without
    from behaviorlm.predictor.language_model import LanguageModel
    from behaviorlm.predictor.prompts import Prompt


@dataclass(frozen=True)
class Asked:
    """What predictors are asked about, without any text.

    prompt: None without a language model. past: ids of the behaviors, where habits count of all, else of the last, one
    more than counting looks at, so that it can do without one of them. context: its code. used: the last so many events
    of the history decide the answer one by one. uncounted: earlier events that habits lack.
    """

    prompt: "Prompt | None"
    past: NDArray[np.int32]
    context: int
    used: int
    uncounted: int = 0


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
        pasts = [np.zeros(0, np.int32)] * len(histories)
        contexts, order = np.zeros(len(histories), np.int32), 0
        if self.counts is not None:
            if self.artifact.predictor.kind == "counts" and (chosen.ids < 0).any():
                raise DataError("new_names: this predictor only counts, so it knows nothing of a new name")
            order = self.counts.order
            looked_at = None if self.habits is not None else order + 1
            pasts = [_past(history, self.artifact.names, order + 1, looked_at) for history in histories]
            contexts = self.counts.context_codes(pa.concat_tables([history.now for history in histories]))
        return [
            Asked(
                prompt,
                past,
                context,
                max(0 if prompt is None else len(prompt.lines), min(order, history.size)),
                0 if self.habits is None else history.earlier,
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
            every = self._counted([of.past for of in asked], np.array([of.context for of in asked]))
            of_counts = np.where(chosen.ids >= 0, every[:, chosen.ids], -np.inf)
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
        """The log probabilities of the vocabulary by counting alone, at the natural prior; float32[n, K]."""
        if self.counts is None:
            raise DataError("this predictor is a language model alone: it does not count")
        order = self.counts.order
        looked_at = None if self.habits is not None else order
        pasts = [_past(history, self.artifact.names, order, looked_at) for history in histories]
        codes = self.counts.context_codes(pa.concat_tables([history.now for history in histories]))
        return self._counted(pasts, codes).astype(np.float32)

    @property
    def habits(self) -> Habits | None:
        """How far the past of whoever is asked about counts itself."""
        return (
            None if self.counts is None or self.artifact.counting is None else self.artifact.counting.habits
        )

    def _counted(
        self, pasts: Sequence[NDArray[np.int32]], contexts: NDArray[np.integer]
    ) -> NDArray[np.float64]:
        """Log probabilities of the vocabulary by counting, at the natural prior; float64[n, K]."""
        assert self.counts is not None
        shift = self.artifact.to_natural and self.artifact.to_natural.counts
        said = self.counts.log_probabilities(pasts, contexts)
        found = normalize_label_scores(said if shift is None else said + np.array(shift))
        if self.habits is None:
            return found
        return self.habits.log_probabilities(found, *counted_in(pasts, found.shape[1]))


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


def _past(history: History, names: Sequence[str], least: int, most: int | None) -> NDArray[np.int32]:
    """Ids of the last behaviors, so many at most, or of all; -1 for those that are not known, also for those before the
    history, where it has less than `least`.
    """
    latest = history.events["behavior"].slice(0 if most is None else max(0, history.size - most))
    ids = pc.fill_null(pc.index_in(latest, value_set=pa.array(names, pa.string())), -1).to_numpy()
    before = np.full(min(history.earlier, max(0, least - len(ids))), -1)
    return np.concatenate([before, ids]).astype(np.int32)


def without(asked: Asked, from_end: int) -> Asked:
    """As if the event at this place, 1 for the last, had not been; the window stays where it is."""
    prompt, past = asked.prompt, asked.past
    if prompt is not None and from_end <= len(prompt.lines):
        prompt = prompt.without(len(prompt.lines) - from_end)
    if from_end <= len(past):
        past = np.delete(past, len(past) - from_end)
    return replace(asked, prompt=prompt, past=past)
