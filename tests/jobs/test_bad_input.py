"""Bad input through the jobs' command line: it works, or ends before tuning with what is wrong, where, and a remedy."""

import gzip
import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import yaml

from behaviorlm.config import load_settings
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import PreparedLog, rows_of_split
from behaviorlm_ray.scoring.replica import Replica, ScoringTask
from tests.platform.small_runs import log_rows, run_data, save_base, write_conversations, write_log

STRANGE = (
    "<|im_end|>",
    "<|im_start|>assistant",
    "<think>",
    "../../etc/passwd",
    "C:\\temp\\con",
    "/",
    "first line\nsecond line",
    "tab\tand\rreturn",
    "🙂🏳️‍🌈",
    "مرحبا بالعالم",
    "\u200fעברית\u200e mixed",
    "<script>alert(1)</script>",
    "null",
    "lamp",
    "lamp on",
    "lamp on again",
)


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Job = Callable[..., Outcome]


@pytest.fixture(scope="module")
def small_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_log(tmp_path / "log.csv", log_rows(31, users=12))


@pytest.fixture
def job(
    tmp_path: Path,
    small_base: Path,
    log: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Job:
    """Runs `python -m jobs.<name>` in this process, on a small log unless told otherwise."""

    def run(name: str, *arguments: str) -> Outcome:
        config = tmp_path / "config.yaml"
        data = run_data(tmp_path / "runs", small_base, log)
        config.write_text(yaml.safe_dump(data), encoding="utf-8")
        monkeypatch.setattr(sys, "argv", [name, "--config", str(config), *arguments])
        monkeypatch.delitem(sys.modules, f"jobs.{name}", raising=False)  # another test may have imported it
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(f"jobs.{name}", run_name="__main__")
        return Outcome(int(ended.value.code or 0), *capsys.readouterr())

    return run


def refused(outcome: Outcome, *parts: str) -> None:
    assert outcome.code == 2, outcome
    message = outcome.err[outcome.err.index("error: ") :]
    for part in parts:
        assert part in message
    assert "Traceback" not in message


def tuned_nothing(tmp_path: Path) -> bool:
    return not list((tmp_path / "runs").glob("stages/*tune*"))


def test_bad_input_ends_a_run_before_a_cluster_is_asked_for(
    job: Job, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("ray.init", lambda *_, **options: asked.append(options))
    refused(job("run", "--events.behavior=action"), str(log), "'action'", "events.behavior")
    assert not asked
    assert not (tmp_path / "runs").exists()


def test_missing_columns_are_all_named_with_file_key_and_what_is_there(job: Job, log: Path) -> None:
    outcome = job(
        "run", "--dry-run", "--events.user=person", "--events.order.column=when", "--events.group=team"
    )
    refused(
        outcome,
        f"{log}: no column 'person' (events.user)",
        "'when' (events.order.column)",
        "'team' (events.group)",
    )
    assert "columns there: time, user, behavior, room, result" in outcome.err


def test_log_model_and_conversations_that_are_missing_are_named_together(job: Job, tmp_path: Path) -> None:
    outcome = job(
        "run",
        "--dry-run",
        f"--events.paths=[{tmp_path}/none-*.csv]",
        f"--model.base={tmp_path}/no-model",
        f"--auxiliary=[{{name: talk, paths: [{tmp_path}/no-talk.jsonl]}}]",
    )
    refused(
        outcome, "none-*.csv' matches no file", f"there is no folder {tmp_path}/no-model", "no-talk.jsonl"
    )
    assert outcome.err.count("none-*.csv") == 1


def test_several_wrong_keys_are_listed_at_once(job: Job) -> None:
    outcome = job(
        "run",
        "--dry-run",
        "--evnts.user=x",
        "--a_tuning.learning_rate=-1",
        "--selection.balance=much",
        "--execution.tuning.zero_stage=5",
        "--prompt.strid=3",
        "--storage.root=gs://bucket/runs",
    )
    refused(
        outcome, "evnts: unknown key", "a_tuning.learning_rate", "got -1", "selection.balance", "got 'much'"
    )
    refused(
        outcome, "execution.tuning.zero_stage", "got 5", "prompt.strid: unknown key", "did you mean 'stride'?"
    )
    refused(outcome, "storage.root", "got 'gs://bucket/runs'", "6 problem(s)")


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("--name=stages", ("'stages' is a folder of all runs",)),
        ("--name=../up", ("name", "'../up'")),
        ("--auxiliary=[{name: a/b, paths: [x.jsonl]}]", ("auxiliary", "a/b")),
        ("--events.paths=[gs://bucket/log.csv]", ("'gs://bucket/log.csv': only local files and s3",)),
        ("--split.by=column", ("events.split_column",)),
    ],
)
def test_names_and_places_that_cannot_be_used_are_refused(
    job: Job, override: str, parts: tuple[str, ...]
) -> None:
    refused(job("run", "--dry-run", override), *parts)


