"""What a predictor answers, against plain sequences, explicit computations and its own single requests."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from behaviorlm.errors import ConfigError, DataError
from behaviorlm.predictor.artifact import Calibration, FusedPredictor
from behaviorlm.predictor.behavior_model import BehaviorModel, Choices
from behaviorlm.predictor.requests import Request
from behaviorlm.predictor.rules import BayesRule, DecisionRule, FittedRule, LogitAdjusted, PlainRule
from behaviorlm.scoring.decision_rules import log_prior
from tests.behaviorlm.predictor.small_artifacts import NAMES, history, without_context, write_artifact

AT = "2024-03-03T10:00:00Z"
ROOM = {"room": "hall"}
Models = dict[str, BehaviorModel]


def plain_scores(model: BehaviorModel, events: list[dict[str, Any]], names: list[str]) -> NDArray[np.float64]:
    """log P(name, end | prompt) by one plain sequence for each name; the prompt in words, encoded piece by piece."""
    language = model.parts.language_model
    assert language is not None
    prompt = language.tokens.instruction_ids
    for event in events:
        line = pa.table(
            {
                "behavior": [event["behavior"]],
                "before.room": [event["room"]],
                "before.weekday": [day_of(event["time"])],
                "after.result": [event["result"]],
            }
        )
        prompt = prompt + language.encoder.encode_lines(line).to_pylist()[0]
    now = pa.table({"before.room": ["hall"], "before.weekday": [day_of(AT)]})
    prompt = prompt + language.encoder.encode_questions(now).to_pylist()[0]
    scores = []
    for ids in language.encoder.encode_names(names):
        label = [*ids.tolist(), *language.tokens.terminator_ids]
        with torch.inference_mode():
            logits = language.model(torch.tensor([prompt + label])).logits[0].double().log_softmax(-1)
        places = range(len(prompt) - 1, len(prompt) + len(label) - 1)
        scores.append(sum(float(logits[place, token]) for place, token in zip(places, label, strict=True)))
    return np.array(scores)


def day_of(time: str) -> str:
    return np.datetime64(time.removesuffix("Z")).astype("datetime64[D]").item().strftime("%a")


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    exponents = np.exp(scores - scores.max())
    return exponents / exponents.sum()


def by_name(model: BehaviorModel, events: list[dict[str, Any]], **choices: Any) -> dict[str, float]:
    found = model.predict(events, ROOM, at=AT, k=99, **choices)
    return {answer.behavior: answer.probability for answer in found.answers}


@pytest.mark.parametrize("number", [0, 1, 5, 6, 7, 8, 9, 10, 13])
def test_scores_are_those_of_plain_sequences_over_the_window_that_training_had(
    models: Models, number: int
) -> None:
    """At most 6 events from a start that is a multiple of 3."""
    events = history(number)
    first = max(0, -(-(number - 6) // 3) * 3)
    expected = softmax(plain_scores(models["model"], events[first:], list(NAMES)))
    found = models["model"].predict(events, ROOM, at=AT, k=99)
    assert found.events_used == number - first and found.events_given == number
    probabilities = {answer.behavior: answer.probability for answer in found.answers}
    assert [probabilities[name] for name in NAMES] == pytest.approx(expected.tolist(), abs=1e-6)
    assert sum(probabilities.values()) == pytest.approx(1)


def test_a_history_whose_beginning_is_left_out_sees_the_same_window_when_told_so(models: Models) -> None:
    events = history(14)
    whole = by_name(models["fused"], events)
    told = by_name(models["fused"], events[5:], earlier_events=5)
    assert told == pytest.approx(whole, abs=1e-6)
    assert by_name(models["fused"], events[5:]) != pytest.approx(whole, abs=1e-6)


def test_counting_does_not_take_a_cut_history_for_a_whole_one(models: Models) -> None:
    """What lies before the events that are given is unknown, which is not the beginning of a timeline."""
    counts = models["counts"].parts.counts
    assert counts is not None
    [last] = history(1)
    place = NAMES.index(last["behavior"])
    [read] = models["counts"].read([Request([last], ROOM, AT)])
    context = counts.context_codes(read.now)
    for earlier, past in ((0, [place]), (1, [-1, place]), (9, [-1, -1, place])):
        expected = np.exp(counts.log_probabilities([past], context))[0]
        found = by_name(models["counts"], [last], earlier_events=earlier)
        assert [found[name] for name in NAMES] == pytest.approx(expected.tolist(), abs=1e-6)
    whole, cut = (np.exp(counts.log_probabilities([past], context)) for past in ([place], [-1, -1, place]))
    assert np.abs(whole - cut).max() > 1e-4


def test_allow_deny_and_new_names_are_scored_exactly(models: Models) -> None:
    events = history(6)
    new = ["camera off", "lamp", "sauna at night"]
    asked = ["lamp on", "camera", "alarm", *new]
    expected = softmax(plain_scores(models["model"], events, asked))
    found = models["model"].predict(
        events, ROOM, at=AT, k=99, allow=[*asked, "door"], deny=["door"], new_names=new
    )
    assert {answer.behavior: answer.probability for answer in found.answers} == pytest.approx(
        dict(zip(asked, expected.tolist(), strict=True)), abs=1e-6
    )
    of_new = {answer.behavior: answer for answer in found.answers if answer.behavior in new}
    assert all(answer.id is None and not answer.is_trained for answer in of_new.values())
    assert {answer.group for answer in of_new.values()} == {"tail"}
    by_id = {answer.id: answer.behavior for answer in found.answers if answer.id is not None}
    assert by_id == {0: "lamp on", 4: "camera", 6: "alarm"}


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"allow": ["lamp in"]}, "unknown behaviors 'lamp in'"),
        ({"deny": list(NAMES)}, "leave no behavior"),
        ({"new_names": ["lamp on"]}, "not in the vocabulary"),
        ({"new_names": ["  "]}, "is empty"),
        ({"new_names": ["a\x01b", "a\x02b"]}, "become the same tokens"),
        ({"allow": "lamp on"}, "must be a list of names"),
        ({"k": 0}, "k must be"),
        ({"min_probability": 2}, "min_probability must"),
    ],
)
def test_choices_that_cannot_be_meant_are_refused_by_name(
    models: Models, choices: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        models["model"].predict(history(3), **choices)


def test_counting_refuses_new_names_and_a_mixture_leaves_them_to_the_model(models: Models) -> None:
    with pytest.raises(DataError, match="knows nothing of a new name"):
        models["counts"].predict(history(3), new_names=["sauna"])
    events, names = history(3), [*NAMES, "sauna"]
    of_model = by_name(models["model"], events, new_names=["sauna"])
    of_counts = by_name(models["counts"], events) | {"sauna": 0.0}
    fused = by_name(models["fused"], events, new_names=["sauna"])
    assert fused == pytest.approx(
        {name: 0.6 * of_model[name] + 0.4 * of_counts[name] for name in names}, abs=1e-6
    )
    only_new = by_name(models["fused"], events, allow=["sauna"], new_names=["sauna"])
    assert only_new == pytest.approx({"sauna": 1.0})


def test_a_mixture_may_weigh_counting_by_group(tiny_base: Path, tmp_path: Path, models: Models) -> None:
    artifact = write_artifact(tmp_path / "by_group", tiny_base, "fused")
    predictor = FusedPredictor(counts_weight=0.7, tail_counts_weight=0.2)
    parts = BehaviorModel.load(tmp_path / "by_group", device="cpu").parts
    changed = replace(parts, artifact=artifact.model_copy(update={"predictor": predictor}))
    events = history(7)
    found = by_name(BehaviorModel(changed), events)
    of_model, of_counts = by_name(models["model"], events), by_name(models["counts"], events)
    weights = {of.name: 0.7 if of.group == "anchor" else 0.2 for of in artifact.behaviors}
    said = {name: weights[name] * of_counts[name] + (1 - weights[name]) * of_model[name] for name in NAMES}
    whole = sum(said.values())
    assert whole != pytest.approx(1, abs=1e-3)
    assert found == pytest.approx({name: value / whole for name, value in said.items()}, abs=1e-6)


def test_logit_adjustment_reorders_and_leaves_probabilities(
    tiny_base: Path, tmp_path: Path, models: Models
) -> None:
    rule = LogitAdjusted(tau=0.7)
    artifact = write_artifact(tmp_path / "adjusted", tiny_base, "model", rule)
    model = BehaviorModel.load(tmp_path / "adjusted", device="cpu")
    found = model.predict(history(9), ROOM, at=AT, k=99).answers
    plain = by_name(models["model"], history(9))
    assert {answer.behavior: answer.probability for answer in found} == pytest.approx(plain, abs=1e-6)
    prior = dict(zip(NAMES, log_prior(artifact.counts), strict=True))
    expected = {name: np.log(plain[name]) - 0.7 * prior[name] for name in NAMES}
    assert {answer.behavior: answer.score for answer in found} == pytest.approx(expected, abs=1e-5)
    assert [answer.behavior for answer in found] == sorted(expected, key=lambda name: -expected[name])


def test_calibration_changes_how_sure_it_is_and_not_what_comes_first(
    tiny_base: Path, tmp_path: Path, models: Models
) -> None:
    calibration = Calibration(anchor_temperature=2.0, tail_temperature=0.5, tail_shift=1.5)
    artifact = write_artifact(tmp_path / "sure", tiny_base, "model", calibration=calibration)
    found = BehaviorModel.load(tmp_path / "sure", device="cpu").predict(
        history(9), ROOM, at=AT, k=99, explain=True
    )
    before = models["model"].predict(history(9), ROOM, at=AT, k=99).answers
    assert [answer.behavior for answer in found.answers] == [answer.behavior for answer in before]
    assert [answer.score for answer in found.answers] == pytest.approx(
        [answer.score for answer in before], abs=1e-6
    )
    raw = np.array([answer.score for answer in before])
    is_anchor = np.array(
        [artifact.behaviors[NAMES.index(answer.behavior)].group == "anchor" for answer in before]
    )
    expected = softmax(np.where(is_anchor, raw / 2, raw / 0.5 + 1.5))
    assert [answer.probability for answer in found.answers] == pytest.approx(expected.tolist(), abs=1e-6)
    assert found.contributions is not None
    first = found.contributions[0]
    assert first.adds == pytest.approx(found.answers[0].probability - first.probability_without)


def test_explanations_are_predictions_with_one_event_left_out_of_the_window(models: Models) -> None:
    events = history(8)  # the window begins at event 3
    model = models["model"]
    found = model.predict(events, ROOM, at=AT, explain=True)
    best, whole = found.answers[0].behavior, found.answers[0].probability
    assert found.contributions is not None
    assert [one.event for one in found.contributions] == [3, 4, 5, 6, 7]
    for one in found.contributions:
        left = [event for place, event in enumerate(events) if place >= 3 and place != one.event]
        without = softmax(plain_scores(model, left, list(NAMES)))[NAMES.index(best)]
        assert one.behavior == events[one.event]["behavior"]
        assert one.probability_without == pytest.approx(float(without), abs=1e-6)
        assert one.adds == pytest.approx(whole - float(without), abs=1e-6)


def test_what_counting_explains_is_counting_without_the_event(models: Models) -> None:
    events = history(8)
    found = models["counts"].predict(events, ROOM, at=AT, explain=True)
    assert found.contributions is not None and found.events_used == 3
    assert [one.event for one in found.contributions] == [5, 6, 7]
    for one in found.contributions:
        left = [event for place, event in enumerate(events) if place != one.event]
        assert one.probability_without == pytest.approx(
            by_name(models["counts"], left)[found.answers[0].behavior]
        )


def test_many_at_once_are_answered_as_each_alone(models: Models) -> None:
    requests = [Request(history(number, seed), ROOM, AT) for number in range(12) for seed in (0, 1)]
    requests += [Request(history(12)[:number], ROOM, AT) for number in range(12)]
    for model in models.values():
        together = model.predict_many(requests, k=3)
        for one, found in zip(requests, together, strict=True):
            alone = model.predict(one.history, one.context, at=one.at, k=3)
            assert [answer.behavior for answer in alone.answers] == [
                answer.behavior for answer in found.answers
            ]
            assert [answer.probability for answer in alone.answers] == pytest.approx(
                [answer.probability for answer in found.answers], abs=1e-6
            )
            assert alone.warnings == found.warnings


@pytest.mark.parametrize("kind", ["model", "counts", "fused"])
def test_a_log_without_context_and_clock_is_answered_too(
    kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = without_context(folders[kind], tmp_path / kind)
    model = BehaviorModel.load(folder, device="cpu")
    requests = [Request(history(number)) for number in (0, 1, 9)]
    for one, found in zip(requests, model.predict_many(requests, explain=True, k=99), strict=True):
        assert sum(answer.probability for answer in found.answers) == pytest.approx(1)
        alone = model.predict(one.history, at=AT, k=99)
        assert [answer.probability for answer in alone.answers] == pytest.approx(
            [answer.probability for answer in found.answers], abs=1e-6
        )


def test_it_abstains_below_the_probability_asked_for(models: Models) -> None:
    sure = models["model"].predict(history(4)).answers[0].probability
    below = models["model"].predict(history(4), min_probability=sure - 0.01)
    above = models["model"].predict(history(4), min_probability=min(1, sure + 0.01))
    assert (below.abstains, above.abstains) == (False, True)
    assert below.behavior == below.answers[0].behavior and above.behavior is None and above.answers


def test_as_a_function_of_batches_it_adds_columns_and_travels_by_its_place(models: Models) -> None:
    table = pa.table(
        {
            "user": ["a", "b"],
            "history": pa.array([history(3), []]),
            "context": pa.array([ROOM, {"room": None}]),
            "at": [AT, AT],
        }
    )
    sent = pickle.dumps(models["fused"])
    assert len(sent) < 10_000
    answered = pickle.loads(sent)(table)
    assert answered.column_names == [*table.column_names, "behavior", "probability", "answers", "warnings"]
    expected = models["fused"].predict(history(3), ROOM, at=AT)
    row = answered.to_pylist()[0]
    assert row["behavior"] == expected.behavior
    assert row["answers"][1]["probability"] == pytest.approx(expected.answers[1].probability)
    with pytest.raises(DataError, match="needs a column 'history'"):
        models["counts"](pa.table({"user": ["a"]}))


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.datetimes(),
    st.sampled_from(
        [*NAMES, "2024-03-01T10:00:00Z", "2024-03-01 10:00", "kitchen", "<|im_end|>", "\ud800", " "]
    ),
    st.lists(st.integers(), max_size=2),
)
EVENTS = st.lists(
    st.dictionaries(st.sampled_from(["time", "behavior", "room", "result", "x", ""]), VALUES, max_size=5),
    max_size=9,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    events=st.one_of(EVENTS, VALUES),
    context=st.one_of(st.none(), st.dictionaries(st.sampled_from(["room", "y"]), VALUES, max_size=2)),
    at=VALUES,
    earlier=st.integers(-1, 20),
    new=st.lists(st.text(max_size=5), max_size=2),
)
def test_odd_requests_are_answered_or_refused_and_nothing_else(
    models: Models, events: Any, context: Any, at: Any, earlier: int, new: list[str]
) -> None:
    for kind, model in models.items():
        try:
            found = model.predict(
                events,
                context,
                at=at,
                earlier_events=earlier,
                new_names=() if kind == "counts" else new,
                explain=True,
                k=20,
            )
        except (DataError, ConfigError) as error:
            assert str(error)
            continue
        assert sum(answer.probability for answer in found.answers) == pytest.approx(1)
        assert 0 <= found.events_used <= 6


def test_parts_that_a_predictor_lacks_are_named(models: Models) -> None:
    with pytest.raises(DataError, match="only counts"):
        models["counts"].parts.label_scores([])
    with pytest.raises(DataError, match="does not count"):
        models["model"].parts.counts_of([])
    assert models["model"].predict_histories([], Choices()) == []


def described(model: BehaviorModel, **changes: Any) -> BehaviorModel:
    """The same predictor with another rule or calibration."""
    return BehaviorModel(replace(model.parts, artifact=model.artifact.model_copy(update=changes)))


RULES = [
    PlainRule(),
    LogitAdjusted(tau=0.7),
    BayesRule(shift=[1.0, -0.5, 2.0, -1e4, 0.3, 1.5, -2.0, 0.1]),
    FittedRule(tail_scale=0.6, tail_shift=1.25, tau=0.3),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
@pytest.mark.parametrize("kind", ["model", "counts", "fused"])
def test_what_is_allowed_is_answered_as_in_the_full_answer_given_that_it_is_one_of_these(
    models: Models, kind: str, rule: DecisionRule
) -> None:
    calibration = Calibration(anchor_temperature=1.7, tail_temperature=0.6, tail_shift=0.8)
    model = described(models[kind], decision=rule, calibration=calibration)
    full = model.predict(history(5), ROOM, at=AT, k=99).answers
    allowed = {"lamp on", "camera", "alarm", "door"}
    found = model.predict(history(5), ROOM, at=AT, k=99, allow=sorted(allowed), deny=["door"]).answers
    kept = [answer for answer in full if answer.behavior in allowed - {"door"}]
    total = sum(answer.probability for answer in kept)
    assert [answer.behavior for answer in found] == [answer.behavior for answer in kept]
    for one, other in zip(found, kept, strict=True):
        assert one.probability == pytest.approx(other.probability / total, rel=1e-9)
        assert one.score == pytest.approx(other.score, rel=1e-12)


def test_under_the_bayes_rule_a_new_name_comes_after_all_that_validation_knew(models: Models) -> None:
    model = described(models["model"], decision=BayesRule(shift=[0.0] * len(NAMES)))
    found = model.predict(history(5), new_names=["sauna"], k=99).answers
    assert found[-1].behavior == "sauna" and 0 < found[-1].probability < 1
