"""Measures held against the truth: planted tables, whose correlations are known, through a real prepared log."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behaviorlm.config import load_settings
from behaviorlm_lab.study.correlations import spearman, within_behaviors
from behaviorlm_lab.study.examination import examine_measures, examine_selections, joined, overlaps
from behaviorlm_lab.study.learned import learned
from behaviorlm_lab.study.records import record_of
from behaviorlm_lab.study.settings import StudySettings
from behaviorlm_lab.world.process import default_world
from behaviorlm_ray.evaluation.oracle import TruthSettings
from behaviorlm_ray.pipeline.evaluate import evaluate
from behaviorlm_ray.pipeline.predict import predict
from behaviorlm_ray.pipeline.prepare import open_log, prepare
from behaviorlm_ray.pipeline.run import open_run
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.pipeline.tune import SELECTION
from behaviorlm_ray.preparation.prepared_log import gather, rows_of_split
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.manifests import Manifest
from behaviorlm_ray.stages.stage import in_order
from tests.platform.lab.whole_truth import true_probabilities
from tests.platform.lab.world_logs import write_log
from tests.platform.small_runs import run_data

ROOT = Path(__file__).resolve().parents[4]
ARMS = ("ab_random", "ab_tuned", "ab_reducible", "ab_crossed")
HALVES = {"one_stage_half_0": 11, "one_stage_half_1": 22, "a_tune_half_0": 300, "a_tune_half_1": 400}


class Planted:
    """A run whose stages after preparation are files made here."""

    def __init__(self, root: Path, base: Path) -> None:
        self.root = root
        write_log(root / "events.jsonl.gz", 60, 3, world=default_world())
        data: dict[str, Any] = run_data(root / "runs", base, root / "events.jsonl.gz")
        data["events"] |= {"context_before": [], "context_after": ["place"], "clock": ["weekday", "hour"]}
        data["vocabulary"] = {}
        data["arms"] = {
            "ab_reducible": {"tuning": "ab_tuned", "values": {"difficulty.measure": "reducible"}},
            "ab_crossed": {"tuning": "ab_tuned", "values": {"difficulty.source": "cross_fit"}},
        }
        data["evaluation"] |= {"arms": list(ARMS), "truth": {"world": "main"}}
        self.run = open_run(load_settings(RunSettings, None, (), data))
        self.runner = self.run.runner()
        self.log = open_log(self.runner.run(prepare(self.run)), self.run.settings)
        rows = rows_of_split(self.log, "train")
        self.ids = gather(self.log, rows, "sample_id")
        self.behavior = gather(self.log, rows, "behavior")
        known = true_probabilities(self.log, rows, TruthSettings(world="main")).windowed
        self.surprise = -np.log(known[np.arange(len(self.behavior)), self.behavior])

    def plant(self, arm: str, stage: str, files: dict[str, Any], samples: int = 0) -> None:
        """Put an output in the place of a stage of an arm ("" is the run itself)."""
        folder = self.root / "planted" / f"{arm}-{stage}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            if isinstance(content, pa.Table):
                pq.write_table(content, folder / name)
            else:
                (folder / name).write_text(json.dumps(content))
        empty: dict[str, Any] = {
            name: {} for name in ("config", "inputs", "files", "metrics", "versions", "cost")
        }
        manifest = Manifest(
            stage=stage,
            version=1,
            fingerprint=f"made of {arm}",
            attempt="planted",
            rows={"samples": samples},
            warnings=[],
            started="",
            duration_seconds=0.0,
            **empty,
        )
        of_arm = self.run.for_arm(arm) if arm else self.run
        goals = [predict(of_arm, "ab_tuned"), learned(of_arm), *([] if arm else [evaluate(self.run)])]
        for planned in in_order(goals):
            if planned.name == stage:
                self.runner.outputs[planned.recipe] = StageOutput(manifest, folder, True)

    def table(self, order: np.ndarray | None = None, **columns: np.ndarray) -> pa.Table:
        """A difficulty table of the samples, its rows in an order of its own."""
        order = np.arange(len(self.ids)) if order is None else order
        ids = pa.array([row.tobytes() for row in self.ids[order]], pa.binary(16))
        values = {name: values[order] for name, values in columns.items()}
        return pa.table({"sample_id": ids, "behavior": self.behavior[order], **values})

    def fill(self, after: np.ndarray, reducible: np.ndarray, selected: np.ndarray) -> None:
        """All stages of all arms; what was learned lies in an order of its own."""
        shuffled = np.random.default_rng(0).permutation(len(self.ids))
        before = self.before
        own = {"nll": before, "rank": self.surprise, "margin": -self.surprise, "excess": before}
        for arm in ARMS:
            for stage in ("a_tune", "b_tune", "predict_ab_tuned"):
                self.plant(arm, stage, {}, 1000 if stage == "a_tune" else 560)
            for stage, samples in HALVES.items():
                self.plant(arm, stage, {}, samples)
            self.plant(arm, "select", {SELECTION: self.table(np.flatnonzero(selected))})
            self.plant(arm, "score", {"difficulty.parquet": self.table(**own)})
        self.plant("ab_random", "learned", {"difficulty.parquet": self.table(shuffled, nll=after)})
        crossed = {name: values[::-1].copy() for name, values in own.items()}
        self.plant("ab_crossed", "score", {"difficulty.parquet": self.table(**crossed)})
        self.plant("ab_reducible", "score", {"difficulty.parquet": self.table(**own, reducible=reducible)})

    @property
    def before(self) -> np.ndarray:
        """The planted NLL before: unrelated to the surprise."""
        return np.random.default_rng(1).uniform(1.0, 3.0, len(self.ids))


@pytest.fixture(scope="module")
def planted(small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return Planted(tmp_path_factory.mktemp("planted"), small_base)


def test_planted_measures_have_their_known_correlations_on_what_the_neutral_arm_left_out(
    planted: Planted,
) -> None:
    random = np.random.default_rng(2)
    selected = random.random(len(planted.ids)) < 0.4
    reducible = random.normal(size=len(planted.ids))
    # On what was not selected, what was learned is what `reducible` says, on the rest the opposite.
    learned = np.where(selected, -reducible, reducible)
    planted.fill(planted.before - learned, reducible, selected)
    found = examine_measures(planted.run, planted.runner, list(ARMS), "ab_random")
    assert found["on"] == "ab_random"
    assert found["learned"]["on others"] == pytest.approx(reducible[~selected].mean())
    assert found["learned"]["on selected"] == pytest.approx(-reducible[selected].mean())
    correlations = found["correlations"]
    own = {"nll", "rank", "margin", "excess"}
    crossed = {f"{name}, cross-fitted" for name in own}
    assert set(correlations) == own | {"reducible", "reference nll"} | crossed
    names, counts = planted.log.vocabulary.names, np.bincount(planted.behavior)
    for name, sign in (("rank", 1.0), ("margin", -1.0)):
        with_truth = correlations[name]["surprise"]
        assert with_truth["all"] == pytest.approx(sign) and with_truth["anchor"] == pytest.approx(sign)
        assert {one["n"] for one in with_truth["behaviors"].values()} == set(counts)
        for index, behavior in enumerate(names):
            value = with_truth["behaviors"][behavior]["value"]
            assert value is None if counts[index] < 10 else value == pytest.approx(sign)
    assert abs(correlations["rank, cross-fitted"]["surprise"]["all"]) < 0.2, (
        "rows that are not the sample's own"
    )
    assert correlations["reducible"]["learned"]["all"] == pytest.approx(1.0)
    assert correlations["reducible"]["learned"]["n"] == int((~selected).sum())
    assert abs(correlations["nll"]["learned"]["all"]) < 0.2
    assert correlations["nll"]["learnable"]["all"] > 0.3 > correlations["margin"]["surprise"]["all"]
    expected = spearman(planted.before, planted.before - planted.surprise)
    assert correlations["nll"]["learnable"]["all"] == pytest.approx(expected)
    assert correlations["nll"]["learned_given_before"]["all"] is None, "it is the NLL before itself"
    given = spearman(reducible[~selected], reducible[~selected], planted.before[~selected])
    assert correlations["reducible"]["learned_given_before"]["all"] == pytest.approx(given)
    after = planted.before - learned
    left = spearman(planted.surprise[~selected], (after - planted.surprise)[~selected])
    assert correlations["rank"]["left"]["all"] == pytest.approx(left)
    reference = planted.before - reducible
    of_reference = spearman(reference, reference - planted.surprise)
    assert correlations["reference nll"]["learnable"]["all"] == pytest.approx(of_reference)
    is_tail = ~planted.log.vocabulary.is_anchor[planted.behavior]
    assert found["nll"]["tail"] == {
        "before": pytest.approx(planted.before[is_tail].mean()),
        "after, on others": pytest.approx(after[is_tail & ~selected].mean()),
    }


def test_what_two_judges_say_is_held_against_the_truth_as_selection_orders_it(planted: Planted) -> None:
    """The judge of one half sees everything ten nats worse; inside a behavior its samples stand where they stand."""
    planted.fill(planted.before, planted.before, np.random.default_rng(2).random(len(planted.ids)) < 0.4)
    judge = np.random.default_rng(3).integers(0, 2, len(planted.ids))
    shifted = planted.surprise + 10 * judge
    columns = dict.fromkeys(("nll", "rank", "margin", "excess"), shifted)
    planted.plant("ab_crossed", "score", {"difficulty.parquet": planted.table(**columns, judge=judge)})
    found = examine_measures(planted.run, planted.runner, list(ARMS), "ab_random")["correlations"]
    plain = within_behaviors(
        planted.behavior,
        planted.log.vocabulary.names,
        planted.log.vocabulary.is_anchor,
        shifted,
        planted.surprise,
    )
    assert plain["anchor"] < 0.7 < 0.95 < found["excess, cross-fitted"]["surprise"]["anchor"]


def test_overlaps_are_shares_of_the_first_arm_s_selection() -> None:
    ids = np.array([b"a", b"b", b"c", b"d"], "S16")
    found = overlaps({"one": ids[:2], "two": ids[1:], "none": ids[:0]})
    assert found["one"] == {"two": 0.5, "none": 0.0}
    assert found["two"]["one"] == pytest.approx(1 / 3) and found["none"] == {"one": 0.0, "two": 0.0}


def test_the_true_p_of_every_selection_is_told_for_arms_that_were_not_scored_again(planted: Planted) -> None:
    easy = planted.surprise < np.median(planted.surprise)
    planted.fill(planted.before, planted.before, easy)
    found = examine_selections(planted.run, planted.runner, list(ARMS))
    assert list(found) == list(ARMS)
    everything = np.exp(-planted.surprise)
    for arm in ARMS:
        assert found[arm]["scored"]["all"]["mean_true_p"] == pytest.approx(everything.mean())
        assert found[arm]["selected"]["all"] == {
            "samples": int(easy.sum()),
            "mean_true_p": pytest.approx(everything[easy].mean()),
        }


def test_a_record_holds_whole_fronts_the_cost_of_scoring_and_what_it_was_made_from(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    selected = np.random.default_rng(2).random(len(planted.ids)) < 0.4
    planted.fill(planted.before, planted.before, selected)
    points = [{"tau": -0.5, "anchor_accuracy": 0.4, "tail_macro_recall": 0.1, "expected": None}]
    ceiling = {"expected_anchor_accuracy": [0.1, 0.5], "expected_tail_macro_recall": [0.6, 0.0]}
    details: dict[str, Any] = {
        "tau": {"ab_tuned": 0.5},
        "validation": {"ab_tuned": {"plain": 0.2, "adjusted": 0.3}},
        "fronts": {"ab_tuned": {"points": points, "area": 0.04, "expected_area": 0.05}},
        "per_behavior": {
            name: [
                {
                    "behavior": "sing",
                    "is_anchor": False,
                    "training_targets": 9,
                    "targets": 4,
                    "recall": recall,
                }
            ]
            for name, recall in (("one_stage", 0.25), ("ab_tuned", None))
        },
        "truth": {"models": {}, "tail_macro_recall": {"expected": 0.6}, "frontier": {"endpoint": ceiling}},
    }
    results: dict[str, Any] = {"samples": {}, "ceiling": {}, "models": {}, "retention": {}}
    results["validation"] = {"ab_tuned": {"anchor_accuracy": 0.4, "tail_macro_recall": 0.0, "objective": 0.2}}
    planted.plant("", "evaluate", {"results.json": results, "details.json": details})
    settings = load_settings(
        StudySettings,
        None,
        (),
        {"name": "made", "run": "jobs/configs/demo.yaml", "seeds": [3], "examine": "ab_random"},
    )
    record = json.loads(json.dumps(record_of(planted.run, planted.runner, settings, "main", 3)))
    assert record["fronts"] == details["fronts"]
    assert record["ceiling_front"] == ceiling
    of_behavior = {"is_anchor": False, "training_targets": 9, "targets": 4}
    assert record["recalls"] == {"sing": of_behavior | {"recall": {"one_stage": 0.25, "ab_tuned": None}}}
    assert record["validation_parts"] == results["validation"]
    assert record["difficulty"]["overlaps"]["tail"]["ab_random"]["ab_tuned"] == 1.0
    assert record["optimizer_samples"] == dict.fromkeys(ARMS, 1560)
    assert record["scoring_samples"] == {"ab_random": 0, "ab_tuned": 0, "ab_reducible": 33, "ab_crossed": 700}
    assert record["fingerprint"] == "made of "
    assert record["made"]["base"] == planted.run.inputs.base
    assert record["made"]["settings"]["arms.ab_crossed.values.difficulty.source"] == "cross_fit"
    assert record["made"]["world"] == default_world().version
    assert set(record["difficulty"]["selections"]) == set(ARMS)
    assert record["difficulty"]["measures"]["on"] == "ab_random"


def test_a_measure_is_joined_by_sample_and_missing_where_the_other_arm_did_not_score_it() -> None:
    ids = np.arange(48, dtype=np.uint8).reshape(3, 16)
    others = pa.array([ids[2].tobytes(), ids[0].tobytes(), b"another sample's"], pa.binary(16))
    table = pa.table({"sample_id": others, "nll": [2.0, 0.5, 9.0]})
    assert joined(ids, table, "nll").tolist() == [0.5, pytest.approx(np.nan, nan_ok=True), 2.0]


def test_partial_correlation_takes_out_what_a_third_quantity_explains() -> None:
    random = np.random.default_rng(0)
    third, noise = random.normal(size=(2, 4000))
    first, second = third + 0.5 * noise, third + 0.5 * random.normal(size=4000)
    plain, partial = spearman(first, second), spearman(first, second, third)
    assert plain is not None and plain > 0.7
    assert partial is not None and abs(partial) < 0.05
    assert spearman(noise, noise, third) == pytest.approx(1.0)
    assert spearman(first, first, first) is None and spearman(first[:9], second[:9]) is None


def test_groups_are_means_over_their_behaviors_weighted_by_samples() -> None:
    behavior = np.repeat([0, 1, 2], [20, 10, 9])
    first = np.arange(39.0)
    second = np.where(behavior == 1, -first, first)
    second[0] = np.nan
    found = within_behaviors(behavior, ("a", "b", "c"), np.zeros(3, bool), first, second)
    assert found["behaviors"] == {
        "a": {"value": pytest.approx(1.0), "n": 19},
        "b": {"value": pytest.approx(-1.0), "n": 10},
        "c": {"value": None, "n": 9},
    }
    assert found["tail"] == pytest.approx((19 - 10) / 29) and found["anchor"] is None
