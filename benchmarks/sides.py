"""A side of a benchmark that runs in a process of its own, with other packages: lines of JSON ask it and answer."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Side:
    """State: the process, which ends when what it reads ends."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def answer(self, **asked: Any) -> Any:
        """What it answers; raises SystemExit where it has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"the other side's process ended: {self._process.wait()}")
        return json.loads(answer)


class CheckoutSide(Side):
    """A file of ours that runs with the packages of another checkout of this repository, and tells whose it has.

    State: the process; found: its first answer, with the place of the code.
    """

    def __init__(self, checkout: Path, file: Path, **asked: Any) -> None:
        """asked: at first. Raises SystemExit where the checkout has no such package."""
        root = checkout.resolve()
        paths = os.pathsep.join([str(root), str(root / "platform")])
        super().__init__([sys.executable, "-W", "ignore", str(file)], {"PYTHONPATH": paths})
        self.found = self.answer(**asked)
        if not Path(self.found["code"]).is_relative_to(root):
            raise SystemExit(f"{checkout}: has no package behaviorlm; {self.found['code']} was taken")


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds of the process, and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - wall
