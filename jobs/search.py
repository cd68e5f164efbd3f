"""Search a run's keys for what serves anchors and tail together, with stages shared by the trials.

The same command goes on with a search that was interrupted.
"""

import sys

from behaviorlm_ray.cluster.connection import connected
from behaviorlm_ray.console.command_line import run_job
from behaviorlm_ray.search.run import check_trials, plan_search, search
from behaviorlm_ray.search.settings import SearchSettings, base_run


def plan(settings: SearchSettings) -> None:
    """Say what would run."""
    print("\n".join(plan_search(settings, base_run(settings))))


def main(settings: SearchSettings) -> None:
    """Validate everything, then run the trials."""
    run = base_run(settings)
    check_trials(settings, run)
    with connected(allow_unauthenticated=run["execution"]["allow_unauthenticated_cluster"]):
        report = search(settings, run)
    print(f"wrote the report to {report}")


if __name__ == "__main__":
    sys.exit(run_job(SearchSettings, main, description=__doc__ or "", plan=plan))
