"""The reference page and the schemas for editors are those of the code, and hold for the shipped configurations."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from behaviorlm.config import describe_settings, json_schema
from docs.reference import CONFIGURATIONS, ROOT, written_files

FOLDERS = {
    "jobs/configs": "run",
    "jobs/configs/search": "search",
    "jobs/configs/study": "study",
    "jobs/configs/paper": "paper",
    "jobs/configs/paper/exhibits": "exhibit",
}


SHIPPED = [
    (name, path) for folder, name in FOLDERS.items() for path in sorted((ROOT / folder).glob("*.yaml"))
]
"""Every shipped configuration and what it is one of."""


def errors(name: str, data: object) -> list[str]:
    """What the schema finds wrong."""
    schema = json_schema(CONFIGURATIONS[name])
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(data)]


def test_what_is_generated_is_fresh() -> None:
    old = [path.name for path, text in written_files().items() if path.read_text(encoding="utf-8") != text]
    assert not old, f"run python -m docs.reference; old: {old}"


def test_the_page_has_every_key_with_its_description() -> None:
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    for settings in CONFIGURATIONS.values():
        for key in describe_settings(settings):
            assert f"| `{key.path.replace('.[].', '.N.')}` |" in page
            assert key.description, key.path


@pytest.mark.parametrize(("name", "path"), SHIPPED, ids=lambda value: getattr(value, "stem", value))
def test_a_shipped_configuration_names_its_schema_and_fits_it(name: str, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    first = text.splitlines()[0].partition("# yaml-language-server: $schema=")
    assert first[1], "the first line names no schema"
    assert (path.parent / first[2]).resolve() == ROOT / "docs" / "schema" / f"{name}.json"
    assert errors(name, yaml.safe_load(text)) == []


def test_the_schema_finds_what_the_job_would_refuse() -> None:
    data = yaml.safe_load((ROOT / "jobs/configs/demo.yaml").read_text(encoding="utf-8"))
    data["evnts"] = 1
    data["split"]["by"] = "tiem"
    data["a_tuning"]["learning_rate"] = "fast"
    assert len(errors("run", data)) == 3
