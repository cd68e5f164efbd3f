"""What a search knows of itself on storage: one file for each task that ended, so that a killed one goes on.

    <root>/<search>/tasks-<identity>/
        start.json          which attempts of stages were there before the search began
        task-000012.json    how task 12 ended, written once

A task without a file has not ended; it is decided again, alike, and its stages go on from what they finished.
"""

import json

from pydantic import ValidationError

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.search.decisions import Outcome
from behaviorlm_ray.storage import Location

START = "start.json"
Attempts = dict[str, list[str]]
"""Names of the attempts of each stage, by the stage's folder."""


class Ledger:
    """The files of one search. State: those outcomes that are known."""

    def __init__(self, folder: Location) -> None:
        """Reads what is there. Raises StorageError for a file that is not as it was written."""
        self.folder = folder
        self.outcomes: dict[int, Outcome] = {}
        for name in storage.list_files(folder):
            if name.startswith("task-") and name.endswith(".json"):
                outcome = self._read(folder / name)
                self.outcomes[outcome.task.number] = outcome

    def attempts_before(self, now: Attempts) -> Attempts:
        """The attempts that were there when the search began: `now`, if it begins now."""
        path = self.folder / START
        storage.write_exclusive(path, json.dumps(now, indent=1).encode())
        content = storage.read_bytes(path)
        assert content is not None
        found: Attempts = json.loads(content)
        return found

    def record(self, outcome: Outcome) -> None:
        """Write how a task ended. A second process of the same search may have done so first; its outcome stays."""
        number = outcome.task.number
        path = self._path(number)
        written = storage.write_exclusive(path, outcome.model_dump_json(indent=1).encode())
        self.outcomes[number] = outcome if written else self._read(path)

    def forget(self, number: int) -> None:
        """Remove an outcome, and those of all later tasks, which may have followed from it."""
        for later in [known for known in self.outcomes if known >= number]:
            path = self._path(later)
            content = storage.read_bytes(path)
            if content is not None:
                storage.remove_if(path, content)
            del self.outcomes[later]

    def _path(self, number: int) -> Location:
        return self.folder / f"task-{number:06d}.json"

    def _read(self, path: Location) -> Outcome:
        content = storage.read_bytes(path)
        try:
            return Outcome.model_validate_json(content or b"")
        except ValidationError:
            raise StorageError(
                f"{path} is damaged; remove it and run the same command again: finished stages are reused"
            ) from None
