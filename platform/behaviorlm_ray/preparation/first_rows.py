"""What the first rows of a log are like, read as preparation reads them: shown in a plan, before anything runs."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behaviorlm.errors import DataError
from behaviorlm.events.facts import LogFacts, facts_of_rows, facts_of_users
from behaviorlm.events.log import SourceLog
from behaviorlm.events.normalization import events_schema, normalize
from behaviorlm.events.summary import doubts, told
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.reading import read_table_batches
from behaviorlm.log_files.source_files import QUARANTINE_SCHEMA
from behaviorlm.timelines.config import SplitConfig, VocabularyConfig
from behaviorlm.timelines.row_problems import problems_of_rows
from behaviorlm.timelines.samples import build_timelines, training_target_counts
from behaviorlm.timelines.splits import check_rows
from behaviorlm.timelines.tie_breakers import warning_of_ties
from behaviorlm.timelines.vocabulary import Vocabulary, build_vocabulary

MOST_ROWS = 100_000
"""Rows of a log that a plan looks at (our choice): enough to show a wrong mapping, and read within a second."""


@dataclass(frozen=True)
class FirstRows:
    """The first rows of a log, over its files in their order.

    facts: of them, the files being those that were begun. are_all: whether the log ends with them. problems: what would
    end the preparation of these rows alone, or what it would warn of, and may not be so of the whole log. timelines,
    vocabulary: of them; None where there is no vocabulary.
    """

    facts: LogFacts
    are_all: bool
    problems: tuple[str, ...] = ()
    timelines: pa.Table = field(default=None, compare=False)
    vocabulary: Vocabulary | None = field(default=None, compare=False)


def read_first_rows(
    log: SourceLog,
    split: SplitConfig,
    min_history: int,
    vocabulary: VocabularyConfig,
    most: int = MOST_ROWS,
) -> FirstRows:
    """Read at most `most` rows. Raises DataError where preparation would for one of them, or for all of the log."""
    rows, are_all, begun = 0, True, 0
    zones: dict[bool, str] = {}
    usable, unusable = [events_schema(log.events).empty_table()], [QUARANTINE_SCHEMA.empty_table()]
    batches = (
        (index, file.path, *batch)
        for index, file in enumerate(log.files)
        for batch in read_table_batches(file, log.events, most)
    )
    for index, path, text, broken in batches:
        raw, malformed = _first(text, broken, most - rows)
        events, quarantined = normalize(raw, malformed, index, path, log.events)
        check_rows(events, path, split)
        _note_zones(events, path, zones)
        usable.append(events)
        unusable.append(quarantined)
        rows, begun = rows + len(events) + len(quarantined), index + 1
        are_all = len(raw) + len(malformed) == len(text) + len(broken)
        if not are_all:
            break
    if len(zones) == 2 and log.events.order.time_zone is None:
        raise DataError(
            f"some times have a zone ({zones[True]}) and some have none ({zones[False]}), so they cannot be put in "
            "order; set events.order.time_zone to the zone of those without"
        )
    events, quarantined = pa.concat_tables(usable), pa.concat_tables(unusable)
    timelines, counts = build_timelines(events, log.events, split, min_history, log.events.dataset)
    facts = facts_of_rows(events, quarantined, begun) + facts_of_users(events, timelines, counts)
    problems = problems_of_rows(facts, log.events, split)
    tied = warning_of_ties(log, counts)
    warnings = [] if tied is None else [tied]
    if log.events.split_column is not None and split.by != "column":
        warnings.append(
            f"events.split_column names {log.events.split_column!r}, but split.by is {split.by!r}, so its labels split "
            "nothing: set split.by: column, or leave the column out"
        )
    found = None
    try:
        found = build_vocabulary(training_target_counts(timelines), vocabulary)
    except DataError as error:
        problems.append(str(error))
    else:
        anchors = int(np.sum(found.is_anchor))
        facts = facts.model_copy(update={"anchors": anchors, "tail": len(found) - anchors})
        warnings += found.warnings
    if problems and are_all:
        read = described(FirstRows(facts, are_all, tuple(warnings)), log.events)
        raise DataError("\n".join([*problems, *read]))
    return FirstRows(facts, are_all, (*problems, *warnings), timelines, found)


def _note_zones(events: pa.Table, path: str, first: dict[bool, str]) -> None:
    """Add where the first time with a zone of its own (True) is, and the first without (False)."""
    for is_zoned in (True, False):
        index = pc.index(events["is_zoned"], is_zoned).as_py()
        if index >= 0:
            first.setdefault(is_zoned, f"{path}, row {events['row'][index]}")


def described(first: FirstRows, events: EventsConfig) -> list[str]:
    """What the first rows are like, and what is wrong with them, in lines."""
    rows = first.facts.rows
    which = "all" if first.are_all else "the first"
    more = "" if first.are_all else " (there are more; `prepare` reads them all)"
    lines = [f"of {which} {rows:,} rows{more}:", *(f"  {line}" for line in told(first.facts, events))]
    lines += [f"  note: {doubt}" for doubt in doubts(first.facts)]
    return lines + [f"  of these rows: {problem}" for problem in first.problems]


def _first(raw: pa.Table, malformed: pa.Table, most: int) -> tuple[pa.Table, pa.Table]:
    """Those of a batch that are among its first `most` rows."""
    numbers = np.concatenate([raw["row"].to_numpy(), malformed["row"].to_numpy()])
    if len(numbers) <= most:
        return raw, malformed
    end = np.partition(numbers, most)[most]
    return raw.filter(pc.less(raw["row"], end)), malformed.filter(pc.less(malformed["row"], end))
