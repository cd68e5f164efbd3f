"""What killed workers cost a tuning: useful steps over those of the same time without kills.

    python -m benchmarks.goodput [--every 300] [--kills 2] [--workers 2] [--json FILE] [--set KEY=VALUE ...]

Tunes the embedded base on a synthetic log (`behaviorlm a_tune`, ZeRO-1, on this machine), and kills one worker with
SIGKILL at fixed intervals by the clock, the first half an interval after the first step. A step is useful once, when it
is done for good: what is repeated after a kill is not counted again. Unkilled speed is that of the same run: the median
over its undisturbed pieces of time, from when it has caught up with a kill until the next one.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from behaviorlm_ray.console.command_line import option_parser
from behaviorlm_ray.stages.run_record import PROGRESS_FILE

ROOT = Path(__file__).parents[1]
TITLE = "ray::RayTrainWorker"
PIECE_SECONDS = 10.0
"""Speed is looked at over pieces of so long."""
START_SECONDS = 900.0
PHASES = {"resumed": "continuing from", "built": " steps on "}


@dataclass
class Watch:
    """What was seen of a run, by the clock of this process: (moment, steps done), and what its log said when.

    For each kill: its moment, the machine's load by then, and CPU seconds of a new worker until its first step.
    """

    steps: list[tuple[float, int]] = field(default_factory=list)
    lines: list[tuple[float, str]] = field(default_factory=list)
    kills: list[float] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def reached(self, step: int, after: float) -> float | None:
        """When so many steps were done after a moment."""
        return next((moment for moment, done in self.steps if moment > after and done >= step), None)

    def done_at(self, moment: float) -> int:
        """The most steps that were done by then."""
        return max((done for at, done in self.steps if at <= moment), default=0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it and print a record."""
    parser = option_parser(__doc__, "python -m benchmarks.goodput")
    parser.add_argument("--every", type=float, default=300.0, help="seconds between kills")
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--users", type=int, default=120)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--set", action="append", default=[], help="keys of the run's configuration")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="goodput-") as name:
        folder = Path(name)
        command = [sys.executable, "-m", "jobs.world", "--folder", str(folder), "--users", str(options.users)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        watch = disturbed(folder, options)
    record = figures(watch, options.every) | {"workers": options.workers, "set": options.set}
    print(json.dumps(record, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def disturbed(folder: Path, options: argparse.Namespace) -> Watch:
    """Tune through the kills and for half an interval more, and then end the run."""
    values: dict[str, Any] = {
        "name": "goodput",
        "storage.root": str(folder / "runs"),
        "events.paths": [str(folder / "log" / "*.jsonl.gz")],
        "auxiliary.0.paths": [str(folder / "everyday.jsonl.gz")],
        "auxiliary.1.paths": [str(folder / "school.jsonl.gz")],
        "evaluation.cloze": None,
        "a_tuning.epochs": 10_000,
        "a_tuning.max_steps": 20_000,
        "execution.tuning.workers": options.workers,
        "execution.tuning.failure_every_seconds": options.every,
        "execution.tuning.max_failures": options.kills + 3,
        "execution.tuning.progress_every_seconds": 0.2,
    }
    command = [sys.executable, "-m", "jobs.a_tune", "--config", "jobs/configs/demo.yaml"]
    command += [f"--{key}={json.dumps(value)}" for key, value in values.items()]
    command += [f"--{pair}" for pair in options.set]
    watch = Watch()
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        threads = [
            threading.Thread(target=_read_log, args=(run, watch), daemon=True),
            threading.Thread(target=_read_steps, args=(run, folder / "runs", watch), daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            _wait_for_step(run, watch, 0.0)
            begun = time.time()
            for number in range(options.kills):
                _sleep(run, begun + (number + 0.5) * options.every)
                watch.loads.append(os.getloadavg()[0])
                watch.kills.append(time.time())
                _workers(run.pid)[0].kill()
                _wait_for_step(run, watch, watch.kills[-1] + 1.0)
                watch.cpu.append(max(sum(worker.cpu_times()[:2]) for worker in _workers(run.pid)))
            _sleep(run, begun + options.kills * options.every)
        finally:
            run.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                run.wait(60)
            run.kill()
    return watch


def figures(watch: Watch, every: float) -> dict[str, Any]:
    """The record of a run: speed, what each kill cost by its phases in seconds, and the goodput."""
    begin = watch.kills[0] - every / 2
    end = watch.kills[-1] + every / 2
    caught_up = [watch.reached(watch.done_at(kill) + 1, kill) or end for kill in watch.kills]
    calm = list(zip([begin, *caught_up], [*watch.kills, end], strict=True))
    speeds = [
        (watch.done_at(at + PIECE_SECONDS) - watch.done_at(at)) / PIECE_SECONDS
        for start, stop in calm
        for at in _range(start, stop - PIECE_SECONDS)
    ]
    speed = statistics.median(speeds)
    useful = watch.done_at(end) - watch.done_at(begin)
    kills = [
        _of_kill(watch, kill, speed) | {"load": round(load, 1), "worker_cpu": round(cpu, 1)}
        for kill, load, cpu in zip(watch.kills, watch.loads, watch.cpu, strict=True)
    ]
    cost = statistics.mean(kill["cost"] for kill in kills)
    return {
        "steps_per_second": round(speed, 3),
        "useful_steps": useful,
        "seconds": round(end - begin, 1),
        "goodput": round(useful / (end - begin) / speed, 4),
        "goodput_by_cost": round(1 - cost / every, 4),
        "kills": kills,
    }


def _of_kill(watch: Watch, kill: float, speed: float) -> dict[str, float]:
    """Seconds from a kill until workers go on from a checkpoint, have built their engine, and do a step.

    `repeated`: steps done again; `cost`: what the kill held up, the rest of a step that it cut short not counted.
    """
    before = watch.done_at(kill)
    first = next(((at, done) for at, done in watch.steps if at > kill and done <= before), (kill, before))
    caught_up = watch.reached(before + 1, kill)
    if caught_up is None:
        raise RuntimeError("the run had not caught up with a kill by its end: take a longer interval")
    told = {
        name: next((at for at, line in watch.lines if at > kill and words in line), kill)
        for name, words in PHASES.items()
    }
    seconds = {name: round(at - kill, 1) for name, at in told.items()}
    cost = caught_up - kill - 1 / speed
    return seconds | {
        "first_step": round(first[0] - kill, 1),
        "repeated": before - first[1] + 1,
        "cost": round(cost, 1),
    }


def _range(start: float, stop: float) -> list[float]:
    return [start + number * PIECE_SECONDS for number in range(max(0, int((stop - start) / PIECE_SECONDS)))]


def _read_log(run: subprocess.Popen[str], watch: Watch) -> None:
    assert run.stdout is not None
    for line in run.stdout:
        watch.lines.append((time.time(), line))
        if "tuning: step" not in line:
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}")


def progress_files(root: Path) -> list[Path]:
    """Where the attempts at A-Tuning below a root tell their steps."""
    return list(root.glob(f"stages/a_tune-*/checkpoints/*/{PROGRESS_FILE}"))


def _read_steps(run: subprocess.Popen[str], root: Path, watch: Watch) -> None:
    """From the progress file, which has the moment of its step."""
    last = None
    while run.poll() is None:
        for path in progress_files(root):
            with suppress(OSError, ValueError):
                found = json.loads(path.read_text())
                seen = (float(found["time"]), int(found["step"]))
                if seen != last:
                    watch.steps.append(seen)
                    last = seen
        time.sleep(0.1)


def _wait_for_step(run: subprocess.Popen[str], watch: Watch, after: float) -> None:
    deadline = time.time() + START_SECONDS
    while not watch.steps or watch.steps[-1][0] <= after:
        if run.poll() is not None or time.time() > deadline:
            raise RuntimeError("no step was done: " + "".join(line for _, line in watch.lines[-30:]))
        time.sleep(0.2)


def _sleep(run: subprocess.Popen[str], until: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        run.wait(max(0.0, until - time.time()))
        raise RuntimeError("the run ended before the kills did")


def _workers(driver: int) -> list[psutil.Process]:
    """This run's worker processes, below the raylet that its driver started."""
    found = []
    for child in psutil.Process(driver).children(recursive=True):
        with suppress(psutil.Error):
            if child.cmdline() and child.cmdline()[0].startswith(TITLE):
                found.append(child)
    return found


if __name__ == "__main__":
    sys.exit(main())
