"""Examples and losses on validation, against the same read from the log and computed in float64."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import log_softmax

from behaviorlm.metrics.outcomes import outcomes
from behaviorlm.prompts.config import PromptConfig
from behaviorlm_ray.evaluation.circumstances import Question, circumstances
from behaviorlm_ray.evaluation.examples import EACH, EXPECTED, examples, validation_losses
from behaviorlm_ray.evaluation.predictors import ArmScores
from behaviorlm_ray.evaluation.samples import EvaluatedSamples, SampleFacts, sample_facts
from behaviorlm_ray.preparation.prepared_log import PreparedLog
from tests.behaviorlm.random_parts import NAMES, prompt_tokens, vocabulary, write_part
from tests.platform.score_reading import in_batches

SAMPLES = EvaluatedSamples([np.arange(5, 40)] * 2, [np.arange(45, 85)] * 2)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    folder = tmp_path_factory.mktemp("log")
    (folder / "parts").mkdir()
    for number in range(2):
        write_part(folder / "parts" / f"timelines-{number:05d}.arrow", number, [40, 30, 20])
    (folder / "vocabulary.json").write_text(vocabulary().to_json())
    (folder / "prompt.json").write_text(prompt_tokens(0).to_json())
    return PreparedLog(folder, PromptConfig(max_events=8, stride=4))


@pytest.fixture(scope="module")
def facts(log: PreparedLog) -> SampleFacts:
    return sample_facts(log, SAMPLES)


@pytest.fixture(scope="module")
def question(log: PreparedLog, facts: SampleFacts) -> Callable[[int], Question]:
    return circumstances(log, SAMPLES.test, facts).question


@pytest.fixture(scope="module")
def scores() -> np.ndarray:
    return np.random.default_rng(6).normal(size=(80, 5)).astype(np.float32)


def test_examples_are_of_every_kind_with_history_and_what_is_ranked_first(
    log: PreparedLog, question: Callable[[int], Question], facts: SampleFacts, scores: np.ndarray
) -> None:
    of = outcomes(scores, facts.targets)
    told = examples(question, facts, of, in_batches(scores, 7)())
    kinds = [(one["is_anchor"], one["chosen"] == one["came"]) for one in told]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        (anchor, right): EACH for anchor in (True, False) for right in (True, False)
    }
    rows = {}
    for number, chosen in enumerate(SAMPLES.test):
        table = log.parts[number].table.to_pandas()
        for place, row in enumerate(chosen):
            history = table.behavior[log.parts[number].window_start[row] : row].tolist()
            rows[(tuple(history), table.behavior[row])] = (40 * number + place, len(history))
    for one in told:
        place, seen = rows[(tuple(one["history"]), one["came"])]
        assert one["events_seen"] == seen
        probabilities = np.exp(log_softmax(scores[place].astype(np.float64)))
        best = np.argsort(-probabilities)[:EXPECTED]
        assert [guess["behavior"] for guess in one["expected"]] == [NAMES[at] for at in best]
        assert [guess["probability"] for guess in one["expected"]] == pytest.approx(probabilities[best])
        assert one["rank"] == 1 + int((scores[place] > scores[place][NAMES.index(one["came"])]).sum())


def test_no_user_is_named(
    log: PreparedLog, question: Callable[[int], Question], facts: SampleFacts, scores: np.ndarray
) -> None:
    told = repr(examples(question, facts, outcomes(scores, facts.targets), in_batches(scores, 7)()))
    users = {user for part in log.parts for user in part.table["user"].to_pylist()}
    assert len(users) == 6 and not [user for user in users if user in told]


def test_the_loss_on_validation_is_minus_the_score_of_what_came(facts: SampleFacts) -> None:
    scores = np.random.default_rng(8).normal(-3, 1, size=(70, 5)).astype(np.float32)
    arm = ArmScores(in_batches(scores, 9), in_batches(scores[:0], 9))
    told = validation_losses({"one": arm}, facts)["one"]
    losses = np.array([-float(row[target]) for row, target in zip(scores, facts.validation, strict=True)])
    anchor = np.array([target in (0, 1) for target in facts.validation])
    assert told["all"] == pytest.approx(losses.mean())
    assert told["anchor"] == pytest.approx(losses[anchor].mean())
    assert told["tail"] == pytest.approx(losses[~anchor].mean())
