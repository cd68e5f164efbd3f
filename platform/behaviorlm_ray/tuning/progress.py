"""What a tuning run shows while it runs: a line in the log, gauges for Ray's metrics, a file that `status` reads."""

import json
import resource
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import ray
import torch
import torch.distributed as dist
from ray.util.metrics import Gauge

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.stages.run_record import PROGRESS_FILE
from behaviorlm_ray.storage import Location
from behaviorlm_ray.tuning.config import TuningExecution
from behaviorlm_ray.tuning.engine import TuningEngine
from behaviorlm_ray.tuning.failed_workers import announce
from behaviorlm_ray.tuning.optimizer_step import StepOutcome
from behaviorlm_ray.tuning.utilization import peak_teraflops

GAUGES = {
    "loss": "Weighted loss of the last step, before its update.",
    "samples_per_second": "Samples per second, all workers together.",
    "tokens_per_second": "Tokens of the trees per second, all workers together.",
    "workers": "Workers that tune together.",
    "memory_gib": "Largest memory of worker 0 so far: of its GPU, else of its process.",
    "model_flop_utilization": "Share of the devices' peak that the model's own work uses.",
    "step": "Optimizer steps done.",
}

FILE_PATIENCE_SECONDS = 10.0
"""How long writing the progress file is tried; the next one follows soon."""


class Progress:
    """Sums up steps and, at most every so many seconds, tells; worker 0 only, the others do nothing.

    folder: where the progress file goes.
    """

    def __init__(
        self,
        part_names: list[str],
        steps: int,
        first: int,
        execution: TuningExecution,
        engine: TuningEngine,
        folder: Location,
    ) -> None:
        self._names, self._steps, self._first = part_names, steps, first
        self._every = execution.progress_every_seconds
        self._folder = storage.with_patience(folder, FILE_PATIENCE_SECONDS)
        self._peak = _peak_of_all_workers(execution, engine)
        self._started = self._last = time.perf_counter()
        self._samples = self._tokens = 0
        self._seconds = self._operations = 0.0
        self._file = _ProgressFile()
        self._gauges: dict[str, Gauge] = {}
        if dist.get_rank() == 0 and ray.is_initialized():
            self._gauges = {name: Gauge(f"behaviorlm_tuning_{name}", text) for name, text in GAUGES.items()}

    def show(self, step: int, outcome: StepOutcome, operations: float) -> None:
        """Count a step and, when it is time, tell. operations: floating-point ones of the step."""
        if dist.get_rank() != 0:
            return
        self._samples += outcome.samples
        self._tokens += outcome.tokens
        self._seconds += outcome.seconds
        self._operations += operations
        now = time.perf_counter()
        if now - self._last < self._every and step + 1 != self._steps:
            return
        self._last = now
        self._tell(step, outcome, now)
        self._samples = self._tokens = 0
        self._seconds = self._operations = 0.0

    def close(self) -> None:
        """Wait for the file being written."""
        self._file.close()

    def _tell(self, step: int, outcome: StepOutcome, now: float) -> None:
        values = {
            "loss": outcome.loss,
            "samples_per_second": self._samples / self._seconds,
            "tokens_per_second": self._tokens / self._seconds,
            "workers": float(dist.get_world_size()),
            "memory_gib": memory_gib(),
            "step": float(step + 1),
        }
        utilization = ""
        if self._peak is not None:
            share = self._operations / self._seconds / self._peak
            values["model_flop_utilization"] = share
            utilization = f"MFU {share:.1%}, "
        left = (now - self._started) / (step + 1 - self._first) * (self._steps - step - 1)
        parts = ", ".join(
            f"{name} {value:.4f}" for name, value in zip(self._names, outcome.parts, strict=True)
        )
        workers = dist.get_world_size()
        announce(  # a narrow terminal shows the beginning
            f"step {step + 1}/{self._steps}, {left:,.0f} s left, loss {outcome.loss:.4f}, "
            f"{values['samples_per_second']:,.1f} samples/s, {values['tokens_per_second']:,.0f} tokens/s, {utilization}"
            f"{parts}, rate {outcome.learning_rate:.2e}, {workers} {'worker' if workers == 1 else 'workers'}, "
            f"{values['memory_gib']:.1f} GiB"
        )
        for name, gauge in self._gauges.items():
            if name in values:
                gauge.set(values[name])
        told = {"steps": self._steps, "time": time.time(), "seconds_left": round(left), **values}
        self._file.write(self._folder / PROGRESS_FILE, json.dumps(told | {"step": step + 1}).encode())


class _ProgressFile:
    """Writes in a thread, and skips a write while the last one is not done: a slow storage must not hold up steps."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="progress")
        self._pending: Future[None] | None = None

    def write(self, path: Location, content: bytes) -> None:
        if self._pending is None or self._pending.done():
            self._pending = self._pool.submit(_write, path, content)

    def close(self) -> None:
        self._pool.shutdown()


def _write(path: Location, content: bytes) -> None:
    with suppress(StorageError):  # for people only; what matters is written elsewhere, and fails there
        storage.write_replacing(path, content)


def memory_gib() -> float:
    """Largest memory of this worker so far, in GiB: of its GPU, else of its process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def _peak_of_all_workers(execution: TuningExecution, engine: TuningEngine) -> float | None:
    """Operations a second that the devices of all workers could do, taken to be of one kind.

    None if not known, or if it is not known how many the model takes.
    """
    peak = execution.peak_teraflops
    if peak is None and execution.use_gpu:
        peak = peak_teraflops(torch.cuda.get_device_name(), engine.dtype)
    return None if peak is None or engine.work is None else peak * 1e12 * dist.get_world_size()
