"""Time and memory on a device that works asynchronously, the ceiling it reaches, and the record that is kept."""

import gc
import json
import statistics
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]


@dataclass
class Record:
    """What was measured so far, written to a file after each row. State: the rows of each section."""

    path: Path | None
    deadline: float
    started: float = field(default_factory=time.monotonic)
    content: dict[str, Any] = field(default_factory=dict)

    def left(self) -> float:
        """Seconds until the time is up."""
        return self.deadline - time.monotonic()

    def add(self, section: str, row: Row) -> None:
        """Keep a row of a section, print it and write the file."""
        row = {**row, "at_s": round(time.monotonic() - self.started, 1)}
        self.content.setdefault("sections", {}).setdefault(section, []).append(row)
        print(f"{section}: {summary(row)}", flush=True)
        self.write()

    def write(self) -> None:
        """Write all of it."""
        if self.path is not None:
            self.path.write_text(json.dumps(self.content, indent=1, default=str) + "\n", encoding="utf-8")

    def attempt(self, section: str, name: Row, seconds: float, measure: Callable[[], Row]) -> None:
        """Measure an arm, or keep why there is no number: no time left for `seconds` more, or an error."""
        if self.left() < seconds:
            return self.add(section, {**name, "skipped": f"{self.left():.0f} s left, needs {seconds:.0f}"})
        started = time.monotonic()
        try:
            row = measure()
        except Exception as error:  # whatever one arm meets, the others go on
            lines = traceback.format_exc().splitlines()
            row = {"error": f"{type(error).__name__}: {error}"[:800], "where": lines[-12:]}
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.add(section, {**name, **row, "took_s": round(time.monotonic() - started, 1)})


def summary(row: Row) -> str:
    """A row on one line, without what is long."""
    return ", ".join(
        f"{key} {_short(value)}" for key, value in row.items() if key not in ("where", "seconds")
    )


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)[:200]


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget_peak(device: torch.device) -> None:
    """Begin to look for the largest memory anew."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_gib(device: torch.device) -> float:
    """Largest memory of tensors since then, in GiB; 0 on a CPU."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0


def rounds(device: torch.device, run: Callable[[], Any], seconds: float, at_least: int = 3) -> list[float]:
    """Seconds of each of several runs, the device waited for, until they took `seconds`, but for the first."""
    started = time.perf_counter()
    run()
    wait(device)
    if time.perf_counter() - started < seconds:  # an arm as slow as that is warm after one
        run()
        wait(device)
    taken: list[float] = []
    while len(taken) < at_least or (sum(taken) < seconds and len(taken) < 200):
        started = time.perf_counter()
        run()
        wait(device)
        taken.append(time.perf_counter() - started)
    return taken


def spread(taken: list[float]) -> Row:
    """Median and range of seconds."""
    return {
        "median_s": statistics.median(taken),
        "low_s": min(taken),
        "high_s": max(taken),
        "runs": len(taken),
    }


def matrix_teraflops(device: torch.device, size: int, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """10^12 operations a second of a product of random square matrices: what this device reaches here."""
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / statistics.median(rounds(device, lambda: left @ right, seconds)) / 1e12


def copy_gigabytes(device: torch.device, numel: int) -> float:
    """10^9 bytes a second read and written by a copy within the device."""
    source = torch.randn(numel, device=device)
    target = torch.empty_like(source)
    return 8 * numel / statistics.median(rounds(device, lambda: target.copy_(source), 0.3)) / 1e9
