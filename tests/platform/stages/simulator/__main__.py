"""Play worlds of the commit protocol, from seeds: python -m tests.platform.stages.simulator --schedules 1000000.

What is wrong is printed with its seed; --seed plays that world alone and tells each change of the bucket.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.platform.stages.simulator.watch import Violation
from tests.platform.stages.simulator.weather import play

SHARD = 500


@dataclass
class Played:
    """What a number of worlds came to."""

    worlds: int = 0
    steps: int = 0
    states: set[int] = field(default_factory=set)
    kinds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def play_some(seeds: range) -> Played:
    """Play these worlds. Nothing is raised: what is wrong is told."""
    played = Played()
    for seed in seeds:
        played.worlds += 1
        try:
            outcome = play(seed)
        except Violation as violation:
            played.wrong.append(str(violation))
            continue
        played.steps += outcome.steps
        played.states |= outcome.states
        played.kinds.update(outcome.kinds)
    return played


def main() -> int:
    """Play, show how far it is, and tell what was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--schedules", type=int, default=10_000, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="how many at once")
    parser.add_argument("--seed", type=int, help="one world alone, with each change of its bucket")
    options = parser.parse_args()
    if options.seed is not None:
        return show(options.seed)
    begun, total = time.monotonic(), Played()
    for part in _shards(options.first, options.schedules, options.processes):
        total.worlds += part.worlds
        total.steps += part.steps
        total.states |= part.states
        total.kinds += part.kinds
        total.wrong += part.wrong
        for line in part.wrong:
            print(line, flush=True)
        speed = total.worlds / (time.monotonic() - begun)
        print(
            f"{total.worlds:,} worlds, {total.steps:,} steps, {len(total.states):,} states, {len(total.wrong)} wrong, "
            f"{speed:.0f} worlds/s",
            end="\r",
            flush=True,
        )
    print("\n" + ", ".join(f"{kind} {count:,}" for kind, count in total.kinds.most_common()))
    return 1 if total.wrong else 0


def show(seed: int) -> int:
    """Play one world and tell what happened to its objects."""
    try:
        play(seed, print)
    except Violation as violation:
        print(violation)
        return 1
    return 0


def _shards(first: int, number: int, processes: int) -> Iterator[Played]:
    seeds = range(first, first + number)
    shards = [seeds[start : start + SHARD] for start in range(0, number, SHARD)]
    # Hashes of states are compared across processes: PYTHONHASHSEED is one for all that are forked.
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap_unordered(play_some, shards)


if __name__ == "__main__":
    sys.exit(main())