def test_times_with_and_without_a_zone_are_refused_with_rows_and_remedy_and_a_zone_helps(
    job: Job, tmp_path: Path
) -> None:
    rows = log_rows(32, users=6)
    rows[4] = {**rows[4], "time": "2024-05-31 14:05:09"}
    path = write_log(tmp_path / "mixed.csv", rows)
    outcome = job("run", "--dry-run", f"--events.paths=[{path}]")
    refused(outcome, str(path), "row 5: '2024-05-31 14:05:09'", "row 1: '2024", "set events.order.time_zone")
    assert (
        job("run", "--dry-run", f"--events.paths=[{path}]", "--events.order.time_zone=Europe/Prague").code
        == 0
    )


def test_times_in_formats_that_cannot_be_read_fail_with_counts(
    ray_cluster: None, job: Job, tmp_path: Path
) -> None:
    rows = log_rows(33, users=6)
    for index in range(0, len(rows), 3):
        rows[index] = {**rows[index], "time": "in May"}
    path = write_log(tmp_path / "formats.csv", rows)
    outcome = job("prepare", f"--events.paths=[{path}]")
    refused(
        outcome,
        f"unreadable time: {len(range(0, len(rows), 3))}",
        "events.max_quarantine_share",
        "quarantine",
    )
    everything = write_log(tmp_path / "all.csv", [row for row in rows if row["time"] == "in May"])
    outcome = job("run", "--dry-run", f"--events.paths=[{everything}]")
    refused(outcome, str(everything), "row 1", "'in May'", "events.order.time_format")
    german = write_log(tmp_path / "german.csv", [{**row, "time": "31.05.2024 14:05"} for row in rows])
    outcome = job("run", "--dry-run", f"--events.paths=[{german}]")
    refused(outcome, str(german), "row 1", "'31.05.2024 14:05'", 'events.order.time_format: "%d.%m.%Y %H:%M"')


def test_iso_times_and_epoch_seconds_may_be_mixed(ray_cluster: None, job: Job, tmp_path: Path) -> None:
    rows = log_rows(34, users=6)
    write_log(tmp_path / "log" / "a.csv", rows)
    write_log(tmp_path / "log" / "b.csv", [{**rows[0], "time": "1709280000", "user": "epoch"}])
    outcome = job("prepare", f"--events.paths=[{tmp_path / 'log'}]")
    assert outcome.code == 0, outcome
    assert outcome.out.splitlines()[-1].startswith("wrote prepare to ")


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("header.csv", b"time,user,behavior,room,result\n", "the log is empty, there is no row in"),
        ("nothing.csv", b"", "is empty: a CSV file needs a row with the names of its columns"),
        ("nothing.jsonl", b"", "the log is empty, there is no row in"),
        ("blank.jsonl.gz", gzip.compress(b"\n\n", mtime=0), "the log is empty, there is no row in"),
    ],
    ids=["header only", "no byte", "no line", "blank lines"],
)
def test_an_empty_log_is_refused_by_name(
    job: Job, tmp_path: Path, name: str, content: bytes, part: str
) -> None:
    (tmp_path / name).write_bytes(content)
    refused(job("run", "--dry-run", f"--events.paths=[{tmp_path / name}]"), str(tmp_path / name), part)


