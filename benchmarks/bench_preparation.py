"""Preparation beside programs in polars and pandas that write the same columns (`preparation_peers`).

Each way runs in a process of its own, in turn, ours as `growth` runs it. Up to a million events all that peers write,
row by row, and their vocabulary are held against our parts first. A ratio is a peer's CPU seconds, of user and system,
by ours of the same round; seconds, memory and bytes are medians. Read and written are bytes of system calls: mapped
files do not count. The floor is copying the parts once, with reads and writes.

    python -m benchmarks.bench_preparation [FOLDER] [--events 600000] [--peers polars pandas] [--rounds 3]
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
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.growth import BASE, TOO_LARGE, measured, prepare
from benchmarks.growth_log import write_log
from benchmarks.preparation_peers import PEERS, table_of

KEPT = ("wall", "peak", "peak_own", "read", "written")
OF_GROWTH = ("ours", "before")
MOST_COMPARED = 1_000_000
"""Events up to which rows are compared: they are held in memory twice."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare. Returns the exit code: 1 where anything differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path(tempfile.gettempdir()) / "preparation")
    parser.add_argument("--events", type=int, nargs="+", default=[600_000])
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=3)
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
    if asked.here:
        print(json.dumps(_here(asked)))
        return 0
    is_equal = True
    for events in asked.events:
        folder = asked.folder / str(events)
        write_log(folder / "log", events, asked.behaviors, asked.huge)
        equal = _compare(asked, folder, events) if events <= MOST_COMPARED else None
        is_equal = is_equal and equal is not False
        found = _records(asked, events, _in_turn(asked, events), equal)
        for record in found:
            print(_line(record), flush=True)
        if asked.write is not None:
            records.write(asked.write, found)
        if asked.remove:
            shutil.rmtree(folder)
    return 0 if is_equal else 1


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


def _run(asked: argparse.Namespace, way: str, events: int) -> dict[str, Any] | None:
    """What a way took, or None where it needed more memory than it may."""
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


def _in_turn(asked: argparse.Namespace, events: int) -> dict[str, list[dict[str, Any]]]:
    ways = ["ours", *(["before"] if asked.before else []), *asked.peers, "floor"]
    taken: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for turn in range(asked.rounds):
        for way in ways if turn % 2 == 0 else reversed(ways):
            one = _run(asked, way, events)
            if way != "ours":
                shutil.rmtree(asked.folder / str(events) / way, ignore_errors=True)
            if one is None:
                print(f"{way}: more than {asked.memory_gib:g} GiB", flush=True)
                continue
            taken[way].append(one)
            print(f"  {way:<7} {one['cpu_seconds']:7.1f} s CPU, {one['told']}", flush=True)
    return taken


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
    asked: argparse.Namespace, events: int, taken: dict[str, list[dict[str, Any]]], equal: bool | None
) -> list[records.Record]:
    """A record of each way other than ours, over the rounds that both ended well."""
    found = []
    floor = statistics.median(one["cpu_seconds"] for one in taken["floor"])
    huge = f", {asked.huge:g} of one user" if asked.huge else ""
    for way in [way for way in taken if way not in ("ours", "floor") and taken[way]]:
        both = list(zip(taken["ours"], taken[way], strict=False))
        seconds = {name: [pair[at]["cpu_seconds"] for pair in both] for at, name in enumerate(("ours", way))}
        own = statistics.median(seconds["ours"])
        one = records.record(
            f"preparation, {way}, {events:,} events{huge}",
            seconds,
            equal=equal,
            drift=None,
            shares=(None, floor / own),
            partition_megabytes=asked.partition_megabytes,
        )
        for arm in one["arms"]:
            for key in KEPT:
                one["arms"][arm][f"median_{key}"] = round(statistics.median(of[key] for of in taken[arm]), 1)
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
