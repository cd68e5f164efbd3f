"""The truth of a synthetic log as the platform reads it, against the world's own filter; cheats are refused."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from behaviorlm.config import load_settings
from behaviorlm.errors import DataError
from behaviorlm.scoring.config import CHOICE_TAUS
from behaviorlm_lab.truth.oracle import WorldOracle, main_world, second_world
from behaviorlm_lab.truth.probabilities import filtered_timelines
from behaviorlm_lab.world.errands import errands_world
from behaviorlm_lab.world.generator import Generator, simulate_user, timeline_of
from behaviorlm_lab.world.opaque import OpaqueWorld
from behaviorlm_lab.world.process import default_world
from behaviorlm_ray.evaluation.comparison import Comparison, Resampling, compare
from behaviorlm_ray.evaluation.oracle import TruthSettings
from behaviorlm_ray.evaluation.predictors import ArmScores
from behaviorlm_ray.evaluation.samples import EvaluatedSamples
from behaviorlm_ray.pipeline.prepare import open_log, prepare
from behaviorlm_ray.pipeline.run import open_run
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows, gather, rows_of_split
from behaviorlm_ray.report.content import Front
from behaviorlm_ray.report.results import report_front, truth_front
from behaviorlm_ray.report.results_table import results_table
from tests.platform.lab.whole_truth import true_probabilities
from tests.platform.lab.world_logs import write_log
from tests.platform.score_reading import in_batches
from tests.platform.small_runs import run_data

USERS, SEED = 40, 3


def prepared_log(
    root: Path, base: Path, world: Generator, users: int = USERS, test: float = 0.2
) -> PreparedLog:
    log = root / "events.jsonl.gz"
    write_log(log, users, SEED, world=world)
    data: dict[str, Any] = run_data(root / "runs", base, log)
    data["events"] |= {"context_before": [], "context_after": ["place"], "clock": ["weekday", "hour"]}
    data["split"] |= {"test": test}
    run = open_run(load_settings(RunSettings, None, (), data))
    return open_log(run.runner().run(prepare(run)), run.settings)


@pytest.fixture(scope="module")
def log(small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    return prepared_log(tmp_path_factory.mktemp("truth"), small_base, default_world())


@pytest.fixture(scope="module")
def mostly_test(small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    """So many test samples that tail behaviors count, and that who knows more stands out."""
    return prepared_log(tmp_path_factory.mktemp("large"), small_base, default_world(), 130, 0.6)


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
            [own] = filtered_timelines(world, [timeline_of(world, events)])
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
    knowledge = main_world().about(log, rows)
    honest = {"whole": truth.whole.argmax(axis=1), "windowed": truth.windowed.argmax(axis=1)}
    held = knowledge.hold(honest, {})
    with pytest.raises(DataError, match=r"(?s)^(?!.*whole:).*cheat: .* ahead of the truth"):
        knowledge.hold(honest | {"cheat": np.maximum(targets, 0)}, {})
    best, details = held.ceiling, held.details
    assert best["all"] == pytest.approx(truth.whole.max(axis=1).mean(), abs=1e-12)
    assert held.expected["whole"].accuracy == pytest.approx(best["all"], abs=1e-12)
    assert details["accuracy_given_the_window"] == pytest.approx(truth.windowed.max(axis=1).mean(), abs=1e-12)
    assert 0 < best["all"] < 1 and best["all"] >= details["accuracy_given_the_window"] - 0.02
    assert best["anchor"] >= best["all"] * (targets >= 0).mean() - 0.05
    assert {"accuracy", "endpoint"} == details["frontier"].keys()


def hidden_scores(log: PreparedLog, rows: SampleRows) -> np.ndarray:
    """Log-probabilities of who knows persona and state; float64 [n, K]."""
    world = default_world()
    columns = [world.names.index(name) for name in log.vocabulary.names]
    found = []
    for part, chosen in zip(log.parts, rows, strict=True):
        users = part.table["user"].to_pylist()
        for row in chosen:
            life = world.simulate_life(SEED, int(users[row].removeprefix("user-")), (20, 40))
            place = int(row - part.user_start[row])
            event, before = life.events[place], world.names.index(life.events[place - 1].behavior)
            hour = event.time.weekday() * 24 + event.time.hour
            found.append(world.hidden_probabilities(life.persona, life.states[place], hour, before)[columns])
    return np.log(np.maximum(found, 1e-12))


def compared(log: PreparedLog, make: Callable[[SampleRows], np.ndarray]) -> Comparison:
    """What evaluation says of one model, whose scores are made by `make`."""
    samples = EvaluatedSamples(rows_of_split(log, "validation"), rows_of_split(log, "test"))
    validation, test = (in_batches(make(chosen), 64) for chosen in (samples.validation, samples.test))
    return compare(
        log,
        samples,
        {"model": ArmScores(validation, test)},
        tau_grid=CHOICE_TAUS,
        resampling=Resampling(50, 0),
        truth=TruthSettings(world="main"),
    )


def truth_scores(log: PreparedLog, rows: SampleRows) -> np.ndarray:
    return np.log(np.maximum(true_probabilities(log, rows, TruthSettings(world="main")).whole, 1e-12))


def test_evaluation_refuses_a_model_that_knows_what_is_hidden(mostly_test: PreparedLog) -> None:
    with pytest.raises(DataError, match=r"model: .* ahead of the truth"):
        compared(mostly_test, partial(hidden_scores, mostly_test))


def test_evaluation_passes_the_truth_itself_and_gives_its_front_in_expectation(
    mostly_test: PreparedLog,
) -> None:
    log = mostly_test
    found = compared(log, partial(truth_scores, log))
    front = found.details["fronts"]["model"]
    rows = rows_of_split(log, "test")
    p = true_probabilities(log, rows, TruthSettings(world="main")).whole
    targets, is_anchor = gather(log, rows, "behavior"), log.vocabulary.is_anchor
    prior = np.log((log.vocabulary.counts + 1) / (log.vocabulary.counts + 1).sum())
    tail = [k for k in np.flatnonzero(~is_anchor) if p[:, k].sum() >= 10]
    drawn_tail = [k for k in np.flatnonzero(~is_anchor) if (targets == k).sum() >= 10]
    assert tail and drawn_tail and tail != drawn_tail
    pairs, drawn_pairs = [], []
    assert [point["tau"] for point in front["points"]] == pytest.approx(np.arange(-20, 31) / 20)
    for point in front["points"]:
        scores = (np.log(np.maximum(p, 1e-12)) - point["tau"] * prior).astype(np.float32)
        choice = scores.argmax(axis=1)
        chance = p[np.arange(len(p)), choice]
        anchor = chance[is_anchor[choice]].sum() / p[:, is_anchor].sum()
        recall = np.mean([chance[choice == k].sum() / p[:, k].sum() for k in tail])
        assert point["expected"] == pytest.approx({"anchor_accuracy": anchor, "tail_macro_recall": recall})
        pairs.append((anchor, recall))
        of_anchors = is_anchor[targets] & (targets >= 0)
        assert point["anchor_accuracy"] == pytest.approx(np.mean(choice[of_anchors] == targets[of_anchors]))
        drawn = np.mean([np.mean(choice[targets == k] == k) for k in drawn_tail])
        assert point["tail_macro_recall"] == pytest.approx(drawn)
        drawn_pairs.append((point["anchor_accuracy"], drawn))
    assert front["expected_area"] == pytest.approx(area_on_a_raster(pairs), abs=2e-3)
    assert front["area"] == pytest.approx(area_on_a_raster(drawn_pairs), abs=2e-3)

    best = found.details["truth"]["frontier"]["endpoint"]
    reached = list(zip(best["expected_anchor_accuracy"], best["expected_tail_macro_recall"], strict=True))
    assert best["expected_area"] == pytest.approx(area_on_a_raster(reached), abs=2e-3)
    assert best["expected_area"] > front["expected_area"]
    for weight, (anchor, recall) in zip(best["weights"], reached, strict=True):
        worth = weight * anchor + (1 - weight) * recall
        assert all(worth >= weight * one + (1 - weight) * other - 1e-5 for one, other in pairs)

    expected = found.results["in_expectation"]
    assert expected["bound"]["tail_macro_recall"] == pytest.approx(reached[0][1], abs=1e-5)
    assert expected["models"]["model"] == front["points"][20]["expected"]
    assert {"model+adjusted", "bigram"} <= expected["models"].keys()
    chosen = next(point for point in front["points"] if point["tau"] == found.details["tau"]["model"])
    assert expected["models"]["model+adjusted"] == chosen["expected"]
    table = results_table(found.results)
    assert table[0].endswith("| anchor, expected | tail, expected |")
    [bound] = [line for line in table if line.startswith("| **bound** |")]
    assert bound.count("|") == table[0].count("|") and f" {reached[0][1]:.3f} |" in bound

    shown = Front.model_validate(report_front(front))
    assert shown.anchor_accuracy == pytest.approx([anchor for anchor, _ in pairs])
    assert shown.tail_macro_recall == pytest.approx([recall for _, recall in pairs])
    assert (shown.area, shown.expected_area) == (front["area"], front["expected_area"])
    possible = Front.model_validate(truth_front(found.details["truth"]))
    assert list(zip(possible.anchor_accuracy, possible.tail_macro_recall, strict=True)) == reached
    assert possible.expected_area == best["expected_area"] and truth_front(None) is None


def area_on_a_raster(points: list[tuple[float, float]]) -> float:
    """The share of the unit square's cells that some point covers."""
    corner = (np.arange(2000) + 0.5) / 2000
    height = np.zeros(2000)
    for anchor, tail in points:
        height[corner < anchor] = np.maximum(height[corner < anchor], tail)
    return float(height.mean())


def test_codes_for_names_have_the_same_truth(small_base: Path, tmp_path: Path, log: PreparedLog) -> None:
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
    for name, make, world in (
        ("main", main_world, default_world()),
        ("second", second_world, errands_world()),
    ):
        opened = TruthSettings(world=name).open()
        assert isinstance(opened, WorldOracle) and opened.world.names == make().world.names == world.names
        assert opened.version == world.version
        assert make(3).world.names == OpaqueWorld(world, 3).names
    assert datetime(1970, 1, 1).weekday() == 3
