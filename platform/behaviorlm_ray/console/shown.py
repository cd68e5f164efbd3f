"""The screen that a job's command line asks for, around its work; what libraries print goes into a log meanwhile."""

import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from behaviorlm_ray.console.library_output import LibraryLog, library_output_in
from behaviorlm_ray.console.screen import Lines, Screen, screen, shown_on

if TYPE_CHECKING:
    from behaviorlm_ray.storage import Location

LOGS = "logs"


@dataclass(frozen=True)
class Look:
    """How a job is to be shown: lines also on a terminal; only what is worth saying."""

    plain: bool = False
    quiet: bool = False


_look: ContextVar[Look | None] = ContextVar("look", default=None)


@contextmanager
def looking(look: Look) -> Iterator[None]:
    """Within the block `shown` shows things this way."""
    before = _look.set(look)
    try:
        yield
    finally:
        _look.reset(before)


def log_folder(results: "Location") -> Path:
    """Where what libraries print goes: beside the results, on this machine where those are on S3."""
    return (
        results / LOGS
        if isinstance(results, Path)
        else Path(tempfile.gettempdir()) / f"behaviorlm-{LOGS}" / results.name
    )


@contextmanager
def shown(logs: Path | None, check: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Show the work of the block: live on a terminal, else in lines. What libraries print lies below `logs`.

    check: what has to hold before the first file is written; it is shown, too. logs: None where no file may be. An
    error or an interruption gets notes that say what is kept; an error also where the log is, or what it would hold.
    Where standard output is not the process's own, as in a notebook, nothing is turned away.
    """
    if not _is_the_process_own(sys.stdout):
        check()
        yield
        return
    log = LibraryLog()
    try:
        with (
            library_output_in(log, _say, _progress) as stream,
            _screen_on(stream) as chosen,
            shown_on(chosen),
            _saying_what_is_kept(chosen),
        ):
            check()
            if logs is not None:
                log.begin(logs / f"{datetime.now():%Y-%m-%d-%H%M%S}.log")
            yield
    except Exception as error:
        if told := log.told():
            error.add_note(told)
        raise


def fitted(text: str) -> str:
    """The text with its lines broken between words where standard output is a terminal that is narrower."""
    if not sys.stdout.isatty():
        return text
    width = shutil.get_terminal_size().columns
    whole = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(line if len(line) <= width else whole.fill(line) for line in text.split("\n"))


@contextmanager
def _saying_what_is_kept(chosen: Screen) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        for line in chosen.summary():
            error.add_note(line)
        raise


@contextmanager
def _screen_on(stream: TextIO) -> Iterator[Screen]:
    look = _look.get() or Look()
    if not stream.isatty() or look.plain or look.quiet:
        yield Lines(lambda line: print(line, file=stream, flush=True), quiet=look.quiet)
        return
    from behaviorlm_ray.console.live import LiveScreen  # rich takes a while to load

    live = LiveScreen(stream)
    try:
        yield live
    finally:
        live.close()


def _say(line: str) -> None:
    screen().says(line)


def _progress(what: str, words: str) -> None:
    screen().progresses(what, words)


def _is_the_process_own(stream: object) -> bool:
    try:
        return stream.fileno() == 1  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return False
