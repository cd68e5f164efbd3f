"""Play worlds of the commit protocol, from seeds: python -m tests.platform.stages.simulator --schedules 1000000.

What is wrong is printed with its seed; --seed plays that world alone and tells each change of the bucket. With --record
each block of seeds is a line of a file, and the same command goes on where it was cut short.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.platform.stages.simulator.record import Played, Record
from tests.platform.stages.simulator.watch import Violation
from tests.platform.stages.simulator.weather import play

BLOCK = 1000


def play_some(seeds: range) -> Played:
    """Play these worlds. Nothing is raised: what is wrong is told."""
    played, states, begun = Played(seeds.start), set[int](), time.process_time()
    for seed in seeds:
        played.worlds += 1
        try:
            outcome = play(seed)
        except Violation as violation:
            played.wrong.append(str(violation))
            continue
        played.steps += outcome.steps
        states |= outcome.states
        played.kinds.update(outcome.kinds)
    played.states, played.cpu_seconds = len(states), round(time.process_time() - begun, 2)
    return played


def main() -> int:
    """Play, show how far it is, and tell what was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--schedules", type=int, default=10_000, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="how many at once")
    parser.add_argument("--record", type=Path, help="the file that keeps what was played")
    parser.add_argument("--seed", type=int, help="one world alone, with each change of its bucket")
    options = parser.parse_args()
    for name in ("schedules", "processes"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} is {getattr(options, name)}; it is at least 1")
    if options.seed is not None:
        return show(options.seed)
    record = Record(options.record)
    if record.others:
        print(f"{options.record}: {record.others:,} worlds of other code do not count; all are played anew")
    last = options.first + options.schedules
    seeds = [range(start, min(start + BLOCK, last)) for start in range(options.first, last, BLOCK)]
    blocks = [record.played[key] for one in seeds if (key := (one.start, len(one))) in record.played]
    _show(blocks)
    for block in _played(
        [one for one in seeds if (one.start, len(one)) not in record.played], options.processes
    ):
        record.add(block)
        blocks.append(block)
        _show(blocks)
    kinds = sum((block.kinds for block in blocks), Counter[str]())
    print("\n" + ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common()))
    wrong = [line for block in blocks for line in block.wrong]
    print("\n".join(wrong) or "nothing was wrong")
    return 1 if wrong else 0


def _show(blocks: list[Played]) -> None:
    """A line of what there is so far. States are told apart within a block only: all of them would fill the memory."""
    if not blocks:
        return
    worlds, seconds = sum(one.worlds for one in blocks), sum(one.cpu_seconds for one in blocks)
    print(
        f"{worlds:,} worlds, {sum(one.steps for one in blocks):,} steps, {sum(one.states for one in blocks):,} states, "
        f"{sum(len(one.wrong) for one in blocks)} wrong, {worlds / max(seconds, 0.01):.0f} worlds/s of CPU",
        end="\r",
        flush=True,
    )


def show(seed: int) -> int:
    """Play one world and tell what happened to its objects."""
    try:
        play(seed, partial(print, file=sys.stdout))  # that of now: in a world production's prints go nowhere
    except Violation as violation:
        print(violation)
        return 1
    return 0


def _played(seeds: list[range], processes: int) -> Iterator[Played]:
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap_unordered(play_some, seeds)


if __name__ == "__main__":
    sys.exit(main())
