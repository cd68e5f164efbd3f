"""Tables that programs write into pages: each between two comments, of which the first names the program."""

import re
from collections.abc import Iterable, Mapping


def written(page: str, program: str, tables: Mapping[str, Iterable[str]]) -> str:
    """The page with these lines in place of those that it has under each name.

    Raises:
        ValueError: the page has no such place, or several.
    """
    for name, lines in tables.items():
        begin, end = f"<!-- {name}: written by python -m {program} -->\n", f"<!-- end of {name} -->"
        pattern = f"({re.escape(begin)}).*?({re.escape(end)})"
        text = "".join(f"{line}\n" for line in lines).replace("\\", "\\\\")
        page, found = re.subn(pattern, rf"\g<1>{text}\g<2>", page, flags=re.S)
        if found != 1:
            raise ValueError(f"{found} places for the table {name} of {program} in the page")
    return page
