"""Say what is under a root of runs: stages, their state, progress, age, owner or last error, where to look.

%(prog)s --root runs

Reads files only: it works while jobs run, after they died, and from any machine that reaches the root.
"""

import argparse
import sys
from collections.abc import Sequence

from behaviorlm.errors import BehaviorLMError
from behaviorlm_ray.upkeep.status import status_lines


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Print the table. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", default="runs", help="storage.root of the runs")
    options = parser.parse_args(arguments)
    try:
        print("\n".join(status_lines(options.root)))
    except BehaviorLMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
