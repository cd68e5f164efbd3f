"""Logs of the synthetic worlds, of any size, their parts written in parallel through Ray Data, and their text."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import ray.data

from behaviorlm.scoring.cloze_questions import write_cloze
from behaviorlm_lab.world.cloze import cloze_questions
from behaviorlm_lab.world.generator import Generator
from behaviorlm_lab.world.log import check_counts, part_count, part_name, write_part
from behaviorlm_lab.world.opaque import OpaqueWorld
from behaviorlm_lab.world.text import (
    EVERYDAY_FACTS,
    SCHOOL_FACTS,
    knowledge_sentences,
    small_talk,
    write_conversations,
)
from behaviorlm_ray.cluster.connection import connected
from behaviorlm_ray.cluster.submission import check_local_root
from behaviorlm_ray.storage import storage_errors


def write_world(
    folder: Path,
    world: Generator,
    users: int,
    seed: int,
    events_per_user: tuple[int, int],
    text: tuple[int, int, float],
    codes: int | None,
) -> int:
    """Write text, cloze questions, small talk and the log of a world below `folder`. Returns the number of events.

    text: sentences of knowledge, conversations of each kind, and the dial of `knowledge_sentences`. codes: seed of the
    codes that stand for names in the log, not in the text; None: names. Connects to Ray for a log of several parts.
    Raises ConfigError and StorageError.
    """
    check_local_root(str(folder))
    folder = folder.absolute()
    sentences, conversations, knowledge = text
    with storage_errors(folder, "write"):
        folder.mkdir(parents=True, exist_ok=True)
        lines = knowledge_sentences(world, sentences, seed, knowledge)
        (folder / "knowledge.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        write_cloze(folder / "cloze.jsonl", cloze_questions(world, seed))
    # The base model reads small talk of the seed itself; what it is tuned with must be other conversations.
    for name, facts in (("everyday", EVERYDAY_FACTS), ("school", SCHOOL_FACTS)):
        write_conversations(folder / f"{name}.jsonl.gz", small_talk(conversations, seed + 1, facts))
    shown = world if codes is None else OpaqueWorld(world, codes)
    with connected() if part_count(users) > 1 else nullcontext():
        return write_log_in_parts(folder / "log", users, seed, events_per_user, shown)


def write_log_in_parts(
    folder: str | Path, users: int, seed: int, events_per_user: tuple[int, int], world: Generator
) -> int:
    """Write `part-00000.jsonl.gz`, ... of 1000 users each; every worker must reach the absolute `folder`.

    The bytes are the same whatever the cluster: a part depends on its number alone. Parts of an earlier, larger log
    are removed. A single part is written without Ray. Returns the number of events. Raises ConfigError and
    StorageError.
    """
    check_counts(users, seed, events_per_user)
    parts = part_count(users)
    kept = {part_name(part) for part in range(parts)}
    with storage_errors(Path(folder), "clean"):
        for old in Path(folder).glob("part-*.jsonl.gz"):
            if old.name not in kept:
                old.unlink()
    if parts == 1:
        return write_part(folder, 0, users, seed, events_per_user, world)
    shared_world = ray.put(world)

    def write(row: dict[str, Any]) -> dict[str, Any]:
        known: Generator = ray.get(shared_world)
        return {"events": write_part(folder, int(row["id"]), users, seed, events_per_user, known)}

    written = ray.data.range(parts, override_num_blocks=parts).map(write).take_all()
    return sum(int(row["events"]) for row in written)
