"""How the rows of CSV files are told apart, found from their text alone."""

from collections.abc import Sequence

import pytest

from behaviorlm.inspection.csv_looks import csv_choices

ROWS = [
    (f"u{place % 7}", f"action {place % 4}", f"2024-01-{1 + place % 28:02} 10:{place % 60:02}:00")
    for place in range(90)
]


def text_of(rows: Sequence[tuple[str, ...]], delimiter: str, header: bool = True) -> str:
    lines = [("user", "action", "time"), *rows] if header else rows
    return "\n".join(delimiter.join(line) for line in lines) + "\n"


def choices(text: str, default: str = ",") -> dict[str, object]:
    return {choice.key: choice.value for choice in csv_choices(text, False, default)}


@pytest.mark.parametrize("delimiter", [";", "\t", "|", "::", "||", "^", "~"])
def test_any_delimiter_is_found(delimiter: str) -> None:
    assert choices(text_of(ROWS, delimiter)) == {"delimiter": delimiter}


def test_commas_and_what_a_first_line_says_need_no_key() -> None:
    assert choices(text_of(ROWS, ",")) == {}
    assert choices("sep=;\n" + text_of(ROWS, ";")) == {}
    assert choices(text_of(ROWS, "\t"), default="\t") == {}


def test_decimal_commas_do_not_pass_for_delimiters() -> None:
    rows = [(user, f"{place},5", f"{place},25", time) for place, (user, _, time) in enumerate(ROWS)]
    text = "user;cost;weight;time\n" + text_of(rows, ";", header=False)
    assert choices(text) == {"delimiter": ";"}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_before_the_header_are_passed_over(end: str) -> None:
    text = "Export of the shop\nmade on 2024-02-01\n\n" + text_of(ROWS, ",")
    assert choices(text.replace("\n", end)) == {"skip_rows": 3}


def test_a_first_row_that_is_an_event_is_no_header() -> None:
    assert choices(text_of(ROWS, ",", header=False)) == {"column_names": ["column_1", "column_2", "column_3"]}


def test_comments_are_told_and_may_name_the_columns() -> None:
    assert choices("# made by a tool\n" + text_of(ROWS, ",")) == {"comment": "#"}
    found = choices("#Fields: who,what,when\n" + text_of(ROWS, ",", header=False))
    assert found == {"comment": "#", "column_names": ["who", "what", "when"]}


def test_a_backslash_before_a_quote_is_an_escape_unless_it_ends_the_value() -> None:
    escaped = [(user, f'"tap \\"{action}\\" now"', time) for user, action, time in ROWS]
    assert choices(text_of(escaped, ",")) == {"escape": "\\"}
    folders = [(user, f'"C:\\{action}\\"', time) for user, action, time in ROWS]
    assert choices(text_of(folders, ",")) == {"escape": None}


def test_single_quotes_around_values_are_quotes() -> None:
    quoted = [tuple(f"'{value}, so'" for value in row) for row in ROWS]
    assert choices(text_of(quoted, ",")) == {"quote": "'"}


def test_a_few_torn_rows_change_nothing() -> None:
    lines = text_of(ROWS, ";").splitlines()
    lines[5], lines[40] = "u1;half", "u2;a;b;c;d"
    assert choices("\n".join(lines)) == {"delimiter": ";"}
