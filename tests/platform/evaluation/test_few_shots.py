"""Few shots of a prepared log: what is used, that counting counts nothing else, and probabilities at the natural prior.

Held against counting over a log in which what is not used is no training event, and against float64 arithmetic.
"""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from behaviorlm.baselines import BASELINES
from behaviorlm.baselines.markov import fit_markov
from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm.metrics.score_batches import Kept
from behaviorlm.prompts.config import PromptConfig
from behaviorlm.scoring.model_names import PLAIN
from behaviorlm.timelines.config import FewShotConfig
from behaviorlm_ray.evaluation.comparison import Comparison, Resampling, compare
from behaviorlm_ray.evaluation.counted_log import asked_rows, counted_log
from behaviorlm_ray.evaluation.counting import Counting
from behaviorlm_ray.evaluation.predictors import ArmScores
from behaviorlm_ray.evaluation.samples import EvaluatedSamples, sample_facts
from behaviorlm_ray.preparation.few_shots import few_shot_counts, few_shots_in_words
from behaviorlm_ray.preparation.prepared_log import PreparedLog, gather, rows_of_split, whole_split
from tests.behaviorlm.random_parts import prompt_tokens, vocabulary, write_part
from tests.platform.score_reading import in_batches

SHOTS = 4


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    """Two parts; the last thirds of timelines are validation and test."""
    folder: Path = tmp_path_factory.mktemp("few")
    (folder / "parts").mkdir()
    counts = np.zeros(5, np.int64)
    for number in range(2):
        path = folder / "parts" / f"timelines-{number:05d}.arrow"
        write_part(path, number, [60, 45, 30])
        table = pa.ipc.open_file(path.read_bytes()).read_all()
        split = np.minimum(table["position"].to_numpy() // 20, 2)
        table = table.set_column(table.column_names.index("split"), "split", pa.array(split, pa.int8()))
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
        is_counted = table["is_target"].to_numpy(zero_copy_only=False) & (split == 0)
        names = np.array(vocabulary().names)
        counts += (np.array(table["behavior"].to_pylist())[is_counted][:, None] == names).sum(axis=0)
    (folder / "vocabulary.json").write_text(replace(vocabulary(), counts=counts).to_json())
    (folder / "prompt.json").write_text(prompt_tokens(0).to_json())
    return PreparedLog(folder, PromptConfig())


@pytest.fixture(scope="module")
def few(whole: PreparedLog) -> PreparedLog:
    return replace(whole, few_shot=FewShotConfig(tail_samples=SHOTS))


def samples_of(log: PreparedLog) -> EvaluatedSamples:
    return EvaluatedSamples(rows_of_split(log, "validation"), rows_of_split(log, "test"))


def natural(scores: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """p · exp(shift), renormalized."""
    moved = np.exp(scores.astype(np.float64)) * np.exp(shift)
    return moved / moved.sum(axis=1, keepdims=True)


def all_of(scores: ArmScores) -> np.ndarray:
    batches = list(scores.test())
    order = np.argsort(np.concatenate([batch.places for batch in batches]))
    return np.concatenate([batch.label_scores for batch in batches])[order].astype(np.float64)


def shares(counts: np.ndarray) -> np.ndarray:
    return np.log((counts + 1) / (counts + 1).sum())


def test_the_tail_is_limited_and_nothing_else(whole: PreparedLog, few: PreparedLog) -> None:
    is_tail = ~whole.vocabulary.is_anchor
    for split in ("train", "validation", "test"):
        before, after = (
            np.bincount(gather(log, rows_of_split(log, split), "behavior"), minlength=5)
            for log in (whole, few)
        )
        assert (after[~is_tail] == before[~is_tail]).all()
        if split == "train":
            assert (after[is_tail] == SHOTS).all() and (before[is_tail] > SHOTS).all()
    assert [len(part) for part in few.parts] == [len(part) for part in whole.parts]
    assert few.vocabulary == whole.vocabulary
    again = rows_of_split(pickle.loads(pickle.dumps(few)), "train")
    assert all(map(np.array_equal, again, rows_of_split(few, "train")))


def test_what_is_used_is_told(whole: PreparedLog, few: PreparedLog) -> None:
    counts = few_shot_counts(few)
    assert counts is not None and few_shot_counts(whole) is None and few_shots_in_words(whole) is None
    there = int((gather(few, whole_split(few, "train"), "behavior") >= 2).sum())
    assert counts["tail_samples"] == SHOTS and counts["seed"] == 0
    assert counts["train"] == {"tail": 3 * SHOTS, "tail_there": there, "tail_behaviors": 3}
    told = few_shots_in_words(few)
    assert told is not None and f"12 of {there} training samples with a tail target" in told
    assert "histories" in told


def test_a_share_thins_every_behavior_for_tuning_and_counting_alike(whole: PreparedLog) -> None:
    part = replace(whole, few_shot=FewShotConfig(share=0.4))
    for split in ("train", "validation"):
        before, after = (
            np.bincount(gather(log, rows_of_split(log, split), "behavior"), minlength=5)
            for log in (whole, part)
        )
        assert (np.abs(after - 0.4 * before) < 1).all() and (before > 2).all()
    assert all(map(np.array_equal, rows_of_split(part, "test"), rows_of_split(whole, "test")))
    counted = counted_log(part, samples_of(part)).timelines
    used = asked_rows(part, rows_of_split(part, "train"))
    assert (np.flatnonzero((counted.split == 0) & (counted.behavior >= 0)) == np.sort(used)).all()
    counts, told = few_shot_counts(part), few_shots_in_words(part)
    assert counts is not None and counts["train"]["all"] == len(used) and "few_shot.share is 0.4" in str(told)


def test_counting_counts_the_same_samples_in_whole_histories(whole: PreparedLog, few: PreparedLog) -> None:
    everything = counted_log(whole, samples_of(whole)).timelines
    split = everything.split.copy()
    used = [asked_rows(few, rows_of_split(few, name)) for name in ("train", "validation")]
    dropped = (everything.behavior >= 2) & (split < 2)
    dropped[np.concatenate(used)] = False
    split[dropped] = 9
    by_hand = fit_markov(
        TimelineArrays(
            everything.behavior,
            everything.user_start,
            everything.is_target,
            split,
            everything.context,
            everything.behaviors,
            everything.contexts,
        ),
        order=3,
    )
    asked = asked_rows(few, rows_of_split(few, "test"))
    counted = everything.behavior[(split == 0) & (everything.behavior >= 0)]
    shift = shares(whole.vocabulary.counts) - shares(np.bincount(counted, minlength=5))
    expected = natural(by_hand.predict(everything, asked), shift)
    samples = samples_of(few)
    baselines = Counting(counted_log(few, samples), sample_facts(few, samples)).baselines()
    found = baselines["markov_order_3"]
    np.testing.assert_allclose(np.exp(all_of(found)), expected, rtol=1e-5)
    assert found.own_mix is not None
    np.testing.assert_allclose(found.own_mix, -shift)
    assert BASELINES["per_user_frequency"].counts_history
    assert baselines["per_user_frequency"].own_mix is None


def compared(log: PreparedLog, mix: np.ndarray) -> tuple[Comparison, np.ndarray, np.ndarray]:
    """Random scores, as those of a model that was tuned on a mix; those on test, and how sure it is of its choices."""
    samples, random = samples_of(log), np.random.default_rng(7)
    both = [
        random.normal(size=(len(gather(log, rows, "behavior")), 5)).astype(np.float32)
        for rows in (samples.validation, samples.test)
    ]
    arms = {"one_stage": ArmScores(in_batches(both[0], 16), in_batches(both[1], 16), mix=mix)}
    kept: dict[str, Kept] = {}
    found = compare(
        log,
        samples,
        arms,
        tau_grid=(0.0, 0.5, 1.0),
        resampling=Resampling(50, 0),
        told=kept.__setitem__,
    )
    return found, both[1], kept["one_stage"].outcomes.confidence


def test_rules_but_the_plain_one_see_the_natural_prior(few: PreparedLog) -> None:
    mix = shares(np.array([50, 30, SHOTS, SHOTS, SHOTS]))
    prior = shares(few.vocabulary.counts)
    found, scores, confidence = compared(few, mix)
    targets = gather(few, rows_of_split(few, "test"), "behavior")
    probabilities = natural(scores, prior - mix)

    def accuracy(ranked_by: np.ndarray, name: str) -> None:
        right = float((ranked_by.argmax(axis=1) == targets).mean())
        assert found.results["models"][name]["all"]["accuracy"]["value"] == pytest.approx(right)

    accuracy(scores, "one_stage")
    tau = found.details["tau"]["one_stage"]
    accuracy(np.log(probabilities) - tau * prior, "one_stage+adjusted")
    rules = found.details["rules"]["one_stage"]
    assert rules[PLAIN]["kind"] == "own_mix"
    np.testing.assert_allclose(rules[PLAIN]["shift"], mix - prior)
    gains = np.where(
        few.vocabulary.is_anchor, 1 / np.exp(prior[few.vocabulary.is_anchor]).sum(), 1 / (3 * np.exp(prior))
    )
    accuracy(probabilities * gains, "one_stage+bayes")
    own = probabilities[np.arange(len(scores)), scores.argmax(axis=1)]
    np.testing.assert_allclose(confidence, own, rtol=1e-5)


def test_a_mixture_is_of_both_at_the_natural_prior_by_what_samples_stand_for(few: PreparedLog) -> None:
    samples, facts = samples_of(few), sample_facts(few, samples_of(few))
    vocabulary = few.vocabulary
    is_tail = ~vocabulary.is_anchor[facts.validation]
    stands_for = vocabulary.counts[facts.validation] / SHOTS
    np.testing.assert_allclose(facts.validation_weights, np.where(is_tail, stands_for, 1.0))
    random = np.random.default_rng(8).normal(size=(len(facts.validation), 5)).astype(np.float32)
    random[np.arange(len(random)), facts.validation] += 1
    model = ArmScores(in_batches(random, 16), in_batches(random, 16))
    counting = Counting(counted_log(few, samples), facts)
    counted = np.concatenate([batch.label_scores for batch in counting.alone().validation()])
    own = natural(random, np.zeros(5))[np.arange(len(random)), facts.validation]
    other = np.exp(counted.astype(np.float64))[np.arange(len(random)), facts.validation]
    anchors = [
        of[:, vocabulary.is_anchor].sum(axis=1) for of in (natural(random, np.zeros(5)), np.exp(counted))
    ]

    def likelihood(anchor: float, tail: float) -> float:
        weight = np.where(is_tail, tail, anchor)
        whole = (1 - anchor) * anchors[0] + anchor * anchors[1]
        whole = whole + (1 - tail) * (1 - anchors[0]) + tail * (1 - anchors[1])
        return float(facts.validation_weights @ np.log((weight * other + (1 - weight) * own) / whole))

    best = max(likelihood(one / 20, two / 20) for one in range(20) for two in range(20))
    found = counting.best_mixture(model)
    assert found.tail_counts_weight is not None
    assert likelihood(found.counts_weight, found.tail_counts_weight) == pytest.approx(best, rel=1e-6)


def test_all_samples_are_as_before(whole: PreparedLog) -> None:
    found, scores, confidence = compared(whole, shares(np.array([9, 9, 9, 9, 9])))
    np.testing.assert_allclose(confidence, natural(scores, np.zeros(5)).max(axis=1), rtol=1e-5)
    assert found.details["rules"]["one_stage"][PLAIN] == {"kind": "plain"}
    assert (sample_facts(whole, samples_of(whole)).validation_weights == 1).all()
    targets = gather(whole, rows_of_split(whole, "test"), "behavior")
    right = float((scores.argmax(axis=1) == targets).mean())
    assert found.results["models"]["one_stage"]["all"]["accuracy"]["value"] == pytest.approx(right)
