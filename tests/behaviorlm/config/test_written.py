"""YAML as somebody wrote it: nothing stands twice without a word, and each value knows its line."""

import pytest

from behaviorlm.config import parse_yaml
from behaviorlm.errors import ConfigError

TWICE = {
    "a section": ("a: {b: 1}\nc: 2\na: {d: 3}\n", "a stands twice, in line 1 and in line 3"),
    "a nested key": ("a:\n  b: 1\n  c: 2\n  b: 3\n", "a.b stands twice, in line 2 and in line 4"),
    "a quoted key": ("a: 1\n'a': 2\n", "a stands twice, in line 1 and in line 2"),
    "in a list": ("a:\n- b: 1\n- b: 2\n  \"b\": 3\n", "a.1.b stands twice, in line 3 and in line 4"),
    "in braces": ("a: {b: 1, b: 2}\n", "a.b stands twice, in line 1 and in line 1"),
    "spellings of true": ("yes: 1\ntrue: 2\n", "True stands twice, in line 1 and in line 2"),
    "dotted and nested": ("a.b: 1\na:\n  b: 2\n", "a.b stands twice, in line 1 and in line 3"),
    "merged twice": ("a: &a {x: 1}\nb: &b {x: 2}\nc: {<<: [*a, *b]}\n", "c.x comes twice by <<"),
    "two merges": ("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a\n", "b.<< stands twice, in line 3 and in line 4"),
    "a merged section": (
        "a: &a\n  x: {p: 1, q: 2}\nb:\n  <<: *a\n  x: {p: 3}\n",
        "b.x stands twice, by << (merge) from line 2 and in line 5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TWICE)
def test_what_stands_twice_is_refused_with_both_lines(name: str) -> None:
    text, message = TWICE[name]
    with pytest.raises(ConfigError) as raised:
        parse_yaml(text.encode(), "my.yaml")
    assert f"my.yaml: {message}" in str(raised.value)


def test_all_that_stands_twice_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        parse_yaml(b"a: 1\na: 2\na: 3\nb: {c: 1, c: 2}\n", "my.yaml")
    assert len(str(raised.value).splitlines()) == 3


def test_what_is_only_alike_is_read() -> None:
    text = "a: &a {x: 1, s: {p: 1}}\nb: {<<: *a, x: 2}\nA: {x: 1}\nc: {<<: *a, s: {p: 2}}\nd: [{x: 1}, {x: 2}, *a]\n"
    assert parse_yaml(text.encode(), "my.yaml").values == {
        "a": {"x": 1, "s": {"p": 1}},
        "b": {"x": 2, "s": {"p": 1}},
        "A": {"x": 1},
        "c": {"x": 1, "s": {"p": 2}},
        "d": [{"x": 1}, {"x": 2}, {"x": 1, "s": {"p": 1}}],
    }


def test_each_value_knows_its_line_also_by_alias_and_merge() -> None:
    text = "a: &a\n  x: 1\n  y: [1,\n      2]\nb:\n  <<: *a\n  x: 3\nc: *a\n"
    origins = parse_yaml(text.encode(), "my.yaml").origins
    assert origins[("a", "y")] == "my.yaml:3"
    assert origins[("a", "y", "1")] == "my.yaml:4"
    assert origins[("b", "x")] == "my.yaml:7"
    assert origins[("b", "y")] == "my.yaml:3"
    assert origins[("c", "x")] == "my.yaml:2"
    assert ("a",) not in origins


@pytest.mark.parametrize(
    ("text", "value"),
    [("1:30", "1:30"), ("2024-05-31", "2024-05-31"), ("010", "010"), ("10", 10), ("-3", -3), ("0", 0),
     ("0.5", 0.5), ("1.0e-4", 1e-4), ("0x1F", 31), ("yes", True), ("1_000", 1000)],
)  # fmt: skip
def test_no_number_is_read_as_one_that_nobody_means(text: str, value: object) -> None:
    assert parse_yaml(f"a: {text}\n".encode(), "my.yaml").values == {"a": value}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a\n  b: *a\n", "line 1: a value that holds itself"),
        ("a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
         "c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]\n"
         "e: [*d, *d, *d, *d, *d, *d, *d, *d, *d]\nf: [*d, *d, *d, *d, *d, *d, *d, *d, *d]\n", "more than 100,000"),
    ],
    ids=["itself", "multiplied"],
)  # fmt: skip
def test_aliases_without_end_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text.encode(), "my.yaml")
