"""Progress of what takes long, in words."""

import time

from behaviorlm_ray.console.screen import screen


class ProgressLines:
    """Tells the screen how much is done. State: what is done so far.

    what: names the work, such as "scoring"; unit: what is counted, in the plural.
    """

    def __init__(self, what: str, total: int, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._done = 0
        self._started = time.monotonic()
        screen().progresses(what, f"0/{total:,} {unit}")

    def add(self, number: int) -> None:
        """Count what was done."""
        self._done += number
        if not self._done:
            return
        speed = self._done / max(time.monotonic() - self._started, 1e-9)
        left = (self._total - self._done) / speed
        words = (
            f"{self._done:,}/{self._total:,} {self._unit}, {left:,.0f} s left, {speed:,.1f} {self._unit}/s"
        )
        screen().progresses(self._what, words)
