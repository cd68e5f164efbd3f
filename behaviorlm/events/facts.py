"""What was read of a log, as one value that adds up: over batches and files, and over parts that hold whole users."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from behaviorlm.log_files.identity import RULES, SHORT_NUMBER, look_alike_keys, look_alikes, suspected_nulls
from behaviorlm.log_files.text import one_chunk

MOST_SHOWN = 5
"""Largest users, and examples of a kind, that are kept (our choice)."""
UNNAMED = "…"
WITH_POINTS = r"^-?[1-9]\d{0,2}(?:\.\d{3})+$"
"""Whole numbers as they are written where a comma begins the fraction."""
SHIFTS = {"user": 0, "behavior": 4, "group": 8}
"""Where the bits of a role's rules lie in the column `respelled` of events."""


class LogFacts(BaseModel):
    """Facts of some rows, or of all the events of some users; `+` adds them, exactly.

    Memory is bounded by the behaviors, the reasons and the different numbers of events that users have.

    Of rows: files, rows (events and quarantined ones), quarantined by reason and by behavior (where it is known), an
    example of each reason, usable rows by behavior, rows by rule that respelled {role: {bits: rows}}, of behaviors the
    rows by rule {behavior: {bits: rows}}, rows by split label, and the lowest and highest order.

    Of whole users: how many, {events of a user: users}, the largest with their events, users that look like a missing
    value with their events, users written in several ways, users that look alike, users that are numbers in short
    (1e+05), some like numbers with a point between thousands (1.234), and counts as `build_timelines` gives them.
    anchors and tail: behaviors on each side of the cut; None before it is made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: int = 0
    rows: int = 0
    quarantined: dict[str, int] = {}
    quarantined_of: dict[str, int] = {}
    examples: dict[str, str] = {}
    behaviors: dict[str, int] = {}
    respelled: dict[str, dict[int, int]] = {}
    behavior_spellings: dict[str, dict[int, int]] = {}
    split_labels: dict[str, int] = {}
    span: tuple[int, int] | None = None
    users: int = 0
    sizes: dict[int, int] = {}
    largest: list[tuple[str, int]] = []
    missing_users: dict[str, int] = {}
    respelled_users: int = 0
    respelled_examples: list[str] = []
    look_alike_users: int = 0
    look_alike_examples: list[list[str]] = []
    grouped_examples: list[str] = []
    short_users: int = 0
    short_examples: list[str] = []
    counts: dict[str, int] = {}
    anchors: int | None = None
    tail: int | None = None

    def __add__(self, other: Self) -> Self:
        """Both together. Where only some are kept, those of `self` come first."""
        ends = [end for span in (self.span, other.span) if span is not None for end in span]
        others = {
            "examples": other.examples | self.examples,
            "span": (min(ends), max(ends)) if ends else None,
            "largest": _largest(self.largest + other.largest),
            "anchors": self.anchors if self.anchors is not None else other.anchors,
            "tail": self.tail if self.tail is not None else other.tail,
        }
        names = type(self).model_fields.keys() - others.keys()
        return type(self)(
            **{name: _together(getattr(self, name), getattr(other, name)) for name in names}, **others
        )

    def naming_nobody(self) -> Self:
        """The same with `…` in place of users' names, for what is handed on."""
        return self.model_copy(
            update={
                "largest": [(UNNAMED, events) for _, events in self.largest],
                "respelled_examples": [UNNAMED] * len(self.respelled_examples),
                "look_alike_examples": [[UNNAMED] * len(alike) for alike in self.look_alike_examples],
                "grouped_examples": [UNNAMED] * len(self.grouped_examples),
                "short_examples": [UNNAMED] * len(self.short_examples),
            }
        )

    @property
    def usable(self) -> int:
        """Rows that became events."""
        return self.rows - sum(self.quarantined.values())

    @property
    def events(self) -> int:
        """Events of the timelines, after what was dropped."""
        return self.counts.get("events", 0)

    @property
    def merged_behaviors(self) -> dict[str, list[str]]:
        """Behaviors that were written in more than one way: the rules that made them one."""
        found = {}
        for name, rows_by_rule in self.behavior_spellings.items():
            as_it_is = self.behaviors.get(name, 0) > sum(rows_by_rule.values())
            if len(rows_by_rule) + as_it_is > 1:
                found[name] = rules_named(rows_by_rule)
        return found

    @property
    def lost_behaviors(self) -> dict[str, tuple[int, int]]:
        """Behaviors with quarantined rows: (those, all its rows), the largest share first."""
        found = {
            name: (lost, lost + self.behaviors.get(name, 0)) for name, lost in self.quarantined_of.items()
        }
        return dict(sorted(found.items(), key=lambda item: (-item[1][0] / item[1][1], -item[1][0], item[0])))


