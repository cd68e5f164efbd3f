"""The command line that all jobs share: a config file, overrides, help for every key, a dry run, errors."""

import argparse
import atexit
import gc
import io
import json
import shlex
import shutil
import signal
import sys
import textwrap
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from behaviorlm.config import Settings, describe_settings, json_schema, resolved_text
from behaviorlm.errors import BehaviorLMError, ConfigError, DataError
from behaviorlm_ray.console.config_files import load_config
from behaviorlm_ray.console.shown import Look, looking

SettingsT = TypeVar("SettingsT", bound=Settings)

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
NEW_OBJECTS = 100_000
"""After how many the garbage collector looks. With 700, Python's own, it walks what libraries make while they load, and
keep, over and over: a fifth of the CPU time of a plan.
"""


def run_job(
    settings_class: type[SettingsT],
    main: Callable[[SettingsT], None],
    argv: Sequence[str] | None = None,
    description: str = "",
    *,
    plan: Callable[[SettingsT], None],
    prog: str | None = None,
    flags: Sequence[str] = (),
) -> int:
    """Parse, validate, and call `main`, or with --dry-run `plan`, with the settings. Returns the exit status.

    argv: what follows the command; None: the process's own. prog: the command as it was typed, for the usage line.
    flags: keys that need no value, `--every` for `--every=true`; a command that has some needs no --config.

    0 done; 2 wrong command line, configuration or data (all problems at once, on stderr, and before `main`
    starts where validation can find them); 1 any other failure of this project; 130 interrupted, by Ctrl-C or by
    SIGTERM, which `ray job stop` sends. The last line says which. `--help` exits at once, as argparse does;
    `--print-config` and `--print-schema` print and run nothing. An error that is not this project's own goes on, with
    its traceback.
    """
    gc.set_threshold(NEW_OBJECTS)
    atexit.register(gc.freeze)  # nor at the end, when all of it goes with the process: another fifth
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # Progress must show in the log of a submitted job, too.
    parser = _parser(settings_class, description, prog, needs_config=not flags)
    again = "  " + shlex.join([*parser.prog.split(), *(sys.argv[1:] if argv is None else argv)])
    known, rest = parser.parse_known_args(argv)
    if known.print_schema:
        print(json.dumps(json_schema(settings_class), indent=1, ensure_ascii=False))
        return 0
    try:
        settings, written = load_config(settings_class, _only_one(known.config), _overrides(rest, flags))
        if known.print_config:
            print(resolved_text(settings.model_dump(mode="json"), written), end="")
            return 0
        with _terminated_as_interrupted(), looking(Look(known.plain, known.quiet)):
            (plan if known.dry_run else main)(settings)
    except BehaviorLMError as error:
        return _failed(error, "" if known.dry_run else again)
    except KeyboardInterrupt as interruption:
        lines = [*_notes(interruption), "interrupted; run the same command again to continue:", again]
        print("\n".join(lines), file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def option_parser(description: str | None, prog: str | None) -> argparse.ArgumentParser:
    """Of a command without a config, whose docstring is shown as it is written."""
    return argparse.ArgumentParser(
        prog=prog,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def exit_status(work: Callable[[], None], interrupted: str) -> int:
    """Of a command without a config: what `work` comes to, its error told as above. interrupted: what Ctrl-C leaves."""
    try:
        work()
    except BehaviorLMError as error:
        print(f"error: {error}", file=sys.stderr)
        return _status(error)
    except KeyboardInterrupt:
        print(f"\n{interrupted}", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _status(error: BehaviorLMError) -> int:
    return EXIT_BAD_INPUT if isinstance(error, ConfigError | DataError) else EXIT_FAILED


def _failed(error: BehaviorLMError, again: str) -> int:
    status = _status(error)
    lines = [f"error: {error}", *_notes(error)]
    if again and len(lines) > 1:  # work was begun
        lines += ["once that is mended, the same command goes on:", again]
    print("\n".join([*lines, f"failed with exit status {status}"]), file=sys.stderr)
    return status


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, as `ray job stop` and Kubernetes send it, becomes KeyboardInterrupt: leases are given back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        signal.signal(
            signal.SIGTERM, signal.SIG_IGN
        )  # what is left to do must not be cut off by a second one
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser(
    settings_class: type[Settings], description: str, prog: str | None, *, needs_config: bool
) -> argparse.ArgumentParser:
    config = "--config FILE" if needs_config else "[--config FILE]"
    parser = option_parser(description, prog)
    parser.epilog = _keys_help(settings_class)
    parser.usage = f"%(prog)s {config} [--dry-run] [--plain | --quiet] [--key.of.the.config=VALUE ...]"
    parser.add_argument(
        "--config",
        metavar="FILE",
        action="append",
        help="a YAML file with the keys below, local or s3://bucket/key",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="validate everything and print the plan; run and write nothing"
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print every key's value as YAML that runs again, with where it comes from, and end",
    )
    parser.add_argument(
        "--print-schema",
        action="store_true",
        help="print the JSON schema of the config, for editors, and end",
    )
    parser.add_argument("--plain", action="store_true", help="lines instead of the live view of a terminal")
    parser.add_argument("--quiet", action="store_true", help="only warnings, errors and the result")
    return parser


def _only_one(configs: list[str] | None) -> str | None:
    """The file of --config. Raises ConfigError where several are given: all but one would be passed over."""
    if configs is not None and len(configs) > 1:
        raise ConfigError(
            f"--config stands {len(configs)} times, for {' and '.join(configs)}: keep one of them"
        )
    return configs[0] if configs else None


def _overrides(arguments: list[str], flags: Sequence[str]) -> list[str]:
    """`--a.b=1` and `--a.b 1` as `a.b=1`. Raises ConfigError naming all arguments that are neither."""
    overrides, problems = [], []
    remaining = deque(arguments)
    while remaining:
        argument = remaining.popleft()
        key = argument.removeprefix("--")
        if not argument.startswith("--") or not key or key.startswith("="):
            problems.append(
                f"{argument!r} is not an option; a key is set by --key.of.the.config=VALUE, all of a file by "
                "--config FILE"
            )
        elif "=" in key:
            overrides.append(key)
        elif key in flags:
            overrides.append(f"{key}=true")
        elif remaining and not remaining[0].startswith("--"):
            overrides.append(f"{key}={remaining.popleft()}")
        else:
            problems.append(f"{argument} needs a value: {argument}=VALUE")
    if problems:
        raise ConfigError("\n".join(problems))
    return overrides


def _keys_help(settings_class: type[Settings]) -> str:
    width = max(60, min(110, shutil.get_terminal_size().columns))
    lines = ["keys of the config (each also an option; text as it is, any other value written as YAML):"]
    for key in describe_settings(settings_class):
        default = "required" if key.default == "required" else f"default {key.default}"
        lines.append(f"  {key.path}  ({key.type}; {default})")
        lines += textwrap.wrap(key.description, width, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def _notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])
