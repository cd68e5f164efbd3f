"""Draws the rooms as their imports have them, and lists them in structure.md: `python -m docs.structure`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

from docs.rooms import ROOMS, Module, edges, modules, package_of, room_of

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "structure.svg"
PAGE = ROOT / "docs" / "structure.md"
BEGIN, END = "<!-- rooms: written by python -m docs.structure -->", "<!-- end of rooms -->"

WIDTH, TOP, PITCH, BOX, HEIGHT = 1196, 44, 66, 104, 40
"""Of the picture, in pixels: its width, where the first row begins, between rows, and a box's width and height."""

COLORS = {
    "behaviorlm": "#1a7f37",
    "behaviorlm_ray": "#0550ae",
    "behaviorlm_lab": "#953800",
    "jobs": "#57606a",
}
BANDS = {
    "behaviorlm": (8, 452, "behaviorlm: the method"),
    "behaviorlm_ray": (468, 930, "behaviorlm_ray: the platform"),
    "behaviorlm_lab": (946, 1188, "behaviorlm_lab"),
}
"""Left and right edge and title of each package."""

LEGEND = (
    "An arrow points to what a room imports.",
    "Left out are those that follow from others:",
    "who imports scoring may import timelines.",
)

CENTERS: Mapping[str, int] = {
    "behaviorlm.errors": 280,
    "behaviorlm.trees": 66,
    "behaviorlm.config": 170,
    "behaviorlm.files": 284,
    "behaviorlm.metrics": 398,
    "behaviorlm.model": 62,
    "behaviorlm.times": 174,
    "behaviorlm.log_files": 174,
    "behaviorlm.events": 174,
    "behaviorlm.prompts": 286,
    "behaviorlm.timelines": 166,
    "behaviorlm.training": 66,
    "behaviorlm.selection": 396,
    "behaviorlm.baselines": 284,
    "behaviorlm.scoring": 150,
    "behaviorlm.opponents": 272,
    "behaviorlm.inspection": 392,
    "behaviorlm.predictor": 230,
    "behaviorlm.service": 230,
    "behaviorlm_ray.storage": 560,
    "behaviorlm_ray.cluster": 790,
    "behaviorlm_ray.costs": 524,
    "behaviorlm_ray.console": 560,
    "behaviorlm_ray.stages": 580,
    "behaviorlm_ray.preparation": 600,
    "behaviorlm_ray.tuning": 872,
    "behaviorlm_ray.scoring": 756,
    "behaviorlm_ray.endpoints": 524,
    "behaviorlm_ray.evaluation": 640,
    "behaviorlm_ray.upkeep": 810,
    "behaviorlm_ray.pipeline": 650,
    "behaviorlm_ray.report": 560,
    "behaviorlm_ray.export": 690,
    "behaviorlm_ray.tracking": 665,
    "behaviorlm_ray.prediction": 530,
    "behaviorlm_ray.search": 650,
    "behaviorlm_ray.inspection": 800,
    "behaviorlm_ray.serving": 810,
    "behaviorlm_ray.commands": 700,
    "behaviorlm_lab.world": 1066,
    "behaviorlm_lab.pretraining": 1126,
    "behaviorlm_lab.gemma": 1008,
    "behaviorlm_lab.truth": 1008,
    "behaviorlm_lab.study": 1066,
    "behaviorlm_lab.paper": 1066,
    "behaviorlm_lab.commands": 1066,
    "jobs": 830,
}
"""The middle of each box from the left, chosen by eye; rows follow from the imports."""


@dataclass(frozen=True)
class Room:
    """A room as it stands in the source: its lines of code, what it says it is, and the rooms it imports."""

    name: str
    lines: int
    subject: str
    imports: frozenset[str]


def rooms(root: Path = ROOT) -> dict[str, Room]:
    """All rooms by name, packages and rooms in their order, `jobs` last. Raises CycleError, which names a circle."""
    known = modules(root)
    named = {name: _room_name(name) for name in known}
    found = {}
    for name in [*(f"{package}.{room}" for package, order in ROOMS.items() for room in order), "jobs"]:
        own = [known[module] for module, room in named.items() if room == name]
        imports = {named[other] for one, other in edges(known) if named[one] == name} - {name, ""}
        found[name] = Room(name, sum(one.lines for one in own), _subject(known[name]), frozenset(imports))
    TopologicalSorter({name: room.imports for name, room in found.items()}).prepare()
    return found


def needed(found: Mapping[str, Room]) -> dict[str, list[str]]:
    """The imports of each room but those that follow from others: its transitive reduction."""

    def below(name: str) -> set[str]:
        return {each for one in found[name].imports for each in {one, *below(one)}}

    return {
        name: sorted(room.imports - {each for one in room.imports for each in below(one)})
        for name, room in found.items()
    }


