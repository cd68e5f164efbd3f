"""What exhibits show, in sentences made of their numbers: who is ahead, and of whom that cannot be said."""

from collections.abc import Iterable, Sequence

from behaviorlm_lab.paper.drawn import HIGH, LOW, Row
from behaviorlm_ray.console.tables import interval_text

MOST_LISTED = 3
"""Names of those who are level with the first; of more it is told how many."""


def quoted(name: object) -> str:
    """A name that may hold commas, in a sentence."""
    return f"“{name}”"


def leader(rows: Sequence[Row], name: str, by: str = "method") -> str:
    """Who has most of a measured column, and whose intervals overlap with its own; "" where nobody has a value."""
    known = [row for row in rows if row[name] is not None]
    if not known:
        return ""
    first = max(known, key=lambda row: row[name])
    level = [row for row in known if row is not first and overlap(row, first, name)]
    told, others = f"{quoted(first[by])} {interval(first, name)}", len(known) - 1
    if not level:
        return f"{told}, apart from all others" if others else told
    if len(level) > MOST_LISTED:
        return f"{told}, level with {'all' if len(level) == others else len(level)} of {others} others"
    return f"{told}, level with {_listed(quoted(row[by]) for row in level)}"


def overlap(one: Row, other: Row, name: str) -> bool:
    """Whether two intervals do; without bounds they are said to."""
    bounds = [row[f"{name}{end}"] for row in (one, other) for end in (LOW, HIGH)]
    if None in bounds:
        return True
    low, high, other_low, other_high = bounds
    return bool(low <= other_high and other_low <= high)


def interval(row: Row, name: str) -> str:
    """A value and its bounds."""
    measured = {"value": row[name], "low": row[f"{name}{LOW}"], "high": row[f"{name}{HIGH}"]}
    return interval_text(measured, "not known")


def sorted_by_sign(rows: Iterable[Row], name: str, by: str) -> str:
    """Of paired differences: which are above zero, below it, and neither."""
    found: dict[str, list[str]] = {"ahead of": [], "behind": [], "not told apart from": []}
    for row in rows:
        low, high = row[f"{name}{LOW}"], row[f"{name}{HIGH}"]
        if row[name] is None or low is None or high is None:
            continue
        side = "ahead of" if low > 0 else "behind" if high < 0 else "not told apart from"
        found[side].append(f"{quoted(row[by])} ({row[name]:+.3f})")
    return ", ".join(f"{side} {_listed(who)}" for side, who in found.items() if who)


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