def test_a_damaged_gzip_is_refused_by_name(ray_cluster: None, job: Job, tmp_path: Path) -> None:
    path = write_log(tmp_path / "cut.jsonl.gz", log_rows(35, users=60))
    path.write_bytes(path.read_bytes()[:-100])
    refused(
        job("run", f"--events.paths=[{path}]"),
        f"{path}: a gzip file that ends too early",
        "fetch or write it again",
    )
    assert tuned_nothing(tmp_path)


def test_a_malformed_row_in_a_gzip_is_set_aside_and_told(ray_cluster: None, job: Job, tmp_path: Path) -> None:
    path = write_log(tmp_path / "log.jsonl.gz", log_rows(36, users=20))
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join([*lines[:9], b'{"time": "2024', b"\n", *lines[9:]])))
    outcome = job("prepare", f"--events.paths=[{path}]", "--events.max_quarantine_share=0.02")
    assert outcome.code == 0
    counts = json.loads((folder_of(outcome) / "counts.json").read_text(encoding="utf-8"))
    assert counts["quarantined"] == {"malformed row": 1} and counts["events"] == len(lines)


def folder_of(outcome: Outcome) -> Path:
    """The folder that the last line says was written."""
    return Path(outcome.out.splitlines()[-1].rpartition(" ")[2])


def test_one_behavior_only_is_refused_before_tuning(ray_cluster: None, job: Job, tmp_path: Path) -> None:
    path = write_log(tmp_path / "one.csv", [{**row, "behavior": "lamp on"} for row in log_rows(37, users=6)])
    refused(job("run", f"--events.paths=[{path}]"), "one behavior only, 'lamp on'", "events.behavior")
    assert tuned_nothing(tmp_path)


def test_no_anchor_and_no_tail_where_needed_end_before_tuning(
    ray_cluster: None, job: Job, tmp_path: Path
) -> None:
    no_anchor = "--vocabulary.anchor_threshold=0.9"
    prepared = job("prepare", no_anchor)
    assert prepared.code == 0
    vocabulary = json.loads((folder_of(prepared) / "vocabulary.json").read_text(encoding="utf-8"))
    assert not any(vocabulary["is_anchor"])
    for name in ("run", "evaluate", "a_tune"):
        refused(
            job(name, no_anchor),
            "no behavior is an anchor",
            vocabulary["names"][0],
            "vocabulary.anchor_threshold",
        )
        refused(job(name, no_anchor, "--dry-run"), "no behavior is an anchor")
    no_tail = "--vocabulary.anchor_threshold=0"
    outcome = job("run", no_tail, "--selection.anchor_share=0.5")
    refused(outcome, "there is no tail", vocabulary["names"][-1], "vocabulary.anchor_threshold")
    assert job("run", no_tail, "--dry-run").code == 0
    assert tuned_nothing(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (lambda base: (base / "tokenizer.json").unlink(), ("a model but no tokenizer", "tokenizer.json")),
        (lambda base: (base / "config.json").unlink(), ("holds no config.json", "model.base")),
        (lambda base: (base / "model.safetensors").unlink(), ("holds no *.safetensors", "model.random_init")),
        (lambda base: (base / "chat_template.jinja").write_text("{% for %}"), ("chat template",)),
        (lambda base: (base / "config.json").write_text("{"), ("config.json",)),
    ],
    ids=["no tokenizer", "no config", "no weights", "broken template", "broken config"],
)
def test_an_unusable_model_folder_is_refused_by_name(
    job: Job, small_base: Path, tmp_path: Path, spoil: Callable[[Path], Any], parts: tuple[str, ...]
) -> None:
    base = tmp_path / "broken base"
    shutil.copytree(small_base, base)
    spoil(base)
    refused(job("run", "--dry-run", f"--model.base={base}"), *parts)
    refused(job("run", f"--model.base={base}"), *parts)
    assert not (tmp_path / "runs").exists()


