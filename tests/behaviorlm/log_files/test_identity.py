"""The rules of identity: which texts name one thing, whatever stands around them, and which never do."""

import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behaviorlm.errors import DataError
from behaviorlm.log_files.identity import (
    _look_alike_keys,
    behavior_name,
    behavior_names,
    identities,
    is_missing,
    look_alike_keys,
    look_alikes,
    refuse_lost_digits,
    suspected_nulls,
)

UUID = "550e8400-e29b-41d4-a716-446655440000"


def identity(text: str | None, *null_values: str) -> str | None:
    """One value as a user."""
    return identities(pa.array([text], pa.string()), null_values).text[0].as_py()


@pytest.mark.parametrize("text", ["-1.0", "{" + UUID.upper() + "}", "Jose\u0301"])
def test_a_null_value_is_one_as_it_is_written_and_as_it_is_meant(text: str) -> None:
    assert identity(text, text) is None and identity(text, f" {text} ") is None
    assert identity(text, str(identity(text))) is None


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1001.0", "1001"),
        ("1001.000", "1001"),
        ("-7.0", "-7"),
        ("0.0", "0"),
        ("12345678901234567890", "12345678901234567890"),
        (" u1 ", "u1"),
        ("\u00a0u1\u3000", "u1"),
        ("u1\x00\x00", "u1"),
        ("\ufeffu1", "u1"),
        ("u1\u200b", "u1"),
        ("\t1001.0\n", "1001"),
        ("Jose\u0301", "José"),
        (UUID.upper(), UUID),
        ("{" + UUID + "}", UUID),
        ("{" + UUID.upper() + "}", UUID),
    ],
)
def test_spellings_of_one_identity_are_one(written: str, meant: str) -> None:
    assert identity(written) == meant
    assert identity(meant) == meant


@pytest.mark.parametrize(
    "text",
    [
        "007", "007.0", "1.10", "1e3", "1.5", "1001.", ".0", "+5.0", "-0.0", "1.0.0", "1,0", "1001.0x", "0x10", "A1B2",
        "Ann", "ann", "a b", "a\u00a0b", "a\u200bb", "ﬁ", "①", "u1\u200e", UUID.replace("-", "").upper(),
        UUID.upper()[:-1],
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    ],
)  # fmt: skip
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert identity(text) == text
    assert behavior_name(text) == text


@pytest.mark.parametrize("text", ["1.0", UUID.upper(), "{" + UUID + "}", "-7.00"])
def test_behaviors_are_never_merged_as_numbers_or_uuids(text: str) -> None:
    assert behavior_name(text) == text


@pytest.mark.parametrize("text", [None, "", "  ", "\u200b\u200e", "\x00", r"\N", r" \N "])
def test_nothing_to_be_seen_and_null_values_are_missing(text: str | None) -> None:
    assert identity(text, r"\N") is None
    assert behavior_names(pa.array([text], pa.string()), [r"\N"]).text[0].as_py() is None


def test_null_values_hold_whole_in_their_own_case_and_after_the_rules() -> None:
    nulls = ["-1", "NULL"]
    texts = ["-1", "-1.0", "-11", "NULL", "null", "NULL x"]
    assert [identity(text, *nulls) for text in texts] == [None, None, "-11", None, "null", "NULL x"]


def test_a_row_says_which_rules_changed_it() -> None:
    texts = ["a", " a", "a\u0301", "1.0", UUID.upper(), " 1.0", None, r"\N"]
    assert identities(pa.array(texts), [r"\N"]).rules.tolist() == [0, 1, 2, 4, 8, 5, 0, 0]


@settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(
        st.one_of(st.text(max_size=6), st.from_regex(r"\s?-?[0-9]{1,3}(\.[0-9]{1,2})?\s?", fullmatch=True)),
        max_size=12,
    ),
    cut=st.integers(0, 12),
)
def test_a_value_is_read_alike_whatever_stands_beside_it(texts: list[str], cut: int) -> None:
    whole = identities(pa.array(texts, pa.string()), [r"\N"])
    pieces = [identities(pa.array(piece, pa.string()), [r"\N"]) for piece in (texts[:cut], texts[cut:])]
    assert whole.text.to_pylist() == [text for piece in pieces for text in piece.text.to_pylist()]
    assert whole.rules.tolist() == [rule for piece in pieces for rule in piece.rules.tolist()]
    again = identities(whole.text, [])
    assert again.text.equals(whole.text) and not again.rules.any()
    for text in whole.text.to_pylist():
        assert text is None or unicodedata.is_normalized("NFC", text)


