"""One spelling for what is one: the rules that say which texts name the same user, group, session or behavior.

They look at one value at a time and at nothing else, so they hold alike in every format, file and batch. The table of
them is in docs/own_logs.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behaviorlm.errors import DataError

# All kinds of space, zero bytes, and the characters of no width that programs leave at the ends of a value: byte order
# marks, soft hyphens, zero-width spaces. Others, such as marks of direction, act on what is shown, and stay.
UNSEEN = r"[\pZ\x00\t-\r\x1C-\x1F\x{85}\x{AD}\x{180E}\x{200B}\x{2060}\x{FEFF}]"
AROUND = f"^{UNSEEN}+|{UNSEEN}+$"
# Text in which nothing would be seen.
INVISIBLE = r"^[\p{Cc}\p{Cf}\pZ]*$"
# Most values are plain and are left as they are: only these are looked at again. An upper-case UUID, a number with a
# point, anything that is not ASCII, blanks around. Of plain ones only those of nothing are invisible.
NOT_PLAIN = r"[^ -~]|^[ {]| $|^-?\d+\.\d|^[0-9A-Fa-f-]*[A-F][0-9A-Fa-f-]*$"
WHOLE = r"^(-?(?:0|[1-9]\d*))\.0+$"
UUID = r"^\{?([0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12})\}?$"
# What a floating point number looks like once it is text: an id never has a point and an exponent.
FLOAT = r"^-?\d+\.(?:0+|\d+[eE]\+?\d+)$"
IDENTITIES = ("user", "group", "session")
"""Roles of columns that name who or what an event belongs to."""
# As spreadsheets and streams write numbers, with six digits or more of which none is left out on purpose.
ROUNDED = r"^-?\d\.\d{5,}[eE]\+?\d{1,3}$"
SHORT_NUMBER = r"^-?\d(?:\.\d+)?[eE]\+\d{2,3}$"
WHOLE_DIGITS_OF_FLOATS = {pa.float16(): 1 << 11, pa.float32(): 1 << 24, pa.float64(): 1 << 53}
"""Below this every whole number has a value of its own."""

# fmt: off
NO_VALUES = {
    "null", "nil", "nan", "nat", "none", "na", "n/a", "#n/a", "<na>", "undefined", r"\n", "(null)", "<null>", "[null]",
    "(none)", "<none>", "#null!", "#ref!", "(not set)", "not set",
}
PERHAPS_NO_VALUES = {
    "0", "-1", "-", "--", "?", "*", "unknown", "(unknown)", "<unknown>", "anonymous", "(anonymous)", "anon", "guest",
    "(other)", "(blank)", "(empty)", "blank", "empty", "missing", "default",
}
# fmt: on
"""Texts of missing values, in small letters."""

THOUSANDS = r"^\d{1,3}(?:,\d{3})+$"
# A sign, quotes, ="7" of spreadsheets, b'7' of Python, urn:uuid:.
BEFORE_A_VALUE = r"""^(?:=?"+|b?'|\+|urn:uuid:)(.+?)["']*$"""
LOOKED_AT = r"""[^!-~]|\.0+$|^=?"|^b?'|^\+|^urn:|\d,\d"""
OWN_KEY = r"^[1-9a-z][0-9a-z]*$"
"""Names that are their own `look_alike_keys`, as most users are."""
ALL_ZEROS = r"^\{?(?:0{8,}|0{8}(?:-0{4}){3}-0{12})\}?$"

RULES: Mapping[int, str] = {
    1: "blanks or invisible characters around it",
    2: "another Unicode form (NFC is meant)",
    4: "a whole number with .0",
    8: "a UUID in capitals or braces",
}
"""Bits of `OneSpelling.rules`, and what was written otherwise."""


@dataclass(frozen=True)
class OneSpelling:
    """A column in which what is one is written in one way.

    text: string[n], null where the value is missing. rules: uint8[n], the bits of RULES that changed the value.
    lost_digits: the first row whose number has passed through a float and lost digits; None without any.
    """

    text: pa.Array
    rules: np.ndarray
    lost_digits: int | None = None


def identities(values: pa.Array, null_values: Sequence[str]) -> OneSpelling:
    """Users, groups or sessions: all RULES."""
    return _one_spelling(values, null_values, is_identity=True)


def behavior_names(values: pa.Array, null_values: Sequence[str]) -> OneSpelling:
    """Behaviors: never merged as numbers or UUIDs."""
    return _one_spelling(values, null_values, is_identity=False)


def behavior_name(text: str) -> str:
    """The same of one name that does not come from a log."""
    return str(behavior_names(pa.array([text]), []).text[0].as_py() or "")


def is_missing(values: pa.Array, null_values: Sequence[str]) -> pa.BooleanArray:
    """bool[n]: null, nothing to be seen, or one of `null_values` (blanks around both aside)."""
    trimmed = pc.utf8_trim_whitespace(values)
    unseen = pc.fill_null(pc.match_substring_regex(trimmed, INVISIBLE), True)
    stand_ins = pc.utf8_trim_whitespace(pa.array(null_values, pa.string()))
    return pc.or_(unseen, pc.is_in(trimmed, value_set=stand_ins, skip_nulls=True))


def refuse_lost_digits(values: pa.Array, column: str, path: str) -> None:
    """Raise DataError where numbers of a floating point column are beyond what its type tells apart."""
    limit = WHOLE_DIGITS_OF_FLOATS[values.type]
    wide = values.cast(pa.float64())
    beyond = pc.and_(pc.is_finite(wide), pc.greater_equal(pc.abs(wide), limit))
    index = pc.index(beyond, True).as_py()
    if index >= 0:
        raise DataError(
            f"{path}: the column {column!r} is of type {values.type} and holds {wide[index].as_py():.0f}: from "
            f"{limit} on such numbers have lost digits, so that different ones may be equal; write the column as text "
            "or as int64 where it is made"
        )


def look_alike_keys(names: pa.Array) -> pa.Array:
    """What names have in common that differ only in case, blanks (`_` and `-` too), invisible characters, Unicode form,
    leading zeros, a final .0, commas between thousands, or what programs write around a value; string[n], the name
    itself where nothing else is left.
    """
    others = np.flatnonzero(~np.asarray(pc.match_substring_regex(names, OWN_KEY)))
    return _replaced(names, others, _look_alike_keys(names.take(pa.array(others))))


def _look_alike_keys(names: pa.Array) -> pa.Array:
    folded = pc.utf8_normalize(pc.utf8_lower(names), form="NFKC")
    odd = np.flatnonzero(pc.match_substring_regex(folded, LOOKED_AT))
    if len(odd):
        mended = pc.replace_substring_regex(folded.take(pa.array(odd)), r"[\pZ\p{Cc}\p{Cf}_\-]", "")
        mended = pc.replace_substring_regex(mended, BEFORE_A_VALUE, r"\1")
        without_commas = pc.replace_substring(mended, ",", "")
        mended = pc.if_else(pc.match_substring_regex(mended, THOUSANDS), without_commas, mended)
        folded = _replaced(folded, odd, pc.replace_substring_regex(mended, r"^(\d+)\.0+$", r"\1"))
    folded = pc.replace_substring(pc.replace_substring(folded, "-", ""), "_", "")
    without_zeros = pc.utf8_ltrim(folded, "0")
    folded = pc.if_else(pc.equal(without_zeros, ""), pc.utf8_slice_codeunits(folded, 0, 1), without_zeros)
    return pc.if_else(pc.equal(folded, ""), names, folded)


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    """Groups of distinct names with the same `look_alike_keys`."""
    listed = sorted(names)
    found: dict[str, list[str]] = {}
    for name, key in zip(listed, look_alike_keys(pa.array(listed, pa.string())).to_pylist(), strict=True):
        found.setdefault(key, []).append(name)
    return [group for group in found.values() if len(group) > 1]


def suspected_nulls(names: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(bool[n]: texts that programs write for a missing value, bool[n]: texts that are one in some logs only)."""
    folded = pc.utf8_lower(pc.utf8_trim_whitespace(names))
    zeros = pc.match_substring_regex(folded, ALL_ZEROS)
    surely = pc.or_(pc.is_in(folded, value_set=pa.array(sorted(NO_VALUES))), zeros)
    return np.asarray(surely), np.asarray(pc.is_in(folded, value_set=pa.array(sorted(PERHAPS_NO_VALUES))))


def has_lost_digits(written: pa.Array) -> np.ndarray:
    """bool[n]: a number that was a float too large to be told from the next, or that shows fewer digits than it has."""
    trimmed = pc.utf8_trim_whitespace(written)
    is_float = pc.match_substring_regex(trimmed, FLOAT)
    numbers = pc.if_else(is_float, trimmed, "0").cast(pa.float64())
    lost = np.array(pc.greater_equal(pc.abs(numbers), float(1 << 53)))
    for index in np.flatnonzero(pc.match_substring_regex(trimmed, ROUNDED)).tolist():
        mantissa, _, exponent = trimmed[index].as_py().lower().partition("e")
        lost[index] |= int(exponent) > len(mantissa.partition(".")[2])
    return lost


def _one_spelling(values: pa.Array, null_values: Sequence[str], *, is_identity: bool) -> OneSpelling:
    # Values repeat: the work is done once for each distinct one.
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    distinct = encoded.dictionary
    changed = np.zeros(len(distinct), dtype=np.uint8)
    lost_digits = None
    looked_at = np.flatnonzero(pc.match_substring_regex(distinct, NOT_PLAIN))
    if len(looked_at):
        written = distinct.take(pa.array(looked_at))
        spelled, changed[looked_at] = _by_the_rules(written, is_identity)
        distinct = _replaced(distinct, looked_at, spelled)
        if is_identity:
            lost = looked_at[has_lost_digits(written)]
            if len(lost):
                lost_digits = int(np.flatnonzero(np.isin(_codes(encoded, -1), lost))[0])
    missing = pc.is_in(distinct, value_set=pc.utf8_trim_whitespace(pa.array(["", *null_values], pa.string())))
    if len(looked_at):
        # -1.0 among the null values is -1 by now.
        before = is_missing(written, null_values)
        missing = _replaced(missing, looked_at, pc.or_(before, is_missing(spelled, null_values)))
    distinct = pc.if_else(missing, pa.scalar(None, pa.string()), distinct)
    rules = np.append(changed, np.uint8(0))[_codes(encoded, len(changed))]
    return OneSpelling(distinct.take(encoded.indices), rules, lost_digits)


def _by_the_rules(written: pa.Array, is_identity: bool) -> tuple[pa.Array, np.ndarray]:
    """The values as they are meant, and the bits of RULES that changed each."""
    bits = np.zeros(len(written), dtype=np.uint8)

    def changed_to(after: pa.Array, bit: int) -> pa.Array:
        bits[np.asarray(pc.not_equal(after, before))] |= bit
        return after

    before = written
    before = changed_to(pc.replace_substring_regex(before, AROUND, ""), 1)
    before = changed_to(pc.utf8_normalize(before, form="NFC"), 2)
    if is_identity:
        whole = pc.replace_substring_regex(before, WHOLE, r"\1")
        before = changed_to(pc.if_else(pc.equal(whole, "-0"), before, whole), 4)
        lower = pc.replace_substring_regex(pc.utf8_lower(before), UUID, r"\1")
        before = changed_to(pc.if_else(pc.match_substring_regex(before, UUID), lower, before), 8)
    return before, bits


def _replaced(values: pa.Array, places: np.ndarray, new: pa.Array) -> pa.Array:
    mask = np.zeros(len(values), dtype=bool)
    mask[places] = True
    return pc.replace_with_mask(values, pa.array(mask), new)


def _codes(encoded: pa.DictionaryArray, of_null: int) -> np.ndarray:
    return np.asarray(pc.fill_null(encoded.indices, of_null))
