"""The reference page and the JSON schemas for editors, written from the typed configurations: python -m docs.reference.

`pytest tests/docs` fails when they are old.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from behaviorlm.config import KeyDescription, Settings, describe_settings, json_schema
from behaviorlm.service.settings import ServeSettings
from behaviorlm_lab.paper.settings import ExhibitSettings, PaperSettings
from behaviorlm_lab.study.settings import StudySettings
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.prediction.settings import CheckSettings, PredictSettings
from behaviorlm_ray.search.settings import SearchSettings

ROOT = Path(__file__).resolve().parents[1]
CONFIGURATIONS: dict[str, type[Settings]] = {
    "run": RunSettings,
    "search": SearchSettings,
    "study": StudySettings,
    "paper": PaperSettings,
    "exhibit": ExhibitSettings,
    "predict": PredictSettings,
    "check": CheckSettings,
    "serve": ServeSettings,
}
"""What a configuration file may be, by the command that reads it; an exhibit is a file of `paper`."""
HEADINGS = {"exhibit": "Files of exhibits"}
"""Of what is no configuration of a command's own."""

INTRODUCTION = """\
# All keys

Written from the code by `python -m docs.reference`; `behaviorlm COMMAND --help` prints the same. How to choose is in
[own_logs.md](own_logs.md), [method.md](method.md), [sweep.md](sweep.md) and
[serve.md](serve.md).

Every key is also an option: `--events.order.time_format=%d/%m/%Y`, `--auxiliary.0.weight=0.5` (0 is the first of a
list). Text stands as it is typed; the value of any other key is YAML. A key or a section that stands twice, in a file
or on the command line, is refused. With `<<` (a YAML merge) a value written beside it replaces the merged one.
`--print-config` prints every value with where it comes from, and that file runs again.

An editor that knows YAML (yaml-language-server) checks and completes a file whose first line names its schema, a path
or an address of `docs/schema/run.json`, or of what `behaviorlm run --print-schema` printed:

```yaml
# yaml-language-server: $schema=../../docs/schema/run.json
```
"""


def written_files() -> dict[Path, str]:
    """Path and content of all that is written."""
    schemas = {
        ROOT / "docs" / "schema" / f"{name}.json": json.dumps(
            json_schema(settings), indent=1, ensure_ascii=False
        )
        + "\n"
        for name, settings in CONFIGURATIONS.items()
    }
    return {ROOT / "docs" / "reference.md": reference()} | schemas


def reference() -> str:
    """The page: a table for each section of each configuration."""
    parts = [INTRODUCTION]
    for name, settings in CONFIGURATIONS.items():
        heading = HEADINGS.get(name, f"behaviorlm {name}")
        parts.append(f"## {heading}\n\n{first_line(settings)}\n")
        parts += _tables(settings, name)
    return "\n".join(parts)


def first_line(settings: type[Settings]) -> str:
    """What a configuration is, in its own words."""
    return (settings.__doc__ or "").strip().partition("\n")[0]


def _tables(settings: type[Settings], command: str) -> Iterator[str]:
    sections: dict[str, list[KeyDescription]] = {}
    for key in describe_settings(settings):
        sections.setdefault(key.path.rpartition(".")[0], []).append(key)
    described = {key.path: key.description for key in describe_settings(settings)}
    for path, keys in sections.items():
        title = path.removesuffix(".[]").replace(".[].", ".N.") if path else "At the top"
        about = described.get(path.removesuffix(".[]"), "")
        cells = (
            [f"`{key.path.replace('.[].', '.N.')}`", key.type, key.default, key.description] for key in keys
        )
        rows = [f"| {' | '.join(map(_cell, row))} |" for row in cells]
        yield "\n".join(
            [
                f"### {title}" if not path else f"### {command}: {title}",
                "",
                *([about, ""] if about else []),
                "| key | type | default | |",
                "|---|---|---|---|",
                *rows,
                "",
            ]
        )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def main() -> int:
    """Write what has changed, and say it."""
    for path, text in written_files().items():
        path.parent.mkdir(exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
