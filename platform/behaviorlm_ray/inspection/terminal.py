"""The look at a log on a terminal: at most sixty lines. Text of the log is never taken for markup or control."""

from collections.abc import Iterator, Sequence
from typing import Literal

from rich.cells import cell_len, set_cell_size
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from behaviorlm.baselines import BASELINES
from behaviorlm.inspection.choices import Choice
from behaviorlm.inspection.columns import Column
from behaviorlm.inspection.mapped import GROUPS
from behaviorlm.inspection.written import as_yaml
from behaviorlm_ray.inspection.overview import Overview
from behaviorlm_ray.report.wording import readable

MOST_COLUMNS = 14
MOST_WIDTH = 64
MOST_REMARKS = 6
FILE_KEYS = ("dataset", "paths")


def show(overview: Overview, console: Console, notes: Sequence[str]) -> None:
    """Print it. notes: the last lines, such as what was written."""
    for part in _parts(overview, console.width):
        console.print(part)
    for note in notes:
        console.print(Text(readable(note)), soft_wrap=True)


def _parts(overview: Overview, width: int) -> Iterator[RenderableType]:
    sample = overview.sample
    first = sample.looked_at[0]
    yield _line(f"{overview.seen}; {first.format}, such as {first.path}", width, "bold")
    yield _columns(overview.mapped_first, width)
    if len(overview.columns) > MOST_COLUMNS:
        yield _line(
            f"and {len(overview.columns) - MOST_COLUMNS} columns more; the page of --html has all", width
        )
    if overview.choices:
        yield _choices(
            [choice for choice in overview.choices if choice.key and choice.key not in FILE_KEYS], width
        )
    yield _facts(overview, width)
    if overview.mapped.accuracy:
        yield _accuracy(overview, width)
    for remark in overview.remarks[:MOST_REMARKS]:
        yield _line(f"! {remark}", width, "yellow")
    if len(overview.remarks) > MOST_REMARKS:
        yield _line(
            f"! and {len(overview.remarks) - MOST_REMARKS} remarks more; the page of --html has all", width
        )


def _line(text: str, width: int, style: str = "") -> Text:
    return Text(_cut(readable(text), width), style=style, no_wrap=True, overflow="ellipsis")


def _columns(columns: Sequence[Column], width: int) -> Table:
    rows = [
        [
            _cut(column.name, 40),
            column.kind,
            f"{column.nulls:.0%}",
            f"{column.distinct:,}",
            "  ".join(_cut(value, 24) for value in column.examples),
        ]
        for column in columns[:MOST_COLUMNS]
    ]
    return _table(["column", "type", ">empty", ">different", "examples"], rows, width)


def _choices(choices: Sequence[Choice], width: int) -> Table:
    rows = []
    for choice in choices:
        others = f" (or {', '.join(choice.others[:2])})" if choice.others else ""
        rows.append([choice.key, _cut(as_yaml(choice.value), MOST_WIDTH), choice.reason + others])
    return _table(["proposed", "value", "why"], rows, width)


def _facts(overview: Overview, width: int) -> Table:
    return _table(["read so", ""], list(overview.lines.items()), width)


def _accuracy(overview: Overview, width: int) -> Table:
    mapped = overview.mapped
    groups = [group for group in GROUPS if mapped.targets[group]]
    rows = [
        [BASELINES[name].description, *(f"{of_group[group]:.1%}" for group in groups)]
        for name, of_group in mapped.accuracy.items()
    ]
    headers = [
        "counting alone is right about",
        *(f">{group} ({mapped.targets[group]:,})" for group in groups),
    ]
    return _table(headers, rows, width)


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Table:
    """A line a row: the last column is cut where the terminal ends. Headers of numbers begin with >."""
    table = Table(box=None, pad_edge=False, header_style="bold cyan", padding=(0, 2, 0, 0))
    for header in headers:
        justify: Literal["left", "right"] = "right" if header.startswith(">") else "left"
        table.add_column(Text(header.removeprefix(">")), justify=justify, no_wrap=True)
    shown = [[readable(" ".join(text.split())) for text in row] for row in rows]
    before = sum(
        2 + max(cell_len(row[place]) for row in [headers, *shown]) for place in range(len(headers) - 1)
    )
    for row in shown:
        left = max(width - before - 2, 8)
        if cell_len(row[-1]) > left:
            row[-1] = set_cell_size(row[-1], left - 1).rstrip() + "…"
        table.add_row(*map(Text, row))
    return table


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"
