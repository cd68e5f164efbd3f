"""The notebook and the code of predict.md run."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from behaviorlm.predictor.behavior_model import BehaviorModel

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/behaviorlm/predictor/golden_v1"


def test_every_cell_of_the_notebook_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BEHAVIORLM_MODEL", str(GOLDEN))
    cells = json.loads((ROOT / "docs/predict.ipynb").read_text(encoding="utf-8"))["cells"]
    shared: dict[str, Any] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), shared)
            assert cell["outputs"] == []
    printed = capsys.readouterr().out
    assert "lamp on" in printed and "after 6 events: " in printed and "abstains" in printed
    assert shared["found"].warnings == []


def test_the_code_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs/predict.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        written = block.replace("exported/my_app", str(GOLDEN)).replace('"action"', '"behavior"')
        exec(written.replace('"place"', '"room"'), {})
    first = BehaviorModel.load(GOLDEN, device="cpu").predict(
        [
            {"time": "2024-03-01T18:05:00Z", "behavior": "open the door", "room": "hall"},
            {"time": "2024-03-01T18:06:00Z", "behavior": "lamp on", "room": "kitchen"},
        ],
        at="2024-03-01T18:30:00Z",
    )
    assert f"{first.behavior} {first.answers[0].probability}" in capsys.readouterr().out
