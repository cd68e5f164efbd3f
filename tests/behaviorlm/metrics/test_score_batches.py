"""What is kept of batches of label scores, by hand: every sample once, in its place, under every rule."""

import numpy as np
import pytest

from behaviorlm.errors import DataError
from behaviorlm.files import scratch
from behaviorlm.metrics.outcomes import outcomes
from behaviorlm.metrics.score_batches import Form, ScoreBatch, keep, keep_predictions


@pytest.fixture(params=[0, 2**26], autouse=True)
def bytes_in_memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "IN_MEMORY", request.param)


def test_a_sample_that_is_missing_or_there_twice_is_refused() -> None:
    scores = np.zeros((4, 2), np.float32)

    def rows(*places: list[int]) -> list[ScoreBatch]:
        return [ScoreBatch(np.array(chosen), scores[chosen]) for chosen in places]

    kept = keep(rows([3, 1], [0, 2]), 4, lambda batch: {"place": batch.places})
    assert kept["place"].tolist() == [0, 1, 2, 3]
    for places in ([[0, 1], [3]], [[0, 1, 2, 3], [2]], [[0, 1, 1, 2], [3]]):
        with pytest.raises(DataError, match=r"sample \d of 4 is predicted \d times"):
            keep(rows(*places), 4, lambda batch: {"place": batch.places})


def test_each_rule_has_the_outcomes_of_its_own_scores_and_choices_come_in_place() -> None:
    scores = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    targets = np.array([0, 2, -1, 1, 2], np.int32)
    batches = [ScoreBatch(np.array(places), scores[places]) for places in ([4, 0], [2, 1, 3])]

    def turned(batch: ScoreBatch) -> np.ndarray:
        return -batch.label_scores

    kept = keep_predictions(
        batches,
        targets,
        3,
        {"turned": Form(turned), "decided": Form(turned, is_decision=True)},
        lambda batch: batch.places[:, None].astype(np.int32),
    )
    for found, expected in (
        (kept.outcomes, outcomes(scores, targets)),
        (kept.forms["turned"], outcomes(-scores, targets)),
    ):
        for name in ("target", "predicted", "rank", "confidence"):
            assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    by_decision = kept.forms["decided"]
    assert np.array_equal(by_decision.predicted, kept.forms["turned"].predicted)
    own = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)  # of the scores that were not turned
    assert np.allclose(by_decision.confidence, own.min(axis=1), atol=1e-6)
    assert (kept.outcomes.predicted != kept.forms["turned"].predicted).all()
    assert kept.choices is not None and kept.choices.tolist() == [[0], [1], [2], [3], [4]]
    assert np.array_equal(kept.summary.top[:, 0], kept.outcomes.predicted)
    plain = keep_predictions(batches, targets, 3)
    assert plain.forms == {} and plain.choices is None
