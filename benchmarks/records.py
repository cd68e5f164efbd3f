"""Records of benchmarks: ways to do the same work in turn, how many times ours another one takes, and files of that.

A record is {"name": what is compared, with the peer and the sizes; "arms": {way: {"median_seconds"}}, CPU seconds;
"ratio": {"median", "low", "high"}, the other way's by ours over the rounds; "equal": whether both give the same
numbers; "ceiling_share", "floor_share": what part of ours the operations that it runs, and those that the mathematics
needs, would take at the speed of a product of matrices in the same process (null: not reckoned); "drift": how far that
speed went apart (null: not measured); "versions"}. A file holds them as {"benchmarks": […]}, one a kind of machine.

    python -m benchmarks.records FOUND [BASELINE]        # fails where a ratio has fallen below .9 of its baseline
                                                     # names baselines of `make bench-quick` that FOUND lacks
"""

import argparse
import importlib.util
import json
import math
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

ROUNDS = 5
TRIES = 3
"""How many times the rounds run at most where the ceiling drifts."""
DRIFT = 0.15
"""Rounds whose ceilings lie further apart are not held against each other."""
KEPT = 0.9
"""A ratio has fallen where its whole interval lies below this share of its baseline."""
QUICK = re.compile(r" of world, |, 8 samples, |, 100,000 events$|^serving ")
"""In the names of what `make bench-quick` runs."""

Record = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Turns(Generic[T]):
    """What each way took in each round. ceilings: 10^12 operations a CPU second of a product, before and after rounds.

    left_out: rounds that ran, too, on a slower or faster machine.
    """

    taken: dict[str, list[T]]
    ceilings: list[float]
    left_out: int = 0

    @property
    def ceiling(self) -> float:
        return statistics.median(self.ceilings)

    @property
    def drift(self) -> float:
        """How far the highest ceiling lies above the lowest, as a share of that."""
        return max(self.ceilings) / min(self.ceilings) - 1


def in_turn(ways: Mapping[str, Callable[[], T]], rounds: int, tries: int = TRIES) -> Turns[T]:
    """Run all ways in each round, in the other order every other time, until so many rounds had one ceiling.

    Others run in place of rounds in which the machine was slower or faster, up to `tries` times as many in all.
    """
    ran: list[dict[str, T]] = []
    ceilings = [product_teraflops()]
    chosen: list[int] = []
    while len(ran) < rounds * tries:
        order = sorted(ways, key=list(ways).index, reverse=len(ran) % 2 == 0)
        ran.append({way: ways[way]() for way in order})
        ceilings.append(product_teraflops())
        if len(ran) >= rounds:
            chosen = steadiest([*pairwise(ceilings)], rounds)
            turns = Turns(
                {way: [ran[turn][way] for turn in chosen] for way in ways}, _around(ceilings, chosen)
            )
            if turns.drift <= DRIFT:
                break
            print(f"the ceiling drifted by {turns.drift:.0%}", file=sys.stderr, flush=True)
    return replace(turns, left_out=len(ran) - rounds)


def steadiest(ceilings: Sequence[tuple[float, float]], rounds: int) -> list[int]:
    """Which rounds, in order, lie closest together in the ceilings before and after them; the earliest of those."""
    best: list[int] = []
    least = math.inf
    for low in sorted({min(pair) for pair in ceilings}):
        above = [turn for turn, pair in enumerate(ceilings) if min(pair) >= low]
        nearest = sorted(sorted(above, key=lambda turn: max(ceilings[turn]))[:rounds])
        if len(nearest) == rounds and max(max(ceilings[turn]) for turn in nearest) / low < least:
            best, least = nearest, max(max(ceilings[turn]) for turn in nearest) / low
    return best


def _around(ceilings: Sequence[float], turns: Sequence[int]) -> list[float]:
    """Those before and after some rounds, each once."""
    return [ceilings[place] for place in sorted({*turns, *(turn + 1 for turn in turns)})]


def product_teraflops(size: int = 1024) -> float:
    """10^12 operations a second of CPU time that a product of random matrices reaches here at best."""
    left, right = torch.randn(2, size, size)
    taken = []
    for _ in range(7):
        started = time.process_time()
        left @ right
        taken.append(time.process_time() - started)
    return 2 * size**3 / min(taken) / 1e12


def operations_of(run: Callable[[], object]) -> float:
    """Floating-point operations of the products that a run makes, attention's among them, masked or not."""

    def forward(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_flop_count(query, key, value))

    def backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_backward_flop_count(gradient, query, key, value))

    on_cpu = {  # which torch counts on a GPU alone
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: forward,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }
    with FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        run()
    return float(counter.get_total_flops())


