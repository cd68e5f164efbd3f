"""What libraries print goes to a file: weight-loading bars, reports of Ray Train, deprecations, workers' output.

The file descriptors themselves are turned, since Ray's own threads and native code write to them. Lines of this project
that Ray forwards from workers are picked out and told to the screen.
"""

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

COLOR = re.compile(r"\x1b\[\d+m")
OURS = re.compile(
    r"(?:\(.*?pid=\d+.*?\) )?(?P<line>(?:tuning|scoring|prepare|storage|input|model|trial \d+): .*)"
)
"""A line of this project, as a worker printed it, perhaps behind Ray's prefix."""

STEP = re.compile(r"tuning: (?P<words>step \d+/\d+, .*)")


class LibraryLog:
    """Where it goes: into memory, and from `begin` on into a file. State: either."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: bytes = b""
        self._path: Path | None = None

    def write(self, chunk: bytes) -> None:
        """Add to it."""
        with self._lock:
            if self._path is None:
                self._held += chunk
                return
            with open(self._path, "ab") as file:
                file.write(chunk)

    def begin(self, path: Path) -> None:
        """Make the file, with what was held."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            path.write_bytes(self._held)
            self._path = path

    def told(self) -> str:
        """For who has to find out what went wrong: the file's place, or what no file has."""
        if self._path is not None:
            return f"what libraries and workers printed is in {self._path}"
        return self._held.decode("utf-8", "replace").strip()


@contextmanager
def library_output_in(
    log: LibraryLog, tell: Callable[[str], None], progress: Callable[[str, str], None]
) -> Iterator[TextIO]:
    """Send what this process and its Ray print to a log for the block; yields the stream that people see.

    tell: called with each line of ours; progress: with ("tuning", words) for its steps.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(number) for number in (1, 2)]
    reader, writer = os.pipe()
    for number in (1, 2):
        os.dup2(writer, number)
    os.close(writer)
    done = threading.Event()
    with os.fdopen(os.dup(saved[0]), "w", buffering=1, encoding="utf-8") as seen:
        pump = threading.Thread(
            target=_pump, args=(reader, log, tell, progress, done), name="library output", daemon=True
        )
        pump.start()
        try:
            yield seen
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            done.set()
            os.write(1, b"\n")  # wakes the pump; processes of Ray may hold the pipe open
            for number, descriptor in zip((1, 2), saved, strict=True):
                os.dup2(descriptor, number)
                os.close(descriptor)
            pump.join(timeout=5)


def _pump(
    reader: int,
    log: LibraryLog,
    tell: Callable[[str], None],
    progress: Callable[[str, str], None],
    done: threading.Event,
) -> None:
    left = b""
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while chunk := pipe.read(65536):
            log.write(chunk)
            *lines, left = (left + chunk).split(b"\n")
            for line in lines:
                _pick(line.decode("utf-8", "replace"), tell, progress)
            if done.is_set():
                return


def _pick(line: str, tell: Callable[[str], None], progress: Callable[[str, str], None]) -> None:
    found = OURS.match(COLOR.sub("", line))
    if found is None:
        return
    step = STEP.match(found["line"])
    if step is not None:
        progress("tuning", step["words"])
    else:
        tell(found["line"])
