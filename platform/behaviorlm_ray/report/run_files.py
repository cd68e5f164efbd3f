"""The report of a run in its folder. Light, so that a wrong name is told at once."""

from behaviorlm.errors import ConfigError
from behaviorlm_ray import storage

REPORT, REPORT_DATA = "report.html", "report.json"
"""The page, and all that is on it; `behaviorlm report` makes the one from the other."""


def report_content(named: str) -> bytes:
    """What a run's report is made of, as JSON. Raises ConfigError where there is none."""
    content = storage.read_bytes(storage.location(named) / REPORT_DATA)
    if content is None:
        raise ConfigError(
            f"{named} has no {REPORT_DATA}: it is no finished run, or one of an earlier version; `behaviorlm run` with "
            "its configuration finishes it, and what is done already is not done again"
        )
    return content
