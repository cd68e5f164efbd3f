"""What the commit protocol takes from the machine and the process it runs in; a simulation brings its own.

The other thing it stands on, the storage, comes with the root (`storage.store_of`).
"""

import os
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from behaviorlm.files.clock import SYSTEM_CLOCK, Clock


@dataclass(frozen=True)
class Host:
    """Who runs a stage, and by which clock.

    machine: equal only where process ids mean the same; start_of: when a process of this machine started, "" if it is
    gone; new_name: a name that nobody has had.
    """

    clock: Clock
    machine: str
    process: int
    start_of: Callable[[int], str]
    new_name: Callable[[], str]


def this_host() -> Host:
    """This process on this machine."""
    return Host(SYSTEM_CLOCK, machine_identity(), os.getpid(), process_start, lambda: uuid.uuid4().hex)


def machine_identity() -> str:
    """Names the machine, its boot and its process numbering: equal only where a process id means the same."""
    boot = _text_of("/proc/sys/kernel/random/boot_id")
    try:
        numbering = os.readlink("/proc/self/ns/pid")
    except OSError:
        numbering = ""
    return f"{socket.gethostname()}/{boot}/{numbering}"


def process_start(process: int) -> str:
    """When a process started, in the system's own ticks; tells a process from a later one of the same number.

    Empty if there is no such process, or only a dead one that nobody has waited for; "running" where the
    system does not say.
    """
    if os.path.exists("/proc/self/stat"):
        # The name of the program, in parentheses, may hold spaces: count the fields after it.
        fields = _text_of(f"/proc/{process}/stat").rpartition(")")[2].split()
        return fields[19] if fields and fields[0] not in "ZX" else ""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "running"


def _text_of(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
