"""Progress of what takes long, in lines, for logs in which no progress bar is shown."""

import time

PROGRESS_SECONDS = 10.0
"""How long it is silent (our choice)."""


class ProgressLines:
    """Prints how much is done, at most every so many seconds. State: what is done so far.

    what: begins the line, such as "scoring:"; unit: what is counted, in the plural.
    """

    def __init__(self, what: str, total: int, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._done = 0
        self._started = self._shown = time.monotonic()

    def add(self, number: int) -> None:
        """Count what was done."""
        self._done += number
        now = time.monotonic()
        if now - self._shown < PROGRESS_SECONDS or not self._done:
            return
        self._shown = now
        speed = self._done / max(now - self._started, 1e-9)
        left = (self._total - self._done) / speed
        print(
            f"{self._what} {self._done}/{self._total} {self._unit}, {speed:.1f} {self._unit}/s, {left:.0f} s left",
            flush=True,
        )
