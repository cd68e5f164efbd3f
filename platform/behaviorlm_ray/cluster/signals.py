"""What signals do stays what it was, also where Ray sets handlers of its own and leaves them there."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def signal_kept(number: signal.Signals) -> Iterator[None]:
    """After the block the signal does what it did before it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(number)
    try:
        yield
    finally:
        signal.signal(number, before)
