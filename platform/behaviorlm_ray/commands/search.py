"""Search a run's keys for what serves anchors and tail together, with stages shared by the trials.

The same command goes on with a search that was interrupted.
"""

from collections.abc import Sequence

from behaviorlm_ray.console.command_line import run_job
from behaviorlm_ray.console.shown import log_folder, shown
from behaviorlm_ray.search.settings import SearchSettings, base_run


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the trials, or plan them. Returns the exit status."""
    return run_job(SearchSettings, run_search, arguments, __doc__ or "", plan=plan, prog=prog)


def plan(settings: SearchSettings) -> None:
    """Say what would run."""
    run = base_run(settings)
    from behaviorlm_ray.search.run import plan_search

    print("\n".join(plan_search(settings, run)))


def run_search(settings: SearchSettings) -> None:
    """Validate everything, then run the trials."""
    run = base_run(settings)
    from behaviorlm_ray.cluster.connection import connected
    from behaviorlm_ray.search.run import check_trials, search, search_folder

    def check() -> None:
        check_trials(settings, run, is_written=True)

    unsafe = run["execution"]["allow_unauthenticated_cluster"]
    with shown(log_folder(search_folder(settings, run)), check), connected(allow_unauthenticated=unsafe):
        written = search(settings, run)
    print("\n".join([*written.lines, f"wrote the report to {written.place}"]))
