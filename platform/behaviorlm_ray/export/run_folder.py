"""The folder of a run as a person names it. Light, so that a wrong name is told at once."""

from dataclasses import dataclass

from behaviorlm.errors import ConfigError
from behaviorlm_ray import storage
from behaviorlm_ray.stages.run_record import RECORD_FILE
from behaviorlm_ray.storage import Location

CONFIG_FILE = "config.yaml"
RESULTS_FILE = "results.json"


@dataclass(frozen=True)
class RunFolder:
    """A folder with results. config, results: the content of its files."""

    place: Location
    config: bytes
    results: bytes


def read_run_folder(text: str) -> RunFolder:
    """Raises ConfigError where there is no run that has finished, naming those that there are."""
    place = storage.location(text)
    config, results = (storage.read_bytes(place / name) for name in (CONFIG_FILE, RESULTS_FILE))
    if config is not None and results is not None:
        return RunFolder(place, config, results)
    if storage.read_bytes(place / RECORD_FILE) is not None:
        raise ConfigError(
            f"--run: {text} has not finished: it has no {RESULTS_FILE}; `behaviorlm run` with its configuration ends it"
        )
    above = storage.list_folders(place.parent)
    runs = [name for name in above if storage.read_bytes(place.parent / name / RESULTS_FILE) is not None]
    raise ConfigError(
        f"--run: {text} is no finished run; finished ones in {place.parent}: {', '.join(runs) or 'none'}"
    )
