"""Answers that were paid for, kept in the root of the runs, so that no run of it pays for one again.

<root>/answers/<two digits>/<key>.json, a file for each answer; the key is a hash of where and what was asked: the
endpoint's address, the model, the whole prompt and all parameters.
"""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from behaviorlm_ray import storage
from behaviorlm_ray.endpoints.requests import Answered
from behaviorlm_ray.storage import Location

ANSWERS = "answers"
"""The folder in the root."""


def key_of_answer(url: str, body: dict[str, Any]) -> str:
    """The key of what is asked by a body; 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps([url, body], sort_keys=True).encode()).hexdigest()


def kept_answer(root: Location, key: str) -> Answered | None:
    """The answer that was kept; None where there is none, or what is there is damaged: it is then asked for again."""
    content = storage.read_bytes(_place(root, key))
    try:
        found = json.loads(content or b"")
        steps = found.pop("steps")
        return Answered(**found, steps=None if steps is None else [(token, of) for token, of in steps])
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def keep_answer(root: Location, key: str, answered: Answered) -> None:
    """Write it, whole or not at all. Raises StorageError."""
    storage.write_replacing(_place(root, key), json.dumps(asdict(answered)).encode())


def _place(root: Location, key: str) -> Location:
    return root / ANSWERS / key[:2] / f"{key}.json"
