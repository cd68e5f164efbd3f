"""Tables for people: on terminals and in Markdown; measured values, ages and sizes in words."""

from collections.abc import Iterable, Mapping, Sequence


def table_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with all columns but the last at one width."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return [
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table in Markdown whose first column is of words, and the others of numbers."""
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def interval_text(measured: Mapping[str, float | None], missing: str = "–") -> str:
    """`0.412 [0.398, 0.427]` of "value", "low" and "high"; the value alone where bounds are missing."""
    value, low, high = (measured.get(name) for name in ("value", "low", "high"))
    if value is None:
        return missing
    return f"{value:.3f}" + ("" if low is None or high is None else f" [{low:.3f}, {high:.3f}]")


def age_text(moment: float | None, now: float) -> str:
    """How long ago a moment is, in its largest unit; nothing for none."""
    if moment is None:
        return ""
    seconds = max(0, round(now - moment))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def size_text(size: int) -> str:
    """Bytes in the unit that leaves at most three digits before the point."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"
