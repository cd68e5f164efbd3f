"""Kill parts of running jobs at chosen moments, and see that the resumed run is that of an undisturbed one.

    python -m cluster.chaos [--seeds 0 1 2] [--only raylet-score driver] [--apart] [--at-most N] [--folder runs/chaos]

Starts an S3 server (moto, in memory), a proxy before it and a Ray cluster of three nodes, runs a small pipeline once
undisturbed, and then once for each victim and seed, killing it at every moment on the way; with --apart once for each
case, from the stage that the case is about. The proxy holds back the request that marks the moment until the victim
is dead. Results are added to summary.json in the folder. A case that is there already is not run again, unless it was
not as it should be: then its new result replaces the old one.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from behaviorlm_ray import storage
from cluster.chaos.matrix import cases, runs
from cluster.chaos.runs import chaos
from cluster.local_cluster import ROOT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it. Returns the exit code: 1 if a case was not as it should be."""
    parser = argparse.ArgumentParser(
        prog="python -m cluster.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", default=[], help="beginnings of names: <victim>-<moment>")
    parser.add_argument("--apart", action="store_true", help="a run of its own for each case")
    parser.add_argument("--at-most", type=int, help="no more cases than these")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "chaos")
    options = parser.parse_args(arguments)
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    summary = folder / "summary.json"
    known = json.loads(summary.read_text())["cases"] if summary.exists() else []
    done = {(row["name"], row["seed"]) for row in known if is_good(row)}
    waiting = [case for case in cases(options.seeds, options.only) if (case.name, case.seed) not in done]
    waiting = waiting[: options.at_most]
    print(f"{len(waiting)} cases to run, {len(known)} in {summary}", flush=True)
    missed = 0
    if waiting:
        with chaos(folder) as started:
            for disturbed in runs(waiting, options.apart):
                rows = started.run(disturbed)
                known = replaced(known, rows)
                storage.write_replacing(summary, json.dumps({"cases": known}, indent=1).encode())
                for row in rows:
                    print(f"{'good' if is_good(row) else 'BAD'} {json.dumps(row)}", flush=True)
                for name in {case.name for case in disturbed} - {row["name"] for row in rows}:
                    missed += 1
                    print(f"MISSED {name}, seed {disturbed[0].seed}: its moment never came", flush=True)
    good = sum(is_good(row) for row in known)
    print(f"{good} of {len(known)} cases are as they should be: {summary}")
    return 0 if good == len(known) and not missed else 1


def replaced(known: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The known rows with the new ones, which take the place of older ones of the same case."""
    new = {(row["name"], row["seed"]) for row in rows}
    return [row for row in known if (row["name"], row["seed"]) not in new] + list(rows)


def is_good(row: dict[str, Any]) -> bool:
    """Whether a kill happened and changed nothing."""
    exact = row["samples_missing"] == row["samples_repeated"] == 0
    return bool(row["killed"] and row["resumed"] and not row["timeouts"] and exact and row["metrics_equal"])


if __name__ == "__main__":
    sys.exit(main())
