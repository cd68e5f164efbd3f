"""Runs side by side: what is said of their data, what is in the table and on the page, and what is refused."""

from pathlib import Path

import pytest

from behaviorlm.errors import ConfigError
from behaviorlm_ray.commands.report import main
from behaviorlm_ray.report.content import ReportData
from behaviorlm_ray.report.side_by_side import comparability, read_run, render_side_by_side, table
from tests.platform.report.random_reports import PageText, random_report


@pytest.fixture(scope="module")
def content() -> ReportData:
    return random_report(seed=9, behaviors=30, steps=10)


def written(folder: Path, data: ReportData, **changes: object) -> str:
    folder.mkdir()
    changed = data.model_copy(update=changes)
    (folder / "report.json").write_text(changed.model_dump_json(), encoding="utf-8")
    return str(folder)


def test_runs_of_the_same_test_samples_can_be_compared_and_others_cannot(
    tmp_path: Path, content: ReportData
) -> None:
    def other(**prints: str) -> dict[str, str]:
        return content.fingerprints | {name.replace("_", " "): value for name, value in prints.items()}

    folders = {
        "same": written(tmp_path / "a", content),
        "again": written(tmp_path / "b", content),
        "vocabulary": written(tmp_path / "c", content, fingerprints=other(vocabulary="0")),
        "samples": written(tmp_path / "d", content, fingerprints=other(test_samples="0")),
        "edited": written(tmp_path / "g", content, fingerprints=other(log="0")),
        "log": written(tmp_path / "e", content, fingerprints=other(log="0", test_samples="0")),
        "silent": written(tmp_path / "f", content, fingerprints={}),
    }
    runs = {name: read_run(folder) for name, folder in folders.items()}

    def said(name: str) -> str:
        return " ".join(comparability([runs["same"], runs[name]]))

    assert said("again") == "All runs were measured on the same test samples: their numbers can be compared."
    assert "the cut into anchors and tail differ" in said("vocabulary")
    assert "The log is the same, the test samples are not" in said(
        "samples"
    ) and "cannot be compared" in said("samples")
    assert "the logs are not the same" in said("edited") and "only if the events are" in said("edited")
    assert "different logs" in said("log") and folders["log"] in said("log")
    assert "is not known" in said("silent")


def test_the_table_and_the_page_tell_what_each_run_recommends(tmp_path: Path, content: ReportData) -> None:
    configuration = {"seed": 1, "events": content.configuration["events"]}
    named = [
        written(tmp_path / "one", content),
        written(tmp_path / "two<b>", content, configuration=configuration),
    ]
    runs = [read_run(name) for name in named]
    lines = table(runs)
    of = content.results.models["ab_tuned+adjusted"]
    endpoint = of["anchor"]["accuracy"], of["tail"]["macro_recall_at_least_10"]
    for line, name in zip(lines[1:], named, strict=True):
        assert line.startswith(name) and "ab_tuned+adjusted" in line and "markov_order_3" in line
        assert all(f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]" in line for value in endpoint)
    text = PageText(render_side_by_side(runs)).text
    assert f"{endpoint[0].value:.3f}" in text and "can be compared" in text
    assert "seed 0 1" in text and "smartthings_us" not in text.partition("Settings that differ")[2]


def test_the_command_writes_one_report_anew_or_a_page_of_several(
    tmp_path: Path, content: ReportData, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, two = written(tmp_path / "one", content), written(tmp_path / "two", content)
    assert main([one]) == 0
    assert "How to read this" in (tmp_path / "one" / "report.html").read_text()
    assert "Use ab_tuned (logit adjustment)" in capsys.readouterr().out
    assert main([one, two]) == 0
    assert "2 runs side by side" in (tmp_path / "comparison.html").read_text()
    assert main([one, two, "--to", str(tmp_path / "else.html")]) == 0
    assert (tmp_path / "else.html").read_text() == (tmp_path / "comparison.html").read_text()


def test_what_is_no_report_is_refused_by_name(tmp_path: Path, content: ReportData) -> None:
    with pytest.raises(ConfigError, match=r"absent has no report\.json"):
        read_run(str(tmp_path / "absent"))
    folder = written(tmp_path / "old", content)
    (tmp_path / "old" / "report.json").write_text('{"title": "t", "stges": []}')
    with pytest.raises(ConfigError, match=r"report\.json was written by another version: stges"):
        read_run(folder)
    assert main([folder]) != 0
