"""A thread that tells MLflow what a run has done so far. The run never waits for it, and never fails by it.

What could not be told is tried again with the next thing, and at the end of the run; what is still untold then is said.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from behaviorlm.config import masked
from behaviorlm_ray.tracking.tracked_run import TrackedRun


@dataclass(frozen=True)
class Entry:
    """Something to tell. name, content: which thing, and a hash of it, so that it is told once. is_final: that of which
    there is one only: where another content was told under its name, the whole run is tracked anew.
    """

    name: str
    content: str
    tell: Callable[[TrackedRun], None]
    is_final: bool = False


class Follower:
    """Tells entries in their order, all of them to one tracked run.

    open_tracked: opens it, or with True a new one. State, all under the condition: entries; how often telling was
    asked for and tried; what went wrong when it was last tried; how the run is to end.
    """

    def __init__(self, open_tracked: Callable[[bool], TrackedRun]) -> None:
        self._open = open_tracked
        self._condition = threading.Condition()
        self._entries: list[Entry] = []
        self._asked = self._tried = 0
        self._trouble = ""
        self._ends_as = ""
        self._tracked: TrackedRun | None = None
        # a daemon: one that hangs must not keep the process from ending
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """What went wrong when it was last tried; "" if nothing."""
        with self._condition:
            return self._trouble

    def tell(self, entry: Entry) -> None:
        """As soon as possible, and not here; what is waiting or was told already is not told twice."""
        with self._condition:
            waiting = [one for one in self._entries if one.name != entry.name]
            self._entries = [*waiting, entry]
            self._asked += 1
            self._condition.notify_all()

    def settle(self, seconds: float) -> str:
        """Try everything untold once more, and wait so long. Returns what is wrong, "" if all is told."""
        with self._condition:
            self._asked += 1
            goal = self._asked
            self._condition.notify_all()
            if not self._condition.wait_for(lambda: self._tried >= goal, timeout=seconds):
                return f"no answer within {seconds:.0f} s"
            return self._trouble

    def end(self, status: str, seconds: float) -> str:
        """As `settle`; the tracked run then ends with the status, and the thread too."""
        with self._condition:
            self._ends_as = status
        return self.settle(seconds)

    def _work(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._asked > self._tried)
                goal, entries, ends_as = self._asked, list(self._entries), self._ends_as
            trouble = self._try(entries, ends_as)
            with self._condition:
                self._tried, self._trouble = goal, trouble
                self._condition.notify_all()
            if ends_as:
                return

    def _try(self, entries: list[Entry], ends_as: str) -> str:
        """Tell what is untold. Returns what went wrong: whatever it is, it is no trouble of the run."""
        troubles = []
        try:
            tracked = self._tracked or self._open(False)
            if any(_is_outdated(tracked, entry) for entry in entries):
                tracked.ends("FINISHED")
                tracked = self._open(True)
            self._tracked = tracked
        except Exception as error:
            return _said(error)
        for entry in entries:
            if tracked.has(entry.name, entry.content):
                continue
            try:
                entry.tell(tracked)
                tracked.notes(entry.name, entry.content)
            except Exception as error:
                troubles.append(f"{entry.name}: {_said(error)}")
        try:
            if ends_as:
                tracked.ends(ends_as)
        except Exception as error:
            troubles.append(_said(error))
        return "; ".join(dict.fromkeys(troubles))


def _is_outdated(tracked: TrackedRun, entry: Entry) -> bool:
    told = tracked.record.told.get(entry.name, entry.content)
    return entry.is_final and told != entry.content


def _said(error: Exception) -> str:
    """Its first line, or what stands for one, without credentials."""
    lines = masked(str(error)).strip().splitlines()
    text = lines[0] if lines else ""
    return f"{type(error).__name__}: {text[:300]}"
