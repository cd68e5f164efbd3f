"""What plans tell of cost: of every stage, before anything ran; what does not fit a card is told with the key."""

from pathlib import Path

import pytest

from behaviorlm.config import load_settings
from behaviorlm_ray.costs.config import ImaginedLog
from behaviorlm_ray.costs.stage_cost import StageCost
from behaviorlm_ray.pipeline.costs import sample_of_first_rows, sample_of_log
from behaviorlm_ray.pipeline.evaluate import evaluate
from behaviorlm_ray.pipeline.imagined_run import imagined_run, reckoned, sample_of_numbers
from behaviorlm_ray.pipeline.planning import describe_plan
from behaviorlm_ray.pipeline.prepare import open_log
from behaviorlm_ray.pipeline.run import open_run
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.pipeline.tune import one_stage
from behaviorlm_ray.preparation.first_rows import read_first_rows
from behaviorlm_ray.stages.stage import in_order
from behaviorlm_ray.tuning.inputs import ScheduleSource
from docs.costs import settings_of
from tests.platform.export.finished_runs import finished_run
from tests.platform.small_runs import log_rows, run_settings, write_log

SCORED = {"score", "predict_untuned", "predict_one_stage", "predict_ab_tuned"}
LOG = ImaginedLog(events=1e6, users=1e4)


def costs_of(settings: RunSettings, log: ImaginedLog = LOG) -> dict[str, StageCost]:
    run = imagined_run(settings)
    sample = sample_of_numbers(run.settings, log)
    return {stage.label: stage.cost(sample) for stage in in_order([evaluate(run)]) if stage.cost is not None}


def changed(settings: RunSettings, *overrides: str) -> RunSettings:
    return load_settings(RunSettings, None, overrides, settings.model_dump(mode="json"))


def test_the_configuration_for_24_gb_fits_and_longer_packs_are_told_of(tmp_path: Path) -> None:
    settings = changed(settings_of("1.5B", tmp_path), "execution.costs.card=L4")
    told = [line for cost in costs_of(settings).values() for line in cost.told]
    assert any(line.startswith("ZeRO-0: ") for line in told)
    assert not [line for line in told if "warning" in line]
    long = "a_tuning.max_tokens=16384"
    (warning,) = [
        line for line in costs_of(changed(settings, long))["a_tune"].told if line.startswith("warning: ")
    ]
    assert "L4" in warning and "max_tokens (16384)" in warning and "activation_checkpointing" in warning
    recomputed = changed(settings, long, "execution.tuning.activation_checkpointing=true")
    assert not [line for line in costs_of(recomputed)["a_tune"].told if line.startswith("warning: ")]


def test_work_grows_with_the_log_where_nothing_limits_it(small_base: Path, tmp_path: Path) -> None:
    settings = run_settings(
        tmp_path, small_base, tmp_path / "log.csv", overrides=("execution.costs.gigaflops=20",)
    )
    settings = changed(settings, "a_tuning.max_steps=null", "a_tuning.epochs=1")
    once, twice = (
        costs_of(settings, ImaginedLog(events=events, users=events / 100)) for events in (1e7, 2e7)
    )
    assert twice["a_tune"].tokens == pytest.approx(2 * once["a_tune"].tokens, rel=1e-3)
    assert twice["prepare"].disk == 2 * once["prepare"].disk
    lines = reckoned(settings, LOG)
    assert lines[0].startswith("cost, from numbers alone: 1,000,000 events; hours of a CPU core")
    (whole,) = [line for line in lines if line.strip().startswith("all ")]
    assert "?" not in whole


def test_a_plan_tells_what_every_stage_takes_before_anything_ran(small_base: Path, tmp_path: Path) -> None:
    path = write_log(tmp_path / "log.csv", log_rows(3))
    run = open_run(run_settings(tmp_path / "runs", small_base, path))
    lines = describe_plan(run, evaluate(run))
    begin = next(place for place, line in enumerate(lines) if line.startswith("cost, from the first rows: "))
    told = [line.split()[0] for line in lines[begin + 2 : lines.index("", begin)]]
    expected = [stage.label.split()[0] for stage in in_order([evaluate(run)]) if stage.cost is not None]
    assert told[: len(expected)] == expected and "b_tune" in told and told[len(expected)] == "all"
    left_out = [stage.label for stage in in_order([evaluate(run)]) if stage.cost is None]
    assert f"  not reckoned: {', '.join(left_out)}" in lines and "select" in left_out
    assert not (tmp_path / "runs").exists()


def test_what_is_told_before_is_what_it_takes_within_a_quarter(
    small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished_run(tmp_path, small_base, monkeypatch, arms="untuned, one_stage, ab_tuned")
    log = write_log(tmp_path / "log.csv", log_rows(21, users=20))  # as it was before
    again = open_run(changed(run.settings, f"events.paths=[{log}]"))
    settings, runner = again.settings, again.runner()
    runner.plan(evaluate(again))
    made = runner.named(evaluate(again))
    first = read_first_rows(
        again.inputs.source, settings.split, settings.prompt.min_history, settings.vocabulary
    )
    told = sample_of_first_rows(first, settings, {})
    assert told is not None
    parts = [file.bytes for path, file in made["prepare"].manifest.files.items() if path.startswith("parts/")]
    assert told.prepared_bytes == pytest.approx(sum(parts), rel=0.25)
    counted = {name: output.manifest.cost["tokens"] for name, output in made.items() if name in SCORED}
    for stage in in_order([evaluate(again)]):
        if stage.label in SCORED:
            assert stage.cost is not None
            assert stage.cost(told).tokens == pytest.approx(counted[stage.label], rel=0.25), stage.label
    prepared = open_log(made["prepare"], settings)
    config = settings.one_stage
    schedule = ScheduleSource(prepared, "all", None, None, [], config)()
    tokens = sum(len(pack) for step in range(len(schedule)) for pack in schedule.packs(step))
    cost = one_stage(again).cost
    assert cost is not None
    for sample in (told, sample_of_log(prepared, {}, 0.0)):
        assert cost(sample).tokens == pytest.approx(tokens, rel=0.25)
