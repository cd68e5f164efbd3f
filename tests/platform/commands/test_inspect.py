"""The command `behaviorlm inspect`: what it prints, what it writes, and what it refuses."""

from html.parser import HTMLParser
from pathlib import Path

import pytest

from behaviorlm.config import load_settings
from behaviorlm.events.log import find_log
from behaviorlm_ray.commands.inspect import main
from behaviorlm_ray.pipeline.settings import RunSettings

NAMES = [
    "[bold]open[/bold]",
    "<script>alert(1)</script>",
    "pay; \x1b[31mred",
    "buy: {a} # b",
    "search",
    "log out",
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log whose behaviors mean something to terminals, to HTML and to YAML; one row in fifty has no user."""
    rows = ["user,action,time,channel"]
    for place in range(600):
        user = "" if place % 50 == 3 else f"u{place % 12}"
        name = NAMES[place // 12 % 6 % (1 + place % 6)]
        channel = ["web", "app"][place % 5 % 2]
        rows.append(f'{user},"{name}",2024-03-{1 + place // 24:02} {place % 24:02}:{place % 60:02},{channel}')
    path = tmp_path / "log.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_what_it_writes_is_a_configuration_that_reads_the_log(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    assert main([str(log), "--to", str(config)]) == 0
    settings = load_settings(RunSettings, config)
    assert (settings.events.user, settings.events.behavior) == ("user", "action")
    assert settings.events.max_quarantine_share == 0.03  # two in a hundred rows have no user
    assert settings.events.context_after == ["channel"]
    assert find_log(settings.events).files[0].path == str(log)
    text = config.read_text(encoding="utf-8")
    assert "called like a user" in text
    assert f"behaviorlm run --config {config} --dry-run" in capsys.readouterr().out


def test_the_terminal_shows_sixty_lines_at_most_and_names_as_they_are(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(log)]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) <= 60
    assert "[bold]open[/bold]" in out
    assert "\x1b[31m" not in out
    for words in ("all 600 rows of 1 file", "12 (2.00%) cannot be used", "back-off"):
        assert words in out


def test_the_page_is_whole_and_its_names_are_escaped(log: Path, tmp_path: Path) -> None:
    page = tmp_path / "look.html"
    assert main([str(log), "--html", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    found = _Elements()
    found.feed(text)
    assert found.tags.count("svg") == 3
    assert "script" not in found.tags
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "http" not in text.replace("http-equiv", "")


def test_a_sample_is_called_one(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(log), "--rows", "200"]) == 0
    out = capsys.readouterr().out
    assert "the first 200 rows, of 1 file" in out
    assert "about 6" in out and "a sample; `prepare` reads all" in out


def test_a_given_mapping_is_looked_at_in_place_of_a_proposed_one(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    assert main([str(log), "--to", str(config)]) == 0
    config.write_text(
        config.read_text(encoding="utf-8").replace("behavior: action", "behavior: channel"), encoding="utf-8"
    )
    text = config.read_text(encoding="utf-8").replace("context_after: [channel]", "context_after: [action]")
    config.write_text(text, encoding="utf-8")
    capsys.readouterr()
    assert main(["--mapping", str(config)]) == 0
    out = capsys.readouterr().out
    assert "2, 2 anchors and 0 tail" in out
    assert "proposed" not in out


def test_nothing_is_written_over(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("mine", encoding="utf-8")
    assert main([str(log), "--to", str(config)]) == 2
    assert config.read_text(encoding="utf-8") == "mine"
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "either the files of a log or a configuration"),
        (["a.csv", "--mapping", "b.yaml"], "either the files of a log or a configuration"),
        (["--mapping", "b.yaml", "--to", "c.yaml"], "with --mapping nothing is"),
        (["a.csv", "--rows", "0"], "--rows must be 1 or more"),
    ],
)
def test_a_wrong_command_line_is_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_a_path_without_files_is_refused_in_a_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([str(tmp_path / "absent")]) == 2
    assert "matches no file" in capsys.readouterr().err


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
