"""What a column holds: its type, how much of it is missing, how many different values, and examples."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.inspection.moments import Moments, read_moments

Kind = Literal["empty", "whole number", "number", "time", "duration", "yes or no", "UUID", "list", "text"]

MOST_EXAMPLES = 3
NEARLY_ALL = 0.95
"""Share of the values that must be of a kind for the column to be (our choice): a log has broken rows."""
KINDS: Mapping[Kind, str] = {
    "yes or no": r"(?i)^(true|false|yes|no|ja|nein|0|1|t|f|y|n)$",
    "whole number": r"^[+-]?\d{1,19}(\.0+)?$",
    "number": r"^[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?$",
    "UUID": r"^\{?[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\}?$",
    "list": r"^\[.*\]$",
}


@dataclass(frozen=True)
class Column:
    """A column of the sample.

    nulls: share of rows without a value. codes: int32[n], which of `distinct_values` a row has, -1 for none. counts: of
    each of those. characters: mean length. moments: for times and durations.
    """

    name: str
    kind: Kind
    nulls: float
    codes: NDArray[np.int32]
    distinct_values: pa.Array
    counts: NDArray[np.int64]
    characters: float
    moments: Moments | None = None

    @property
    def distinct(self) -> int:
        """How many different values there are."""
        return len(self.distinct_values)

    @property
    def filled(self) -> int:
        """Rows with a value."""
        return int(self.counts.sum())

    @property
    def rows_each(self) -> float:
        """Rows that a value has on average."""
        return self.filled / max(self.distinct, 1)

    @property
    def share_of_codes(self) -> float:
        """Share of the different values that have three digits or more: codes rather than words."""
        return float(np.asarray(pc.match_substring_regex(self.distinct_values, r"\d.*\d.*\d")).mean())

    @property
    def examples(self) -> list[str]:
        """The most frequent values, or the first ones where no value is frequent."""
        order = np.argsort(-self.counts, kind="stable")[:MOST_EXAMPLES]
        return [str(value) for value in self.distinct_values.take(pa.array(order)).to_pylist()]


def look_at(name: str, values: pa.Array) -> Column:
    """Find out what a column of texts holds; blanks around a value, and an empty one, count for nothing."""
    trimmed = pc.utf8_trim_whitespace(values)
    trimmed = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)
    encoded = trimmed.dictionary_encode()
    codes = np.asarray(pc.fill_null(encoded.indices, -1)).astype(np.int32)
    distinct = encoded.dictionary
    counts = np.bincount(codes[codes >= 0], minlength=len(distinct)).astype(np.int64)
    filled = int(counts.sum())
    characters = float((np.asarray(pc.utf8_length(distinct)) * counts).sum() / filled) if filled else 0.0
    kind = _kind(distinct, counts)
    moments = read_moments(name, kind, trimmed) if kind in ("text", "whole number", "number") else None
    if moments is not None:
        kind = "duration" if moments.kind == "duration" else "time"
    return Column(name, kind, 1 - filled / max(len(values), 1), codes, distinct, counts, characters, moments)


def _kind(distinct: pa.Array, counts: NDArray[np.int64]) -> Kind:
    total = counts.sum()
    if not total:
        return "empty"
    for kind, pattern in KINDS.items():
        if kind == "yes or no" and len(distinct) > 3:
            continue
        is_of_kind = np.asarray(pc.match_substring_regex(distinct, pattern))
        if counts[is_of_kind].sum() >= NEARLY_ALL * total:
            return kind
    return "text"
