"""What numbers were made by: command, commit, seeds, configuration and versions; and the record of a run with them."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from behaviorlm.config import flattened
from behaviorlm_ray import storage
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.report.content import ReportData
from behaviorlm_ray.stages.manifests import read_manifest
from behaviorlm_ray.stages.run_record import read_asked
from behaviorlm_ray.storage import Location

MADE = "made"
"""The key of a record beside those of results.json."""
DIGITS = 5
"""After the point, of what was measured."""
UNKNOWN = "unknown"
PLACES = ("name", "storage", "execution", "tracking")
"""Keys of a run that change nothing of its results."""


@lru_cache(maxsize=1)
def commit_here() -> str:
    """The commit of the working directory, "+changes" where tracked files differ from it; "unknown" without one."""
    commit, changed = working_commit(), _git("status", "--porcelain", "--untracked-files=no")
    return f"{commit[:12]}{'+changes' if changed else ''}" if commit else UNKNOWN


def working_commit() -> str:
    """The commit of the working directory, "" where there is none or no git."""
    return _git("rev-parse", "HEAD")


def seeds_of(settings: RunSettings) -> list[int]:
    """The seeds of a run, each once, ascending."""
    found = flattened(settings.model_dump(mode="json"))
    seeds = {
        value for key, value in found.items() if key.rpartition(".")[2] == "seed" and isinstance(value, int)
    }
    return sorted(seeds)


def record_of(place: Location, data: ReportData, command: str) -> dict[str, Any]:
    """What results.json of a finished run says of every predictor, to five digits, and "made": what it was made by.

    command: what repeats the run. The commit is that at which the record is written, for stages keep none; versions are
    those that the stages ran with, all where they differ. Paths of the configuration start in the working directory; of
    those outside of it the end is kept.
    """
    from behaviorlm_ray.pipeline.evaluate import RESULTS

    settings = RunSettings.model_validate(data.configuration)
    stages = [read_manifest(place.parent / "stages" / name) for name in read_asked(place).finished]
    config = {key: value for key, value in data.configuration.items() if key not in PLACES}
    made = {
        "command": command,
        "commit": commit_here(),
        "seeds": seeds_of(settings),
        "stages": {stage.stage: stage.version for stage in stages},
        "versions": _versions([stage.versions for stage in stages]),
        "fingerprints": data.fingerprints,
        "config": _without_places(config),
    }
    results: dict[str, Any] = json.loads(storage.read_text(place / RESULTS))
    return {MADE: made, **rounded(results)}


def record_text(record: Mapping[str, Any]) -> str:
    """As JSON: a line for each predictor, and for any other key."""
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in record.items() if key != "models"]
    models = [f"{json.dumps(name)}: {json.dumps(of)}" for name, of in record["models"].items()]
    return "{\n" + ",\n".join([*lines, '"models": {\n' + ",\n".join(models) + "\n}"]) + "\n}\n"


def _versions(ran: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Of each package, all that ran."""
    names = dict.fromkeys(name for of in ran for name in of)
    return {name: ", ".join(dict.fromkeys(of[name] for of in ran if name in of)) for name in names}


def _without_places(value: Any) -> Any:
    """The same without this machine's folders."""
    if isinstance(value, Mapping):
        return {key: _without_places(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_places(item) for item in value]
    if not isinstance(value, str) or not value.startswith("/"):
        return value
    path = Path(value)
    return (
        str(path.relative_to(Path.cwd()))
        if path.is_relative_to(Path.cwd())
        else "/".join(["…", *path.parts[-2:]])
    )


def rounded(value: Any) -> Any:
    """Floats to so many digits after the point, in nested lists and mappings."""
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def _git(*arguments: str) -> str:
    """What git says of the working directory; "" where there is no git or it says nothing of it."""
    try:
        found = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
