"""How time, memory and disk grow with a log that is written, prepared, scheduled, cut for scoring and evaluated.

Every step of every size runs in a process of its own, without Ray: what a worker does, one after another, so that what
is measured is the work and not its distribution. Prints a line for each, and the exponents of each step from one size
to the next (1: twice the log takes twice as much). Evaluated is counting.

    python -m benchmarks.growth FOLDER [--events 100000 1000000] [--huge 0.5] [--steps prepare schedule]
        [--behaviors 200] [--max-samples 2000] [--partition-megabytes 4] [--write FILE] [--remove] [--memory-gib 20]

CPU seconds are of user and system; peaks are MiB of what a process holds, and of that without the pages of files that
it maps, which a machine takes back when it likes; read and written are MiB that go through system calls (mapped pages
do not); disk is the most that lay below FOLDER/<events> meanwhile. `--huge`: the share of all events that one user has.
The log takes 8 bytes an event as Parquet, so parts are of 4 MB of it, half a million events.

`--write`: results, after each step; what a file has already is not measured again. `--remove`: a size's files go when
its steps are done. A step that holds more than `--memory-gib` of its own is ended, and nothing after it is run.
"""

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from behaviorlm_ray.console.command_line import option_parser
from benchmarks.growth_log import write_log

MEBI = 2**20
DISK_AN_EVENT = 300
"""Bytes below FOLDER, at most: log, scratch of the first pass, prepared log."""
TOO_LARGE = 3
"""Exit code of a step that held more than it may."""
KEYS = ("huge", "behaviors", "max_samples", "partition_megabytes", "memory_gib")
BASE = Path(__file__).parents[1] / "behaviorlm" / "assets" / "base"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure. Returns the exit code."""
    parser = option_parser(__doc__, None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--events", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--huge", type=float, default=0.0)
    parser.add_argument("--behaviors", type=int, default=200)
    parser.add_argument("--max-samples", type=int, default=2_000)
    parser.add_argument("--partition-megabytes", type=int, default=4)
    parser.add_argument("--memory-gib", type=float, default=20.0)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--remove", action="store_true")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.here:
        print(json.dumps(_measured(asked)))
        return 0
    asked.folder.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, Any]] = []
    if asked.write is not None and asked.write.exists():
        found = json.loads(asked.write.read_text())
    whole = all(_measure_size(asked, events, found) for events in asked.events)
    for step in asked.steps:
        for line in _exponents([one for one in found if one["step"] == step]):
            print(f"{step}: {line}")
    return 0 if whole else 1


def _measure_size(asked: argparse.Namespace, events: int, found: list[dict[str, Any]]) -> bool:
    """Add what is not measured yet of the steps of one size. Returns whether all of them ended well."""
    known = {(one["events"], one["step"]) for one in found}
    left = [step for step in asked.steps if (events, step) not in known]
    if left and shutil.disk_usage(asked.folder).free < DISK_AN_EVENT * events:
        print(f"{events:,} events need {DISK_AN_EVENT * events / 1e9:,.0f} GB of disk", flush=True)
        return False
    for step in left:
        one = _in_its_own_process(asked, step, events)
        if one is None:
            return False
        found.append(one)
        print(_line(one), flush=True)
        if asked.write is not None:
            asked.write.write_text(json.dumps(found, indent=1) + "\n")
    if asked.remove:
        shutil.rmtree(asked.folder / str(events), ignore_errors=True)
    return True


def _in_its_own_process(asked: argparse.Namespace, step: str, events: int) -> dict[str, Any] | None:
    options = [word for key in KEYS for word in (f"--{key.replace('_', '-')}", str(getattr(asked, key)))]
    command = [sys.executable, "-m", "benchmarks.growth", str(asked.folder), "--here"]
    command += ["--steps", step, "--events", str(events), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        print(f"{events:>12,} {step:<9} failed, exit code {done.returncode}", flush=True)
        return None
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _line(found: dict[str, Any]) -> str:
    return (
        f"{found['events']:>12,} {found['step']:<9} {found['cpu_seconds']:9.1f} s CPU, {found['seconds']:.0f} s, peak "
        f"{found['peak']:8,.0f} MiB ({found['peak_own']:,.0f} own), read {found['read']:,.0f}, written "
        f"{found['written']:,.0f}, disk {found['disk']:,.0f}; {found['told']}"
    )


def _exponents(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    ordered = sorted(found, key=lambda one: one["events"])
    for one, two in pairwise(ordered):
        ratio = math.log(two["events"] / one["events"])
        keys = ("cpu_seconds", "peak", "peak_own", "disk")
        told = (f"{key} {math.log(max(two[key], 1e-9) / max(one[key], 1e-9)) / ratio:.2f}" for key in keys)
        yield f"from {one['events']:,} to {two['events']:,}: exponents {', '.join(told)}"


def _measured(asked: argparse.Namespace) -> dict[str, Any]:
    """One step in this process. Importing what it needs comes first and is not counted."""
    (step,), (events,) = asked.steps, asked.events
    folder = asked.folder / str(events)
    found = measured(STEPS[step](asked, folder), folder, asked.memory_gib)
    return {"events": events, "step": step, **found}


def measured(work: Callable[[], str], folder: Path, memory_gib: float) -> dict[str, Any]:
    """What `work` takes in this process: see above. folder: below which disk is counted."""
    begin, passed, started = _cpu_seconds(), _passed(), time.monotonic()
    with _peaks(folder, memory_gib * 2**30) as peaks:
        told = work()
    counted = {name: (value - passed[name]) / MEBI for name, value in _passed().items()}
    return {
        "cpu_seconds": _cpu_seconds() - begin,
        "seconds": time.monotonic() - started,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "peak_own": peaks["own"] / MEBI,
        "disk": peaks["disk"] / MEBI,
        **counted,
        "told": told,
    }


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _passed() -> dict[str, int]:
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return {"read": int(lines["rchar"]), "written": int(lines["wchar"])}


@contextmanager
def _peaks(folder: Path, most: float) -> Iterator[dict[str, int]]:
    """Bytes at most: "own", of this process that are no page of a file, looked at twenty times a second; "disk", below
    the folder, looked at each second and at the end. A process that holds more than `most` of its own is ended.
    """
    peaks, done, page = {"own": 0, "disk": 0}, threading.Event(), resource.getpagesize()

    def watch() -> None:
        looks = 0
        while not done.wait(0.05):
            fields = Path("/proc/self/statm").read_text().split()
            peaks["own"] = max(peaks["own"], (int(fields[1]) - int(fields[2])) * page)
            if peaks["own"] > most:
                print(f"more than {most / 2**30:g} GiB of its own", file=sys.stderr, flush=True)
                os._exit(TOO_LARGE)
            if looks % 20 == 0:
                peaks["disk"] = max(peaks["disk"], _bytes_below(folder))
            looks += 1

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()
        peaks["disk"] = max(peaks["disk"], _bytes_below(folder))


def _bytes_below(folder: Path) -> int:
    found = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                found += os.stat(os.path.join(place, name)).st_size
    return found


def _settings(asked: argparse.Namespace, folder: Path) -> Any:
    from behaviorlm.config import load_settings
    from behaviorlm_ray.pipeline.settings import RunSettings

    written = folder / "run.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    written.write_text(
        f"""
