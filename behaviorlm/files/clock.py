"""Time as a thing that is passed in: who waits, repeats or dates something asks a clock, and a test brings its own."""

import threading
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """What there is of time, and what runs by it. All durations are seconds."""

    def now(self) -> float:
        """Seconds since the epoch, which somebody may set."""

    def monotonic(self) -> float:
        """Seconds since any moment, which only grow."""

    def sleep(self, seconds: float) -> None:
        """Return when so much time has passed."""

    def every(self, seconds: float, work: Callable[[], bool]) -> Callable[[], None]:
        """Call `work` again and again, with so much time in between, until it returns False or the process ends.

        Returns what stops it, and returns itself only when no call is under way any more. It may be called twice.
        """


class SystemClock:
    """The clock of this machine; what is to run by it does so in threads."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since any moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def every(self, seconds: float, work: Callable[[], bool]) -> Callable[[], None]:
        """As of `Clock`, in a thread that does not keep the process from ending."""
        stopped = threading.Event()

        def run() -> None:
            while not stopped.wait(seconds) and work():
                pass

        thread = threading.Thread(target=run, name=f"every {seconds:g} s", daemon=True)
        thread.start()

        def stop() -> None:
            stopped.set()
            thread.join()

        return stop


SYSTEM_CLOCK = SystemClock()