def facts_of_rows(events: pa.Table, quarantine: pa.Table, files: int = 0) -> LogFacts:
    """Facts of some rows as `normalize` gives them: a batch, a file, a log."""
    bits = events["respelled"].to_numpy()
    respelled = {role: _by_bits(bits, shift) for role, shift in SHIFTS.items()} if bits.any() else {}
    spellings: dict[str, dict[int, int]] = {}
    of_behaviors = bits >> SHIFTS["behavior"] & 15
    if of_behaviors.any():
        changed = events.select(["behavior"]).append_column("bits", pa.array(of_behaviors))
        changed = changed.filter(pc.greater(changed["bits"], 0)).group_by(["behavior", "bits"])
        for item in changed.aggregate([([], "count_all")]).to_pylist():
            spellings.setdefault(item["behavior"], {})[item["bits"]] = item["count_all"]
    ends = pc.min_max(events["order"]).as_py()
    return LogFacts(
        files=files,
        rows=len(events) + len(quarantine),
        quarantined=_value_counts(quarantine["reason"]),
        quarantined_of=_value_counts(quarantine["behavior"].drop_null()),
        examples=_examples(quarantine),
        behaviors=_value_counts(events["behavior"]),
        respelled={role: rows for role, rows in respelled.items() if rows},
        behavior_spellings=spellings,
        split_labels=_value_counts(events["split_label"].drop_null()),
        span=(ends["min"], ends["max"]) if len(events) else None,
    )


def facts_of_users(events: pa.Table, timelines: pa.Table, counts: Mapping[str, int]) -> LogFacts:
    """Facts of users all whose events are here: `events` as `normalize` gives them, and what `build_timelines` made.

    Users that look alike are found where all of them are here.
    """
    counted = one_chunk(timelines["user"]).value_counts()
    users, sizes = counted.field("values"), counted.field("counts").to_numpy()
    return _facts_of(users, sizes, _respelled_users(events), counts)


class UserFacts:
    """`facts_of_users` of one user, segment by segment. State: what is counted so far."""

    def __init__(self) -> None:
        self._user: str | None = None
        self._size, self._bits = 0, set[int]()
        self._counts: Counter[str] = Counter()

    def add(self, events: pa.Table, timelines: pa.Table, counts: Mapping[str, int]) -> None:
        """A segment and what `build_timelines` made of it."""
        self._user = events["user"][0].as_py()
        self._size += len(timelines)
        self._bits |= set(np.unique(events["respelled"].to_numpy() & 15).tolist())
        self._counts.update(counts)

    def of_user(self) -> LogFacts:
        """Of all of them."""
        respelled = [_respelled_user(self._user, self._bits)] if len(self._bits) > 1 else []
        return _facts_of(pa.array([self._user]), np.array([self._size]), respelled, self._counts)


