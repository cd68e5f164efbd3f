"""CSV as people have it, in all dialects and encodings: read as pandas reads the same bytes, or refused."""

import io
from pathlib import Path
from typing import Any

import pandas
import pytest

from behaviorlm.errors import ConfigError, DataError
from behaviorlm.events.log import find_log
from tests.behaviorlm.events.field.field_logs import mapping, read_log, sequences, written

NAMES = ["user", "action", "time"]
TEXTS = ["open app", 'tap "Buy now"', "pay, then go", "two\nlines", "café", "C:\\new", "it's"]


def rows(line_end: str = "\n", delimiter: str = ",", quote: str = '"', texts: list[str] = TEXTS) -> str:
    """A log of three users in which every quote is doubled."""
    lines = [delimiter.join(NAMES)]
    for index, text in enumerate([*texts, *texts[:2]]):
        value = text.replace(quote, quote * 2)
        is_quoted = any(sign in text for sign in (delimiter, quote, "\n"))
        action = f"{quote}{value}{quote}" if is_quoted else value
        lines.append(delimiter.join([f"u{index % 3}", action, f"2024-01-{index + 1:02d}T10:00:00Z"]))
    return line_end.join(lines) + line_end


def read(folder: Path, content: bytes | str, name: str = "log.csv", **changes: Any) -> dict[str, list[str]]:
    """Each user's behaviors, of a log without a row that cannot be used."""
    _, timelines, quarantined = read_log(mapping(written(folder, {name: content}), **changes))
    assert quarantined.to_pylist() == []
    return sequences(timelines)


def by_pandas(content: bytes | str, **options: Any) -> dict[str, list[str]]:
    """The same by pandas."""
    raw = content.encode() if isinstance(content, str) else content
    options = {"dtype": str, "keep_default_na": False, "engine": "python", **options}
    frame = pandas.read_csv(io.BytesIO(raw), **options).sort_values(["user", "time"], kind="stable")
    return {user: list(part["action"]) for user, part in frame.groupby("user")}


