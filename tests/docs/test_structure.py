"""structure.md and its picture say what stands in the source."""

import re
from dataclasses import replace
from graphlib import CycleError
from pathlib import Path
from xml.etree import ElementTree

import pytest

from docs import structure

ROOT = Path(__file__).resolve().parents[2]
COUNT = re.compile(r"\b(\d+)( lines<| \|\n)")
"""Lines of code as the picture and the table have them."""


def test_picture_and_table_are_what_the_script_writes_now() -> None:
    """Lines of code may be off by a fifth or by 100, so that not every change must draw again."""
    found = structure.rooms()
    page = structure.PAGE.read_text(encoding="utf-8")
    for old, new in (
        (structure.PICTURE.read_text(encoding="utf-8"), structure.picture(found)),
        (page, structure.with_table(page, found)),
    ):
        assert COUNT.sub(r"\2", old) == COUNT.sub(r"\2", new), "run python -m docs.structure"
        counts = [[int(count) for count, _ in COUNT.findall(text)] for text in (old, new)]
        assert len(counts[0]) >= len(found)
        assert all(abs(one - other) <= max(100, other / 5) for one, other in zip(*counts, strict=True)), (
            "run python -m docs.structure"
        )


def test_every_function_that_the_page_names_is_where_it_points() -> None:
    page = structure.PAGE.read_text(encoding="utf-8")
    links = re.findall(r"\[`(\w+)`\]\((\S+?)\)", page)
    assert len(links) >= 30
    for name, link in links:
        text = (structure.PAGE.parent / link).resolve().read_text(encoding="utf-8")
        assert re.search(rf"^ *(def|class) {name}\b", text, re.MULTILINE), f"{name} is not in {link}"


def test_arrows_lead_wherever_imports_do_and_none_is_superfluous() -> None:
    """What the arrows reach is what the imports reach, and with any arrow less something is not reached."""
    found = structure.rooms()
    arrows = {name: set(imported) for name, imported in structure.needed(found).items()}

    def reached(graph: dict[str, set[str]], start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = graph[waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    imports = {name: set(room.imports) for name, room in found.items()}
    assert all(reached(arrows, name) == reached(imports, name) for name in found)
    for name, imported in arrows.items():
        for other in imported:
            fewer = arrows | {name: imported - {other}}
            assert other not in reached(fewer, name)


def test_imports_are_those_of_the_source(tmp_path: Path) -> None:
    """A planted tree: an import inside a function counts, one inside the room does not; a circle is named."""
    for path in ROOT.glob("platform/**/__init__.py"):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text('"""Something."""\n', encoding="utf-8")
    for path in (
        *ROOT.glob("behaviorlm/*/__init__.py"),
        *ROOT.glob("behaviorlm/*.py"),
        ROOT / "jobs/__init__.py",
    ):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text('"""Something."""\n', encoding="utf-8")
    (tmp_path / "behaviorlm/model/a.py").write_text("x = 1\n", encoding="utf-8")
    (tmp_path / "behaviorlm/model/b.py").write_text(
        "from behaviorlm.model.a import x\ndef f():\n    import behaviorlm.errors\n", encoding="utf-8"
    )
    found = structure.rooms(tmp_path)
    model = found["behaviorlm.model"]
    assert model == replace(model, lines=5, subject="Something.", imports=frozenset({"behaviorlm.errors"}))
    assert not found["behaviorlm_ray.search"].imports
    (tmp_path / "behaviorlm/errors.py").write_text("import behaviorlm.model.b\n", encoding="utf-8")
    with pytest.raises(CycleError, match=r"behaviorlm\.model"):
        structure.rooms(tmp_path)


def test_the_picture_has_a_box_for_each_room_and_they_do_not_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    found = structure.rooms()
    drawing = ElementTree.fromstring(structure.picture(found))
    texts = [element.text for element in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert {name.rpartition(".")[2] for name in found} <= set(texts)
    monkeypatch.setattr(structure, "CENTERS", {**structure.CENTERS, "behaviorlm.files": 180})
    with pytest.raises(ValueError, match=r"behaviorlm.config and behaviorlm.files overlap"):
        structure.picture(found)
    centers = {name: center for name, center in structure.CENTERS.items() if name != "behaviorlm.files"}
    monkeypatch.setattr(structure, "CENTERS", centers)
    with pytest.raises(ValueError, match=r"behaviorlm.files a place"):
        structure.picture(found)
