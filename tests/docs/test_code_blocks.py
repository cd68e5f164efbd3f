"""What the pages tell people to type is accepted: configs, commands and their options, and Python."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from behaviorlm.config import validate_settings
from behaviorlm.errors import ConfigError
from behaviorlm_ray.commands.__main__ import commands, main
from behaviorlm_ray.pipeline.settings import RunSettings

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/behaviorlm/predictor/golden_v1"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BY_OPTIONS = {"cost", "inspect", "export", "clean", "world", "pretrain", "status", "report"}
"""Commands that take no config."""


def _blocks(language: str, pages: list[Path] = PAGES) -> list[tuple[str, str]]:
    return [
        (page.name, block)
        for page in pages
        for block in re.findall(
            rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
        )
    ]


def _lines() -> Iterator[tuple[str, list[str]]]:
    """Every line that begins a command of the project, as `ray job submit` takes it, too."""
    for page, block in _blocks("sh"):
        for line in block.replace("\\\n", " ").replace("REPLACE_WITH_", "my-").lower().splitlines():
            found = re.search(r"^behaviorlm (.*?)(?:&&|$)|python -m jobs\.(.*)", line)
            if found:
                yield page, shlex.split(re.sub(r"[\[\]](?=--|$)", "", found[1] or found[2]), comments=True)


LINES = list(_lines())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages have written by then."""
    for page, block in _blocks("yaml"):
        named = re.match(r"# (\w+\.yaml)\n", block)
        if named:
            assert page in ("README.md", "quickstart.md")
            (tmp_path / named[1]).write_text(block, encoding="utf-8")
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("page", "words"), LINES, ids=[f"{page}: {' '.join(words)}" for page, words in LINES]
)
def test_a_command_of_the_pages_is_accepted(
    page: str, words: list[str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *rest = words
    assert name in commands(ROOT / "pyproject.toml")
    if name in BY_OPTIONS:
        with pytest.raises(SystemExit):
            main([name, "--help"])
        assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= set(
            re.findall(r"--[\w-]+", capsys.readouterr().out)
        )
        return
    status = main([name, *rest, "--print-config"])
    assert (status, capsys.readouterr().err) == (0, "")


def test_an_option_that_does_not_exist_is_found(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--config", "my_app.yaml", "--a_tuning.epoch=2", "--print-config"]) == 2
    assert "a_tuning.epoch: unknown key" in capsys.readouterr().err


def _configs() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each config of the pages, or part of one."""
    for page, block in _blocks("yaml"):
        for part in re.split(r"\n\s*\n", block) if block.startswith(" ") else [block]:
            lines = part.splitlines() if part.count("order:") > 1 and block.startswith(" ") else [part]
            for text in lines:
                found = yaml.safe_load(
                    re.sub(r"^  ", "", text, flags=re.MULTILINE) if block[0] == " " else text
                )
                yield page, {"events": found} if block[0] == " " else found


CONFIGS = [
    (page, found)
    for page, found in _configs()
    if any((found or {}).values()) and not found.keys() & {"groups", "space", "apiVersion"}
]


@pytest.mark.parametrize(("page", "part"), CONFIGS, ids=[page for page, _ in CONFIGS])
def test_a_config_of_the_pages_is_accepted(page: str, part: dict[str, Any]) -> None:
    [whole] = [found for name, found in CONFIGS if name == "README.md"]
    merged = {**whole, **part, "events": {**whole["events"], **part.get("events", {})}}
    if "action" not in (merged["events"]["behavior"], *part.get("events", {})):
        merged["events"].pop("context_after", None)
    validate_settings(RunSettings, merged, page)


def test_a_config_with_a_key_that_does_not_exist_is_found() -> None:
    with pytest.raises(ConfigError, match="evnts"):
        test_a_config_of_the_pages_is_accepted("", {"evnts": {}})


@pytest.mark.parametrize("page", ["README.md", "quickstart.md"])
def test_python_that_predicts_runs(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    [code] = [block for name, block in _blocks("python") if name == page]
    written = re.sub(r"exported/\w+", str(GOLDEN), code).replace('"action"', '"behavior"')
    exec(written.replace('"place"', '"room"'), {})
    assert page == "README.md" or "0." in capsys.readouterr().out


def test_python_that_reads_a_log_runs(ray_cluster: None, tmp_path: Path) -> None:
    [code] = [block for name, block in _blocks("python") if name == "own_logs.md"]
    (tmp_path / "my_app").mkdir()
    (tmp_path / "my_app/log.csv").write_text(
        "user_id,action,time\nu1,open,2024-03-01T18:05:00Z\nu1,,2024-03-01T18:06:00Z\n", encoding="utf-8"
    )
    exec(code.replace("/data", str(tmp_path)), {"add_features": lambda events: events})
    assert pq.read_table(tmp_path / "my_app_events")["behavior"].to_pylist() == ["open"]
