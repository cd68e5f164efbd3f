"""The benchmark of bfloat16 weights tunes and scores in both dtypes and tells how far they lie apart."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.records import read

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_both_dtypes_are_tuned_and_scored_side_by_side(tmp_path: Path) -> None:
    with (tmp_path / "log.csv").open("w", newline="") as file:
        rows = [f"turn {what} {state}" for what in "abc" for state in ("on", "off")] * 10
        csv.writer(file).writerows([["name"], *[[row] for row in rows]])
    written = tmp_path / "records.json"
    options = ["--steps=2", "--samples=4", "--prompts=9", "--rounds=2", "--full", f"--write={written}"]
    command = [
        sys.executable,
        "-m",
        "benchmarks.bench_precision",
        f"--log={tmp_path / 'log.csv'}:name",
        *options,
    ]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "platform")])
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert (
        len(re.findall(r"^step \d: \d+ tokens, loss float32 [\d.]+, bfloat16 [\d.]+$", done.stdout, re.M))
        == 2
    )
    told = ("tuning step of 4 samples, all weights of base", "scoring 9 prompts, 6 labels, trie, base")
    assert [each["name"] for each in read(written)] == [f"bfloat16 against float32, {what}" for what in told]
    for what in told:
        assert re.search(rf"^{what}: .*float32 / bfloat16 [\d.]+ \([\d.]+ to [\d.]+\)$", done.stdout, re.M)
    assert done.stdout.count("label scores differ by") == 3
