"""Patience with faults that pass: what fails is tried again, with growing and varying pauses, until a deadline.

Arrow tries a request some times by itself; how long that takes is left to chance, and with many readers at once it
soon gives up. So it makes few tries here, and whole requests are repeated until patience ends. Requests by boto3 are
repeated by the same loop.
"""

import io
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from behaviorlm.errors import StorageError
from behaviorlm.files.clock import SYSTEM_CLOCK, Clock

PATIENCE_SECONDS = 180.0
"""How long a request that fails for a passing reason is tried again by default: well over a minute."""
LONGEST_PAUSE_SECONDS = 8.0
ANNOUNCE_SECONDS = 10.0
CLOCK: Clock = SYSTEM_CLOCK
"""What the pauses between reads of inputs are kept by."""

T = TypeVar("T")

_seconds: ContextVar[float] = ContextVar("patience", default=PATIENCE_SECONDS)
_last_announced = 0.0
# Arrow has words only. Codes of curl for certificates that are not trusted stand for what does not pass.
_PASSING = re.compile(
    r"AWS Error (NETWORK_CONNECTION|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|SLOW_DOWN|THROTTLING|REQUEST_TIMEOUT"
    r"|BANDWIDTH_LIMIT_EXCEEDED)\b(?!.*curlCode: (51|58|60|77)\b)|HTTP status (5\d\d|429)\b|\bended too early\b",
    re.DOTALL,
)


class Deadline:
    """When trying again ends: so many seconds after it began or, of a transfer in parts, after any of them got on.

    State: that moment. Threads share one.
    """

    def __init__(self, seconds: float, clock: Clock = SYSTEM_CLOCK) -> None:
        self._seconds, self._clock = seconds, clock
        self.restart()

    def restart(self) -> None:
        """There is progress: from now on all of the seconds are left."""
        self._ends = self._clock.monotonic() + self._seconds

    def left(self) -> float:
        """Seconds until it; negative once it has passed."""
        return self._ends - self._clock.monotonic()


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """How long requests within the block are tried again."""
    before = _seconds.set(seconds)
    try:
        yield
    finally:
        _seconds.reset(before)


def patience_here() -> float:
    """Seconds of the block that this is called in; PATIENCE_SECONDS outside of any."""
    return _seconds.get()


def repeat_patiently(
    operation: Callable[[int], T],
    judge: Callable[[Exception, int, bool], str],
    seconds: float,
    clock: Clock = SYSTEM_CLOCK,
    deadline: Deadline | None = None,
) -> T:
    """Call `operation(repeats)` until it succeeds or `judge` raises, with pauses that grow and vary.

    judge: called as `judge(error, repeats, is_over)`; it raises what does not pass, and anything once patience is
    over, and returns what a log should say of the rest. deadline: None for one after so many seconds.
    """
    deadline = deadline or Deadline(seconds, clock)
    repeats = 0
    while True:
        try:
            return operation(repeats)
        except Exception as error:
            left = deadline.left()
            _announce(judge(error, repeats, left <= 0), left, clock)
        pause = min(LONGEST_PAUSE_SECONDS, 0.25 * 2**repeats, left)
        clock.sleep(pause * random.uniform(0.5, 1.0))
        repeats += 1


def patiently(action: str, path: str, operation: Callable[[], T], seconds: float | None = None) -> T:
    """Call `operation` until it succeeds, its OSError is of a kind that does not pass, or patience ends.

    seconds: None for those of the block. Raises that OSError as it is, and StorageError when patience has ended.
    """
    patience_seconds = _seconds.get() if seconds is None else seconds

    def judge(error: Exception, repeats: int, is_over: bool) -> str:
        if not isinstance(error, OSError) or not _PASSING.search(str(error)):
            raise error
        if is_over:
            raise StorageError(
                f"cannot {action} {path}: S3 did not serve the request for {patience_seconds:.0f} s ({error}). This is "
                "resumable: when the storage is reachable again, run the same command. storage.patience_seconds "
                "says how long to wait; AWS_ENDPOINT_URL and AWS_REGION where to look"
            ) from error
        return f"input: cannot {action} {path} now ({str(error).partition(chr(10))[0][:300]})"

    return repeat_patiently(lambda _: operation(), judge, patience_seconds, CLOCK)


class PatientObject(io.RawIOBase):
    """An object as a file for reading. `opened` opens it as Arrow does; every read of it is patient."""

    def __init__(self, path: str, opened: Callable[[], Any]) -> None:
        self.path = path
        self._position = 0
        self._patience = _seconds.get()  # Arrow reads in threads of its own, which know of no block
        self._object = patiently("open", path, opened)
        self._size: int = self._object.size()

    def readable(self) -> bool:
        """Whether it is open for reading: yes."""
        return True

    def seekable(self) -> bool:
        """Whether it can be read from any place: yes."""
        return True

    def tell(self) -> int:
        """The place of the next read, in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the place of the next read, in bytes; returns it."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer but for the end of the object; returns the number of bytes."""
        wanted = min(len(buffer), max(0, self._size - self._position))
        if wanted:
            buffer[:wanted] = patiently("read", self.path, lambda: self._read(wanted), self._patience)
        self._position += wanted
        return wanted

    def close(self) -> None:
        """Give the object back."""
        if not self.closed:
            self._object.close()
        super().close()

    def _read(self, wanted: int) -> bytes:
        content: bytes = self._object.read_at(wanted, self._position)
        if len(content) != wanted:
            raise OSError(f"an answer of {wanted} bytes ended too early, after {len(content)}")
        return content


def _announce(trouble: str, left: float, clock: Clock) -> None:
    """A line now and then, so that a log shows what a silent job waits for."""
    global _last_announced
    now = clock.monotonic()
    if abs(now - _last_announced) > ANNOUNCE_SECONDS:
        _last_announced = now
        print(f"{trouble}; trying for up to {left:.0f} s more", flush=True)
