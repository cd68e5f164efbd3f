"""The truth of a synthetic log as the platform reads it, against the world's own filter; cheats are refused."""

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from behaviorlm.config import load_settings
from behaviorlm.errors import DataError
from behaviorlm.metrics import outcomes
from behaviorlm.world.errands import errands_world
from behaviorlm.world.generator import Generator, simulate_user
from behaviorlm.world.log import write_log
from behaviorlm.world.opaque import OpaqueWorld
from behaviorlm.world.process import default_world
from behaviorlm.world.truth import filtered_probabilities
from behaviorlm_ray.pipeline import Pipeline
from behaviorlm_ray.prepared import PreparedLog, gather, rows_of_split
from behaviorlm_ray.settings import RunSettings
from behaviorlm_ray.truth import TruthSettings, ceiling, check_against_truth, true_probabilities
from tests.platform.small_runs import run_data

USERS, SEED = 40, 3


def prepared_log(root: Path, base: Path, world: Generator) -> PreparedLog:
    log = root / "events.jsonl.gz"
    write_log(log, USERS, SEED, world=world)
    data: dict[str, Any] = run_data(root / "runs", base, log)
    data["events"] |= {"context_before": [], "context_after": ["place"], "clock": ["weekday", "hour"]}
    pipeline = Pipeline(load_settings(RunSettings, None, (), data))
    return pipeline.log()


@pytest.fixture(scope="module")
def log(ray_cluster: None, small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    return prepared_log(tmp_path_factory.mktemp("truth"), small_base, default_world())


def test_it_is_the_world_s_own_filter_in_the_order_of_the_vocabulary(log: PreparedLog) -> None:
    world = default_world()
    columns = [world.names.index(name) for name in log.vocabulary.names]
    rows = rows_of_split(log, "test")
    truth = true_probabilities(log, rows, TruthSettings(world="main"))
    done = 0
    for part, chosen in zip(log.parts, rows, strict=True):
        users = part.table["user"].to_pylist()
        for row in chosen:
            events = simulate_user(world, SEED, int(users[row].removeprefix("user-")))
            own = filtered_probabilities(
                world,
                [event.time for event in events],
                [world.names.index(event.behavior) for event in events],
                [event.place for event in events],
            )
            place = int(row - part.user_start[row])
            assert np.allclose(truth.whole[done], own[place][columns], rtol=0, atol=1e-12)
            if part.window_start[row] == part.user_start[row]:
                assert np.allclose(truth.windowed[done], own[place][columns], rtol=0, atol=1e-12)
            done += 1
    assert done == len(truth.whole) > 100
    assert (truth.whole.sum(axis=1) <= 1 + 1e-9).all()


def test_what_knows_the_answers_is_refused_and_what_knows_the_truth_is_not(log: PreparedLog) -> None:
    rows = rows_of_split(log, "test")
    targets = gather(log, rows, "behavior")
    truth = true_probabilities(log, rows, TruthSettings(world="main"))
    is_anchor = log.vocabulary.is_anchor
    honest = {
        "whole": outcomes(np.log(truth.whole), targets),
        "windowed": outcomes(np.log(truth.windowed), targets),
    }
    check_against_truth(truth, is_anchor, honest)
    answers = np.where(np.arange(len(is_anchor)) == targets[:, None], 0.0, -5.0)
    with pytest.raises(DataError, match=r"cheat: .* ahead of the truth"):
        check_against_truth(truth, is_anchor, honest | {"cheat": outcomes(answers, targets)})
    best, details = ceiling(truth, is_anchor, targets)
    assert 0 < best["all"] < 1 and best["all"] >= details["accuracy_given_the_window"] - 0.02
    assert best["anchor"] >= best["all"] * (targets >= 0).mean() - 0.05
    assert {"accuracy", "endpoint"} == details["frontier"].keys()


def test_codes_for_names_have_the_same_truth(
    ray_cluster: None, small_base: Path, tmp_path: Path, log: PreparedLog
) -> None:
    coded = prepared_log(tmp_path, small_base, OpaqueWorld(default_world(), 5))
    settings = TruthSettings(world="main", opaque_seed=5)
    first = true_probabilities(log, rows_of_split(log, "test"), TruthSettings(world="main"))
    second = true_probabilities(coded, rows_of_split(coded, "test"), settings)
    assert np.allclose(np.sort(first.whole), np.sort(second.whole), rtol=0, atol=1e-12)


@pytest.mark.parametrize("other", [TruthSettings(world="second"), TruthSettings(world="main", opaque_seed=1)])
def test_another_world_s_truth_is_refused(log: PreparedLog, other: TruthSettings) -> None:
    with pytest.raises(DataError, match=r"evaluation\.truth: .* does not have"):
        true_probabilities(log, rows_of_split(log, "test"), other)


def test_worlds_of_the_settings_are_those_of_the_job() -> None:
    assert TruthSettings(world="main").generator().names == default_world().names
    assert TruthSettings(world="second").generator().names == errands_world().names
    assert datetime(1970, 1, 1).weekday() == 3
