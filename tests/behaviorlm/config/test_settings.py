"""Typed configuration: overrides reach any depth, all problems are told at once with key, value, remedy."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, model_validator

from behaviorlm.config import (
    Settings,
    Written,
    describe_settings,
    load_settings,
    read_written,
    validate_settings,
    with_overrides,
    with_values,
)
from behaviorlm.errors import ConfigError


class Inner(Settings):
    rate: float = Field(default=0.5, gt=0, le=1, description="A rate.")
    kind: Literal["hard", "easy"] = Field(default="hard", description="A kind.")


class Item(Settings):
    name: str = Field(description="A name.")
    inner: Inner = Field(default=Inner(), description="Nested in a list.")


class Outer(Settings):
    path: str = Field(description="A path.")
    inner: Inner = Field(default=Inner(), description="A group.")
    items: list[Item] = Field(default_factory=list, description="Several.")
    optional: Inner | None = Field(default=None, description="Maybe.")
    counts: dict[str, int] = Field(default_factory=dict, description="Counts by name.")
    band: tuple[float, float] = Field(default=(0.25, 0.75), description="Low and high.")
    limit: Annotated[int, Field(ge=1)] | None = Field(default=None, description="A limit.")
    share: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0)] = Field(
        default=1, description="Or count."
    )

    @model_validator(mode="after")
    def _ordered(self) -> "Outer":
        if self.band[0] > self.band[1]:
            raise ValueError("band must be (low, high)")
        return self


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_a_file_and_fills_in_defaults(tmp_path: Path) -> None:
    settings = load_settings(Outer, write(tmp_path, "path: ä.csv\ninner: {rate: 0.1}\nitems: [{name: a}]\n"))
    assert settings == Outer(path="ä.csv", inner=Inner(rate=0.1), items=[Item(name="a")])


def test_settings_are_frozen_and_refuse_unknown_keys() -> None:
    settings = Outer(path="x")
    with pytest.raises(ValidationError, match="frozen"):
        settings.path = "y"  # type: ignore[misc]
    with pytest.raises(ConfigError, match="unknown key"):
        validate_settings(Outer, {"path": "x", "other": 1}, "test")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("path=y", {"path": "y"}),
        ("inner.rate=0.1", {"inner": {"rate": 0.1}}),
        ("items.0.inner.kind=easy", {"items": [{"name": "a", "inner": {"kind": "easy"}}]}),
        ("items=[]", {"items": []}),
        ("optional.rate=0.2", {"optional": {"rate": 0.2}}),
        ("counts={b: 2}", {"counts": {"b": 2}}),
        ("counts.b=2", {"counts": {"a": 1, "b": 2}}),
        ("band=[0, 1]", {"band": [0, 1]}),
        ("path=a=b", {"path": "a=b"}),
        ("optional=", {"optional": None}),
    ],
)
def test_an_override_replaces_one_value_and_keeps_the_rest(override: str, expected: dict[str, Any]) -> None:
    data = {"path": "x", "items": [{"name": "a"}], "counts": {"a": 1}}
    assert load_settings(Outer, overrides=[override], data=data) == Outer.model_validate({**data, **expected})


def test_overrides_leave_the_given_data_alone() -> None:
    data = {"path": "x", "items": [{"name": "a"}]}
    with_overrides(Written(data, {}), ["items.0.name=b", "inner.rate=1"])
    assert data == {"path": "x", "items": [{"name": "a"}]}


def test_all_bad_overrides_are_told_at_once() -> None:
    overrides = [
        "noequals",
        "=1",
        "items.7.name=b",
        "items.x=1",
        "path.deeper=1",
        "counts={a: [",
        "inner.rate=1",
    ]
    with pytest.raises(ConfigError) as raised:
        with_overrides(Written({"path": "x", "items": []}, {}), overrides)
    lines = str(raised.value)
    for part in (
        "'noequals'",
        "'=1'",
        "'7' is not an index of a list of 0",
        "'x' is not an index",
        "plain value 'x'",
    ):
        assert part in lines
    assert "'{a: ['" in lines
    assert "inner.rate" not in lines


def test_all_problems_are_told_with_key_value_and_remedy() -> None:
    data = {
        "inner": {"rate": 2, "knid": "hard"},
        "items": [{"inner": {"kind": "medium"}}],
        "limit": 0,
        "entirely_else": "x" * 1000,
    }
    with pytest.raises(ConfigError) as raised:
        validate_settings(Outer, data, "config.yaml")
    message = str(raised.value)
    lines = message.splitlines()
    assert lines[0] == "config.yaml: 7 problem(s)"
    assert len(lines) == 8
    assert "path: required, but not given" in message
    assert "inner.rate: Input should be less than or equal to 1; got 2" in message
    assert "inner.knid: unknown key (value 'hard'); did you mean 'kind'?" in message
    assert "items.0.name: required" in message
    assert "'hard' or 'easy'; got 'medium'" in message
    assert "limit: Input should be greater than or equal to 1; got 0" in message
    assert "allowed here: band, counts, inner, items, limit, optional, path, share" in message


def test_how_a_list_and_a_section_are_written_is_told_and_no_class_is_named() -> None:
    with pytest.raises(ConfigError) as raised:
        validate_settings(
            Outer, {"path": "x", "inner": "hard", "items": "a", "counts": 1, "band": 0.5}, "test"
        )
    _, inner, items, counts, band = str(raised.value).splitlines()
    section = "; keys and values are written {key: value}"
    assert inner == "  inner: Input should be a valid dictionary; got 'hard'" + section
    assert items.endswith("; got 'a'; a list is written [a, b]")
    assert counts.endswith("; got 1" + section) and band.endswith("; got 0.5; a list is written [a, b]")


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan"])
def test_a_number_without_end_or_value_is_refused_by_its_key(tmp_path: Path, value: str) -> None:
    """No stage could be named by it, and no key means anything with it."""
    with pytest.raises(ConfigError, match=r"band\.0: .*got '?-?(inf|nan)"):
        load_settings(Outer, write(tmp_path, f"path: a\nband: [{value}, 0.5]\n"))


def test_a_typo_inside_a_list_item_is_told_with_its_index() -> None:
    with pytest.raises(ConfigError, match=r"items\.0\.nane: unknown key \(value 1\)"):
        validate_settings(Outer, {"path": "x", "items": [{"name": "a", "nane": 1}]}, "test")


def test_a_rule_over_several_keys_reads_well_and_does_not_show_all_of_them() -> None:
    with pytest.raises(ConfigError, match=r"^test: 1 problem\(s\)\n  band must be \(low, high\)$"):
        validate_settings(Outer, {"path": "x", "band": [1, 0]}, "test")


def test_what_the_command_line_set_is_told_as_such_and_the_rest_as_that_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "path: x\ninner: {rate: 2}\nlimit: 3\n")
    for overrides, told in (
        (["limit=0"], f"{path} and command line: 2 problem(s)\n  inner.rate: "),
        (["limit=0"], "\n  --limit: Input should be greater than or equal to 1; got 0"),
        (["share=much"], "\n  --share: Input should be a valid integer"),
        (["share=much"], "\n  --share: Input should be a valid number"),
        (["inner={rate: 3}"], "command line: 1 problem(s)\n  --inner.rate: "),
        (["inner.rate=1", "itms.0.name=a"], "command line: 1 problem(s)\n  --itms: unknown key"),
        (["inner.kind=soft"], f"{path} and command line: 2 problem(s)\n  inner.rate: "),
    ):
        written = read_written(path, overrides, Outer)
        with pytest.raises(ConfigError) as raised:
            validate_settings(Outer, written.values, str(path), written.origins)
        assert told in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "must hold keys and values at its top level, not list"),
        ("", "must hold keys and values at its top level, not NoneType"),
        ("path: [", "is not readable YAML"),
        ("path: !!python/object/apply:os.getcwd []", "is not readable YAML"),
    ],
)
def test_an_unreadable_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as raised:
        load_settings(Outer, path)
    assert str(path) in str(raised.value)


def test_a_missing_file_a_folder_and_binary_content_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no file .*absent\.yaml"):
        load_settings(Outer, tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="is not readable YAML"):
        load_settings(Outer, tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"path: \xff\xfe")
    with pytest.raises(ConfigError, match=r"binary\.yaml is not readable YAML"):
        load_settings(Outer, tmp_path / "binary.yaml")


def test_every_key_is_described_with_path_type_and_default() -> None:
    keys = {key.path: key for key in describe_settings(Outer)}
    assert (keys["path"].type, keys["path"].default, keys["path"].description) == (
        "str",
        "required",
        "A path.",
    )
    assert (keys["inner"].type, keys["inner"].default) == ("group", "see below")
    assert (keys["inner.rate"].type, keys["inner.rate"].default) == ("float", "0.5")
    assert keys["inner.kind"].type == "'hard' | 'easy'"
    assert keys["items"].type == "list[group]"
    assert keys["items"].default == "[]"
    assert "items.[].inner.rate" in keys
    assert keys["optional"].type == "group | null"
    assert "optional.rate" in keys
    assert keys["counts"].type == "dict[str, int]"
    assert keys["band"].type == "tuple[float, float]"
    assert keys["limit"].type == "int | null"


@given(
    path=st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=20),
    rate=st.floats(min_value=1e-6, max_value=1.0),
    names=st.lists(st.text(alphabet="ab:#'\"- é☃", max_size=8), max_size=3),
)
def test_dumped_settings_load_as_the_same(path: str, rate: float, names: list[str]) -> None:
    settings = Outer(path=path, inner=Inner(rate=rate), items=[Item(name=name) for name in names])
    dumped = yaml.safe_load(yaml.safe_dump(settings.model_dump(mode="json"), allow_unicode=True))
    assert validate_settings(Outer, dumped, "dump") == settings


def test_an_override_of_one_use_of_a_yaml_anchor_leaves_the_other_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "path: x\ninner: &shared {rate: 0.1}\noptional: *shared\n")
    settings = load_settings(Outer, path, ["inner.rate=0.2"])
    assert settings.optional is not None
    assert (settings.inner.rate, settings.optional.rate) == (0.2, 0.1)


def test_values_are_set_in_a_copy_and_all_keys_without_a_place_are_named() -> None:
    data = {"path": "x", "items": [{"name": "a"}]}
    value = {"rate": 0.3}
    changed = with_values(data, {"items.0.inner": value, "counts.b": 2, "limit": None})
    assert changed == {
        "path": "x",
        "items": [{"name": "a", "inner": {"rate": 0.3}}],
        "counts": {"b": 2},
        "limit": None,
    }
    assert data == {"path": "x", "items": [{"name": "a"}]}
    assert changed["items"][0]["inner"] is not value
    with pytest.raises(ConfigError, match=r"(?s)items\.1\.name: '1'.*path\.deep: 'deep'"):
        with_values(data, {"items.1.name": "b", "path.deep": 1, "counts": {}})


def test_halves_of_characters_are_joined_and_lone_ones_refused_by_key() -> None:
    read = read_written(None, [r'names=["\ud83d\ude42 on", "é🙂"]']).values
    assert read == {"names": ["🙂 on", "é🙂"]}
    with pytest.raises(ConfigError, match=r"^names\.1: .*half of a character.*write the character itself"):
        read_written(None, [r'names=["on", "\ud83d off"]'])
