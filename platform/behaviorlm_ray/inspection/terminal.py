"""The look at a log on a terminal: at most sixty lines. Text of the log is never taken for markup or control."""

from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from behaviorlm.baselines import BASELINES
from behaviorlm.inspection.choices import Choice
from behaviorlm.inspection.columns import Column
from behaviorlm.inspection.mapped import GROUPS
from behaviorlm_ray.inspection.overview import Overview
from behaviorlm_ray.report.wording import readable

MOST_LINES = 60
MOST_COLUMNS = 14
MOST_REMARKS = 6
FILE_KEYS = ("dataset", "paths")


def show(overview: Overview, console: Console, notes: Sequence[str]) -> None:
    """Print it. notes: the last lines, such as what was written."""
    width = console.width
    lines = 0
    for part in _parts(overview, notes, width):
        with console.capture() as captured:
            console.print(part)
        shown = captured.get().rstrip("\n").split("\n")
        console.print(part)
        lines += len(shown)


def _parts(overview: Overview, notes: Sequence[str], width: int) -> Iterator[RenderableType]:
    sample = overview.sample
    first = sample.looked_at[0]
    yield _line(f"{overview.seen}; {first.format}, such as {first.path}", width, "bold")
    yield _columns(overview.columns, width)
    if len(overview.columns) > MOST_COLUMNS:
        yield _line(f"and {len(overview.columns) - MOST_COLUMNS} columns more; the page of --html has all", width)
    if overview.choices:
        yield _choices([choice for choice in overview.choices if choice.key and choice.key not in FILE_KEYS], width)
    yield _facts(overview, width)
    if overview.mapped.accuracy:
        yield _accuracy(overview)
    for remark in overview.remarks[:MOST_REMARKS]:
        yield _line(f"! {remark}", width, "yellow")
    if len(overview.remarks) > MOST_REMARKS:
        yield _line(f"! and {len(overview.remarks) - MOST_REMARKS} remarks more; the page of --html has all", width)
    for note in notes:
        yield _line(note, 10_000)


def _line(text: str, width: int, style: str = "") -> Text:
    return Text(_cut(readable(text), width), style=style, no_wrap=True, overflow="ellipsis")


def _columns(columns: Sequence[Column], width: int) -> Table:
    table = _table("column", "type", ">empty", ">different", "examples")
    for column in columns[:MOST_COLUMNS]:
        examples = "  ".join(_cut(value, 24) for value in column.examples)
        table.add_row(*_cells(column.name, column.kind, f"{column.nulls:.0%}", f"{column.distinct:,}", examples))
    return table


def _choices(choices: Sequence[Choice], width: int) -> Table:
    table = _table("proposed", "value", "why")
    for choice in choices:
        value = choice.value
        shown = ", ".join(f"{key}: {one}" for key, one in value.items()) if isinstance(value, dict) else str(value)
        others = f" (or {', '.join(choice.others[:2])})" if choice.others else ""
        table.add_row(*_cells(choice.key, _cut(shown, 44), choice.reason + others))
    return table


def _facts(overview: Overview, width: int) -> Table:
    table = _table("read so", "")
    for what, words in overview.lines.items():
        table.add_row(*_cells(what, words))
    return table


def _accuracy(overview: Overview) -> Table:
    mapped = overview.mapped
    groups = [group for group in GROUPS if mapped.targets[group]]
    table = _table("counting alone is right about", *(f">{group} ({mapped.targets[group]:,})" for group in groups))
    for name, of_group in mapped.accuracy.items():
        shares = [f"{of_group[group]:.1%}" for group in groups]
        table.add_row(*_cells(BASELINES[name].description, *shares))
    return table


def _table(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold cyan", padding=(0, 2, 0, 0))
    for header in headers:
        table.add_column(
            Text(header.removeprefix(">")),
            justify="right" if header.startswith(">") else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    return table


def _cells(*texts: str) -> list[Text]:
    return [Text(readable(" ".join(text.split()))) for text in texts]


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"
