"""The look at a log on a terminal: at most sixty lines. Text of the log is never taken for markup or control."""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
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
MOST_WIDTH = 52
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
    yield _columns(overview.columns)
    if len(overview.columns) > MOST_COLUMNS:
        yield _line(
            f"and {len(overview.columns) - MOST_COLUMNS} columns more; the page of --html has all", width
        )
    if overview.choices:
        yield _choices([choice for choice in overview.choices if choice.key and choice.key not in FILE_KEYS])
    yield _facts(overview)
    if overview.mapped.accuracy:
        yield _accuracy(overview)
    for remark in overview.remarks[:MOST_REMARKS]:
        yield _line(f"! {remark}", width, "yellow")
    if len(overview.remarks) > MOST_REMARKS:
        yield _line(
            f"! and {len(overview.remarks) - MOST_REMARKS} remarks more; the page of --html has all", width
        )


def _line(text: str, width: int, style: str = "") -> Text:
    return Text(_cut(readable(text), width), style=style, no_wrap=True, overflow="ellipsis")


def _columns(columns: Sequence[Column]) -> Table:
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
    return _table(["column", "type", ">empty", ">different", "examples"], rows)


def _choices(choices: Sequence[Choice]) -> Table:
    rows = []
    for choice in choices:
        others = f" (or {', '.join(choice.others[:2])})" if choice.others else ""
        rows.append([choice.key, _cut(as_yaml(choice.value), MOST_WIDTH), choice.reason + others])
    return _table(["proposed", "value", "why"], rows)


def _facts(overview: Overview) -> Table:
    return _table(["read so", ""], list(overview.lines.items()))


def _accuracy(overview: Overview) -> Table:
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
    return _table(headers, rows)


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A line a row: the last column is cut where the terminal ends. Headers of numbers begin with >."""
    table = Table(box=None, pad_edge=False, header_style="bold cyan", padding=(0, 2, 0, 0))
    shown = [[readable(" ".join(text.split())) for text in row] for row in rows]
    for place, header in enumerate(headers):
        is_last = place == len(headers) - 1
        widest = max((cell_len(row[place]) for row in shown), default=0)
        table.add_column(
            Text(header.removeprefix(">")),
            justify="right" if header.startswith(">") else "left",
            min_width=None if is_last else min(widest, MOST_WIDTH),
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in shown:
        table.add_row(*map(Text, row))
    return table


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"