name: growth
storage: {{root: {folder / "runs"}}}
events:
  dataset: growth
  paths: [{folder / "log"}]
  user: user
  behavior: behavior
  order: {{column: time, kind: time}}
  clock: [weekday]
model: {{base: {BASE}}}
preparation: {{partition_megabytes: {asked.partition_megabytes}}}
evaluation: {{max_samples: {asked.max_samples}, max_validation_samples: {asked.max_samples}}}
"""
    )
    return load_settings(RunSettings, written)


def _write_log(asked: argparse.Namespace, folder: Path) -> Callable[[], str]:
    (events,) = asked.events

    def work() -> str:
        return f"{write_log(folder / 'log', events, asked.behaviors, asked.huge) / events:.1f} bytes an event"

    return work


def prepare(asked: argparse.Namespace, folder: Path) -> Callable[[], str]:
    """The log below a folder, prepared as by workers, into `prepared` below it."""
    from behaviorlm.model.base_model import load_tokenizer
    from behaviorlm_ray.cluster import connection  # noqa: F401  # Ray is imported, not started
    from behaviorlm_ray.pipeline.run import open_run
    from behaviorlm_ray.preparation import passes
    from behaviorlm_ray.preparation.plan import PreparationPlan, partition_count

    settings = _settings(asked, folder)
    load_tokenizer(settings.model)  # brings its libraries
    # what is done by processes of Ray is done by this one
    passes.is_read_here = lambda log: True

    def work() -> str:
        # from parts that older checkouts have, too: bench_preparation runs them with this program
        source = open_run(settings).inputs.source
        size = sum(file.size for file in source.files)
        prepared = settings.preparation
        partitions = partition_count(size, prepared.partition_megabytes, prepared.min_partitions)
        shutil.rmtree(folder / "prepared", ignore_errors=True)
        (folder / "prepared").mkdir()
        plan = PreparationPlan(
            source,
            settings.split,
            settings.prompt,
            settings.model,
            partitions,
            folder / "prepared",
            partition_megabytes=prepared.partition_megabytes,
        )
        passes.prepare_log(plan, settings.vocabulary)
        files = list((folder / "prepared" / "parts").iterdir())
        bytes_written = sum(file.stat().st_size for file in files)
        return f"{bytes_written / asked.events[0]:.0f} bytes an event in {len(files)} parts"

    return work


def _log(asked: argparse.Namespace, folder: Path) -> tuple[Any, Any]:
    from behaviorlm_ray.preparation.prepared_log import PreparedLog

    settings = _settings(asked, folder)
    return PreparedLog(folder / "prepared", settings.prompt, settings.few_shot), settings


def _schedule(asked: argparse.Namespace, folder: Path) -> Callable[[], str]:
    """Made as by the job that tunes, stored for its workers, and the first ten steps as trees."""
    from behaviorlm_ray.tuning.inputs import ScheduleSource

    log, settings = _log(asked, folder)

    def work() -> str:
        begin = time.process_time()
        schedule = ScheduleSource(log, "all", None, None, [], settings.one_stage)()
        opened = time.process_time() - begin
        schedule.store(folder / "schedule.arrow")
        trees = [tree for step in range(min(10, len(schedule))) for tree in schedule.packs(step)]
        return f"{len(schedule):,} steps made in {opened:.1f} s, {len(trees)} packs of ten"

    return work


def _worker(asked: argparse.Namespace, folder: Path) -> Callable[[], str]:
    """Opened as by each worker that tunes, and the first ten steps as trees."""
    from behaviorlm_ray.tuning.inputs import ScheduleSource

    log, settings = _log(asked, folder)

    def work() -> str:
        stored = (folder / "schedule.arrow", None)
        schedule = ScheduleSource(log, "all", None, None, [], settings.one_stage, stored=stored)()
        trees = [tree for step in range(min(10, len(schedule))) for tree in schedule.packs(step)]
        return f"{len(schedule):,} steps, {len(trees)} packs of ten"

    return work


def _scoring(asked: argparse.Namespace, folder: Path) -> Callable[[], str]:
    """All training samples cut into windows and batches, as before a pool of replicas starts."""
    from behaviorlm_ray.preparation.prepared_log import count, rows_of_split
    from behaviorlm_ray.scoring.windows import batch_table, windows_of

    log, _ = _log(asked, folder)

    def work() -> str:
        rows = rows_of_split(log, "train")
        windows = windows_of(log, rows)
        batches = batch_table(windows, np.arange(len(windows)) // 8)
        return f"{count(rows):,} samples in {len(batches):,} batches"

    return work


def _evaluate(asked: argparse.Namespace, folder: Path) -> Callable[[], str]:
    """Counting alone, every baseline under every decision rule."""
    from behaviorlm_ray.evaluation.comparison import Resampling, compare
    from behaviorlm_ray.pipeline.predict import evaluated_samples
    from behaviorlm_ray.preparation.prepared_log import count

    log, settings = _log(asked, folder)

    def work() -> str:
        samples = evaluated_samples(log, settings)
        found = compare(log, samples, {}, tau_grid=settings.evaluation.tau, resampling=Resampling(200, 0))
        accuracy = found.results["models"]["markov_order_3"]["all"]["accuracy"]["value"]
        return f"{count(samples.test):,} test samples, markov_order_3 {accuracy:.6f}"

    return work


STEPS: dict[str, Callable[[argparse.Namespace, Path], Callable[[], str]]] = {
    "log": _write_log,
    "prepare": prepare,
    "schedule": _schedule,
    "worker": _worker,
    "scoring": _scoring,
    "evaluate": _evaluate,
}

if __name__ == "__main__":
    sys.exit(main())
