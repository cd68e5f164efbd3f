"""A first look at one GPU: is everything right on it, and how fast is it? One command, no download, no Ray.

Sections, those of most worth first; each arm is written to the record when it is done, and one that fails is recorded
with its error: environment and ceilings, equality with plain sequences, tuning and scoring at the shapes of 0.5B, 1.5B
and 8B bases, where the time goes, and the product's engines.

    python -m benchmarks.gpu_first [--minutes 8] [--out gpu.json] [--only equality tuning …] [--tiny]
"""

import importlib.metadata
import importlib.util
import platform
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch

from behaviorlm.model.gpu import driver_version
from behaviorlm.scoring.label_scoring import PROMPT_TOKENS
from behaviorlm_ray.console.command_line import option_parser
from behaviorlm_ray.costs.cards import peak_teraflops
from benchmarks.gpu_clock import Record, Row, copy_gigabytes, matrix_teraflops, summary
from benchmarks.gpu_equality import scoring_equality, tuning_equality
from benchmarks.gpu_profile import profiled_scoring, profiled_step
from benchmarks.gpu_scoring import NORMALIZATIONS, measured_scoring
from benchmarks.gpu_shapes import DrawnLog, Shape, drawn_log, drawn_model, shapes, with_adapter
from benchmarks.gpu_tuning import TuningArm, measured_tuning

PACKAGES = ("torch", "transformers", "peft", "triton", "numpy", "pyarrow", "pydantic", "deepspeed")


@dataclass
class Look:
    """What all sections share. peaks: 10^12 operations a second of the data sheet and of a product here."""

    device: torch.device
    is_tiny: bool
    record: Record
    shapes: dict[str, Shape]
    peaks: tuple[float | None, float] = (None, 1.0)

    @cached_property
    def log(self) -> DrawnLog:
        """A log with the tokens that all of the shapes have, drawn once."""
        vocabulary = min(shape.config.vocab_size for shape in self.shapes.values())
        users, events, labels = (4, 12, 12) if self.is_tiny else (800, 96, 122)
        return drawn_log(vocabulary, users, events, labels)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights; a CPU may take bfloat16 in software only."""
        return torch.float32 if self.is_tiny else torch.bfloat16

    def among(self, *names: str) -> list[str]:
        """Those of some shapes that are measured."""
        return [name for name in names if name in self.shapes]

    def small(self, usual: int, tiny: int) -> int:
        """A size, or the one for a tiny run."""
        return tiny if self.is_tiny else usual

    def seconds(self, usual: float) -> float:
        """How long an arm is timed."""
        return 0.02 if self.is_tiny else usual


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections and print a table. Returns the exit code."""
    parser = option_parser(__doc__, None)
    parser.add_argument("--minutes", type=float, default=8.0, help="when no further arm is started")
    parser.add_argument("--out", type=Path, help="where the record goes, JSON")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), help="sections to run, in this order")
    parser.add_argument(
        "--shapes", nargs="+", choices=["0.5B", "1.5B", "8B"], help="shapes to run (default: all)"
    )
    parser.add_argument("--tiny", action="store_true", help="all of it on a CPU in seconds, at tiny sizes")
    options = parser.parse_args(arguments)
    if not options.tiny and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --tiny runs on a CPU")
    device = torch.device("cpu" if options.tiny else "cuda")
    if options.tiny:
        torch.set_num_threads(1)  # for products this small others only cost
    record = Record(options.out, time.monotonic() + 60 * options.minutes)
    chosen = {
        name: shape for name, shape in shapes(options.tiny).items() if name in (options.shapes or [name])
    }
    look = Look(device, options.tiny, record, chosen)
    record.content["environment"] = environment(device)
    print(summary(record.content["environment"]), flush=True)
    look.peaks = ceilings(look)
    for name in options.only or SECTIONS:
        SECTIONS[name](look)
    print(table(record))
    return exit_code([row for rows in record.content.get("sections", {}).values() for row in rows])


def exit_code(rows: Sequence[Row]) -> int:
    """1 where something is not equal, an arm failed, or none was measured."""
    is_wrong = any(row.get("equal") is False or "error" in row for row in rows)
    return int(is_wrong or all("error" in row or "skipped" in row for row in rows))


def environment(device: torch.device) -> Row:
    """The card, its driver and what is installed."""
    row: Row = {"python": platform.python_version(), "device": "cpu"}
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            row[name] = importlib.metadata.version(name)
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        row |= {"device": card.name, "memory_gib": card.total_memory / 2**30, "cuda": torch.version.cuda}
        row["driver"] = driver_version()
        row |= {"multiprocessors": card.multi_processor_count, "capability": f"{card.major}.{card.minor}"}
    return row


def ceilings(look: Look) -> tuple[float | None, float]:
    """The data sheet's peak and what a bfloat16 product of random matrices reaches, before anything else runs."""
    reached = matrix_teraflops(look.device, look.small(8192, 128), look.dtype, look.seconds(1.0))
    copied = copy_gigabytes(look.device, look.small(2**28, 2**16))
    row: Row = {"matrix_teraflops": reached, "copy_gigabytes_per_s": copied}
    peak = None
    if look.device.type == "cuda":
        peak = peak_teraflops(torch.cuda.get_device_name(look.device), "bfloat16")
    look.record.content["ceilings"] = {**row, "data_sheet_teraflops": peak}
    print(summary(look.record.content["ceilings"]), flush=True)
    return peak, reached


