"""How time and memory grow with a log: it is written, prepared, scheduled, cut for scoring and evaluated by counting.

Every step of every size runs in a process of its own, without Ray: what a worker does, one after another, so that what
is measured is the work and not its distribution. Prints a line for each, and the exponent of each step between the two
largest sizes (1: twice the log takes twice as much).

    python -m benchmarks.growth FOLDER [--events 100000 1000000] [--huge 0.5] [--steps prepare schedule]
        [--behaviors 200] [--max-samples 2000] [--write FILE]

CPU seconds are of user and system; peaks are MiB of what a process holds, and of that without the pages of files that
it maps, which a machine takes back when it likes; read and written are MiB that go through system calls (mapped pages
do not). `--huge`: the share of all events that one user has. A prepared log is left in FOLDER for the next steps, and
removed by `--remove`.
"""

import argparse
import json
import math
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS_A_FILE = 5_000_000
EVENTS_OF_A_USER = 100
BATCH = 1_000_000
MEBI = 2**20
BASE = Path(__file__).parents[1] / "behaviorlm" / "assets" / "base"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--events", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--huge", type=float, default=0.0)
    parser.add_argument("--behaviors", type=int, default=200)
    parser.add_argument("--max-samples", type=int, default=2_000)
    parser.add_argument("--partition-megabytes", type=int, default=64)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--remove", action="store_true")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.here:
        print(json.dumps(_measured(asked)))
        return 0
    found = []
    for events in asked.events:
        for step in asked.steps:
            found.append(_in_its_own_process(asked, step, events))
            print(_line(found[-1]), flush=True)
        if asked.remove:
            shutil.rmtree(asked.folder / str(events))
    for step in asked.steps:
        print(f"{step}: {_exponents([one for one in found if one['step'] == step])}")
    if asked.write is not None:
        asked.write.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def _in_its_own_process(asked: argparse.Namespace, step: str, events: int) -> dict[str, Any]:
    keys = ("huge", "behaviors", "max_samples", "partition_megabytes")
    options = [word for key in keys for word in (f"--{key.replace('_', '-')}", str(getattr(asked, key)))]
    command = [sys.executable, "-m", "benchmarks.growth", str(asked.folder), "--here"]
    command += ["--steps", step, "--events", str(events), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _line(found: dict[str, Any]) -> str:
    return (
        f"{found['events']:>12,} {found['step']:<9} {found['cpu_seconds']:9.1f} s CPU, peak {found['peak']:8,.0f} MiB "
        f"({found['peak_own']:,.0f} own), read {found['read']:,.0f}, written {found['written']:,.0f}; {found['told']}"
    )


def _exponents(found: Sequence[dict[str, Any]]) -> str:
    if len(found) < 2:
        return "one size"
    one, two = found[-2:]
    ratio = math.log(two["events"] / one["events"])
    keys = ("cpu_seconds", "peak", "peak_own")
    told = (f"{key} {math.log(max(two[key], 1e-9) / max(one[key], 1e-9)) / ratio:.2f}" for key in keys)
    return f"from {one['events']:,} to {two['events']:,}: exponents {', '.join(told)}"


def _measured(asked: argparse.Namespace) -> dict[str, Any]:
    """One step in this process. Importing what it needs comes first and is not counted."""
    (step,), (events,) = asked.steps, asked.events
    work = STEPS[step](asked, asked.folder / str(events))
    begin, passed = _cpu_seconds(), _passed()
    with _peak_of_own_memory() as own:
        told = work()
    counted = {name: (value - passed[name]) / MEBI for name, value in _passed().items()}
    return {
        "events": events,
        "step": step,
        "cpu_seconds": _cpu_seconds() - begin,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "peak_own": own[0] / MEBI,
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
def _peak_of_own_memory() -> Iterator[list[int]]:
    """Bytes of this process that are no page of a file, at most, looked at twenty times a second."""
    peak, done, page = [0], threading.Event(), resource.getpagesize()

    def watch() -> None:
        while not done.wait(0.05):
            fields = Path("/proc/self/statm").read_text().split()
            peak[0] = max(peak[0], (int(fields[1]) - int(fields[2])) * page)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


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
    """Users with 100 events each on average; behaviors by Zipf's law, half of them what followed the one before."""
    (events,) = asked.events

    def work() -> str:
        shutil.rmtree(folder / "log", ignore_errors=True)
        (folder / "log").mkdir(parents=True)
        names = pa.array([f"behavior number {index}" for index in range(asked.behaviors)])
        chance = 1 / np.arange(1, asked.behaviors + 1)
        bytes_written = 0
        for number, begin in enumerate(range(0, events, ROWS_A_FILE)):
            path = folder / "log" / f"{number:04d}.parquet"
            with pq.ParquetWriter(path, LOG_SCHEMA, compression="zstd") as writer:
                for start in range(begin, min(begin + ROWS_A_FILE, events), BATCH):
                    rows = min(BATCH, events - start)
                    writer.write_table(_log_rows(asked, start, rows, events, names, chance))
            bytes_written += path.stat().st_size
        return f"{bytes_written / events:.1f} bytes an event"

    return work


LOG_SCHEMA = pa.schema(
    [("user", pa.string()), ("behavior", pa.string()), ("time", pa.timestamp("us", tz="UTC"))]
)


def _log_rows(
    asked: argparse.Namespace, start: int, rows: int, events: int, names: pa.Array, chance: np.ndarray
) -> pa.Table:
    random = np.random.default_rng([7, start])
    users = max(1, events // EVENTS_OF_A_USER)
    user = random.integers(1, users + 1, rows)
    user[random.random(rows) < asked.huge] = 0
    drawn = random.choice(len(names), rows, p=chance / chance.sum())
    follows = random.random(rows) < 0.5
    # what came before in the file is, where one user has much, what came before in the timeline
    drawn = np.where(follows, (np.roll(drawn, 1) * 3 + 1) % len(names), drawn)
    seconds = 1_700_000_000 + (np.arange(start, start + rows) * (10_000_000 / events))
    return pa.table(
        [
            pa.array(user).cast(pa.string()),
            names.take(pa.array(drawn)),
            pa.array((seconds * 1e6).astype(np.int64)).cast(pa.timestamp("us", tz="UTC")),
        ],
        schema=LOG_SCHEMA,
    )


def _prepare(asked: argparse.Namespace, folder: Path) -> Callable[[], str]:
    from behaviorlm_ray.cluster import connection  # noqa: F401  # Ray is imported, not started
    from behaviorlm_ray.pipeline.run import open_run
    from behaviorlm_ray.preparation import passes
    from behaviorlm_ray.preparation.plan import PreparationPlan, partition_count

    settings = _settings(asked, folder)
    # what is done by processes of Ray is done by this one
    passes.is_read_here = lambda log: True

    def work() -> str:
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
        stored = folder / "schedule.arrow"
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
    "prepare": _prepare,
    "schedule": _schedule,
    "worker": _worker,
    "scoring": _scoring,
    "evaluate": _evaluate,
}

if __name__ == "__main__":
    sys.exit(main())
