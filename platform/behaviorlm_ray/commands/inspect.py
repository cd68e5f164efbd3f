"""Look at a log before any config exists: files, columns, a mapping to start from, what the log is like.

%(prog)s logs/ --to config.yaml --html look.html
%(prog)s --mapping config.yaml

Reads the first rows of the files, spread over them, within seconds and without Ray. What it proposes is written as a
configuration that runs, each choice with its reason and its alternatives: check them.
"""

import argparse
import sys
from collections.abc import Sequence

from behaviorlm_ray.console.command_line import exit_status, option_parser
from behaviorlm_ray.console.config_files import load_config
from behaviorlm_ray.pipeline.settings import RunSettings


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Look, print, write what was asked for. Returns the exit status."""
    options = _options(arguments, prog)
    return exit_status(lambda: print_look(options), "interrupted")


def print_look(options: argparse.Namespace) -> None:
    """What the command does."""
    settings = load_config(RunSettings, options.mapping, [])[0] if options.mapping else None
    from rich.console import Console

    from behaviorlm_ray.inspection.overview import proposed, with_mapping, write_new
    from behaviorlm_ray.inspection.terminal import show

    rows = options.rows
    overview = proposed(options.paths, rows) if settings is None else with_mapping(settings, rows)
    cost = []
    if options.base:
        from behaviorlm_ray.inspection.base_cost import cost_lines

        cost = cost_lines(overview, options.base)
    notes = [*cost]
    if options.to:
        write_new(options.to, overview.text)
        notes.append(f"wrote {options.to}; next: behaviorlm run --config {options.to} --dry-run")
    if options.html:
        from behaviorlm_ray.inspection.page import rendered

        write_new(options.html, rendered(overview, cost))
        notes.append(f"wrote {options.html}")
    show(overview, Console(width=None if sys.stdout.isatty() else 160, highlight=False), notes)


def _options(arguments: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
    parser = option_parser(__doc__, prog)
    add = parser.add_argument
    add("paths", nargs="*", metavar="PATH", help="files, folders and globs, local or s3://bucket/key")
    add("--mapping", metavar="FILE", help="look at the log of this configuration, by its mapping")
    add("--rows", type=int, default=100_000, metavar="N", help="rows to look at (default 100,000)")
    add("--to", metavar="FILE", help="write what is proposed as a configuration; never over another file")
    add("--html", metavar="FILE", help="write a page with plots; never over another file")
    add(
        "--base",
        metavar="DIR",
        help="a base model: what tokens, samples and memory the log would take with it",
    )
    options = parser.parse_args(arguments)
    if bool(options.paths) == bool(options.mapping):
        parser.error("name either the files of a log or a configuration with --mapping")
    if options.rows < 1:
        parser.error("--rows must be 1 or more")
    if options.mapping and options.to:
        parser.error("--to writes what is proposed, and with --mapping nothing is")
    return options
