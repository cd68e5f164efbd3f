"""Records of benchmarks: ways to do the same work in turn, how many times ours another one takes, and files of that.

A record is {"name": what is compared, with the peer and the sizes; "arms": {way: {"median_seconds"}}, CPU seconds;
"ratio": {"median", "low", "high"}, the other way's by ours over the rounds; "equal": whether both give the same
numbers; "ceiling_share", "floor_share": what part of ours the operations that it runs, and those that the mathematics
needs, would take at the speed of a product of matrices in the same process (null: not reckoned); "drift": how far that
speed went apart; "versions"}. A file holds them as {"benchmarks": […]}, one file a kind of machine.

    python -m benchmarks.records FOUND [BASELINE]        # fails where a ratio has fallen below .9 of its baseline
"""

import argparse
import importlib.util
import json
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

ROUNDS = 5
TRIES = 3
"""How often a run is begun anew where the ceiling drifts."""
DRIFT = 0.15
"""A run whose ceiling drifts by more is discarded."""
KEPT = 0.9
"""A ratio has fallen where its whole interval lies below this share of its baseline."""

Record = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Turns(Generic[T]):
    """What each way took in each round. ceilings: 10^12 operations a CPU second of a product, round by round."""

    taken: dict[str, list[T]]
    ceilings: list[float]

    @property
    def ceiling(self) -> float:
        return statistics.median(self.ceilings)

    @property
    def drift(self) -> float:
        """How far the highest ceiling lies above the lowest, as a share of that."""
        return max(self.ceilings) / min(self.ceilings) - 1


def in_turn(ways: Mapping[str, Callable[[], T]], rounds: int, tries: int = TRIES) -> Turns[T]:
    """Run all ways in each round, in the other order every other time; anew, some times, where the ceiling drifts."""
    for _ in range(tries):
        turns = Turns[T]({way: [] for way in ways}, [product_teraflops()])
        for turn in range(rounds):
            for way in sorted(ways, key=list(ways).index, reverse=turn % 2 == 0):
                turns.taken[way].append(ways[way]())
            turns.ceilings.append(product_teraflops())
        if turns.drift <= DRIFT:
            break
        print(f"the ceiling drifted by {turns.drift:.0%}", file=sys.stderr, flush=True)
    return turns


def product_teraflops(size: int = 1024) -> float:
    """10^12 operations a second of CPU time that a product of random matrices reaches here at best."""
    left, right = torch.randn(2, size, size)
    taken = []
    for _ in range(7):
        started = time.process_time()
        left @ right
        taken.append(time.process_time() - started)
    return 2 * size**3 / min(taken) / 1e12


def record(
    name: str,
    seconds: Mapping[str, Sequence[float]],
    *,
    equal: bool | None,
    drift: float,
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
        "drift": _rounded(drift),
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
    steady = [each for each in found if each["drift"] <= DRIFT]
    for each in found:
        if each["drift"] > DRIFT:
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
    print("\n".join([*wrong, f"{len(common)} of {len(found)} compared, {len(wrong)} wrong"]))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
