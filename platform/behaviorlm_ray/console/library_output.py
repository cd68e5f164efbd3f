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
OURS = re.compile(r"(?:\(.*?pid=\d+.*?\) )?(?P<line>(?:tuning|scoring|prepare|storage|input|trial \d+): .*)")
"""A line of this project, as a worker printed it, perhaps behind Ray's prefix."""

STEP = re.compile(r"tuning: (?P<words>step \d+/\d+, .*)")


@contextmanager
def library_output_in(
    log: Path, tell: Callable[[str], None], progress: Callable[[str, str], None]
) -> Iterator[TextIO]:
    """Send what this process and its Ray print to a file for the block; yields the stream that people see.

    tell: called with each line of ours; progress: with ("tuning", words) for its steps.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
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
    log: Path,
    tell: Callable[[str], None],
    progress: Callable[[str, str], None],
    done: threading.Event,
) -> None:
    left = b""
    with open(log, "ab", buffering=0) as file, os.fdopen(reader, "rb", buffering=0) as pipe:
        while chunk := pipe.read(65536):
            file.write(chunk)
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
