"""The comparison with RecBole: both get the same samples, and ours alone runs without RecBole."""

from pathlib import Path

import numpy as np
import pytest

from behaviorlm.opponents.budget import NetworkBudget
from benchmarks import bench_opponents
from benchmarks.bench_opponents import known, main, read_log, samples, write_for_recbole


@pytest.fixture
def log(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    lines = [f"{user},{hour},{random.choice(['a', 'b', 'c'])}" for user in range(9) for hour in range(20)]
    lines[-1] = "8,19,never seen before"
    path = tmp_path / "log.csv"
    path.write_text("\n".join(["who,hour,what", *(lines[place] for place in random.permutation(180))]))
    return path


def test_recbole_gets_the_same_samples_with_the_same_histories(log: Path, tmp_path: Path) -> None:
    timelines, counts = known(read_log(log, "who", "hour", "what"))
    write_for_recbole(tmp_path, timelines, 5)
    assert timelines.behaviors == 3 and counts.sum() == 9 * 13
    for split, name in enumerate(("train", "valid", "test")):
        lines = (tmp_path / "log" / f"log.{name}.inter").read_text().splitlines()[1:]
        rows = samples(timelines, split)
        assert len(lines) == len(rows) == 9 * (13, 2, 4)[split] - (split == 2)
        for place, (line, row) in enumerate(zip(lines, rows.tolist(), strict=True)):
            start, past, target, of_line = line.split("\t")
            begin = max(int(timelines.user_start[row]), row - 5)
            assert (int(start), int(of_line)) == (timelines.user_start[row], place)
            assert [int(one) for one in past.split(" ")] == timelines.behavior[begin:row].tolist()
            assert int(target) == timelines.behavior[row]


def test_ours_is_measured_beside_counting_and_kept(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_opponents, "NetworkBudget", lambda: NetworkBudget(most_epochs=1))
    asked = ["--log", str(log), "--user=who", "--order=hour", "--behavior=what"]
    asked += ["--most-users=5", "--work", str(tmp_path / "work")]
    assert main(asked) == 0
    first = capsys.readouterr().out
    assert {"sasrec", "gru4rec", "per_user_frequency"} <= {line.split()[0] for line in first.splitlines()}
    assert main(asked) == 0  # nothing is fitted again
    assert capsys.readouterr().out == first
