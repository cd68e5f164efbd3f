"""Says what is under a root of runs: stages with their state, progress, age, owner or last error, and where to look.

python -m jobs.status --root runs

Reads files only: it works while jobs run, after they died, and from any machine that reaches the root.
"""

import argparse
import sys
from collections.abc import Sequence

from behaviorlm.errors import BehaviorLMError
from behaviorlm_ray.upkeep.status import status_lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", default="runs", help="storage.root of the runs")
    options = parser.parse_args(arguments)
    try:
        print("\n".join(status_lines(options.root)))
    except BehaviorLMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