def rows(found: Mapping[str, Room]) -> dict[str, int]:
    """The row of each room from the bottom: one above the highest that it imports."""

    def row(name: str) -> int:
        return 1 + max((row(each) for each in found[name].imports), default=-1)

    return {name: row(name) for name in found}


def picture(found: Mapping[str, Room]) -> str:
    """The rooms as SVG. Raises ValueError for a room without a place in CENTERS, and for boxes that overlap or
    lie beside their package."""
    row = rows(found)
    height = TOP + PITCH * (max(row.values()) + 1)
    top = {name: height - PITCH * (row[name] + 1) for name in found}
    _check_places(row)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" text-anchor="middle">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        "<defs>",
        *(
            f'<marker id="{package}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{color}"/></marker>'
            for package, color in COLORS.items()
        ),
        "</defs>",
        *_bands(height),
        *(
            f'<text x="24" y="{64 + 20 * index}" font-size="13" fill="#57606a" text-anchor="start">{line}</text>'
            for index, line in enumerate(LEGEND)
        ),
        *(line for name, imported in needed(found).items() for line in _arrows(name, imported, top)),
        *(line for room in found.values() for line in _box(room, top[room.name])),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def table(found: Mapping[str, Room]) -> str:
    """The rooms as a table in Markdown, in the words of their docstrings."""
    lines = ["| room | what it owns | lines |", "|---|---|---:|"]
    lines += [f"| `{room.name}` | {room.subject} | {room.lines} |" for room in found.values()]
    return "\n".join(lines)


def with_table(page: str, found: Mapping[str, Room]) -> str:
    """The page with the table between its marks. Raises ValueError where it has none."""
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"there is no place for the table: {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{table(found)}\n{END}{after}"


def _room_name(module: str) -> str:
    """`package.room`, `jobs`, or "" for a package itself."""
    room = room_of(module)
    return f"{package_of(module)}.{room}" if room else "jobs" if package_of(module) == "jobs" else ""


def _subject(module: Module) -> str:
    """The first line of its docstring."""
    return module.text.partition("\n")[0].strip('"')


def _check_places(row: Mapping[str, int]) -> None:
    missing = row.keys() - CENTERS.keys()
    if missing:
        raise ValueError(f"give {', '.join(sorted(missing))} a place in CENTERS")
    for one in row:
        left, right, _ = BANDS.get(package_of(one), (0, WIDTH, ""))
        if not left + BOX / 2 <= CENTERS[one] <= right - BOX / 2:
            raise ValueError(f"{one} is not on its package: move it in CENTERS")
        for other in row:
            if one < other and row[one] == row[other] and abs(CENTERS[one] - CENTERS[other]) < BOX + 8:
                raise ValueError(f"{one} and {other} overlap: move one in CENTERS")


def _bands(height: int) -> Iterator[str]:
    for package, (left, right, title) in BANDS.items():
        color = COLORS[package]
        yield (
            f'<rect x="{left}" y="8" width="{right - left}" height="{height - 16}" rx="10" fill="{color}" '
            'fill-opacity="0.06"/>'
        )
        yield f'<text x="{(left + right) / 2:g}" y="30" font-size="15" fill="{color}">{title}</text>'


def _arrows(name: str, imported: list[str], top: Mapping[str, int]) -> Iterator[str]:
    """From the bottom of the importer to the top of what it imports, the ends spread over the boxes."""
    package = package_of(name)
    ordered = sorted(imported, key=CENTERS.__getitem__)
    for index, other in enumerate(ordered):
        from_x = CENTERS[name] + (index - (len(ordered) - 1) / 2) * 20
        to_x = CENTERS[other] + max(-36, min(36, (from_x - CENTERS[other]) * 0.2))
        from_y, to_y = top[name] + HEIGHT, top[other] - 1
        bend = max(18, (to_y - from_y) * 0.45)
        yield (
            f'<path d="M{from_x:.0f} {from_y} C{from_x:.0f} {from_y + bend:.0f} {to_x:.0f} {to_y - bend:.0f} '
            f'{to_x:.0f} {to_y}" fill="none" stroke="{COLORS[package]}" stroke-opacity="0.75" stroke-width="1.4" '
            f'marker-end="url(#{package})"/>'
        )


def _box(room: Room, top: int) -> Iterator[str]:
    center, color = CENTERS[room.name], COLORS[package_of(room.name)]
    yield (
        f'<rect x="{center - BOX / 2:g}" y="{top}" width="{BOX}" height="{HEIGHT}" rx="6" fill="#ffffff" '
        f'stroke="{color}" stroke-width="1.5"/>'
    )
    short = room_of(room.name) or room.name
    yield f'<text x="{center}" y="{top + 17}" font-size="14" fill="#1f2328">{short}</text>'
    yield f'<text x="{center}" y="{top + 33}" font-size="11" fill="#57606a">{room.lines} lines</text>'


def main() -> None:
    """Write both."""
    found = rooms()
    PICTURE.write_text(picture(found), encoding="utf-8")
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
