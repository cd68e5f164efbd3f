"""Auxiliary conversations before a run: what would stop it after preparation, and what too few of them leave out."""

import json
from pathlib import Path
from typing import Any

import pytest

from behaviorlm.errors import ConfigError, DataError, ModelError
from behaviorlm_ray.pipeline.conversation_checks import described, left_out_by_all, read_first
from behaviorlm_ray.pipeline.input_checks import check_inputs
from behaviorlm_ray.pipeline.run import open_run
from behaviorlm_ray.pipeline.settings import RunSettings
from tests.platform.small_runs import log_rows, run_settings, write_conversations, write_log


def settings_of(tmp_path: Path, base: Path, **keys: Any) -> RunSettings:
    """A run with one source, `talk`."""
    source = json.dumps({"name": "talk", "paths": [str(tmp_path / "talk.jsonl")]} | keys)
    log = write_log(tmp_path / "log.csv", log_rows(5, users=6))
    return run_settings(tmp_path / "runs", base, log, overrides=(f"auxiliary=[{source}]",))


def write(tmp_path: Path, *talks: object) -> None:
    text = "".join(json.dumps({"messages": talk}) + "\n" for talk in talks)
    (tmp_path / "talk.jsonl").write_text(text, encoding="utf-8")


def said(role: str, text: str = "hello there") -> dict[str, str]:
    return {"role": role, "content": text}


@pytest.mark.parametrize(
    ("talks", "keys", "message"),
    [
        ([], {}, "hold no conversations"),
        ([[said("user"), said("robot")]], {}, "roles other than an optional system"),
        ([[said("user")]], {}, "roles other than an optional system"),
        ([[said("user"), said("assistant", " ")]], {}, "an empty message"),
        ([[{"role": "user"}, said("assistant")]], {}, "a message without text"),
        ([[said("user"), said("assistant")]], {"messages": "turns"}, "no list of messages"),
        ([[said("user", "a long question " * 9), said("assistant")]], {"max_tokens": 8}, "max_tokens 8 cuts each of 1"),
        ([[said("user"), said("assistant")]], {"holdout_share": 0.99999}, "none of its 1 conversations is left"),
    ],
)  # fmt: skip
def test_conversations_that_cannot_be_used_are_refused_before_cluster_work(
    tmp_path: Path, small_base: Path, talks: list[object], keys: dict[str, Any], message: str
) -> None:
    write(tmp_path, *talks)
    settings = settings_of(tmp_path, small_base, **keys)
    with pytest.raises(DataError, match=r"auxiliary source 'talk': "):
        read_first(settings)
    with pytest.raises(ConfigError, match=message):
        check_inputs(open_run(settings), is_written=False)


def test_a_template_that_refuses_the_roles_is_told(tmp_path: Path, small_base: Path) -> None:
    import shutil

    base = tmp_path / "strict"
    shutil.copytree(small_base, base)
    template = (base / "chat_template.jinja").read_text(encoding="utf-8")
    refusing = "{% if messages|length > 3 %}{{ raise_exception('one turn only') }}{% endif %}"
    (base / "chat_template.jinja").write_text(refusing + template, encoding="utf-8")
    write(tmp_path, [said("user"), said("assistant"), said("user"), said("assistant")])
    with pytest.raises(ModelError, match="one turn only"):
        read_first(settings_of(tmp_path, base))


def test_only_the_first_rows_are_read_and_a_plan_says_so(
    tmp_path: Path, small_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("behaviorlm_ray.pipeline.conversation_checks.MOST_CONVERSATIONS", 30)
    write_conversations(tmp_path / "talk.jsonl", 400)
    with (tmp_path / "talk.jsonl").open("ab") as file:
        file.write(b"\xff not read")
    (first,) = read_first(settings_of(tmp_path, small_base, holdout_share=0.2))
    assert (first.total, first.are_all) == (30, False) and 0 < first.held_out < 15
    assert first.training + first.held_out == 30
    assert "of the first 30 conversations" in described(first)
    assert left_out_by_all([first]) == []  # there may be more


@pytest.mark.parametrize(
    ("number", "share", "told"),
    [
        (40, 0.0, "no conversation is held out (holdout_share 0)"),
        (40, 0.2, "conversations are held out, so their loss says little"),
        (200, 0.2, None),
    ],
)
def test_too_few_held_out_conversations_are_told_with_what_they_leave_out(
    tmp_path: Path, small_base: Path, number: int, share: float, told: str | None
) -> None:
    write_conversations(tmp_path / "talk.jsonl", number)
    found = read_first(settings_of(tmp_path, small_base, holdout_share=share))
    lines = left_out_by_all(found)
    assert (told in lines[0]) if told else lines == []


def test_a_run_without_conversations_is_told_what_it_leaves_out() -> None:
    assert "not measured" in left_out_by_all([])[0]
