"""A user with more events than are to be held at once: segments between two orders, each after what came before it.

A segment's table begins with a *halo*, the last `max_events` rows of the segment before, which no sample is of: the
histories of the samples reach back into it, never further, and so do the rows of their profiles, as `stride` is no
larger. All else that looks further back is carried (`Before`, counts of behaviors).
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from behaviorlm.log_files.config import EventsConfig
from behaviorlm.timelines.samples import rows_in_order

HALO, SEGMENT = b"behaviorlm.halo", b"behaviorlm.segment"
"""Of a part, in its schema: rows of the segment before at its beginning; its place among its user's segments."""
MOST_KEYS = 2**16
"""Orders of a user that are looked at to cut evenly (our choice)."""


def bounds(orders: Iterable[np.ndarray], events: int, most: int) -> np.ndarray:
    """Orders at which segments of about `most` of one user's events begin, but the first; int64, ascending.

    Equal orders stay together, so a segment may be larger.
    """
    step = max(1, events // MOST_KEYS)
    keys = np.sort(np.concatenate([of_batch[::step] for of_batch in orders]))
    segments = -(-events // most)
    chosen = keys[np.arange(1, segments) * len(keys) // segments]
    return np.unique(chosen[chosen > keys[0]])


def kept_events(segments: Iterable[pa.Table], config: EventsConfig) -> int:
    """Events of a user that stay, given its segments one after another."""
    if config.exact_duplicates == "keep" and not config.collapse_repeats:
        return sum(map(len, segments))
    kept, last = 0, None
    for events in segments:
        order, _, _ = rows_in_order(events.combine_chunks(), config, last)
        kept += len(order.rows)
        if len(order.rows):
            last = events["behavior"][int(order.rows[-1])].as_py()
    return kept


def with_halo(table: pa.Table, halo: pa.Table | None, segment: int) -> pa.Table:
    """A segment behind its halo, in one piece and marked as such."""
    rows = 0 if halo is None else len(halo)
    if halo is not None:
        table = pa.concat_tables([_without_targets(halo), table])
    marked = {HALO: str(rows).encode(), SEGMENT: str(segment).encode()}
    return table.combine_chunks().replace_schema_metadata(marked)


def marks(table: pa.Table) -> tuple[int, int]:
    """(rows of the halo, place among the segments of its user); (0, -1) for whole timelines."""
    metadata = table.schema.metadata or {}
    return int(metadata.get(HALO, 0)), int(metadata.get(SEGMENT, -1))


def _without_targets(table: pa.Table) -> pa.Table:
    index = table.column_names.index("is_target")
    nothing = pa.array(np.zeros(len(table), bool))
    return table.set_column(index, table.schema.field("is_target"), nothing)
