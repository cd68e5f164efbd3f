"""A checkpoint is gathered when the one before is written, so that memory holds one of them."""

import threading
import weakref
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
    copies: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []
    may_end = threading.Event()

    def write(folder: Path, step: int, *rest: Any) -> None:
        assert may_end.wait(10)
        events.append(f"written {step}")

    def gather(engine: Any) -> dict[str, dict[str, torch.Tensor]]:
        events.append("gathered")
        alive.append(sum(copy() is not None for copy in copies))
        state = torch.zeros(3)
        copies.append(weakref.ref(state))
        return {"parameter": {"a": state}}

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
        writer.start(engine, 3, [])
    assert events == [word for step in (1, 2, 3) for word in ("gathered", f"written {step}")]
    assert alive == [0, 0, 0]  # copies of the state beside the one that is gathered
