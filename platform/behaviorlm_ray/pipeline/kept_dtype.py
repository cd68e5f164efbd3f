"""What `model.dtype: auto` came to for a base, kept in the root of its runs: one choice for all that share stages.

<root>/dtype-<beginning of the base's fingerprint>.json is written once, by the first run that asks; a run that goes on
on other hardware, and the trials of a search wherever they are, read it.
"""

import json

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.storage import Location


def kept_dtype(root: Location, base: str) -> str | None:
    """The dtype in which runs of this root load the base of this fingerprint; None before the first one."""
    path = _path(root, base)
    content = storage.read_bytes(path)
    if content is None:
        return None
    try:
        found = json.loads(content)["dtype"]
    except (ValueError, KeyError, TypeError):
        found = None
    if found not in ("float32", "bfloat16"):
        raise StorageError(
            f"{path} is damaged, so it is not known in which numbers runs of this root load their base: remove that "
            "file, or set model.dtype"
        )
    return str(found)


def keep_dtype(root: Location, base: str, dtype: str) -> str:
    """Write it unless it is there. Returns what is there then."""
    storage.write_exclusive(_path(root, base), json.dumps({"base": base, "dtype": dtype}).encode())
    return kept_dtype(root, base) or dtype


def _path(root: Location, base: str) -> Location:
    return root / f"dtype-{base[:16]}.json"
