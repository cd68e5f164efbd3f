"""One live view of a run on a terminal: its stages with state, progress and time, and the last thing said."""

import time
from collections.abc import Collection, Sequence
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from behaviorlm_ray.console.screen import StageStates

REFRESHES_PER_SECOND = 4
SAID = 3
"""Lines of what was said that are in view while work goes on."""
JUST_ENDED = 2
"""Stages that ended last and stay in view where there is no room for all."""


class LiveScreen:
    """Draws the view on a terminal until `close`. State: stages, when they began, the last things said."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream)
        self._states = StageStates()
        self._began: dict[str, float] = {}
        self._took: dict[str, float] = {}
        self._said: list[str] = []
        self._before = ""
        self._turning: Text | Spinner = Spinner("dots")
        self._is_over = False
        self._live = Live(
            get_renderable=self._view,
            console=self._console,
            refresh_per_second=REFRESHES_PER_SECOND,
            redirect_stdout=False,  # what is printed goes to the log
            redirect_stderr=False,
        )
        self._live.start()

    def close(self) -> None:
        """Leave the view as it is last, what still runs as cut off, and the terminal to others."""
        self._turning, self._before, self._is_over = Text("✗", style="red"), "", True
        self._live.transient = not self._states.labels
        self._live.stop()

    def expects(self, labels: Sequence[str]) -> None:
        """They are listed."""
        self._states.expect(labels)

    def starts(self, label: str) -> None:
        """Its line turns."""
        self._states.start(label)
        self._began[label] = time.monotonic()
        self._before = ""

    def ends(self, label: str, folder: str, reused: bool) -> None:
        """Its line says how long it took, or that it was reused."""
        self._took[label] = time.monotonic() - self._began.get(label, time.monotonic())
        self._states.end(label, reused)

    def progresses(self, what: str, words: str) -> None:
        """In the line of the stage that runs, before any stage in a line of its own."""
        self._states.progress = words
        if self._states.running is None:
            self._before = f"{what}: {words}"

    def says(self, line: str) -> None:
        """Below the stages, the last few; in the end all, each once and whole."""
        self._said.append(line)

    def summary(self) -> list[str]:
        """As told so far."""
        return self._states.summary()

    def _view(self) -> Group:
        table = Table(box=None, show_header=False, pad_edge=False)
        names = min(max(map(len, self._states.labels), default=0), self._console.width // 2)
        room = self._console.width - names - len("✓    59:59 ")
        for width in (None, names, max(room, 10), None):
            table.add_column(no_wrap=True, overflow="ellipsis", max_width=width)
        lines = self._console.height - SAID - bool(self._before)
        labels, ended = self._states.labels, self._states.ended
        over, shown, waiting = (0, labels, 0) if self._is_over else in_view(labels, ended, lines)
        if over:
            table.add_row(Text("✓", style="green"), Text(f"{over} stages", style="dim"))
        for label in shown:
            table.add_row(*self._row(label))
        if waiting:
            table.add_row(Text("·", style="dim"), Text(f"{waiting} more stages", style="dim"))
        if self._is_over:
            said = [Text(line, style="yellow") for line in dict.fromkeys(self._said)]
        else:
            said = [Text(line, "yellow", overflow="ellipsis", no_wrap=True) for line in self._said[-SAID:]]
        before = [Text(self._before)] if self._before else []
        return Group(table, *before, *said)

    def _row(self, label: str) -> tuple[Text | Spinner, Text, Text, Text]:
        if label in self._states.ended:
            reused = self._states.ended[label]
            mark = Text("✓", style="green")
            words = "reused" if reused else ""
            return mark, Text(label), Text(words, style="dim"), Text(_time(self._took.get(label, 0.0)))
        if label == self._states.running:
            elapsed = time.monotonic() - self._began[label]
            return self._turning, Text(label, style="bold"), Text(self._states.progress), Text(_time(elapsed))
        return Text("·", style="dim"), Text(label, style="dim"), Text(""), Text("")


def in_view(labels: Sequence[str], ended: Collection[str], lines: int) -> tuple[int, list[str], int]:
    """What so many lines show of stages: (how many that ended are left out, the stages, how many later are left out).

    What was left out takes a line; what runs, the first that has not ended, is shown in any case.
    """
    if len(labels) <= lines:
        return 0, list(labels), 0
    before = [label for label in labels if label in ended]
    later = [label for label in labels if label not in ended]
    room = max(lines - 2, 1)
    kept = min(len(before), max(room - len(later), min(JUST_ENDED, room - 1)))
    shown = later[: room - kept]
    return len(before) - kept, [*before[len(before) - kept :], *shown], len(later) - len(shown)


def _time(seconds: float) -> str:
    """`1:05`; empty below half a second."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}" if seconds >= 0.5 else ""
