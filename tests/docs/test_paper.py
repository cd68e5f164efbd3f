"""The exhibits kept in docs/study/paper are those of the configuration, of a clean checkout; what is not is said."""

from pathlib import Path

import pytest

from behaviorlm.config import load_settings
from behaviorlm_lab.paper.settings import PaperSettings, exhibits_of

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "docs/study/paper"
FIGURES = {"distribution", "map", "accuracy", "framework", "lines"}


def test_each_exhibit_is_kept_or_said_not_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    exhibits = exhibits_of(load_settings(PaperSettings, "jobs/configs/paper/paper.yaml"))
    kept = {path.stem for path in KEPT.iterdir()} - {"index"}
    _, _, said = (ROOT / "docs/paper.md").read_text("utf-8").partition("\nNot kept: ")
    assert {name for name in exhibits if f"`{name}`" in said.partition("\n\n")[0]} == exhibits.keys() - kept
    index = (KEPT / "index.md").read_text("utf-8")
    for name in kept:
        page = (KEPT / f"{name}.md").read_text("utf-8")
        assert page.startswith(f"# {exhibits[name].title}\n") and f"## {exhibits[name].title}\n" in index
        assert "Synthetic: " in page and "no number in it is the paper's" in page
        assert "Not made" not in page and "+changes" not in page
        assert (KEPT / f"{name}.csv").exists()
        assert (KEPT / f"{name}.svg").exists() == (exhibits[name].shows in FIGURES)
