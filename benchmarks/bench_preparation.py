"""Preparation beside programs in polars and pandas that write the same columns (`preparation_peers`).

Each way runs in a process of its own, in turn, ours as `growth` runs it. Up to a million events all that peers write,
row by row, and their vocabulary are held against our parts first. A ratio is a peer's CPU seconds, of user and system,
by ours of the same round; seconds, memory and bytes are medians. Read and written are bytes of system calls: mapped
files do not count. The floor is copying the parts once, with reads and writes. The speed of a product of matrices
bounds nothing here; it tells whether the machine stayed as fast from round to round.

    python -m benchmarks.bench_preparation [FOLDER] [--events 600000] [--peers polars pandas] [--rounds 5]
        [--behaviors 200] [--huge 0.0] [--partition-megabytes 4] [--before CHECKOUT] [--write [FILE]] [--remove]

`--before`: another checkout, whose preparation runs, too.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks import records
from benchmarks.growth import BASE, TOO_LARGE, measured, prepare
from benchmarks.growth_log import write_log
from benchmarks.preparation_peers import PEERS, table_of

KEPT = ("wall", "peak", "peak_own", "read", "written")
OF_GROWTH = ("ours", "before")
MOST_COMPARED = 1_000_000
"""Events up to which rows are compared: they are held in memory twice."""

Taken = dict[str, Any] | None
"""What a way took in a round, or None where it needed more memory than it may."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare. Returns the exit code: 1 where anything differs or was discarded."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path(tempfile.gettempdir()) / "preparation")
    parser.add_argument("--events", type=int, nargs="+", default=[600_000])
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=records.ROUNDS)
    parser.add_argument("--behaviors", type=int, default=200)
    parser.add_argument("--huge", type=float, default=0.0)
    parser.add_argument("--partition-megabytes", type=int, default=4)
    parser.add_argument("--memory-gib", type=float, default=18.0)
    parser.add_argument("--before", type=Path)
    records.add_write(parser)
    parser.add_argument("--remove", action="store_true")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    parser.set_defaults(max_samples=2_000)
    asked = parser.parse_args(arguments)
    asked.folder = asked.folder.absolute()
    if asked.before is not None and not (asked.before / "behaviorlm").is_dir():
        parser.error(f"--before: {asked.before} is no checkout: it has no package behaviorlm")
    if asked.here:
        print(json.dumps(_here(asked)))
        return 0
    torch.set_num_threads(1)
    code = 0
    for events in asked.events:
        folder = asked.folder / str(events)
        write_log(folder / "log", events, asked.behaviors, asked.huge)
        equal = _compare(asked, folder, events) if events <= MOST_COMPARED else None
        code |= int(equal is False)
        found = _records(asked, events, _in_turn(asked, events), equal)
        for record in found:
            print(_line(record), flush=True)
        if asked.write is not None:
            code |= int(not records.write(asked.write, found))
        if asked.remove:
            shutil.rmtree(folder)
    return code


def _here(asked: argparse.Namespace) -> dict[str, Any]:
    (events,) = asked.events
    folder = asked.folder / str(events)
    return measured(_work(asked, folder), folder, asked.memory_gib)


def _work(asked: argparse.Namespace, folder: Path) -> Callable[[], str]:
    if asked.here in OF_GROWTH:
        return prepare(asked, folder)
    out = folder / asked.here
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    if asked.here == "floor":
        return lambda: _copied(folder / "prepared" / "parts", out)
    __import__(asked.here)
    from behaviorlm.model.base_model import load_tokenizer
    from behaviorlm.model.config import ModelConfig

    load_tokenizer(ModelConfig(base=str(BASE)))  # brings its libraries
    return lambda: PEERS[asked.here](folder / "log", out, BASE)


def _copied(parts: Path, out: Path) -> str:
    for path in parts.iterdir():
        with path.open("rb") as source, (out / path.name).open("wb") as copy:
            shutil.copyfileobj(source, copy, 2**20)
    return "copied"


