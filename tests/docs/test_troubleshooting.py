"""The table of messages says what the code says, and misses no refusal of the rooms that it covers."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
PRODUCT = ("behaviorlm", "platform/behaviorlm_ray")
COVERED = (
    "behaviorlm/config",
    "behaviorlm/files/unpacking.py",
    "behaviorlm/events/source_files.py",
    "behaviorlm/events/encodings.py",
    "behaviorlm/events/csv_dialects.py",
    "behaviorlm/events/csv_text.py",
    "behaviorlm/events/csv_files.py",
    "behaviorlm/events/json_lines.py",
    "behaviorlm/events/json_values.py",
    "behaviorlm/events/json_keys.py",
    "behaviorlm/events/explode.py",
    "behaviorlm/events/spans.py",
    "behaviorlm/events/parquet_files.py",
    "behaviorlm/events/foreign_files.py",
    "behaviorlm/events/file_config.py",
    "behaviorlm/inspection",
    "behaviorlm/model",
    "behaviorlm/prompts/conversations.py",
    "behaviorlm/prompts/chat_layout.py",
    "behaviorlm/scoring/cloze_questions.py",
    "platform/behaviorlm_ray/cluster",
    "platform/behaviorlm_ray/console/config_files.py",
    "platform/behaviorlm_ray/console/command_line.py",
    "platform/behaviorlm_ray/inspection",
    "platform/behaviorlm_ray/pipeline",
    "platform/behaviorlm_ray/preparation/log_source.py",
    "platform/behaviorlm_ray/tuning/precision.py",
)
"""Files and folders each of whose refusals stands in the table."""
REFUSALS = {"ConfigError", "DataError", "ModelError", "ClusterError", "ValueError"}
PASSED_ON = 12
"""Refusals with fewer letters of their own only name what another one said."""


def rows() -> list[tuple[str, ...]]:
    """The cells of every row of the tables."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines]


def texts() -> list[str]:
    """The messages of the tables, without the backquotes around them."""
    return [row[0].strip("`") for row in rows()]


def template(node: ast.expr) -> str:
    """A string as a message has it, … where values stand; "" for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        return "".join(str(part) for part in parts)
    return ""


def modules(*places: str) -> Iterator[ast.Module]:
    """The syntax of the files at these places."""
    for place in places:
        path = ROOT / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            yield ast.parse(file.read_text(encoding="utf-8"))


@cache
def templates() -> list[str]:
    """Every string of the product's code."""
    nodes = (node for module in modules(*PRODUCT) for node in ast.walk(module))
    found = (template(node) for node in nodes if isinstance(node, ast.Constant | ast.JoinedStr))
    return [re.sub(r"\s+", " ", text) for text in found if len(text) > PASSED_ON]


def refusals() -> Iterator[str]:
    """What is raised in the covered places, as far as it is written where it is raised."""
    for module in modules(*COVERED):
        for node in ast.walk(module):
            if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call) or not node.exc.args:
                continue
            text = template(node.exc.args[0])
            is_own = len(text.replace("…", "").strip(" :.")) > PASSED_ON
            if isinstance(node.exc.func, ast.Name) and node.exc.func.id in REFUSALS and is_own:
                yield re.sub(r"\s+", " ", text)


def is_said(text: str, said: str) -> bool:
    """Whether what stands between the … of a text stands in a message of the code in the same order, at its place."""
    pieces = [piece for piece in text.split("…") if piece.strip()]
    place = 0
    for piece in pieces:
        found = said.find(piece.strip(), place)
        if found < 0:
            return False
        place = found + len(piece.strip())
    return bool(pieces) and (text.startswith("…") or said.startswith(pieces[0].rstrip()))


@pytest.mark.parametrize("text", texts())
def test_each_text_is_one_that_the_code_says(text: str) -> None:
    assert any(is_said(text, said) for said in templates()), text


def test_each_refusal_of_the_covered_places_is_in_the_table() -> None:
    known = texts()
    missing = [said for said in refusals() if not any(is_said(text, said) for text in known)]
    assert missing == []


def test_each_row_has_a_text_a_cause_and_a_remedy_and_stands_once() -> None:
    assert all(len(row) == 3 and all(row) for row in rows())
    assert len(set(texts())) == len(texts()) > 100


def test_a_text_that_nobody_says_is_found_out() -> None:
    assert not is_said("the log is … square", "the log is … round")
    assert not is_said("two … one", "one … two")
    assert not is_said("log is …", "the log is …")
    assert is_said("… stands twice, in …", "… stands twice, in … and in …")
