"""A resolved configuration is printed as YAML that is read as the same, with where each value comes from."""

from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, field_validator

from behaviorlm.config import Settings, Written, parse_yaml, read_written, resolved_text, validate_settings


class Named(Settings):
    name: str = Field(default="plain", description="A name.")
    seed: int = Field(default=0, description="A seed.")


class Whole(Settings):
    path: str = Field(description="A path.")
    names: list[str] = Field(default=[], description="Names.")
    sources: list[Named] = Field(default=[], description="Sources.")
    method: Named = Field(default=Named(), description="A method, or its name.")
    values: dict[str, Any] = Field(default={}, description="Dotted keys.")
    rate: float = Field(default=1e-5, description="A rate.")

    @field_validator("method", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


TEXT = """\
path: a.csv
names: [x,
  y]
sources:
- name: first
- {name: second, seed: 3}
method: fancy
values: {a.b: 1, c: {d: [1]}}
"""


def printed(tmp_path: Path, *overrides: str) -> tuple[Whole, str]:
    path = tmp_path / "my.yaml"
    path.write_text(TEXT, encoding="utf-8")
    written = read_written(path, overrides, Whole)
    settings = validate_settings(Whole, written.values, "test")
    text = resolved_text(settings.model_dump(mode="json"), written)
    return settings, text.replace(f"{tmp_path}/", "")


def lines_of(text: str) -> dict[str, str]:
    """Where from, by the text before it."""
    pairs = (line.rpartition("  # ") for line in text.splitlines() if "  # " in line)
    return {value.strip(): origin for value, _, origin in pairs}


def test_every_value_says_where_it_comes_from(tmp_path: Path) -> None:
    settings, text = printed(tmp_path, "sources.0.seed=7", "names.1=%z", "values.c.d=[2]")
    assert lines_of(text) == {
        "path: a.csv": "my.yaml:1",
        "names: [x, '%z']": "my.yaml:2, command line (--names.1)",
        "- name: first": "my.yaml:5",
        "seed: 7": "command line (--sources.0.seed)",
        "- name: second": "my.yaml:6",
        "seed: 3": "my.yaml:6",
        "name: fancy": "my.yaml:7",
        "seed: 0": "default",
        "a.b: 1": "my.yaml:8",
        "d: [2]": "command line (--values.c.d)",
        "rate: 1.0e-05": "default",
    }
    assert validate_settings(Whole, parse_yaml(text.encode(), "again").values, "again") == settings


TEXTS = st.text(max_size=12) | st.sampled_from(
    ["1e-4", "1:30", "010", "yes", "null", "~", "", " ", "a: b", "#", "%d", "- a", "a\nb",
     "\x85", "\u2028", "🙂", "\ufeff", "'", '"']
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.c: #é", min_size=1), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(values=st.dictionaries(st.text("abc", min_size=1, max_size=6), VALUES, max_size=4))
def test_any_values_are_read_back_as_they_were(values: dict[str, Any]) -> None:
    text = resolved_text(values, Written({}, {}))
    assert yaml.safe_load(text) == (values or None)


@given(path=TEXTS, names=st.lists(TEXTS, max_size=3))
def test_any_settings_run_again_as_they_were(path: str, names: list[str]) -> None:
    settings = Whole(path=path, names=names)
    text = resolved_text(settings.model_dump(mode="json"), Written({}, {}))
    assert validate_settings(Whole, parse_yaml(text.encode(), "again").values, "again") == settings