@pytest.mark.parametrize(
    ("content", "ours", "theirs"),
    [
        (rows(), {}, {}),
        (rows("\r\n"), {}, {}),
        (rows("\r"), {}, {"engine": "c"}),
        (rows(delimiter=";"), {"delimiter": ";"}, {"sep": ";"}),
        (rows(delimiter="\t"), {"delimiter": "\\t"}, {"sep": "\t"}),
        (rows(delimiter="\x01"), {"delimiter": "\\x01"}, {"sep": "\x01"}),
        ("sep=;\n" + rows(delimiter=";"), {}, {"sep": ";", "skiprows": 1}),
        ('"sep=|"\r\n' + rows("\r\n", delimiter="|"), {}, {"sep": "|", "skiprows": 1}),
        (rows(quote="'"), {"quote": "'"}, {"quotechar": "'"}),
        (rows(texts=["a", 'say "x"', "b"]).replace('""', '"'), {"quote": None}, {"quoting": 3}),
        ("from: us\nto: them, you\n\n" + rows(), {"skip_rows": 3}, {"skiprows": 3}),
        ("# a, note\n" + rows().replace("\nu2", "\n#x\nu2"), {"comment": "#"}, {"comment": "#"}),
        (rows().partition("\n")[2], {"column_names": NAMES}, {"names": NAMES}),
        (rows(), {"skip_rows": 1, "column_names": NAMES}, {}),
        ("\ufeff" + rows(), {}, {"encoding": "utf-8-sig"}),
        (rows().encode("utf-16"), {}, {"encoding": "utf-16"}),
        (rows().encode("utf-16-be"), {"encoding": "utf-16-be"}, {"encoding": "utf-16-be"}),
        (rows().encode("utf-32"), {}, {"encoding": "utf-32"}),
        (rows().encode("cp1252"), {"encoding": "windows-1252"}, {"encoding": "cp1252"}),
        (rows(texts=["añb", "ü"]).encode("latin-1"), {"encoding": "latin-1"}, {"encoding": "latin-1"}),
        (rows(texts=["поиск", "оплата"]).encode("cp1251"), {"encoding": "cp1251"}, {"encoding": "cp1251"}),
        (rows(texts=["検索", "支払い"]).encode("shift_jis"), {"encoding": "shift_jis"}, {"encoding": "shift_jis"}),
        (rows(texts=["搜索", "付款"]).encode("gb18030"), {"encoding": "gb18030"}, {"encoding": "gb18030"}),
        ("\n\n" + rows().replace("\nu1", "\n\nu1"), {}, {}),
        ("time,x,action,user,\n2024-01-02,,b,u,\n2024-01-01,,a,u,\n", {}, {}),
    ],
)  # fmt: skip
def test_a_dialect_is_read_as_pandas_reads_it(
    tmp_path: Path, content: bytes | str, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    assert read(tmp_path, content, **ours) == by_pandas(content, **theirs)


@pytest.mark.parametrize("delimiter", ["::", "||", "§", "~|~"])
def test_delimiters_of_several_bytes(tmp_path: Path, delimiter: str) -> None:
    # pandas takes such delimiters inside of quotes as well.
    assert read(tmp_path, rows(delimiter=delimiter), delimiter=delimiter) == by_pandas(rows())
    texts = [f"a{delimiter}b", "c"]
    quoted = read(tmp_path, rows(delimiter=delimiter, texts=texts), delimiter=delimiter)
    assert quoted == by_pandas(rows(texts=texts))


def test_movies_without_a_header(tmp_path: Path) -> None:
    content = "u1::open::2024-01-02::5\nu2::pay::2024-01-01::4\nu1::search::2024-01-01::3\n"
    names = ["user", "action", "time", "stars"]
    with pytest.raises(DataError, match=r"no column 'user'.*looks like a row of data.*events\.column_names"):
        read(tmp_path, content, name="log.dat", format="csv", delimiter="::")
    found = read(tmp_path, content, name="log.dat", format="csv", delimiter="::", column_names=names)
    assert found == {"u1": ["search", "open"], "u2": ["pay"]}


ESCAPED = r"""user,action,time
u,"tap \"Buy, now\"",2024-01-01
u,C:\new,2024-01-02
u,"a\\",2024-01-03
u,x\,y,2024-01-04
"""


def test_backslash_escapes_are_read_where_they_are_set_and_refused_where_nothing_is(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"log\.csv: in line 2 a backslash stands before a quote .*escape: '\\'; .*null"
    ):
        find_log(mapping(written(tmp_path, {"log.csv": ESCAPED})))
    # A backslash before anything else stays, as Spark reads it.
    assert read(tmp_path, ESCAPED, escape="\\") == {"u": ['tap "Buy, now"', "C:\\new", "a\\", "x,y"]}


def test_a_doubtful_backslash_beyond_the_head_is_refused_with_its_line(tmp_path: Path) -> None:
    body = "".join(f"u{i},open app {i},2024-01-01\n" for i in range(60_000))
    with pytest.raises(DataError, match="in line 60002 a backslash stands before a quote"):
        read(tmp_path, f'user,action,time\n{body}u,"a \\"b\\"",2024-01-01\n')


def test_a_backslash_before_a_quote_is_read_as_text_where_null_says_so(tmp_path: Path) -> None:
    content = 'user,action,time\nu,"C:\\dir\\",2024-01-01\nu,"say ""x\\""",2024-01-02\n'
    with pytest.raises(DataError, match="a backslash stands before a quote"):
        read(tmp_path, content)
    assert read(tmp_path, content, escape=None) == by_pandas(content)


def test_a_backslash_before_a_quote_outside_of_quotes_is_no_matter(tmp_path: Path) -> None:
    content = 'user,action,time\nu,5\\" screen,2024-01-01\nu,b,2024-01-02\n'
    assert read(tmp_path, content) == {"u": ['5\\" screen', "b"]}


def test_a_comment_sign_inside_of_a_quoted_value_is_none(tmp_path: Path) -> None:
    content = """user,action,time
u,"two
#lines, ""x",2024-01-01
#u,no,2024-01-02
u,5" #x,2024-01-03
#u,no,2024-01-04
"""
    assert read(tmp_path, content, comment="#") == {"u": ['two\n#lines, "x', '5" #x']}


@pytest.mark.parametrize(
    ("content", "changes", "message"),
    [
        (rows(delimiter=";"), {}, r"is events\.delimiter really ','\? set events\.delimiter: ';'"),
        (rows(delimiter="::"), {}, r"set events\.delimiter: '::'"),
        (rows(), {"delimiter": "\t"}, r"set events\.delimiter: ','"),
        ("made by us\n\n" + rows(delimiter=";"), {}, r"set events\.delimiter: ';' and events\.skip_rows: 2"),
        (rows(), {"skip_rows": 1}, r"set events\.skip_rows: 0"),
        (rows().partition("\n")[2], {}, r"looks like a row of data.*events\.column_names"),
        ("User, Action ,time\nu,a,2024-01-01\n", {}, r"did you mean 'User'\?(.|\n)*did you mean ' Action '\?"),
        ("'user','action','time'\n'u','a','2024-01-01'\n", {}, r"set events\.quote: \"'\""),
        ("user,action,time\n" + "'u','a','2024-01-01'\n" * 2, {}, r"single quotes .*events\.quote"),
        ("sep=;\n" + rows(), {"delimiter": ","}, r"first line says 'sep=;', but events\.delimiter is ','"),
        (rows(), {"column_names": NAMES}, r"first row is a header .*events\.skip_rows: 1"),
        (rows(), {"column_names": ["user", "action", "time", "x"]}, r"3 values, but events\.column_names names 4"),
        (rows().encode("utf-16-le"), {}, r"not UTF-8 text.*events\.encoding"),
        (rows().encode(), {"encoding": "cp1252"}, r"is UTF-8 \(such as '.*café.*\), not cp1252.*leave"),
        (rows().encode(), {"encoding": "utf-16"}, r"is UTF-8 .*not utf-16"),
        (rows().encode("utf-8-sig"), {"encoding": "cp1252"}, r"byte-order mark of utf-8, but .*cp1252"),
        ("user,action,time,user\nu,a,2024,u\n", {}, r"'user' \(events\.user\) is there more than once"),
        ("", {}, r"log\.csv is empty"),
    ],
)  # fmt: skip
def test_a_head_that_does_not_fit_is_refused_with_what_to_set(
    tmp_path: Path, content: bytes | str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        find_log(mapping(written(tmp_path, {"log.csv": content}), **changes))


@pytest.mark.parametrize(
    ("rows_", "changes", "told"),
    [
        ("u,a,2024-01-01\nu,b\nu,c,2024-01-03\n", {}, [("malformed row", 2)]),
        ("u,a,2024-01-01\nu,b,2024-01-02,9\nu,c,2024-01-03\n", {}, [("malformed row", 2)]),
        (b"u,a,2024-01-01\nu,caf\xe9,2024-01-02\nu,c,2024-01-03\n", {}, [("not UTF-8", 2)]),
        (b"u,a,2024-01-01\nu,caf\x81,2024-01-02\nu,c,2024-01-03\n", {"encoding": "cp1252"}, [("not cp1252", 2)]),
        (b"u,a,2024-01-01\nu,\x93x\x94,2024-01-02\nu,c,2024-01-03\n", {"encoding": "latin-1"}, [("not latin-1", 2)]),
        (b"u,a,2024-01-01\nu,\xe9,\nu,c,2024-01-03\n\xe9,,,,\n", {}, [("malformed row", 4), ("not UTF-8", 2)]),
        ("u,a,2024-01-01\n\nu,,2024-01-02\n\nu,c,2024-01-03\n", {}, [("empty behavior", 2)]),
        ("u::a,2024-01-01\nu,b,2024-01-02,9\nu,c,2024-01-03\n", {}, [("malformed row", 1), ("malformed row", 2)]),
    ],
)  # fmt: skip
def test_a_broken_row_costs_itself_only(
    tmp_path: Path, rows_: bytes | str, changes: dict[str, Any], told: list[tuple[str, int]]
) -> None:
    content = b"user,action,time\n" + (rows_.encode() if isinstance(rows_, str) else rows_)
    _, timelines, quarantined = read_log(mapping(written(tmp_path, {"log.csv": content}), **changes))
    assert sorted((row["reason"], row["row"]) for row in quarantined.to_pylist()) == told
    assert sequences(timelines)["u"][-1] == "c"


ENDING = """u,a,2024-01-01,
u,"b, c",2024-01-02,
"""


@pytest.mark.parametrize(
    ("content", "said", "changes"),
    [
        ("user,action,time\n" + ENDING, "rows end with separators",
         {"skip_rows": 1, "column_names": [*NAMES, "empty_1"]}),
        ("user,action,time,,\n" + ENDING.replace(",\n", "\n"), "header ends with separators",
         {"skip_rows": 1, "column_names": NAMES}),
        ("user,action,time\n1,u,a,2024-01-01\n2,u,'b',2024-01-02\n", "name of the row, as R writes it",
         {"skip_rows": 1, "column_names": ["row", *NAMES]}),
        ("sep=;\nuser;action;time\nu;a;2024-01-01;\nu;b;2024-01-02;\n", "rows end with separators",
         {"skip_rows": 2, "delimiter": ";", "column_names": [*NAMES, "empty_1"]}),
    ],
)  # fmt: skip
def test_a_header_of_another_length_than_all_rows_is_refused_with_what_reads_them(
    tmp_path: Path, content: str, said: str, changes: dict[str, Any]
) -> None:
    written(tmp_path, {"log.csv": content})
    with pytest.raises(DataError, match=said) as refused:
        find_log(mapping(tmp_path))
    for key, value in changes.items():
        told = f"[{', '.join(value)}]" if isinstance(value, list) else repr(value)
        assert f"events.{key}: {told}" in str(refused.value)
    behaviors = sequences(read_log(mapping(tmp_path, **changes))[1])["u"]
    assert behaviors[0] == "a" and len(behaviors) == 2


def test_a_nul_byte_is_text(tmp_path: Path) -> None:
    assert read(tmp_path, b"user,action,time\nu,a\0b,2024-01-01\n") == {"u": ["a\0b"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoding": "utf-9"}, "'utf-9' is no text encoding"),
        ({"encoding": "base64"}, "'base64' is no text encoding"),
        ({"quote": "ab"}, "one ASCII character, null"),
        ({"quote": ";", "delimiter": ";"}, "must differ"),
        ({"escape": '"'}, "a doubled quote is read anyway"),
        ({"delimiter": "\n"}, "line end"),
        ({"column_names": ["a", "a"]}, "more than once"),
    ],
)
def test_a_dialect_that_cannot_be_is_refused_by_its_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=message):
        mapping(Path("/log"), **changes)


def test_a_later_month_may_have_a_context_column_more(tmp_path: Path) -> None:
    written(tmp_path, {"1.csv": "user,action,time\nu,a,2024-01-01\n"})
    written(tmp_path, {"2.csv": "place,user,action,time\nhome,u,b,2024-02-01\n"})
    log, timelines, _ = read_log(mapping(tmp_path, context_before=["place"]))
    assert timelines["before.place"].to_pylist() == [None, "home"]
    assert f"read as empty, where there is no column 'place': {tmp_path}/1.csv" in log.notes
