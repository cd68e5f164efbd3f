"""Remove what nothing needs any more below a root of runs, after it has listed it with sizes and asked.

%(prog)s --root runs [--attempts] [--stages] [--copies] [--older-than-days 7] [--yes]

Old attempts: of finished stages, all but the one that was committed. Stages: those that no run, search or study below
the root reaches. Copies: of S3 objects, on this machine. Nothing that a job is at work on is touched.
"""

import sys
from collections.abc import Sequence

from behaviorlm.errors import BehaviorLMError
from behaviorlm_ray.console.command_line import option_parser
from behaviorlm_ray.upkeep.cleaning import NAMES, clean

SECONDS_OF_A_DAY = 86400.0


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """List, ask, remove. Returns the exit code."""
    parser = option_parser(__doc__, prog)
    add = parser.add_argument
    add("--root", default="runs", help="storage.root of the runs")
    add("--attempts", action="store_true", help="old attempts; without any of these three: all of them")
    add("--stages", action="store_true", help="stages that nothing reaches")
    add("--copies", action="store_true", help="this machine's copies of S3 objects")
    add("--older-than-days", type=float, default=0.0, metavar="N", help="only what is older; 0: of any age")
    add("--yes", action="store_true", help="remove without asking")
    options = parser.parse_args(arguments)
    if not options.older_than_days >= 0:
        parser.error("--older-than-days must be 0 or more")
    kinds = [kind for kind in NAMES if getattr(options, kind)] or list(NAMES)

    def agree() -> bool:
        if options.yes:
            return True
        if not sys.stdin.isatty():
            print("nothing was removed: there is no terminal to ask on; --yes goes ahead")
            return False
        try:
            answer = input("remove all of this? [y/N] ")
        except EOFError:
            answer = ""
        if answer.strip().lower() in ("y", "yes"):
            return True
        print("nothing was removed")
        return False

    try:
        older_than = options.older_than_days * SECONDS_OF_A_DAY
        whole = clean(options.root, kinds, older_than, agree, lambda text: print(text, flush=True))
    except BehaviorLMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0 if whole else 1
