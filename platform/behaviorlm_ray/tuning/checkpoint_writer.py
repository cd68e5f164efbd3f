"""Checkpoints while training goes on: gathered from all workers, written by a thread of worker 0."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
import torch.distributed as dist

from behaviorlm_ray.storage import Location
from behaviorlm_ray.tuning import sharded_state, step_records
from behaviorlm_ray.tuning.checkpoints import Checkpoint, write_checkpoint
from behaviorlm_ray.tuning.engine import TuningEngine
from behaviorlm_ray.tuning.step_folders import prune

NOTICE_CHECKPOINT_SECONDS = 20.0
"""How often a checkpoint is made while a machine is about to go; EC2 leaves two minutes."""


class CheckpointWriter:
    """Writes checkpoints beside the training: gathering is collective, writing is a thread of worker 0."""

    def __init__(
        self,
        folder: Location,
        keep: int,
        identity: dict[str, str],
        continued: Checkpoint | None,
        earlier: Sequence[Location] = (),
    ) -> None:
        """keep: how many of the newest stay, also of `earlier` attempts; identity: what a run must share to go on."""
        self._folder, self._keep, self._identity, self._earlier = folder, keep, identity, earlier
        self._continued = None if continued is None else continued.folder
        own = continued is not None and continued.folder.parent == folder
        self._parts: step_records.Parts = continued.parts if continued is not None and own else {}
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._pending: Future[None] | None = None
        self._noticed, self._started = False, time.monotonic()

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._wait()
        finally:
            self._pool.shutdown()

    def is_due_on_notice(self, device: torch.device) -> bool:
        """Whether it is time for a checkpoint while a machine is about to go: at once, and then every so often.

        Collective: worker 0's clock decides for all, as all must gather or none. While the one before is still
        being written there is no other: steps would wait for it.
        """
        is_idle = self._pending is None or self._pending.done()
        is_time = is_idle and time.monotonic() - self._started >= NOTICE_CHECKPOINT_SECONDS
        due = torch.tensor([not self._noticed or is_time], dtype=torch.int32, device=device)
        dist.broadcast(due, src=0)
        self._noticed = True
        return bool(due.item())

    def start(self, engine: TuningEngine, step: int, records: list[dict[str, Any]]) -> None:
        """Write the engine's state after `step` steps; collective. Raises the StorageError of the one before."""
        self._started = time.monotonic()
        self._wait()  # first: gathered are three times the float32 weights, and two of that may not fit
        state = sharded_state.gather(engine)
        if dist.get_rank() == 0:
            shapes = {fragment.name: fragment.shape for fragment in sharded_state.fragments(engine)}
            rest = records[len(self._parts) * step_records.STEPS :]
            self._pending = self._pool.submit(self._write, step, state, shapes, rest)

    def _write(self, step: int, state: dict, shapes: dict, rest: Sequence[Mapping[str, Any]]) -> None:
        self._parts, rest = step_records.write_parts(self._folder, self._parts, rest)
        write_checkpoint(self._folder, step, state, shapes, rest, self._identity, self._parts)
        prune(self._folder, self._keep, step, self._continued, self._earlier)

    def _wait(self) -> None:
        """Wait for the checkpoint being written; its StorageError comes up here."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()
