"""What came next, appended as JSON lines that `events` reads: whole lines, in files of bounded size."""

import json
import os
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from behaviorlm.errors import ConfigError, DataError, StorageError
from behaviorlm.log_files.config import source_columns
from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.predictor.requests import Request
from behaviorlm.service.settings import FeedbackSettings

PATTERN = "feedback-*.jsonl"


class FolderFullError(StorageError):
    """The folder holds as much feedback as it may."""


class FeedbackLog:
    """The folder of a service's feedback. A process writes files of its own; only its owner may read them."""

    def __init__(self, settings: FeedbackSettings) -> None:
        assert settings.folder is not None
        self.folder = Path(settings.folder).expanduser()
        self._settings = settings
        self._lock = threading.Lock()
        self._path: Path | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"feedback.folder: {self.folder} cannot be made ({error})") from None
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise ConfigError(f"feedback.folder: {self.folder} cannot be written to")

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows; they are on disk after it, or none of them is. Raises FolderFullError and StorageError."""
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        with self._lock:
            held = sum(_size(path) or 0 for path in self.folder.glob(PATTERN))
            if held + len(text) > self._settings.folder_bytes:
                raise FolderFullError(
                    f"the feedback would exceed feedback.folder_bytes ({self._settings.folder_bytes}); nothing was kept"
                )
            path = self._current(len(text))
            try:
                _append_whole(path, text)
            except OSError as error:
                raise StorageError(
                    f"the feedback cannot be written ({error.strerror}); nothing was kept"
                ) from error

    def _current(self, more: int) -> Path:
        """The file to write to: another one once it would be larger than it may.

        Or once it was moved away: moved after it, another of the same name would take its place.
        """
        path = self._path
        size = None if path is None else _size(path)
        if path is None or size is None or 0 < size > self._settings.file_bytes - more:
            now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
            self._path = path = self.folder / f"feedback-{now}-{os.getpid()}.jsonl"
        return path


def checked_rows(
    model: BehaviorModel, events: Sequence[Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Events as rows of the log, every column that it is read by there, and what is odd about them.

    Raises DataError that names event and column for what preparation would put into quarantine.
    """
    mapping = model.artifact.events
    columns = list(dict.fromkeys(source_columns(mapping).values()))
    required = [mapping.user, mapping.behavior, *mapping.order.names]
    required += [] if mapping.session is None else [mapping.session]
    for place, event in enumerate(events):
        missing = [
            column
            for column in required
            if not str("" if event.get(column) is None else event[column]).strip()
        ]
        if missing:
            raise DataError(f"event {place}: {', '.join(map(repr, missing))} is missing or empty")
    for place, history in enumerate(model.read([Request([event]) for event in events])):
        if not history.size:
            left_out = next(warning for warning in history.warnings if "left out: " in warning)
            raise DataError(f"event {place} cannot be used: {left_out.partition('left out: ')[2]}")
    other = sorted({column for event in events for column in event} - set(columns))
    warnings = (
        [f"columns that the log did not have were kept: {', '.join(map(repr, other[:8]))}"] if other else []
    )
    return [{**dict.fromkeys(columns), **event} for event in events], warnings


def _size(path: Path) -> int | None:
    """Bytes of a file; None where it is gone, for files may be moved away at any time."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _append_whole(path: Path, text: bytes) -> None:
    """All of the text, or nothing of it."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        before = os.fstat(handle).st_size
        try:
            written = os.write(handle, text)
            while written < len(text):  # a full disk takes a part first, then raises
                written += os.write(handle, text[written:])
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, before)
            raise
    finally:
        os.close(handle)
