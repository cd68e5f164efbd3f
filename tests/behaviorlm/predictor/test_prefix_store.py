"""Prefixes kept for users change no answer, are nobody else's, and take no more memory than they may."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.predictor.prefix_store import PrefixStore
from behaviorlm.predictor.requests import Owner, Request
from behaviorlm.scoring.kept_prefixes import KeptPrefix
from tests.behaviorlm.predictor.small_artifacts import history

EVENTS = {seed: history(14, seed) for seed in range(2)}
LARGE = 1 << 24


@pytest.fixture
def keeping(folders: dict[str, Path]) -> BehaviorModel:
    return BehaviorModel.load(folders["fused"], device="cpu", prefix_bytes=LARGE)


def asked(seed: int, start: int, stop: int, owner: Owner | None) -> Request:
    return Request(EVENTS[seed][start:stop], {"room": "hall"}, None, start, owner)


def differ(one: BehaviorModel, other: BehaviorModel, requests: list[Request]) -> float:
    """The largest difference of what both find."""
    first, second = (model.log_probabilities(model.read(requests)) for model in (one, other))
    return float(np.abs(first - second).max())


STEP = some.tuples(
    some.sampled_from([0, 1]),
    some.integers(0, 8),
    some.integers(0, 14),
    some.sampled_from([None, ("", "ann"), ("", "bob"), ("other", "ann")]),
)


@settings(max_examples=25, deadline=None)
@given(batches=some.lists(some.lists(STEP, min_size=1, max_size=4), min_size=1, max_size=5))
def test_no_answer_depends_on_what_was_asked_before(
    folders: dict[str, Path], models: dict[str, BehaviorModel], batches: list[list[tuple]]
) -> None:
    keeping = BehaviorModel(BehaviorModel.load(folders["fused"], device="cpu", prefix_bytes=LARGE).parts)
    for batch in batches:
        assert differ(keeping, models["fused"], [asked(*step) for step in batch]) <= 1e-5


def test_a_history_that_grows_finds_what_it_was_until_its_window_moves(
    keeping: BehaviorModel, models: dict[str, BehaviorModel]
) -> None:
    hits = []
    for stop in range(15):
        before = keeping.prefix_use
        assert differ(keeping, models["fused"], [asked(0, 0, stop, ("", "ann"))]) <= 1e-5
        assert before is not None and keeping.prefix_use is not None
        hits.append(keeping.prefix_use.hits - before.hits)
    # Windows of 6 that move by 3: events 0…5, then after 7, 10 and 13 three events later.
    assert hits == [0, 0, 1, 1, 1, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1]
    use = keeping.prefix_use
    assert use is not None and use.misses == hits.count(0) and 0 < use.found < use.tokens


def spoilt(model: BehaviorModel, owner: Owner) -> None:
    """Make what is kept of an owner wrong, so that it shows where it is used."""
    store = model.parts.language_model.prefixes  # type: ignore[union-attr]
    assert store is not None
    for keys, values in store._kept[owner].keys_values:
        keys.zero_(), values.zero_()


def test_what_is_kept_of_one_is_used_for_nobody_else(
    keeping: BehaviorModel, models: dict[str, BehaviorModel]
) -> None:
    keeping.predict_many([asked(0, 0, 5, ("one", "ann"))])
    with torch.inference_mode():
        spoilt(keeping, ("one", "ann"))
    for owner in (None, ("two", "ann"), ("one", "bob"), ("", "ann")):
        assert differ(keeping, models["fused"], [asked(0, 0, 6, owner)]) <= 1e-5
    assert differ(keeping, models["fused"], [asked(0, 0, 6, ("one", "ann"))]) > 1e-3


def test_an_explanation_keeps_nothing_of_histories_that_nobody_had(keeping: BehaviorModel) -> None:
    request = asked(0, 0, 5, ("", "ann"))
    keeping.predict_many([request], explain=True)
    keeping.predict_many([request])
    use = keeping.prefix_use
    assert use is not None and (use.hits, use.misses, use.owners) == (1, 1, 1)


def test_a_model_keeps_nothing_unless_told(models: dict[str, BehaviorModel]) -> None:
    models["fused"].predict_many([asked(0, 0, 5, ("", "ann"))])
    assert models["fused"].prefix_use is models["counts"].prefix_use is None


def prefix(tokens: int) -> KeptPrefix:
    pair = (torch.zeros(1, 1, tokens, 1), torch.zeros(1, 1, tokens, 1))  # 12 bytes a token with its id
    return KeptPrefix(np.arange(tokens, dtype=np.int32), [pair])


def test_who_was_not_asked_about_for_longest_makes_room() -> None:
    store, ids = PrefixStore(120, 2), np.arange(9, dtype=np.int32)
    for name in "abc":
        store.keep(("", name), prefix(3))
    assert store.find(("", "a"), ids) is not None
    store.keep(("", "d"), prefix(3))  # b goes
    assert [store.find(("", name), ids) is not None for name in "abcd"] == [True, False, True, True]
    assert store.use.size == 108 and store.use.owners == 3
    store.keep(("", "a"), prefix(4))
    assert store.use.size == 120
    store.keep(("", "a"), prefix(11))  # larger than all may be: neither it nor what it replaces is there
    assert store.find(("", "a"), ids) is None and store.use.owners == 2 and store.use.size == 72
    assert store.find(("", "c"), np.array([0, 1, 5], np.int32)) is None  # no more than what all share
