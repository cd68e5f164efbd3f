"""The record of a long play: a line of JSON for each block of seeds, by which it goes on after it was cut short."""

import hashlib
import json
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from behaviorlm.files import clock, patient_reads
from behaviorlm_ray import stages, storage, upkeep
from behaviorlm_ray.tuning import step_folders

HERE = Path(__file__).parent


@dataclass
class Played:
    """What a number of worlds from a first seed came to. states: how many different ones; kinds: worlds of each."""

    first: int
    worlds: int = 0
    steps: int = 0
    states: int = 0
    cpu_seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Record:
    """State: the file, whose lines of other code stay there and do not count, and what was played by this code."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._origin = {"code": code_digest(), "commit": _commit()}
        self.played: dict[tuple[int, int], Played] = {}
        self.others = 0
        if path is None or not path.exists():
            return
        text = path.read_text()
        if text and not text.endswith("\n"):
            path.write_text(text + "\n")  # it was cut short in a line
        for line in text.splitlines():
            self._take(line)

    def _take(self, line: str) -> None:
        try:
            told = json.loads(line)
            code, _ = told.pop("code"), told.pop("commit")
            block = Played(**{**told, "kinds": Counter(told["kinds"])})
        except (ValueError, TypeError, KeyError, AttributeError):
            return
        if code == self._origin["code"]:
            self.played[block.first, block.worlds] = block
        else:
            self.others += block.worlds

    def add(self, block: Played) -> None:
        """A block more, at once in the file."""
        self.played[block.first, block.worlds] = block
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps({**vars(block), **self._origin}) + "\n")


def code_digest() -> str:
    """SHA-256 of the files that a world runs: the protocol, the storage below it, the clean-up, the simulator."""
    files = [Path(module.__file__ or "") for module in (clock, patient_reads, step_folders)]
    for folder in (HERE, *(Path(package.__file__ or "").parent for package in (stages, storage, upkeep))):
        files += sorted(folder.glob("*.py"))
    found = hashlib.sha256()
    for file in files:
        found.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return found.hexdigest()[:16]


def _commit() -> str:
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True, check=False
    )
    return told.stdout.strip() or "unknown"
