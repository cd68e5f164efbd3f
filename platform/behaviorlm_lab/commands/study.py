"""Repeat a run on several synthetic logs, with few shots of the tail and bases that know more or less.

Each cell leaves a record, <k>-<knowledge>-<seed>.json in the folder `records`; what has one is not run again, so a
study that was stopped goes on, and several processes may share one: --k, --knowledge and --seeds choose.
`python -m behaviorlm_lab.study.tables FOLDER` prints the tables over a folder of records. Records that were made with
other settings, code or packages than the study has now are refused.
"""

from collections.abc import Sequence

from behaviorlm_lab.study.settings import StudySettings
from behaviorlm_ray.cluster.submission import check_local_root
from behaviorlm_ray.console.command_line import run_job


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the study, or plan it. Returns the exit status."""
    return run_job(StudySettings, run, arguments, __doc__ or "", plan=plan, prog=prog)


def plan(settings: StudySettings) -> None:
    """Say what would run."""
    from behaviorlm_lab.study.runs import plan_study

    print("\n".join(plan_study(settings)))


def run(settings: StudySettings) -> None:
    """Run what has no record yet, then print the tables."""
    check_local_root(settings.root)
    from behaviorlm_lab.study.records import read_records
    from behaviorlm_lab.study.runs import plan_study, run_study
    from behaviorlm_lab.study.tables import study_tables
    from behaviorlm_ray.cluster.connection import connected

    plan_study(settings)  # every problem of every cell, before anything is made
    with connected():
        folder = run_study(settings)
    print("\n".join(["", *study_tables(read_records(folder)), ""]))
    print(f"wrote the records to {folder}")