def equality(look: Look) -> None:
    """Losses, gradients and scores against plain sequences."""
    for name, measure in {"tuning": tuning_equality, "scoring": scoring_equality}.items():
        look.record.attempt("equality", {"of": name}, 10, partial(measure, look.device, look.is_tiny))


def tuning_arms(shape: str) -> list[TuningArm]:
    """The arms at a shape."""
    return {
        "0.5B": [TuningArm(8192, 4), TuningArm(32768, 1)],
        "1.5B": [TuningArm(8192, 2), TuningArm(16384, 1), TuningArm(8192, 2, checkpointing=True)],
        "8B": [TuningArm(8192, 1), TuningArm(8192, 1, checkpointing=True)],
    }[shape]


def tuning(look: Look) -> None:
    """Optimizer steps at each shape."""
    for name in look.shapes:
        tiny = [TuningArm(200, 2, checkpointing=name == "8B")]
        _tune(look, "tuning", name, tiny if look.is_tiny else tuning_arms(name))


def _tune(look: Look, section: str, name: str, arms: Sequence[TuningArm]) -> None:
    if look.record.left() < 15:
        return look.record.add(section, {"shape": name, "skipped": "no time left"})
    shape = look.shapes[name]
    model = with_adapter(drawn_model(shape, look.device, look.dtype))
    for arm in arms:
        measure = partial(measured_tuning, model, look.log, arm, look.peaks, look.seconds(2.5))
        look.record.attempt(section, {"shape": name, **arm.name()}, 15, measure)


def scoring_sizes(shape: str) -> list[tuple[int, int, int]]:
    """Tokens at a time, of a tree of prompts, and prompts in all: a tree as replicas have it, and a larger one."""
    return {
        "0.5B": [(32768, PROMPT_TOKENS, 800), (8192, PROMPT_TOKENS, 400)],
        "1.5B": [(32768, PROMPT_TOKENS, 400)],
        "8B": [(16384, PROMPT_TOKENS, 200)],
    }[shape]


def scoring(look: Look) -> None:
    """Label scores at each shape."""
    for name in look.shapes:
        if look.record.left() < 15:
            return look.record.add("scoring", {"shape": name, "skipped": "no time left"})
        model = drawn_model(look.shapes[name], look.device, look.dtype)
        for size in [(512, 128, 8)] if look.is_tiny else scoring_sizes(name):
            for normalization in NORMALIZATIONS:
                arm = {
                    "shape": name,
                    "normalization": normalization,
                    "max_tokens": size[0],
                    "tree": size[1],
                }
                seconds = look.seconds(2.0)
                measure = partial(measured_scoring, model, look.log, normalization, size, look.peaks, seconds)
                look.record.attempt("scoring", arm, 10, measure)


def profile(look: Look) -> None:
    """Where the time of a step and of scoring goes."""
    for name in look.among("0.5B", "1.5B"):
        if look.record.left() < 20:
            return look.record.add("profile", {"shape": name, "skipped": "no time left"})
        _profile(look, name)


def _profile(look: Look, name: str) -> None:
    log = look.log
    model = drawn_model(look.shapes[name], look.device, look.dtype)
    for normalization in NORMALIZATIONS:
        measure = partial(profiled_scoring, model, log, normalization, look.small(32768, 512))
        look.record.attempt("profile", {"shape": name, "of": f"scoring {normalization}"}, 10, measure)
    step = partial(profiled_step, with_adapter(model), log, look.small(8192, 256))
    look.record.attempt("profile", {"shape": name, "of": "tuning"}, 10, step)


def engine(look: Look) -> None:
    """The product's own engine: ZeRO stage 0, and stage 1 where DeepSpeed is installed."""
    kinds = ["replicated"]
    if importlib.util.find_spec("deepspeed") is None:
        look.record.add("engine", {"engine": "deepspeed", "skipped": "DeepSpeed is not installed"})
    else:
        kinds.append("deepspeed")
    for name in look.among("0.5B", "1.5B"):
        arms = [TuningArm(look.small(8192, 256), look.small(4, 2), engine=kind) for kind in kinds]
        _tune(look, "engine", name, arms)


SECTIONS: dict[str, Callable[[Look], None]] = {
    "equality": equality,
    "tuning": tuning,
    "scoring": scoring,
    "profile": profile,
    "engine": engine,
}
"""In the order of their worth."""


def table(record: Record) -> str:
    """What came out, a line an arm."""
    lines = ["", f"{'arm':58} {'/s':>9} {'MFU':>6} {'6P':>6} {'ceil.':>6} {'GiB':>6}  note"]
    for section, rows in record.content.get("sections", {}).items():
        for row in rows:
            if section == "profile":
                continue
            keys = ("of", "shape", "normalization", "max_tokens", "tree", "engine")
            name = " ".join(str(row[key]) for key in keys if key in row)
            name += " checkpointing" if row.get("checkpointing") is True else ""
            rate = row.get("samples_per_s") or row.get("prompts_per_s")
            note = row.get("error") or row.get("skipped") or ""
            if "equal" in row:
                note = "equal" if row["equal"] else "NOT EQUAL"
            cells = [_cell(rate, 9, ",.0f"), *(_cell(row.get(key), 6, ".3f") for key in ("mfu", "mfu_6p"))]
            cells += [_cell(row.get("of_ceiling"), 6, ".3f"), _cell(row.get("peak_gib"), 6, ".1f")]
            lines.append(f"{(section + ' ' + name)[:58]:58} {' '.join(cells)}  {note[:60]}")
    return "\n".join(lines)


def _cell(value: float | None, width: int, form: str) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width}{form}}"


if __name__ == "__main__":
    sys.exit(main())
