"""Write the log of a synthetic world, text and questions about that world, and small talk of two kinds.

%(prog)s --folder runs/world [--users 3000] [--seed 0] [--generator second] [--opaque] [--knowledge 1.0]
%(prog)s --describe [--generator second] [--users 1000]

Everything in it is synthetic. `--describe` prints statistics and the frontier instead of writing anything.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from behaviorlm.errors import BehaviorLMError
from behaviorlm_lab.truth.description import describe
from behaviorlm_lab.world.errands import errands_world
from behaviorlm_lab.world.generator import Generator
from behaviorlm_lab.world.log import check_counts
from behaviorlm_lab.world.process import default_world
from behaviorlm_ray.console.command_line import option_parser


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Write or describe. Returns the exit code."""
    parser = option_parser(__doc__, prog)
    add = parser.add_argument
    add(
        "--folder",
        type=Path,
        default=Path("runs/world"),
        help="where log and text go; all nodes must reach it",
    )
    add("--users", type=int, default=1000, help="people in it (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of log, text and codes")
    add("--events", type=int, nargs=2, default=(20, 40), metavar=("LOW", "HIGH"), help="events of a user")
    add("--generator", choices=("main", "second"), default="main", help="which world")
    add("--opaque", action="store_true", help="codes instead of names in the log; the text keeps the names")
    add("--knowledge", type=float, default=1.0, help="0 to 1, how much the text says about causes")
    add("--sentences", type=int, default=6000, help="sentences of knowledge")
    add("--conversations", type=int, default=1000, help="conversations of small talk")
    add("--describe", action="store_true", help="print statistics and the frontier, write nothing")
    options = parser.parse_args(arguments)
    world: Generator = default_world() if options.generator == "main" else errands_world()
    try:
        check_counts(options.users, options.seed, tuple(options.events))
        if options.describe:
            print("\n".join(describe(world, options.users, options.seed, tuple(options.events))))
        else:
            from behaviorlm_lab.world.parallel_log import write_world  # --describe needs no Ray

            text = (options.sentences, options.conversations, options.knowledge)
            codes = options.seed if options.opaque else None
            events = write_world(
                options.folder, world, options.users, options.seed, tuple(options.events), text, codes
            )
            print(f"wrote {events} synthetic events of {options.users} users, and text, to {options.folder}")
    except (BehaviorLMError, OSError) as error:
        print(f"world: {error}", file=sys.stderr)
        return 1
    return 0
