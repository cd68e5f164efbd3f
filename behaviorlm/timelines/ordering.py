"""Events put in order: by user, session and the keys of the order; ties, and what the order of the files is worth."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.events.order_keys import key_names, remainder_name
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.text import one_chunk

Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

TRUSTED = 0.99
"""Share of neighbors in a file that must follow each other in one direction for it to be its order (our choice)."""


@dataclass(frozen=True)
class Ordering:
    """rows: int64 [n], the events in order. user, session: int64 [n], equal for equal ones, in that order (without
    sessions all of a user are one). is_tied: bool [n], equal in order to the event before of the same user.
    """

    rows: Int64
    user: Int64
    session: Int64
    is_tied: Bool


def put_in_order(events: pa.Table, config: EventsConfig) -> Ordering:
    """By user, session, keys of the order, file, row. Sessions follow each other by the order of their first events.

    Independent of the order of the rows of `events`. Where rows of a file are newest first (order.file_order) the
    later row of a file comes first among ties.
    """
    user = value_codes(events["user"], ranked=True)
    keys = [events[name].to_numpy() for name in key_names(config.order) if _counts(events, name)]
    row = events["row"].to_numpy()
    if config.order.file_order == "newest_first":
        row = -row
    # of 16 bits they are put in order digit by digit, not compared
    sorted_user = user.astype(np.uint16) if user.max(initial=0) < 2**16 else user
    rows = np.lexsort((row, events["file"].to_numpy(), *reversed(keys), sorted_user))
    user, keys = user[rows], [key[rows] for key in keys]
    if config.session is None:
        return Ordering(rows, user, np.zeros(len(rows), np.int64), same_as_before(user, *keys))
    pair = value_codes(events["session"])[rows]
    pair = np.unique(user * (pair.max(initial=0) + 1) + pair, return_inverse=True)[1]
    # A session's place among the user's events is that of its first one.
    first = np.full(pair.max(initial=-1) + 1, len(rows), np.int64)
    np.minimum.at(first, pair, np.arange(len(rows)))
    session = first[pair]
    by_session = np.argsort(session, kind="stable")
    rows, user, session = rows[by_session], user[by_session], session[by_session]
    keys = [key[by_session] for key in keys]
    starts = np.searchsorted(session, session)
    is_tied = same_as_before(session, *keys)
    # Of two sessions of a user that begin equally the files decide.
    is_tied |= same_as_before(user, *(key[starts] for key in keys)) & ~same_as_before(session)
    return Ordering(rows, user, session, is_tied)


def directions(events: pa.Table, order: Ordering, config: EventsConfig) -> dict[str, int]:
    """Of neighbors in a file that are of one user: how many are in order (ascending_rows) and how many in reverse.

    Only what is not tied says something; and it is looked at only where ties are more than the mapping allows.
    """
    if order.is_tied.sum() <= config.max_tie_share * len(order.rows):
        return {"ascending_rows": 0, "descending_rows": 0}
    place = np.empty(len(order.rows), np.int64)
    place[order.rows] = np.cumsum(~order.is_tied)
    user = np.empty(len(order.rows), np.int64)
    user[order.rows] = order.user
    file = events["file"].to_numpy()
    as_written = np.lexsort((events["row"].to_numpy(), file, user))
    step = np.diff(place[as_written], prepend=0)[same_as_before(user[as_written], file[as_written])]
    return {"ascending_rows": int((step > 0).sum()), "descending_rows": int((step < 0).sum())}


def tie_warning(counts: Mapping[str, int], config: EventsConfig, remedies: str = "") -> str | None:
    """What a user must be told of ties, from counts of `samples.build_timelines`; None where they are few.

    remedies: which columns would put them in order, as a sentence.
    """
    tied, events = counts["tied_events"], counts["events"] + counts["repeats_dropped"]
    if not events or tied / events <= config.max_tie_share:
        return None
    up, down = counts["ascending_rows"], counts["descending_rows"]
    newest_first = config.order.file_order == "newest_first"
    falls = up + down > 0 and down / (up + down) >= TRUSTED
    rises = up + down > 0 and up / (up + down) >= TRUSTED
    if falls and not newest_first:
        trust = (
            "and the rows of the files are newest first, so these stand in the wrong order: set "
            "events.order.file_order: newest_first"
        )
    elif rises and newest_first:
        trust = "but the rows of the files are oldest first: remove events.order.file_order"
    elif falls or rises:
        trust = "which can be trusted as far as it goes: all other rows lie in their files in this order"
    elif up + down:
        trust = f"which cannot be trusted: only {up / (up + down):.0%} of other neighbors in the files are in order"
    else:
        trust = "and nothing shows whether that can be trusted"
    session = [] if config.session is None else [f"session {config.session}"]
    names = ", ".join([*session, *config.order.names])
    return (
        f"{tied:,} of {events:,} events ({tied / events:.1%}) are equal in order ({names}) to the user's event before: "
        f"the order of the files decides between them, {trust}.{' ' + remedies if remedies else ''}"
    )


def value_codes(column: pa.ChunkedArray, ranked: bool = False) -> Int64:
    """int64[n]: equal values (and nulls) have equal codes, with `ranked` in the bytewise order of values."""
    encoded = one_chunk(column).dictionary_encode(null_encoding="encode")
    codes = encoded.indices.to_numpy().astype(np.int64)
    if not ranked:
        return codes
    rank = np.empty(len(encoded.dictionary), dtype=np.int64)
    rank[pc.sort_indices(encoded.dictionary).to_numpy()] = np.arange(len(rank))
    return rank[codes]


def same_as_before(*values: Int64) -> Bool:
    """bool[n]: all values are those of the row before."""
    same = np.ones(len(values[0]), dtype=bool)
    same[:1] = False
    for value in values:
        same[1:] &= value[1:] == value[:-1]
    return same


def _counts(events: pa.Table, name: str) -> bool:
    """Whether a key decides anything: what is below a microsecond is most often 0 everywhere."""
    if not name.endswith(remainder_name("")):
        return True
    return bool(events[name].to_numpy().any())
