"""The whole pipeline on a small log: its results, what a second run reuses, what a change runs again, planning."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from behaviorlm.config import load_settings
from behaviorlm.errors import DataError, StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.pipeline.conversations import conversations
from behaviorlm_ray.pipeline.evaluate import evaluate
from behaviorlm_ray.pipeline.input_checks import check_inputs
from behaviorlm_ray.pipeline.planning import describe_plan
from behaviorlm_ray.pipeline.prepare import open_log, prepare
from behaviorlm_ray.pipeline.run import Run, open_run
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import PreparedLog, count, gather, rows_of_anchors, rows_of_split
from behaviorlm_ray.report.results import write_results
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.run_record import read_asked
from behaviorlm_ray.stages.runner import Runner
from behaviorlm_ray.stages.stage import Stage, in_order
from tests.platform.small_runs import log_rows, run_settings, write_conversations, write_log

AUXILIARY = "auxiliary=[{{name: talk, paths: [{path}], ratio: 0.25, weight: 0.5, max_tokens: 64, holdout_share: 0.3}}]"
STAGES = {
    "prepare",
    "conversations",
    "a_tune",
    "score",
    "select",
    "b_tune",
    "predict_untuned",
    "predict_ab_tuned",
    "evaluate",
}
CHANGED_BY_SELECTION = {"select", "b_tune", "predict_ab_tuned", "evaluate"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_log(folder / "log.csv.gz", log_rows(21, users=20))
    write_conversations(folder / "talk.jsonl")
    return folder


def settings_of(root: Path, base: Path, inputs: Path, *overrides: str) -> RunSettings:
    talk = AUXILIARY.format(path=inputs / "talk.jsonl")
    judge = "difficulty.source=base"  # B-Tuning then follows A-Tuning, whose workers are still there
    few = (talk, judge, "execution.scoring_actors=1", *overrides)
    return run_settings(root, base, inputs / "log.csv.gz", overrides=few)


@dataclass(frozen=True)
class Ran:
    """A run and what ran or planned its stages."""

    run: Run
    runner: Runner

    @property
    def outputs(self) -> dict[str, StageOutput]:
        return self.runner.named(evaluate(self.run))

    def log(self) -> PreparedLog:
        return open_log(self.outputs["prepare"], self.run.settings)

    def plan(self) -> dict[str, str]:
        """What would be done with each stage."""
        return {plan.name: plan.action for _, plan in self.runner.plan(evaluate(self.run))}


@pytest.fixture(scope="module")
def first(ray_cluster: None, small_base: Path, inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A whole run; whoever uses it again must leave its storage as it is, or add to it."""
    run = open_run(settings_of(tmp_path_factory.mktemp("runs") / "runs", small_base, inputs))
    check_inputs(run, is_written=True)
    return whole(run)


def whole(run: Run) -> Ran:
    """Runs it to the end."""
    runner = run.runner()
    runner.run(evaluate(run))
    return Ran(run, runner)


def again(first: Ran, *overrides: str) -> Ran:
    """Another run over the same storage, of which nothing has run."""
    data = first.run.settings.model_dump(mode="json")
    run = open_run(load_settings(RunSettings, None, overrides, data))
    return Ran(run, run.runner())


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder with its size and time of change."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_every_stage_ran_once_and_wrote_what_it_says(first: Ran) -> None:
    assert set(first.outputs) == STAGES
    assert not any(output.reused for output in first.outputs.values())
    selection = json.loads(storage.read_text(first.outputs["select"].folder / "selection.json"))
    assert selection["selected"] == 40 == first.outputs["select"].manifest.rows["samples"]
    assert first.outputs["a_tune"].manifest.rows["steps"] == 2
    lineage = storage.read_text(first.outputs["b_tune"].folder / "lineage.jsonl")
    trained = {sample for line in lineage.splitlines() for sample in json.loads(line)["sample_ids"]}
    assert len(trained) == 16


