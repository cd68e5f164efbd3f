"""The benchmark of the two losses runs both on the same samples, or one alone."""

from pathlib import Path

import pytest

from benchmarks.label_loss import main


def test_both_ways_are_timed_and_one_alone_tells_its_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.csv"
    names.write_text("name\nmusic\nlamp on\nlamp off\n")
    short = [f"--log={names}:name", "--samples=2", "--history-tokens=5", "--rounds=1"]
    assert main(short) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("3 labels of ") and "CPU s a step" in told[1]
    assert told[-1].startswith("all / labels: ")
    assert main([*short, "--tokens", "labels", "--full-tuning"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("peak memory: ")
