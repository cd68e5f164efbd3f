"""What a prompt says of events, as text: a history line, a question and a profile in segments, each a text of its own.

A tokenizer encodes segment by segment; joined, they are what a person, or a model behind an endpoint, reads.
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from behaviorlm.prompts.config import rendered_text

_UNKNOWN_VALUE = "?"
_PROFILE_OPENING = "Most often before:"


def line_texts(events: pa.Table, name_prefix: str, bare: str = "") -> list[pa.Array]:
    """The segments of the history line of each event: what was known before, the name, what was known after.

    bare: what stands where nothing was known before; see `PromptEncoder.encode_lines`.
    """
    names = pc.binary_join_element_wise(pa.scalar(name_prefix), _rendered(events.column("behavior")), "")
    after = _context(events, "after.")
    closing = pc.fill_null(pc.binary_join_element_wise(pa.scalar(" ("), after, pa.scalar(")\n"), ""), "\n")
    return [question_texts(events, bare), names, closing]


def question_texts(events: pa.Table, bare: str = "") -> pa.Array:
    """What is known before each event, with a colon; `bare` where nothing is."""
    values = pc.binary_join_element_wise(_context(events, "before."), pa.scalar(":"), "")
    return pc.fill_null(values, bare)


def profile_texts(profile: Sequence[tuple[str, int]], name_prefix: str) -> list[str]:
    """The segments of the line of a profile, behaviors with counts."""
    counted = (text for name, count in profile for text in (name_prefix + rendered_text(name), f" {count},"))
    return [_PROFILE_OPENING, *counted, "\n"]


def _context(events: pa.Table, prefix: str) -> pa.Array:
    """The values of all columns with this prefix, joined by a space; null where all of them are."""
    columns = [_rendered(events.column(name)) for name in events.column_names if name.startswith(prefix)]
    if not columns:
        return pa.nulls(events.num_rows, pa.string())
    joined = pc.binary_join_element_wise(
        *columns, " ", null_handling="replace", null_replacement=_UNKNOWN_VALUE
    )
    known = columns[0].is_valid()
    for column in columns[1:]:
        known = pc.or_(known, column.is_valid())
    return pc.if_else(known, joined, pa.scalar(None, pa.string()))


def _rendered(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """`rendered_text` of each value, computed once per distinct value."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    encoded = pc.cast(whole, pa.string()).dictionary_encode()
    rendered = pa.array([rendered_text(text) for text in encoded.dictionary.to_pylist()], pa.string())
    return rendered.take(encoded.indices)
