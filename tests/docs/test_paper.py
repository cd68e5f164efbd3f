"""The exhibits kept in docs/study/paper are all those of the configuration, and were drawn in a clean checkout."""

from pathlib import Path

import pytest

from behaviorlm.config import load_settings
from behaviorlm_lab.paper.settings import PaperSettings, exhibits_of

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "docs/study/paper"
FIGURES = {"distribution", "map", "accuracy", "framework", "lines"}


def test_each_exhibit_is_kept_and_none_besides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    exhibits = exhibits_of(load_settings(PaperSettings, "jobs/configs/paper/paper.yaml"))
    index = (KEPT / "index.md").read_text("utf-8")
    for name, exhibit in exhibits.items():
        page = (KEPT / f"{name}.md").read_text("utf-8")
        assert page.startswith(f"# {exhibit.title}\n") and f"## {exhibit.title}\n" in index
        assert "Synthetic: " in page and "no number in it is the paper's" in page
        assert "Not made" not in page and "+changes" not in page
        assert (KEPT / f"{name}.csv").exists()
        assert (KEPT / f"{name}.svg").exists() == (exhibit.shows in FIGURES)
    assert {path.stem for path in KEPT.iterdir()} == {*exhibits, "index"}
