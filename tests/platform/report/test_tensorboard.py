"""TensorBoard files, read back record by record."""

import struct
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event

from behaviorlm_ray.report.tensorboard import write_tensorboard


def line(step: int, **changes: Any) -> dict[str, Any]:
    values = {"step": step, "loss": 2.0 - step, "parts": {"samples": 1.5}, "samples": 8, "tokens": 400}
    return values | {"gradient_norm": 0.5, "learning_rate": 1e-3, "seconds": 0.5} | changes


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Curves of a folder's event file: length (8 bytes), checksum (4), record, checksum (4), and so on."""
    [path] = folder.glob("events.*")
    found: dict[str, list[tuple[int, float]]] = {}
    content, place = path.read_bytes(), 0
    while place < len(content):
        (length,) = struct.unpack("<Q", content[place : place + 8])
        event = Event.FromString(content[place + 12 : place + 12 + length])
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
        place += length + 16
    return found


def test_every_step_is_there_once_and_a_second_writing_replaces_the_first(tmp_path: Path) -> None:
    for _ in range(2):
        write_tensorboard(
            {"a_tune": [line(0), line(1)], "a_tune (all_b)": [line(0, seconds=0, gradient_norm=None)]},
            tmp_path,
        )
    assert {path.name for path in tmp_path.iterdir()} == {"a_tune", "a_tune_all_b"}
    found = scalars(tmp_path / "a_tune")
    assert found["loss"] == [(1, 2.0), (2, 1.0)]
    assert found["loss/samples"] == [(1, 1.5), (2, 1.5)]
    assert found["samples_per_second"] == [(1, 16.0), (2, 16.0)]
    assert found["tokens_per_second"] == [(1, 800.0), (2, 800.0)]
    assert found["learning_rate"][0][1] == pytest.approx(1e-3)
    assert scalars(tmp_path / "a_tune_all_b").keys() == {"loss", "loss/samples", "learning_rate"}