def shares(
    run: float, needed: float | None, seconds: Sequence[float], ceiling: float
) -> tuple[float, float | None]:
    """Of the ceiling and of the floor: operations that run and those needed, at 10^12 × ceiling a second."""
    own = statistics.median(seconds) * ceiling * 1e12
    return run / own, None if needed is None else needed / own


def record(
    name: str,
    seconds: Mapping[str, Sequence[float]],
    *,
    equal: bool | None,
    drift: float | None,
    shares: tuple[float | None, float | None] = (None, None),
    **more: Any,
) -> Record:
    """Of two ways, ours first. shares: of the ceiling and of the floor. more: what else is to be told."""
    ours, other = seconds.values()
    return {
        "name": name,
        "arms": {way: {"median_seconds": _rounded(statistics.median(of))} for way, of in seconds.items()},
        "ratio": spread([theirs / own for theirs, own in zip(other, ours, strict=True)]),
        "equal": equal,
        "ceiling_share": None if shares[0] is None else _rounded(shares[0]),
        "floor_share": None if shares[1] is None else _rounded(shares[1]),
        "drift": None if drift is None else _rounded(drift),
        "rounds": len(ours),
        **more,
        "versions": versions(),
    }


def spread(ratios: Sequence[float]) -> dict[str, float]:
    """Median and range over the rounds."""
    found = {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
    return {name: _rounded(value) for name, value in found.items()}


def told(ratio: Mapping[str, float]) -> str:
    """A ratio as tables have it."""
    median, low, high = (ratio[each] for each in ("median", "low", "high"))
    digits = 0 if median >= 20 else 1 if median >= 3 else 2
    return f"{median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def versions() -> dict[str, str]:
    """Of what decides about the seconds, and the processor."""
    names = ("torch", "transformers", "peft", "lm_eval")
    found = {name: version(name) for name in names if importlib.util.find_spec(name) is not None}
    return found | {"cpu": _cpu()}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def results_file() -> Path:
    """Where the records of this kind of machine lie: a file named for its processor."""
    kind = re.sub(r"[^a-z0-9]+", "-", _cpu().lower()).strip("-")
    return Path(__file__).parent / "results" / f"{kind}.json"


def add_write(parser: argparse.ArgumentParser) -> None:
    """The option of a benchmark that says where its records go."""
    shown = f"benchmarks/results/{results_file().name}"
    parser.add_argument(
        "--write",
        type=Path,
        nargs="?",
        const=results_file(),
        help=f"a JSON file of records, where those of the same names are replaced (without a name: {shown})",
    )


def read(path: Path) -> list[Record]:
    """The records of a file; none where there is no such file."""
    found: list[Record] = json.loads(path.read_text(encoding="utf-8"))["benchmarks"] if path.exists() else []
    return found


def write(path: Path, found: Sequence[Record]) -> bool:
    """Put records into a file, in place of those with their names. Returns whether none had to be discarded."""
    steady = []
    for each in found:
        if each["drift"] is None or each["drift"] <= DRIFT:
            steady.append(each)
        else:
            print(f"{each['name']}: discarded, the ceiling drifted by {each['drift']:.0%}", flush=True)
    names = {each["name"] for each in steady}
    kept = [each for each in read(path) if each["name"] not in names]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"benchmarks": kept + steady}, indent=1) + "\n", encoding="utf-8")
    return len(steady) == len(found)


def faults(found: Sequence[Record], baselines: Sequence[Record]) -> list[str]:
    """What is wrong with records: numbers that differ, and ratios that have fallen, each with its benchmark's name."""
    known = {each["name"]: each["ratio"]["median"] for each in baselines}
    wrong = []
    for each in found:
        name, ratio = each["name"], each["ratio"]
        if each["equal"] is False and not each.get("expected_unequal"):
            wrong.append(f"{name}: the numbers differ")
        if name in known and ratio["high"] < KEPT * known[name]:
            wrong.append(f"{name}: {told(ratio)}, below {KEPT:g} of the baseline's {known[name]:.2f}")
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare records with their baselines. Returns the exit code: 1 where something is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("found", type=Path)
    parser.add_argument("baseline", type=Path, nargs="?", default=results_file())
    options = parser.parse_args(arguments)
    found, baselines = read(options.found), read(options.baseline)
    common = {each["name"] for each in found} & {each["name"] for each in baselines}
    if not common:
        print(f"{options.found} and {options.baseline} have no benchmark in common: nothing was compared")
        return 1
    wrong = faults(found, baselines)
    missing = [
        each["name"] for each in baselines if QUICK.search(each["name"]) and each["name"] not in common
    ]
    if missing:
        print(f"baselines that were not compared: {'; '.join(missing)}")
    print("\n".join([*wrong, f"{len(common)} of {len(found)} compared, {len(wrong)} wrong"]))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
