"""The dtype that `auto` comes to: chosen once for the runs of a root, part of identities where it is not the files'."""

from pathlib import Path

import pytest

from behaviorlm.errors import ConfigError, StorageError
from behaviorlm.model import precision
from behaviorlm_ray.pipeline.evaluate import evaluate
from behaviorlm_ray.pipeline.input_checks import check_inputs
from behaviorlm_ray.pipeline.planning import describe_plan
from behaviorlm_ray.pipeline.prepare import prepare
from behaviorlm_ray.pipeline.run import Run, open_run
from behaviorlm_ray.stages.stage import in_order
from tests.hardware import cpu_with
from tests.platform.small_runs import log_rows, run_settings, write_log

PREPARED = {"prepare"}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_log(tmp_path / "log.csv", log_rows(5, users=6))


def run_of(log: Path, base: Path, *overrides: str) -> Run:
    return open_run(run_settings(log.parent / "runs", base, log, overrides=overrides))


def recipes(run: Run) -> dict[str, str]:
    return {stage.name: stage.recipe for stage in in_order([evaluate(run)])}


def kept(log: Path) -> list[Path]:
    return sorted((log.parent / "runs").glob("dtype-*.json"))


def test_the_first_run_of_a_root_binds_the_others_wherever_they_run(
    log: Path, small_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "LEAST_WIDTH", 32)
    cpu_with(monkeypatch, "avx512_bf16")
    first = run_of(log, small_base)
    check_inputs(first, is_written=False)
    assert not kept(log)  # a plan writes nothing
    told = describe_plan(first, prepare(first))
    assert "  weights in bfloat16, stored in float32: this CPU has AVX512-BF16 (model.dtype: auto)" in told
    check_inputs(first, is_written=True)
    assert len(kept(log)) == 1

    cpu_with(monkeypatch)
    other = run_of(log, small_base, "name=elsewhere")
    assert other.resolved.model.dtype == "bfloat16" and recipes(other) == recipes(first)
    assert "runs of this storage.root began with it" in other.inputs.precision.told
    asked = run_of(log, small_base, "model.dtype=float32")
    assert asked.resolved.model.dtype == "float32"

    kept(log)[0].write_text("{")
    with pytest.raises(ConfigError, match=r"dtype-\w+\.json is damaged") as raised:
        check_inputs(run_of(log, small_base), is_written=False)
    assert isinstance(raised.value.__cause__, StorageError)


def test_one_that_lost_the_race_to_be_first_takes_what_the_other_chose(
    log: Path, small_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "LEAST_WIDTH", 32)
    cpu_with(monkeypatch)
    slower = run_of(log, small_base)
    assert slower.inputs.precision.dtype == "float32"
    cpu_with(monkeypatch, "amx_bf16")
    check_inputs(run_of(log, small_base), is_written=True)
    check_inputs(slower, is_written=True)
    assert slower.resolved.model.dtype == "bfloat16"


def test_a_dtype_other_than_that_of_the_files_identifies_what_loads_the_base(
    log: Path, small_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "LEAST_WIDTH", 32)
    cpu_with(monkeypatch)
    as_stored = recipes(run_of(log, small_base))
    cpu_with(monkeypatch, "avx512_bf16")
    rounded = recipes(run_of(log, small_base))
    assert {name for name, recipe in as_stored.items() if rounded[name] == recipe} == PREPARED


def test_a_base_too_small_for_bfloat16_leaves_no_trace(
    log: Path, small_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu_with(monkeypatch, "amx_bf16", "avx512_bf16")
    run = run_of(log, small_base)
    check_inputs(run, is_written=True)
    assert run.resolved.model.dtype == "float32" and "chosen_dtype" not in run.model_identity
    assert not kept(log)
