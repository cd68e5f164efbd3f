"""Writes a log of a synthetic world in parts, what can be read about that world, and small talk.

python -m jobs.world --folder runs/world [--users 3000] [--seed 0] [--generator second] [--opaque] [--knowledge 1.0]
python -m jobs.world --describe [--generator second] [--users 1000]

Everything in it is synthetic. `--describe` prints statistics and the frontier instead of writing anything.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from behaviorlm.errors import BehaviorLMError
from behaviorlm.world.description import describe
from behaviorlm.world.errands import errands_world
from behaviorlm.world.generator import Generator
from behaviorlm.world.log import check_counts, part_count
from behaviorlm.world.opaque import OpaqueWorld
from behaviorlm.world.process import default_world
from behaviorlm.world.text import knowledge_sentences, small_talk, write_conversations


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or describe. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--folder",
        type=Path,
        default=Path("runs/world"),
        help="where log and text go; all nodes must reach it",
    )
    add("--users", type=int, default=1000)
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
            write(world, options)
    except (BehaviorLMError, OSError) as error:
        print(f"world: {error}", file=sys.stderr)
        return 1
    return 0


def write(world: Generator, options: argparse.Namespace) -> None:
    """Text first, because it is quick and checks the dial; then the log."""
    from behaviorlm_ray.cluster import check_storage_root, connect  # --describe needs no Ray
    from behaviorlm_ray.world_logs import write_log_in_parts

    check_storage_root(str(options.folder))
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    sentences = knowledge_sentences(world, options.sentences, options.seed, options.knowledge)
    (folder / "knowledge.txt").write_text("\n".join(sentences) + "\n", encoding="utf-8")
    # The base model reads small talk of the seed itself; what it is tuned with must be other conversations.
    write_conversations(
        folder / "conversations.jsonl.gz", small_talk(options.conversations, options.seed + 1)
    )
    shown = OpaqueWorld(world, options.seed) if options.opaque else world
    if part_count(options.users) > 1:
        connect()
    events = write_log_in_parts(folder / "log", options.users, options.seed, tuple(options.events), shown)
    print(f"wrote {events} synthetic events of {options.users} users, and text, to {folder}")


if __name__ == "__main__":
    sys.exit(main())