def _run(asked: argparse.Namespace, way: str, events: int) -> Taken:
    options = ["--events", str(events), "--behaviors", str(asked.behaviors), "--huge", str(asked.huge)]
    options += [
        "--partition-megabytes",
        str(asked.partition_megabytes),
        "--memory-gib",
        str(asked.memory_gib),
    ]
    command = [sys.executable, "-m", "benchmarks.bench_preparation", str(asked.folder), "--here", way]
    surroundings = dict(os.environ)
    if way == "before":  # its package, these benchmarks
        surroundings["PYTHONPATH"] = os.pathsep.join(map(str, (asked.before, asked.before / "platform")))
        command[1:3] = ["-c", _OF_THESE.format(here=str(Path(__file__).parent))]
    # its working directory is where Python looks first
    place = asked.before if way == "before" else None
    done = subprocess.run(
        [*command, *options], stdout=subprocess.PIPE, env=surroundings, cwd=place, check=False
    )
    if done.returncode == TOO_LARGE or done.returncode < 0:
        return None
    done.check_returncode()
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"wall": found["seconds"]}


_OF_THESE = """
import importlib, sys, types
benchmarks = types.ModuleType("benchmarks")
benchmarks.__path__ = [{here!r}]
sys.modules["benchmarks"] = benchmarks
sys.exit(importlib.import_module("benchmarks.bench_preparation").main())
"""


def _in_turn(asked: argparse.Namespace, events: int) -> records.Turns[Taken]:
    """Ours comes last here, and thus first in the first round: the floor copies its parts."""
    ways = ["floor", *reversed(asked.peers), *(["before"] if asked.before else []), "ours"]
    return records.in_turn({way: partial(_taken, asked, way, events) for way in ways}, asked.rounds)


def _taken(asked: argparse.Namespace, way: str, events: int) -> Taken:
    one = _run(asked, way, events)
    if way != "ours":
        shutil.rmtree(asked.folder / str(events) / way, ignore_errors=True)
    told = (
        f"more than {asked.memory_gib:g} GiB"
        if one is None
        else f"{one['cpu_seconds']:7.1f} s CPU, {one['told']}"
    )
    print(f"  {way:<7} {told}", flush=True)
    return one


def _compare(asked: argparse.Namespace, folder: Path, events: int) -> bool:
    """Whether all peers write what we do."""
    _run(asked, "ours", events)
    ours, vocabulary = table_of(folder / "prepared" / "parts"), folder / "prepared" / "vocabulary.json"
    is_equal = True
    for peer in asked.peers:
        _run(asked, peer, events)
        theirs = table_of(folder / peer)
        unequal = [name for name in ours.column_names if not ours[name].equals(theirs[name])]
        if json.loads((folder / peer / "vocabulary.json").read_text()) != json.loads(vocabulary.read_text()):
            unequal.append("vocabulary")
        print(f"{peer}: {', '.join(unequal) or 'nothing'} differs in {len(ours):,} rows", flush=True)
        is_equal = is_equal and not unequal
    return is_equal


def _records(
    asked: argparse.Namespace, events: int, turns: records.Turns[Taken], equal: bool | None
) -> list[records.Record]:
    """A record of each way other than ours, over the rounds that both ended well."""
    found = []
    floor = statistics.median(one["cpu_seconds"] for one in turns.taken["floor"] if one is not None)
    huge = f", {asked.huge:g} of one user" if asked.huge else ""
    for way in [*(["before"] if asked.before else []), *asked.peers]:
        rounds = zip(turns.taken["ours"], turns.taken[way], strict=True)
        both = [(own, other) for own, other in rounds if own is not None and other is not None]
        if not both:
            continue
        taken = dict(zip(("ours", way), map(list, zip(*both, strict=True)), strict=True))
        seconds = {arm: [one["cpu_seconds"] for one in of] for arm, of in taken.items()}
        one = records.record(
            f"preparation, {way}, {events:,} events{huge}",
            seconds,
            equal=equal,
            drift=turns.drift,
            shares=(None, floor / statistics.median(seconds["ours"])),
            rounds_left_out=turns.left_out,
            partition_megabytes=asked.partition_megabytes,
        )
        for arm, of in taken.items():
            for key in KEPT:
                one["arms"][arm][f"median_{key}"] = round(statistics.median(each[key] for each in of), 1)
        one["versions"] |= {name: version(name) for name in ("polars", "pandas", "pyarrow")}
        found.append(one)
    return found


def _line(record: records.Record) -> str:
    told = " | ".join(
        f"{arm['median_seconds']:.1f} s CPU in {arm['median_wall']:.1f} s, peak {arm['median_peak']:,.0f} MiB "
        f"({arm['median_peak_own']:,.0f} own), read {arm['median_read']:,.0f}, written {arm['median_written']:,.0f}"
        for arm in record["arms"].values()
    )
    return f"{record['name']}: {records.told(record['ratio'])} times ours; {told}"


if __name__ == "__main__":
    sys.exit(main())
