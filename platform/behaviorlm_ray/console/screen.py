"""What a person sees while a run works: stages as they start and end, progress, and what is worth saying.

There is one screen in a process. A job chooses it; everywhere else, in workers too, it is lines.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

PROGRESS_SECONDS = 30.0
"""How long lines of progress are apart."""
NAMED = 5
"""Of stages that are kept, at most; more are counted."""


class Screen(Protocol):
    """Is told what happens, stages by their labels."""

    def expects(self, labels: Sequence[str]) -> None:
        """These stages are needed, in this order; again where the graph grows."""

    def starts(self, label: str) -> None:
        """A stage is looked for, and run where it is not finished."""

    def ends(self, label: str, folder: str, reused: bool) -> None:
        """A stage has its output in the folder."""

    def progresses(self, what: str, words: str) -> None:
        """How far something is, in words: the stage that runs, or what is done before the first; `what` names it."""

    def says(self, line: str) -> None:
        """Something worth saying: a warning, or what is waited for."""

    def summary(self) -> list[str]:
        """What was finished and what was cut off, by an interruption or a failure."""


class StageStates:
    """What became of each stage so far. State: labels in order, those that ended and how, the one that runs."""

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.ended: dict[str, bool] = {}
        self.running: str | None = None
        self.progress = ""

    def expect(self, labels: Sequence[str]) -> None:
        """Add those that are new."""
        self.labels += [label for label in labels if label not in self.labels]

    def start(self, label: str) -> None:
        """It runs now."""
        self.running, self.progress = label, ""

    def end(self, label: str, reused: bool) -> None:
        """It has its output."""
        self.ended[label] = reused
        self.running, self.progress = None, ""

    def summary(self) -> list[str]:
        """As `Screen.summary`."""
        ended = list(self.ended)
        many = (
            f"{len(ended)} stages, the last of them {ended[-1]}" if len(ended) > NAMED else ", ".join(ended)
        )
        lines = [f"kept: {many}"] if ended else []
        if self.running is not None:
            done = self.progress.partition(", ")[0]  # how much of how much, where that is known
            at = f" ({done})" if "/" in done else ""
            lines.append(f"cut off: {self.running}{at}; it goes on from what it has kept")
        return lines


class Lines:
    """Lines for a log: one at the start and the end of each stage, and one of progress every 30 s.

    quiet: only what is worth saying.
    """

    def __init__(self, write: Callable[[str], None] | None = None, *, quiet: bool = False) -> None:
        self._write = write or (lambda line: print(line, flush=True))
        self._quiet = quiet
        self._states = StageStates()
        self._shown: float | None = None

    def expects(self, labels: Sequence[str]) -> None:
        """Nothing is shown."""
        self._states.expect(labels)

    def starts(self, label: str) -> None:
        """`select: started`."""
        self._states.start(label)
        self._shown = time.monotonic()
        self._tell(f"{label}: started")

    def ends(self, label: str, folder: str, reused: bool) -> None:
        """`select: written to ...`."""
        self._states.end(label, reused)
        self._tell(f"{label}: {'reused from' if reused else 'written to'} {folder}")

    def progresses(self, what: str, words: str) -> None:
        """`scoring: 12/40 samples`, now and then."""
        self._states.progress = words
        now = time.monotonic()
        if self._shown is None:
            self._shown = now
        if now - self._shown >= PROGRESS_SECONDS:
            self._shown = now
            self._tell(f"{what}: {words}")

    def says(self, line: str) -> None:
        """The line."""
        self._write(line)

    def summary(self) -> list[str]:
        """As told so far."""
        return self._states.summary()

    def _tell(self, line: str) -> None:
        if not self._quiet:
            self._write(line)


_screen: Screen = Lines()


def screen() -> Screen:
    """The screen of this process."""
    return _screen


@contextmanager
def shown_on(chosen: Screen) -> Iterator[None]:
    """Make it the screen of this process for the block."""
    global _screen
    before, _screen = _screen, chosen
    try:
        yield
    finally:
        _screen = before
