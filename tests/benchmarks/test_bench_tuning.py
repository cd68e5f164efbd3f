"""The peers of tuning have the same gradients where they should, and run the tokens that they are said to."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from behaviorlm.model.adapters import AdaptedModel
from behaviorlm.trees.token_tree import plain_sequences
from benchmarks import records, tuning_of_checkout
from benchmarks.bench_tuning import difference, gradients_of, measured, measured_streams, scheduled
from benchmarks.gpu_shapes import DrawnLog, drawn_log, drawn_model, shapes, with_adapter
from benchmarks.tuning_peers import (
    Before,
    batched,
    run_batches,
    samples_of,
    save_base,
    save_weights,
    schedule_of,
    single_streams,
    trl_settings,
    whole_streams,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the model's base and adapter lie."""
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def model(folder: Path) -> AdaptedModel:
    base = drawn_model(shapes(is_tiny=True)["8B"], torch.device("cpu"), torch.float32, gain=1.2)
    save_base(base, folder)
    found = with_adapter(base)
    with torch.no_grad():
        for parameter in found.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.1)
    save_weights(found, folder)
    return found


@pytest.fixture(scope="module")
def log() -> DrawnLog:
    return drawn_log(2048, 3, 16, 12)


def test_packed_sequences_and_isolated_targets_have_our_gradients(
    model: AdaptedModel, log: DrawnLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "product_teraflops", lambda: 1.0)
    found = measured(model, scheduled(log, cap=4, samples=8), "tiny", 1, {})
    assert [each["name"] for each in found] == ["tuning against packed, tiny", "tuning against dti, tiny"]
    for each in found:
        assert each["equal"] and each["difference"] < 1e-5
        assert 0 < each["floor_share"] <= each["ceiling_share"] and each["drift"] == 0
    json.dumps(found)


def test_a_stream_holds_the_read_outs_of_its_window_and_no_other(log: DrawnLog) -> None:
    packs = scheduled(log, cap=4, samples=8).packs
    streams = [stream for pack in packs for stream in single_streams(pack)]
    assert len(streams) > len(packs)

    def seen(trees: object) -> list[tuple[bytes, bytes]]:
        return sorted(
            (ids.tobytes(), tree.target[read_outs].tobytes())
            for tree in trees  # type: ignore[attr-defined]
            for ids, read_outs in plain_sequences(tree)
        )

    assert seen(streams) == seen(packs)


def test_whole_timelines_in_one_stream_are_ours_where_the_window_cuts_nothing(
    model: AdaptedModel, log: DrawnLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "product_teraflops", lambda: 1.0)
    streams = whole_streams(log, 3)  # 16 events each, and windows hold 32
    packs = scheduled(log, cap=16, samples=45).packs
    right = gradients_of(model, lambda: run_batches(model, batched(packs, 1, None)))
    whole = gradients_of(model, lambda: run_batches(model, batched(streams, 2, None)))
    assert difference(whole, right) < 1e-5
    first = len(log.prompt.instruction_ids)
    cut = gradients_of(model, lambda: run_batches(model, batched(streams, 2, (first, 20))))
    assert difference(cut, right) > 1e-3
    packed, dti = measured_streams(model, log, 2, "tiny", 1, {})
    assert packed["equal"] and packed["samples"] == dti["samples"] == 30
    assert dti["tokens"] <= dti["peer_tokens"]


def test_no_sample_is_cut_to_a_row_of_trl(log: DrawnLog) -> None:
    longest = max(len(ids) for _, ids, _ in samples_of(scheduled(log, cap=4, samples=8).packs))
    lengths = [of["max_length"] for of in trl_settings(longest).values() if of.get("packing")]
    assert lengths and np.min(lengths) >= longest
    assert Path(records.results_file()).parent.name == "results"


def test_another_process_schedules_the_same_step(log: DrawnLog) -> None:
    step = scheduled(log, cap=4, samples=8)
    schedule = tuning_of_checkout.scheduled(json.loads(json.dumps(schedule_of(step))))
    assert schedule.sample_ids(0) == step.ids
    for found, right in zip(schedule.packs(0), step.packs, strict=True):
        for name in ("token_ids", "depth", "end", "source", "target", "weight"):
            np.testing.assert_array_equal(getattr(found, name), getattr(right, name))


@pytest.mark.slow
def test_another_checkout_has_our_gradients(
    model: AdaptedModel, log: DrawnLog, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "product_teraflops", lambda: 1.0)
    step = scheduled(log, cap=4, samples=8)
    sides = {"before": partial(Before, Path(__file__).parents[2], folder)}
    [found] = measured(model, step, "tiny", 1, sides, {})
    assert found["name"] == "tuning against before, tiny" and found["equal"]
    assert found["peer_tokens"] == found["tokens"] == sum(map(len, step.packs))
    with pytest.raises(SystemExit, match="has no package behaviorlm"):
        Before(folder, folder, step)
