"""Makes the inputs of the demo from the synthetic world: log, conversations, knowledge text and base model.

python -m jobs.demo_inputs [--folder runs/demo/inputs] [--users 300] [--seed 0]
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from behaviorlm.errors import BehaviorLMError
from behaviorlm.world.base_model import make_base_model
from behaviorlm.world.log import write_log
from behaviorlm.world.process import WORLD_VERSION, default_world
from behaviorlm.world.text import knowledge_sentences, small_talk, write_conversations

CONVERSATIONS = 1000
RECORD = "inputs.json"
MADE = ("events.jsonl.gz", "conversations.jsonl.gz", "knowledge.txt")
"""The files beside the folder `base`; anything else in the folder is left alone."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make what is missing or damaged. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/demo/inputs"), help="where the inputs go")
    parser.add_argument("--users", type=int, default=300, help="users in the log, with 20 to 40 events each")
    parser.add_argument("--seed", type=int, default=0, help="seed of the log, the text and the base model")
    options = parser.parse_args(arguments)
    settings = {"world_version": WORLD_VERSION, "users": options.users, "seed": options.seed}
    try:
        if is_made(options.folder, settings):
            print(f"{options.folder} holds the demo inputs of these settings already")
        else:
            make(options.folder, settings)
    except (BehaviorLMError, OSError) as error:
        print(f"demo inputs: {error}", file=sys.stderr)
        return 1
    return 0


def make(folder: Path, settings: dict[str, int]) -> None:
    """Write the four inputs, then the record of their hashes, and say what was written."""
    seed = settings["seed"]
    events = write_log(folder / "events.jsonl.gz", settings["users"], seed)
    print(f"wrote {folder / 'events.jsonl.gz'}: {events} synthetic events of {settings['users']} users")
    # The base model read small talk of the same templates, as a real one has read chats before.
    write_conversations(folder / "conversations.jsonl.gz", small_talk(CONVERSATIONS, seed + 1))
    print(f"wrote {folder / 'conversations.jsonl.gz'}: {CONVERSATIONS} conversations of small talk")
    text = "\n".join(knowledge_sentences(default_world(), 500, seed)) + "\n"
    (folder / "knowledge.txt").write_text(text, encoding="utf-8")
    print(f"wrote {folder / 'knowledge.txt'}: a sample of what the base model reads; training it (30 s)")
    make_base_model(folder / "base", seed)
    print(f"wrote {folder / 'base'}: tokenizer and a tiny Llama")
    record = {"settings": settings, "files": hashes(folder)}
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def is_made(folder: Path, settings: dict[str, int]) -> bool:
    """Whether the folder holds inputs of these settings whose files are as they were written."""
    try:
        record: Any = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return bool(record == {"settings": settings, "files": hashes(folder)})
    except (OSError, ValueError):
        return False


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of the inputs, by its path in the folder. Raises OSError if one is missing."""
    files = sorted([*(folder / name for name in MADE), *(folder / "base").iterdir()])
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


if __name__ == "__main__":
    sys.exit(main())