def test_results_have_the_promised_form(first: Ran) -> None:
    report = write_results(first.run, first.runner).place
    assert "<html" in storage.read_text(report)
    reached = {output.folder.parents[1].name for output in first.outputs.values()}
    assert set(read_asked(report.parent).finished) == reached

    def refuse(name: str) -> None:
        raise AssertionError(f"results.json holds {name}, which is not JSON")

    results = json.loads(storage.read_text(report.parent / "results.json"), parse_constant=refuse)
    assert {"ceiling", "models", "samples", "retention"} <= results.keys() and results["ceiling"] is None
    baselines = {"most_frequent", "per_user_frequency", "bigram", "markov_order_1", "markov_order_3_context"}
    adjusted = {"untuned+adjusted", "ab_tuned+adjusted"}
    assert {"untuned", "ab_tuned"} | adjusted | baselines <= results["models"].keys()
    assert results["in_expectation"] is None
    details = json.loads(storage.read_text(report.parent / "details.json"), parse_constant=refuse)
    assert details["fronts"].keys() == {"untuned", "ab_tuned"}
    assert details["trained_on"]["untuned"] is None and sum(details["trained_on"]["ab_tuned"]) > 0
    served = {option["predictor"] for option in results["recommended"]["compared"]}
    assert {"counts", "untuned", "ab_tuned"} <= served <= details["rules"].keys()
    assert results["recommended"]["model"] in results["models"]
    kept = pq.read_table(storage.local_copy(report.parent / "predictions.parquet"))
    assert len(kept) == results["samples"]["all"] * len(details["rules"])
    for front in details["fronts"].values():
        assert front.keys() == {"points", "area", "expected_area"} and front["expected_area"] is None
        for point in front["points"]:
            assert point.keys() == {"tau", "anchor_accuracy", "tail_macro_recall", "expected"}
            assert point["expected"] is None
    for groups in results["models"].values():
        assert {"all", "anchor", "tail"} <= groups.keys()
        for metrics in groups.values():
            assert {"accuracy", "macro_recall_at_least_10", "mrr"} <= metrics.keys()
            for found in metrics.values():
                assert {"value", "low", "high"} <= found.keys()
                if found["low"] is not None:
                    assert found["low"] <= found["high"]
    counts = first.log().counts
    samples = results["samples"]
    assert samples["all"] == counts["samples_test"] == samples["anchor"] + samples["tail"] > 0
    assert samples["repeats"] + samples["changes"] == samples["all"]
    assert set(results["retention"]) == {"untuned", "ab_tuned"}
    assert all(source["talk"]["loss"] > 0 for source in results["retention"].values())


def test_a_second_run_reuses_every_stage_and_gives_the_same_results(first: Ran) -> None:
    second = whole(again(first).run)
    assert set(second.outputs) == STAGES and all(output.reused for output in second.outputs.values())
    assert all(second.outputs[name].folder == first.outputs[name].folder for name in STAGES)


def test_what_decides_no_result_reruns_nothing(first: Ran, tmp_path: Path) -> None:
    moved = shutil.copy(first.run.inputs.source.files[0].path, tmp_path / "elsewhere.csv.gz")
    other = again(
        first,
        "name=other",
        f"events.paths=[{moved}]",
        "events.max_quarantine_share=0.5",
        "execution.scoring_actors=3",
        "execution.tuning.workers=2",
    )
    assert other.plan() == dict.fromkeys(STAGES, "reuse")


def test_planning_lists_what_would_run_and_be_reused_and_writes_nothing(first: Ran) -> None:
    root = storage.local_copy(first.runner.root)
    before = tree(root)
    changed = again(first, "selection.balance=0.9")
    check_inputs(changed.run, is_written=False)
    actions = changed.plan()
    assert set(actions) == STAGES
    assert {name for name, action in actions.items() if action == "reuse"} == STAGES - CHANGED_BY_SELECTION
    assert actions["select"] == "run" and actions["b_tune"] == actions["evaluate"] == "unknown"
    lines = describe_plan(changed.run, evaluate(changed.run))
    for name, action in actions.items():
        verb = "reuse" if action == "reuse" else "run"
        assert any(line.split()[:2] == [name, verb] for line in lines), name
    assert any("training samples" in line for line in lines)
    assert tree(root) == before


def test_the_plan_tells_the_steps_that_each_tuning_has_and_of_how_many_samples(first: Ran) -> None:
    arm = 'arms={mine: {tuning: ab_tuned, values: {"selection.total": 25, "b_tuning.samples_per_step": 5}}}'
    planned = again(
        first,
        arm,
        "evaluation.arms=[ab_tuned, ab_random, mine]",
        "a_tuning.max_steps=null",
        "a_tuning.epochs=2",
        "difficulty.max_per_behavior=7",
        "selection.total=1.0",
        "b_tuning.max_steps=3",
    ).run
    lines = describe_plan(planned, evaluate(planned))
    told = dict(line.strip().split(": ") for line in lines if " steps of about " in line)
    log = first.log()
    train = rows_of_split(log, "train")
    anchors = count(rows_of_anchors(log, train))
    epoch = round(anchors / 8)
    selected = int(np.minimum(np.bincount(gather(log, train, "behavior")), 7).sum())
    per_step = round(selected / round(selected / 8))
    assert anchors > 60 and selected > 40
    assert told == {
        "a_tune": f"{2 * epoch} steps of about {round(anchors / epoch)} samples, of {anchors} in an epoch",
        "b_tune": f"3 steps of about {per_step} samples, of {selected} in an epoch",
        "b_tune (ab_random)": f"3 steps of about {per_step} samples, of {selected} in an epoch",
        "b_tune (mine)": "3 steps of about 5 samples, of 25 in an epoch",
    }