@pytest.mark.parametrize(
    ("text", "is_lost"),
    [
        ("9007199254740991.0", False),
        ("9007199254740992.0", True),
        ("-9007199254740993.0", True),
        ("9007199254740993", False),
        ("1.2345678901234568e+18", True),
        ("1.2345678901234568E18", True),
        ("1.5e3", False),
        ("1.23457E+12", True),
        ("1.234567890123e+15", True),
        ("1.23457e+05", False),
        ("1.2345e+12", False),
        ("12e45678", False),
        ("9007199254740993.25.1", False),
    ],
)
def test_numbers_that_went_through_a_float_and_lost_digits_are_found(text: str, is_lost: bool) -> None:
    found = identities(pa.array(["u", None, text, text]), [])
    assert found.lost_digits == (2 if is_lost else None)
    assert behavior_names(pa.array([text]), []).lost_digits is None


@pytest.mark.parametrize(
    ("kind", "largest"), [(pa.float64(), 2**53 - 1), (pa.float32(), 2**24 - 1), (pa.float16(), 2**11 - 1)]
)
def test_a_column_of_floats_holds_whole_numbers_up_to_what_its_type_tells_apart(
    kind: pa.DataType, largest: int
) -> None:
    refuse_lost_digits(pa.array([largest, -largest, None], pa.float64()).cast(kind), "who", "a.parquet")
    with pytest.raises(
        DataError, match=rf"a\.parquet: the column 'who' is of type \w+ and holds {largest + 1}"
    ):
        refuse_lost_digits(pa.array([1, largest + 1], pa.float64()).cast(kind), "who", "a.parquet")


def test_names_that_look_alike_are_found_in_groups() -> None:
    names = [
        "add to cart",
        "Add To Cart",
        "add_to-cart",
        "add\u00a0to cart",
        "addtocarts",
        "7",
        "007",
        "7.0",
        "70",
        "ﬁ",
        "FI",
    ]
    assert look_alikes(names) == [
        ["007", "7", "7.0"],
        ["Add To Cart", "add to cart", "add_to-cart", "add\u00a0to cart"],
        ["FI", "ﬁ"],
    ]
    assert look_alikes(["-", "_", "0", "00"]) == [["0", "00"]]


def test_texts_of_missing_values_are_told_from_others() -> None:
    sure = [
        "NULL",
        "nan",
        "None",
        "(not set)",
        "<NA>",
        r"\N",
        "00000000-0000-0000-0000-000000000000",
        "00000000",
    ]
    perhaps = ["0", "-1", "unknown", "Anonymous"]
    others = ["1", "Nancy", "nullable", "10", "-10", "000001"]
    surely, maybe = suspected_nulls(pa.array(sure + perhaps + others))
    assert surely.tolist() == [True] * 8 + [False] * 10
    assert maybe.tolist() == [False] * 8 + [True] * 4 + [False] * 6


@given(st.lists(st.text(st.sampled_from("0aA9z -_.,é\t"), max_size=4)))
def test_names_that_are_their_own_key_have_the_key_that_the_rules_give(names: list[str]) -> None:
    texts = pa.array(names, pa.string())
    assert look_alike_keys(texts).equals(_look_alike_keys(texts))


@given(
    st.lists(st.text(st.sampled_from(" N-1.0a\t{é\u200b"), max_size=4)), st.sampled_from(["N", "-1", "a "])
)
def test_what_is_missing_is_missing_before_the_rules_or_after(names: list[str], null_value: str) -> None:
    texts = pa.array(names, pa.string())
    all_kept = identities(texts, ["none"])
    expected = [
        name is None or bool(is_missing(pa.array([before, name]), [null_value]).to_pylist().count(True))
        for before, name in zip(names, all_kept.text.to_pylist(), strict=True)
    ]
    assert identities(texts, [null_value]).text.is_null().to_pylist() == expected
