"""Say what is under a root of runs: stages, their state, progress, age, owner or last error, where to look.

%(prog)s --root runs

Reads files only: it works while jobs run, after they died, and from any machine that reaches the root.
"""

from collections.abc import Sequence

from behaviorlm_ray.console.command_line import exit_status, option_parser
from behaviorlm_ray.upkeep.status import status_lines


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Print the table. Returns the exit code."""
    parser = option_parser(__doc__, prog)
    parser.add_argument("--root", default="runs", help="storage.root of the runs")
    options = parser.parse_args(arguments)
    return exit_status(lambda: print("\n".join(status_lines(options.root))), "interrupted")