def test_the_plan_tells_the_steps_that_a_run_then_had(first: Ran) -> None:
    planned = again(first).run
    lines = describe_plan(planned, evaluate(planned))
    for name in ("a_tune", "b_tune"):
        rows = first.outputs[name].manifest.rows
        (line,) = [line for line in lines if line.startswith(f"  {name}: ")]
        assert f" {rows['steps_of_whole']} steps of about {rows['samples'] // rows['steps']} samples" in line
    assert "of 40 in an epoch" in line


def test_the_plan_of_preparation_tells_of_no_tuning(first: Ran) -> None:
    planned = again(first).run
    lines = describe_plan(planned, prepare(planned))
    assert any("training samples" in line for line in lines)
    assert not any(" steps of about " in line for line in lines)


def test_planning_a_first_run_writes_nothing_at_all(small_base: Path, inputs: Path, tmp_path: Path) -> None:
    run = open_run(settings_of(tmp_path / "runs", small_base, inputs))
    check_inputs(run, is_written=False)
    assert Ran(run, run.runner()).plan() == {
        name: "run" if name in ("prepare", "conversations") else "unknown" for name in STAGES
    }
    assert "  known once `prepare` has run" in describe_plan(run, evaluate(run))
    assert list(tmp_path.iterdir()) == []


def test_dropout_that_is_removed_from_a_base_shows_in_the_identity_of_tuning_only(
    small_base: Path, inputs: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_base, tmp_path / "dropping")
    config = json.loads((small_base / "config.json").read_text())
    (tmp_path / "dropping" / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.1}))
    recipes = []
    for base in (small_base, tmp_path / "dropping"):
        run = open_run(settings_of(tmp_path / "runs", base, inputs))
        run.inputs._known["base"] = "one"  # so that only what is not said by the base's files can differ
        recipes.append({stage.name: stage.recipe for stage in in_order([evaluate(run)])})
    differing = {name for name in recipes[0] if recipes[0][name] != recipes[1][name]}
    assert {"a_tune", "b_tune"} <= differing
    assert not differing & {"prepare", "conversations", "predict_untuned"}


@pytest.mark.slow
def test_another_balance_runs_only_selection_b_tuning_its_scoring_and_the_evaluation(first: Ran) -> None:
    changed = whole(again(first, "selection.balance=0.9").run)
    assert set(changed.outputs) == STAGES
    assert {name for name, output in changed.outputs.items() if not output.reused} == CHANGED_BY_SELECTION


def test_a_full_disk_during_a_stage_is_told_and_the_same_command_goes_on(first: Ran, tmp_path: Path) -> None:
    """The limit on the size of files stands in for a full disk; stages before are reused, so no Ray is needed."""
    config = tmp_path / "config.yaml"
    settings = again(first, "selection.balance=0.1").run.settings
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json")), encoding="utf-8")
    script = (
        "import resource, sys\n"
        "from behaviorlm.config import load_settings\n"
        "from behaviorlm.errors import StorageError\n"
        "from behaviorlm_ray.pipeline.run import open_run\n"
        "from behaviorlm_ray.pipeline.score import score\n"
        "from behaviorlm_ray.pipeline.select import select\n"
        "from behaviorlm_ray.pipeline.settings import RunSettings\n"
        "for limit in (700, -1):\n"
        "    run = open_run(load_settings(RunSettings, sys.argv[1]))\n"
        "    run.runner().run(score(run))\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))\n"
        "    try:\n"
        "        run.runner().run(select(run))\n"
        "        print('went on')\n"
        "    except StorageError as error:\n"
        "        print(f'told: {error}')\n"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", script, str(config)], capture_output=True, text=True, check=False
    )
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert "told: select: the disk that holds" in outcome.stdout
    assert "Free some space and run the same command again: finished stages are reused" in outcome.stdout
    assert outcome.stdout.endswith("went on\n")
    assert again(first, "selection.balance=0.1").plan()["select"] == "reuse"