def _facts_of(
    users: pa.Array, sizes: np.ndarray, respelled: list[str], counts: Mapping[str, int]
) -> LogFacts:
    by_size, users_of_size = np.unique(sizes, return_counts=True)
    largest = np.argsort(-sizes, kind="stable")[: 2 * MOST_SHOWN]
    missing = np.flatnonzero(np.logical_or(*suspected_nulls(users)))
    grouped = users.filter(pc.match_substring_regex(users, WITH_POINTS))
    short = users.filter(pc.match_substring_regex(users, SHORT_NUMBER))
    return LogFacts(
        users=len(users),
        sizes=dict(zip(by_size.tolist(), users_of_size.tolist(), strict=True)),
        largest=_largest([(users[int(index)].as_py(), int(sizes[index])) for index in largest]),
        missing_users={users[int(index)].as_py(): int(sizes[index]) for index in missing},
        respelled_users=len(respelled),
        respelled_examples=respelled[:MOST_SHOWN],
        **facts_of_look_alikes(users),
        grouped_examples=grouped[:MOST_SHOWN].to_pylist(),
        short_users=len(short),
        short_examples=short[:MOST_SHOWN].to_pylist(),
        counts=dict(counts),
    )


def facts_of_look_alikes(users: pa.Array) -> dict[str, Any]:
    """What `LogFacts` says of those of some users, each there once, who look alike."""
    keys = look_alike_keys(users)
    of_keys = keys.value_counts()
    shared = of_keys.field("values").filter(pc.greater(of_keys.field("counts"), 1))
    alike = users.filter(pc.is_in(keys, value_set=shared))
    examples = look_alikes(alike[:1000].to_pylist())[:MOST_SHOWN]
    return {"look_alike_users": len(alike), "look_alike_examples": examples}


def rules_named(bits: Iterable[int]) -> list[str]:
    """The rules that any of these combinations of bits names."""
    together = 0
    for combination in bits:
        together |= combination
    return [name for bit, name in RULES.items() if together & bit]


def _together(one: Any, other: Any) -> Any:
    """Numbers and what is counted by name added up; of examples the first."""
    if isinstance(one, dict):
        return one | other | {name: _together(one[name], other[name]) for name in one.keys() & other.keys()}
    return (one + other)[:MOST_SHOWN] if isinstance(one, list) else one + other


def _largest(users: list[tuple[str, int]]) -> list[tuple[str, int]]:
    return sorted(users, key=lambda item: (-item[1], item[0]))[:MOST_SHOWN]


def _value_counts(values: pa.ChunkedArray) -> dict[str, int]:
    return {item["values"]: item["counts"] for item in values.value_counts().to_pylist()}


def _by_bits(bits: np.ndarray, shift: int) -> dict[int, int]:
    """Rows by the rules of a role that changed them."""
    combinations, rows = np.unique(bits >> shift & 15, return_counts=True)
    return {int(bit): int(count) for bit, count in zip(combinations, rows, strict=True) if bit}


def _examples(quarantine: pa.Table) -> dict[str, str]:
    """For each reason its first row, in words."""
    found: dict[str, str] = {}
    for reason in pc.unique(quarantine["reason"]).to_pylist():
        row = quarantine.slice(pc.index(quarantine["reason"], reason).as_py(), 1).to_pylist()[0]
        value = "nothing" if row["value"] is None else repr(row["value"][:60]).replace("\\\\", "\\")
        found[reason] = f"{value} in {row['file']}, row {row['row']}"
    return found


def _respelled_users(events: pa.Table) -> list[str]:
    """Users that were written in more than one way, and how."""
    bits = events["respelled"].to_numpy() & 15
    if not bits.any():
        return []
    pairs = events.select(["user"]).append_column("bits", pa.array(bits)).group_by("user")
    several = pairs.aggregate([("bits", "count_distinct"), ("bits", "distinct")])
    several = several.filter(pc.greater(several["bits_count_distinct"], 1)).sort_by("user")
    return [_respelled_user(item["user"], item["bits_distinct"]) for item in several.to_pylist()]


def _respelled_user(user: str | None, bits: Iterable[int]) -> str:
    return f"{user!r} ({', '.join(rules_named(bits))})"
