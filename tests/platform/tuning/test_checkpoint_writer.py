"""A checkpoint is gathered when the one before is written, so that memory holds one of them."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from behaviorlm_ray.tuning import checkpoint_writer, sharded_state
from behaviorlm_ray.tuning.checkpoint_writer import CheckpointWriter


def test_gathering_begins_when_the_checkpoint_before_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    may_end = threading.Event()

    def write(folder: Path, step: int, *rest: Any) -> None:
        assert may_end.wait(10)
        events.append(f"written {step}")

    def gather(engine: Any) -> dict[str, dict[str, torch.Tensor]]:
        events.append("gathered")
        return {}

    monkeypatch.setattr(checkpoint_writer, "write_checkpoint", write)
    monkeypatch.setattr(checkpoint_writer, "prune", lambda *rest: None)
    monkeypatch.setattr(sharded_state, "gather", gather)
    monkeypatch.setattr(sharded_state, "fragments", lambda engine: [])
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    engine: Any = None
    with CheckpointWriter(tmp_path, 2, {}, None) as writer:
        writer.start(engine, 1, [])
        threading.Timer(0.05, may_end.set).start()
        writer.start(engine, 2, [])
    assert events == ["gathered", "written 1", "gathered", "written 2"]