def test_a_full_disk_in_a_ray_task_is_told_and_the_same_command_goes_on(
    on_ray: None, small_base: Path, tmp_path: Path, full_disk: Path
) -> None:
    log = write_log(tmp_path / "log.csv", log_rows(22, users=150))
    run = open_run(run_settings(full_disk, small_base, log))
    if not full_disk.is_mount():  # the limit on files above covers machines where nothing may be mounted
        assert run.runner().run(prepare(run)) is not None
        return
    with pytest.raises(StorageError, match=r"prepare: .* is full .*run the same command again"):
        run.runner().run(prepare(run))
    subprocess.run(["mount", "-o", "remount,size=64m", str(full_disk)], check=True)
    assert run.runner().run(prepare(run)).manifest.rows["users"] == 150


@pytest.mark.parametrize("planning", [False, True])
def test_what_was_made_under_a_larger_quarantine_share_is_refused_under_a_smaller_one(
    tolerant: RunSettings, planning: bool
) -> None:
    data = tolerant.model_dump(mode="json")

    def look(goal: Callable[[Run], Stage], *overrides: str) -> StageOutput:
        run = open_run(load_settings(RunSettings, None, overrides, data))
        runner, stage = run.runner(), goal(run)
        if planning:
            runner.plan(stage)
        else:
            runner.run(stage)
        return runner.outputs[stage.recipe]

    assert look(prepare).reused and look(conversations).reused
    message = r"2 of 12\d rows cannot be used \(1\.\d\d%; allowed are 0\.10% .*: empty user: 2\..*quarantine"
    with pytest.raises(DataError, match=message):
        look(prepare, "events.max_quarantine_share=0.001")
    with pytest.raises(
        DataError, match=r"'talk': 1 of 41 conversations .*more than max_quarantine_share 0\.001"
    ):
        look(conversations, "auxiliary.0.max_quarantine_share=0.001")


@pytest.fixture(scope="module")
def tolerant(small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> RunSettings:
    """Settings of a run whose log and conversations, with rows that cannot be used, are prepared."""
    folder = tmp_path_factory.mktemp("tolerant")
    rows = log_rows(23, users=10)[:120]
    log = write_log(folder / "log.csv", [*rows, *({**row, "user": ""} for row in rows[:2])])
    talk = write_conversations(folder / "talk.jsonl")
    talk.write_text(talk.read_text(encoding="utf-8") + '{"messages": []}\n', encoding="utf-8")
    auxiliary = f"auxiliary=[{{name: talk, paths: [{talk}], ratio: 0.25, max_quarantine_share: 0.5}}]"
    overrides = ("events.max_quarantine_share=0.5", auxiliary)
    settings = run_settings(folder / "runs", small_base, log, overrides=overrides)
    run = open_run(settings)
    run.runner().run(prepare(run), conversations(run))
    return settings


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("vocabulary.anchor_threshold=0.9",), r"no behavior is an anchor.*vocabulary\.anchor_threshold"),
        (
            ("vocabulary.anchor_threshold=0.0", "selection.anchor_share=0.5"),
            r"there is no tail.*vocabulary\.anchor_threshold",
        ),
        (("split.test=0",), r"no test sample to evaluate on.*split\.test"),
    ],
)
def test_what_the_arms_lack_shows_after_preparation_before_any_tuning(
    small_base: Path, inputs: Path, tmp_path: Path, overrides: tuple[str, ...], message: str
) -> None:
    run = open_run(settings_of(tmp_path, small_base, inputs, *overrides))
    lacking = Ran(run, run.runner())
    with pytest.raises(DataError, match=message):
        lacking.runner.run(evaluate(run))
    assert set(lacking.outputs) == {"prepare"}
    with pytest.raises(DataError, match=message):
        Ran(run, run.runner()).plan()


@pytest.mark.slow
def test_without_a_tail_and_without_validation_everything_else_still_works(
    first: Ran, tmp_path: Path
) -> None:
    overrides = ("vocabulary.anchor_threshold=0", "split.validation=0", f"storage.root={tmp_path}")
    ran = whole(again(first, *overrides).run)
    results = json.loads(storage.read_text(write_results(ran.run, ran.runner).place.parent / "results.json"))
    assert results["samples"]["tail"] == 0 and results["samples"]["validation"] == 0
    assert results["models"]["ab_tuned"]["tail"]["accuracy"]["value"] is None
    assert "ab_tuned+adjusted" not in results["models"]
