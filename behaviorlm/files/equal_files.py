"""Files that hold the same bytes, looked for at little cost: by size first, then by samples of those of one size."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping

from behaviorlm.files.input_files import open_bytes

SAMPLE_BYTES = 64 << 10
WHOLE_BYTES = 4 << 20
"""Up to this size a file is compared whole."""


def equal_files(sizes: Mapping[str, int]) -> list[tuple[str, str, bool]]:
    """(path, an earlier path that is its equal, whether all bytes were compared), in the order of `sizes`.

    Above 4 MiB only the first, middle and last 64 KiB are compared. Empty files are no copies. Raises OSError.
    """
    by_size: dict[int, list[str]] = defaultdict(list)
    for path, size in sizes.items():
        if size:
            by_size[size].append(path)
    suspects = {path for paths in by_size.values() if len(paths) > 1 for path in paths}
    found = []
    first: dict[tuple[int, bytes], str] = {}
    for path, size in sizes.items():
        if path in suspects:
            earlier = first.setdefault((size, _digest(path, size)), path)
            if earlier != path:
                found.append((path, earlier, size <= WHOLE_BYTES))
    return found


def _digest(path: str, size: int) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    with open_bytes(path) as stream:
        if size <= WHOLE_BYTES:
            digest.update(stream.read())
        else:
            for start in (0, size // 2, size - SAMPLE_BYTES):
                stream.seek(start)
                digest.update(stream.read(SAMPLE_BYTES))
    return digest.digest()
