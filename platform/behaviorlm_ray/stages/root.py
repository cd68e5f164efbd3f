"""The format of a root: how stages, records and results lie below it, written once into <root>/behaviorlm.json.

A root without that file is of the version before there was one, in which everything lies as in format 1.
"""

import json
from importlib import metadata

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.storage import Location

MARKER_FILE = "behaviorlm.json"

FORMAT = 1
"""Of the roots that this version writes; it reads these and those without a marker."""


def open_root(root: Location, *, is_written: bool) -> None:
    """Raise StorageError for a root of a format that this version does not know.

    is_written: leave the marker where there is none. Without, nothing is written.
    """
    path = root / MARKER_FILE
    if is_written and storage.read_bytes(path) is None:
        marker = {"format": FORMAT, "version": _version()}
        storage.write_exclusive(
            path, json.dumps(marker).encode()
        )  # somebody else's, written meanwhile, is read below
    content = storage.read_bytes(path)
    if content is None:
        return
    try:
        marker = json.loads(content)
        found, version = int(marker["format"]), marker.get("version")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StorageError(
            f"{path} is damaged, so the format of this root is not known. If behaviorlm {_version()} or an earlier "
            f"version made it, remove that file; else use another root"
        ) from None
    if found > FORMAT:
        made = f", made by behaviorlm {version}" if version else ""
        raise StorageError(
            f"{root} is a root of format {found}{made}; behaviorlm {_version()}, which reads it here, knows formats up "
            f"to {FORMAT}. Install {f'version {version}' if version else 'a later version'}, or use another root"
        )


def _version() -> str:
    return metadata.version("behaviorlm")
