"""Overrides of a command line: text stands as it is typed, and nothing is set twice."""

from typing import Any, Literal

import pytest
from pydantic import Field

from behaviorlm.config import Settings, load_settings
from behaviorlm.errors import ConfigError


class Column(Settings):
    name: str = Field(default="x", description="A name.")
    pattern: str | None = Field(default=None, description="A pattern.")


class Read(Settings):
    column: Column = Field(default=Column(), description="A column.")
    names: str | list[str] = Field(default="all", description="One or several.")
    several: list[Column] = Field(default=[Column()], description="Columns.")
    kind: Literal["on", "off"] = Field(default="on", description="A kind.")
    share: float = Field(default=0.5, description="A share.")
    free: dict[str, Any] = Field(default={}, description="Anything.")


TROUBLE = ["%d/%m/%Y %H:%M", "*", "@time", r"\N", ":", "a: b", "#", "# id", "a #b", "|", ">", "-", "- a", "?", "!x",
           "&a", "`a`", ",", "---", "...", "yes", "on", "2024", "010", "1:30", "2024-05-31", "[a", "{", "]", "'", '"',
           "it's", "'a' b", "a'", " a ", "\t", "=", "a=b"]  # fmt: skip
"""Text that YAML takes for something else."""


@pytest.mark.parametrize("text", TROUBLE)
@pytest.mark.parametrize("key", ["column.name", "column.pattern", "several.0.name"])
def test_text_is_taken_as_it_is_typed(key: str, text: str) -> None:
    settings = load_settings(Read, overrides=[f"{key}={text}"], data={"several": [{}]})
    _, _, name = key.rpartition(".")
    column = settings.several[0] if key.startswith("several") else settings.column
    assert getattr(column, name) == text


@pytest.mark.parametrize("text", [text for text in TROUBLE if text[0] not in "[{,]:#-|>!&?\t` ." and text not in
                                  ("yes", "on", "2024", "a: b", "a #b")])  # fmt: skip
def test_text_for_a_key_of_any_type_needs_no_quotes_where_yaml_has_no_use_for_it(text: str) -> None:
    assert load_settings(Read, overrides=[f"free.a={text}"]).free == {"a": text}


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        (r'column.pattern="\t"', "pattern", "\t"),
        ("column.pattern='a: b'", "pattern", "a: b"),
        ('column.name="null"', "name", "null"),
        ("column.pattern=null", "pattern", None),
        ("column.pattern=", "pattern", None),
    ],
)
def test_quotes_and_null_mean_what_they_do_in_yaml(override: str, key: str, value: str | None) -> None:
    assert getattr(load_settings(Read, overrides=[override]).column, key) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("all", "all"), ("[a, b]", ["a", "b"]), (".*query", ".*query"), ("*query", "*query"), ("a: b", "a: b"),
     ("#", "#")],
)  # fmt: skip
def test_text_or_a_list_is_told_apart(text: str, value: object) -> None:
    assert load_settings(Read, overrides=[f"names={text}"]).names == value


@pytest.mark.parametrize("override", ["column.name=null", "column.name=", "share=%d", "kind=yes", "names=[a"])
def test_what_does_not_fit_is_refused_by_key(override: str) -> None:
    with pytest.raises(ConfigError, match=override.partition("=")[0]):
        load_settings(Read, overrides=[override])


def test_a_list_that_yaml_cannot_read_names_the_remedy() -> None:
    with pytest.raises(
        ConfigError, match=r"names: the value '\[\*\.csv\]' is not YAML: .*in quotes, \['\*\.csv'"
    ):
        load_settings(Read, overrides=["names=[*.csv]"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["share=1", "kind=off", "share=0.2"],
         "share stands twice on the command line, as option 1 (--share=1) and option 3"),
        (["column={name: a}", "column.name=b"], "column stands twice"),
        (["column.name=b", "column={name: a}"], "column stands twice"),
        (["several.0.name=a", "several.00.name=b"], "several.0.name stands twice"),
        (["free={a: 1, b: 2, a: 3}"], "free: a stands twice, in character 2 and in character 14"),
    ],
)  # fmt: skip
def test_what_is_set_twice_is_refused_with_both_places(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_settings(Read, overrides=overrides, data={"several": [{}]})
    assert message in str(raised.value)
