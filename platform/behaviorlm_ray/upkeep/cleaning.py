"""What the command clean does and shows: the list with its total, then, if that is wanted, the removal of each row."""

from collections.abc import Callable, Collection

from behaviorlm.errors import StorageError
from behaviorlm_ray.console.tables import size_text, table_lines
from behaviorlm_ray.upkeep.removal import Found, Kind, Removable, find_removable, remove

NAMES: dict[Kind, str] = {"stages": "stage", "attempts": "old attempts", "copies": "copies"}


def clean(
    root: str,
    kinds: Collection[Kind],
    older_than: float,
    agree: Callable[[], bool],
    say: Callable[[str], None],
) -> bool:
    """List what nothing needs any more, ask, remove. False if something could not be decided or removed.

    agree: whether to go ahead, asked if there is anything to remove. Raises StorageError.
    """
    found = find_removable(root, kinds, older_than)
    say("\n".join(clean_lines(found)))
    if found.removable and agree():
        problems = [_remove(item, root, older_than, say) for item in found.removable]
        return not any(problems) and not found.refused
    return not found.refused


def clean_lines(found: Found) -> list[str]:
    """The list for people."""
    lines = [*found.left, *found.refused]
    if not found.removable:
        return [*lines, "nothing to remove"]
    rows = [
        (NAMES[item.kind], _where(item), size_text(item.size), item.why)
        for item in sorted(found.removable, key=lambda item: -item.size)
    ]
    total = ("total", "", size_text(sum(item.size for item in found.removable)), "")
    return [*table_lines([("what", "where", "size", "why"), *rows, total]), *lines]


def _where(item: Removable) -> str:
    return str(item.place) if item.kind == "copies" else item.place.name


def _remove(item: Removable, root: str, older_than: float, say: Callable[[str], None]) -> str:
    try:
        problem = remove(item, root, older_than)
    except StorageError as error:
        problem = str(error)
    done = f"not removed: {problem}" if problem else f"removed, {size_text(item.size)}"
    say(f"{NAMES[item.kind]} {_where(item)}: {done}")
    return problem