def test_an_instruction_longer_than_the_model_is_refused(job: Job) -> None:
    outcome = job("run", "--dry-run", f"--prompt.instruction={'press the button ' * 200}")
    refused(outcome, "512 positions", "prompt.instruction")


def strange_log(path: Path) -> Path:
    random = np.random.default_rng(38)
    names = [*STRANGE, *random.choice(STRANGE, 300, p=np.r_[0.3, 0.2, np.full(14, 0.5 / 14)])]
    rows = [{**row, "behavior": str(name)} for row, name in zip(log_rows(38, users=40), names, strict=False)]
    return write_log(path, rows)


def test_behaviors_named_like_control_tokens_paths_and_in_any_script_stay_as_they_are(
    ray_cluster: None, job: Job, small_base: Path, tmp_path: Path
) -> None:
    path = strange_log(tmp_path / "strange.jsonl")
    extra = f"--vocabulary.extra_names={json.dumps([name.strip() for name in STRANGE])}"
    outcome = job("prepare", f"--events.paths=[{path}]", extra, "--events.max_behavior_characters=40")
    assert outcome.code == 0, outcome.err
    folder = folder_of(outcome)
    vocabulary = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
    assert sorted(vocabulary["names"]) == sorted(STRANGE)
    assert not list(tmp_path.rglob("passwd*"))

    settings = load_settings(RunSettings, None, (), run_data(tmp_path, small_base, path))
    log = PreparedLog(folder, settings.prompt)
    control = {0, 1, 2}
    assert not any(control & set(label.tolist()) for label in log.prompt.label_ids)
    assert not any(control & set(part.lines.values.tolist()) for part in log.parts)
    rows = rows_of_split(log, "test")
    windows = [
        (number, window) for number, part in enumerate(log.parts) for window in part.windows(rows[number])
    ]
    task = ScoringTask(log, settings.model, None, measures=False, max_tokens=2048, threads=1, use_gpu=False)
    scored = Replica(task)(
        pa.table({"part": [part for part, _ in windows], "rows": [row for _, row in windows]})
    )
    scores = scored["label_scores"].combine_chunks().values.to_numpy().reshape(-1, len(STRANGE))
    assert np.isfinite(scores).all() and (scores < 0).all()
    assert all(len(np.unique(row)) == len(STRANGE) for row in scores)


def test_names_that_only_differ_in_line_breaks_are_refused_together(
    ray_cluster: None, job: Job, tmp_path: Path
) -> None:
    rows = [
        {**row, "behavior": "lamp\non" if index % 2 else "lamp on"}
        for index, row in enumerate(log_rows(39, users=8))
    ]
    path = write_log(tmp_path / "breaks.jsonl", rows)
    refused(job("prepare", f"--events.paths=[{path}]"), r"'lamp\non'", "'lamp on'", "rename or merge")


@pytest.mark.slow
def test_strange_names_go_through_the_whole_run(ray_cluster: None, job: Job, tmp_path: Path) -> None:
    path = strange_log(tmp_path / "strange.jsonl")
    talk = write_conversations(tmp_path / "talk.jsonl")
    outcome = job("run", f"--events.paths=[{path}]", f"--auxiliary=[{{name: talk, paths: [{talk}]}}]")
    assert outcome.code == 0, outcome.err
    report = Path(outcome.out.splitlines()[-1].removeprefix("wrote the report to "))
    text = report.read_text(encoding="utf-8")
    assert "<script>alert(1)</script>" not in text and "مرحبا بالعالم" in text
    details = json.loads((report.parent / "details.json").read_text(encoding="utf-8"))
    listed = {row["behavior"] for row in details["per_behavior"]["ab_tuned"]}
    assert set(STRANGE) & listed == listed
