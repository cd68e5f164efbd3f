"""Search a grid of a run's keys for what serves anchors and tail together, with stages shared by the trials."""

import sys

from behaviorlm_ray.cluster import connect
from behaviorlm_ray.command_line import run_job
from behaviorlm_ray.search.settings import SearchSettings, base_run
from behaviorlm_ray.search.sweep import check_trials, plan_search, search


def plan(settings: SearchSettings) -> None:
    """Say what would run."""
    print("\n".join(plan_search(settings, base_run(settings))))


def main(settings: SearchSettings) -> None:
    """Validate everything, then run the trials."""
    run = base_run(settings)
    check_trials(settings, run)
    connect()
    print(f"wrote the summary to {search(settings, run)}")


if __name__ == "__main__":
    sys.exit(run_job(SearchSettings, main, description=__doc__ or "", plan=plan))
