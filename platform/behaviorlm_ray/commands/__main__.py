"""The command `behaviorlm`: `behaviorlm COMMAND …`, also as `python -m behaviorlm_ray.commands`.

Commands are found by the entry-point group `behaviorlm.commands`, so that packages on top bring theirs.
"""

import ast
import difflib
import sys
import tomllib
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from behaviorlm import __version__
from behaviorlm_ray.console.command_line import EXIT_BAD_INPUT

GROUP = "behaviorlm.commands"
PROJECT = Path(__file__).parents[3] / "pyproject.toml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Hand the rest of the command line to the command that it names first. Returns the exit status."""
    typed = Path(sys.argv[0]).name
    prog = "python -m behaviorlm_ray.commands" if typed == "__main__.py" else typed
    name, *rest = [*(sys.argv[1:] if arguments is None else arguments), ""]
    known = commands(PROJECT)
    if name in ("-h", "--help"):
        print(overview(known, prog))
        return 0
    if name == "--version":
        print(f"behaviorlm {__version__}")
        return 0
    if not name:
        print(overview(known, prog), file=sys.stderr)
        return EXIT_BAD_INPUT
    if name not in known:
        print(f"error: {_unknown(name, known)}; {prog} --help lists all", file=sys.stderr)
        return EXIT_BAD_INPUT
    try:
        status: int = EntryPoint(name, known[name], GROUP).load()(rest[:-1], prog=f"{prog} {name}")
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if not package or package.startswith("behaviorlm"):
            raise
        print(
            f"error: {prog} {name} needs the Python package {package}, which is not installed here; pip install "
            "'behaviorlm[platform]' brings what the commands need",
            file=sys.stderr,
        )
        return EXIT_BAD_INPUT
    return status


def commands(project: Path) -> dict[str, str]:
    """Where each command stands, "module:function" by name: those installed, and those of a checkout's project file.

    The latter, because a checkout runs without being installed, as the working directory of a submitted job does; and
    first, because they are in the order of a person's work, and metadata by the alphabet.
    """
    installed = {point.name: point.value for point in entry_points(group=GROUP)}
    declared: dict[str, str] = {}
    if project.is_file():
        described = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
        declared = described.get("entry-points", {}).get(GROUP, {})
    return declared | {name: place for name, place in installed.items() if name not in declared}


def overview(known: Mapping[str, str], prog: str) -> str:
    """Each command with the first line of its module, which is read and not imported."""
    width = max(map(len, known), default=0)
    lines = [f"  {name:<{width}}  {_first_line(place.partition(':')[0])}" for name, place in known.items()]
    return "\n".join(
        [
            f"usage: {prog} COMMAND …",
            "",
            "From behavior logs to a language model that predicts what a user does next.",
            "",
            "commands:",
            *lines,
            "",
            f"{prog} COMMAND --help describes a command and all its keys.",
        ]
    )


def _first_line(module: str) -> str:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return f"(there is no module {module})"
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


def _unknown(name: str, known: Mapping[str, str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    return f"there is no command {name!r}" + (f": did you mean {nearest[0]!r}?" if nearest else "")


if __name__ == "__main__":
    sys.exit(main())
