"""The first look at a GPU runs whole on a CPU at tiny sizes, and keeps what each arm gave or why it gave nothing."""

import json
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_clock import Record, Row
from benchmarks.gpu_first import exit_code, main
from benchmarks.gpu_shapes import drawn_model, shapes


def sections_of(file: Path, *names: str) -> dict[str, list[Row]]:
    """What a tiny run of some sections records, all of it right."""
    threads = torch.get_num_threads()
    try:
        assert main(["--tiny", "--out", str(file), "--only", *names]) == 0
    finally:
        torch.set_num_threads(threads)
    found: dict[str, list[Row]] = json.loads(file.read_text())["sections"]
    return found


def test_the_tiny_run_finds_losses_gradients_and_scores_equal(tmp_path: Path) -> None:
    sections = sections_of(tmp_path / "gpu.json", "equality")
    assert [row["equal"] for row in sections["equality"]] == [True, True]


@pytest.mark.slow
def test_the_tiny_run_measures_every_shape(tmp_path: Path) -> None:
    sections = sections_of(tmp_path / "gpu.json", "tuning", "scoring")
    assert {row["shape"] for row in sections["tuning"]} == {"0.5B", "1.5B", "8B"}
    assert all(row["samples_per_s"] > 0 for row in sections["tuning"])
    assert len(sections["scoring"]) == 6 and all(row["prompts_per_s"] > 0 for row in sections["scoring"])


def test_an_arm_that_fails_is_recorded_and_so_is_one_without_time(tmp_path: Path) -> None:
    record = Record(tmp_path / "gpu.json", time.monotonic() + 100)

    def fails() -> dict:
        raise RuntimeError("out of memory")

    record.attempt("tuning", {"shape": "8B"}, 1, fails)
    record.attempt("tuning", {"shape": "8B"}, 200, fails)
    first, second = json.loads((tmp_path / "gpu.json").read_text())["sections"]["tuning"]
    assert first["error"] == "RuntimeError: out of memory" and "skipped" in second


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([{"median_s": 1.0}, {"skipped": "no time left"}], 0),
        ([{"median_s": 1.0}, {"error": "out of memory"}], 1),
        ([{"median_s": 1.0}, {"equal": False}], 1),
        ([{"skipped": "no time left"}], 1),
    ],
)
def test_the_exit_code_tells_what_is_wrong(rows: list[Row], code: int) -> None:
    assert exit_code(rows) == code


@pytest.mark.parametrize("name", ["0.5B", "1.5B", "8B"])
def test_the_shapes_have_the_sizes_that_they_are_named_for(name: str) -> None:
    with torch.device("meta"):
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_config(shapes(is_tiny=False)[name].config)
    billions = sum(parameter.numel() for parameter in model.parameters()) / 1e9
    assert billions == pytest.approx({"0.5B": 0.494, "1.5B": 1.544, "8B": 8.03}[name], rel=0.01)


def test_a_drawn_model_keeps_its_rotary_positions_in_float32() -> None:
    model = drawn_model(shapes(is_tiny=True)["8B"], torch.device("cpu"), torch.bfloat16)
    assert {buffer.dtype for buffer in model.buffers() if buffer.is_floating_point()} == {torch.float32}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
