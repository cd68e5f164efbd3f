"""What a search knows of itself on storage: two files for each task, so that a killed search goes on.

    <root>/<search>/tasks-<identity>/
        decided-000012.json    what task 12 is, written once, before it starts
        task-000012.json       how it ended, written once

A task that was decided and has not ended is run again, and its stages go on from what they finished. It stays decided
also where the budget or the number of trials at a time, from which decisions follow, has been changed since.
"""

from typing import TypeVar

from pydantic import ValidationError

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.search.decisions import Outcome, Task
from behaviorlm_ray.storage import Location

Model = TypeVar("Model", Task, Outcome)
DECIDED, ENDED = "decided-{:06d}.json", "task-{:06d}.json"


class Ledger:
    """The files of one search. State: the tasks that were decided and the outcomes of those that ended, by number."""

    def __init__(self, folder: Location) -> None:
        """Reads what is there. Raises StorageError for a file that is not as it was written."""
        self.folder = folder
        self.decided: dict[int, Task] = {}
        self.outcomes: dict[int, Outcome] = {}
        for name in storage.list_files(folder):
            if name.startswith("task-"):
                outcome = self._read(name, Outcome)
                self.outcomes[outcome.task.number] = outcome
            elif name.startswith("decided-"):
                task = self._read(name, Task)
                self.decided[task.number] = task

    def decide(self, task: Task) -> Task:
        """Write what the task of this number is. A second process may have done so first; its decision stays."""
        self.decided[task.number] = self._write(DECIDED.format(task.number), task)
        return self.decided[task.number]

    def record(self, outcome: Outcome) -> None:
        """Write how a task ended. A second process of the same search may have done so first; its outcome stays."""
        self.outcomes[outcome.task.number] = self._write(ENDED.format(outcome.task.number), outcome)

    def forget(self, number: int) -> None:
        """Remove an outcome, and all of later tasks, which may have followed from it."""
        later = [ENDED.format(known) for known in self.outcomes if known >= number]
        for name in later + [DECIDED.format(known) for known in self.decided if known > number]:
            content = storage.read_bytes(self.folder / name)
            if content is not None:
                storage.remove_if(self.folder / name, content)
        self.outcomes = {known: outcome for known, outcome in self.outcomes.items() if known < number}
        self.decided = {known: task for known, task in self.decided.items() if known <= number}

    def _write(self, name: str, value: Model) -> Model:
        """Write it once. Returns what is there then."""
        written = storage.write_exclusive(self.folder / name, value.model_dump_json(indent=1).encode())
        return value if written else self._read(name, type(value))

    def _read(self, name: str, kind: type[Model]) -> Model:
        try:
            return kind.model_validate_json(storage.read_bytes(self.folder / name) or b"")
        except ValidationError:
            raise StorageError(
                f"{self.folder / name} is damaged; remove it and run the same command again: finished stages are reused"
            ) from None
