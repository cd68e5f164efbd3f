"""What each step did, kept in parts that are written once: a checkpoint repeats no more than the steps of the last one.

Whole parts lie in a folder beside the checkpoints of an attempt, which name them with size and sha256. Nothing is
appended to or replaced: on S3 neither could be done safely.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from behaviorlm_ray import storage
from behaviorlm_ray.storage import FileDigest, Location

STEPS = 2_000
"""Steps of a part (our choice): half a megabyte."""
FOLDER = "records"
NAME = re.compile(r"\d{10,}-[0-9a-f]{16}\.jsonl")
Parts = Mapping[str, FileDigest]
"""Names of the files of the first whole parts, in order, with what they hold."""


def write_parts(
    root: Location, parts: Parts, rest: Sequence[Mapping[str, Any]]
) -> tuple[Parts, Sequence[Mapping[str, Any]]]:
    """Write the whole parts that are in the `rest`, the steps behind `parts`. Returns all parts and what is left.

    A part's name has its content's hash: a step that was done again after a loss took other seconds.
    """
    found = dict(parts)
    if len(rest) >= STEPS:
        storage.make_folder(root / FOLDER)
    while len(rest) >= STEPS:
        content = encoded(rest[:STEPS])
        digest = hashlib.sha256(content).hexdigest()
        name = f"{len(found) * STEPS:010d}-{digest[:16]}.jsonl"
        storage.write_replacing(root / FOLDER / name, content)
        found[name], rest = FileDigest(len(content), digest), rest[STEPS:]
    return found, rest


def read_parts(root: Location, parts: Parts) -> list[dict[str, Any]]:
    """The records of whole parts. Raises StorageError, and ValueError for what is no JSON."""
    folder = storage.with_digests(root / FOLDER, parts)
    return [record for name in parts for record in decoded(storage.read_text(folder / name))]


def damaged_parts(root: Location, parts: Parts) -> list[str]:
    """A line for each part that is not there as it was written, or has a name that leads elsewhere."""
    wrong = [f"{name!r} is no part" for name in parts if not NAME.fullmatch(name)]
    return wrong or [f"{FOLDER}/{problem}" for problem in storage.damaged_files(root / FOLDER, parts)]


def copy_parts(root: Location, target: Location, parts: Iterable[str]) -> None:
    """The files of parts beside the checkpoints of another folder."""
    storage.make_folder(target / FOLDER)
    for name in filter(NAME.fullmatch, parts):
        content = storage.read_text(root / FOLDER / name).encode()
        storage.write_replacing(target / FOLDER / name, content)


def encoded(records: Iterable[Mapping[str, Any]]) -> bytes:
    """A line of JSON for each."""
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def decoded(text: str) -> list[dict[str, Any]]:
    """The records of lines. Raises ValueError."""
    return [json.loads(line) for line in text.splitlines()]
