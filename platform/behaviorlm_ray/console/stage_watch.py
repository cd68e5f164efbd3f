"""What is told of a run's stages while they run, and the plainest way to tell it: a line for each."""

from collections.abc import Sequence
from typing import Protocol


class StageWatcher(Protocol):
    """Is told what happens to stages, by their labels."""

    def expects(self, labels: Sequence[str]) -> None:
        """These stages are needed, in this order; again where the graph grows."""

    def starts(self, label: str) -> None:
        """A stage is looked for, and run where it is not finished."""

    def ends(self, label: str, folder: str, reused: bool) -> None:
        """A stage has an output in the folder."""

    def says(self, line: str) -> None:
        """A line about a stage, of waiting or of damage."""


class PrintedStages:
    """Prints a line when a stage has its output, and all that is said."""

    def expects(self, labels: Sequence[str]) -> None:
        """Nothing."""

    def starts(self, label: str) -> None:
        """Nothing."""

    def ends(self, label: str, folder: str, reused: bool) -> None:
        """`select: written to ...`."""
        print(f"{label}: {'reused from' if reused else 'written to'} {folder}")

    def says(self, line: str) -> None:
        """The line."""
        print(line)
