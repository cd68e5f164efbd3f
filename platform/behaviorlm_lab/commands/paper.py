"""Make exhibits in the manner of the paper's figures and tables, each with its numbers and what they are of.

Runs that exhibits need go through the usual pipeline below one root: what is finished is reused, so that a stopped
command goes on. An exhibit whose runs are not there says so and leaves the others alone. --only='[figure_3]' makes
some; --run_missing=false draws what is there and runs nothing.
"""

from collections.abc import Sequence

from behaviorlm_lab.paper.settings import PaperSettings
from behaviorlm_ray.cluster.submission import check_local_root
from behaviorlm_ray.console.command_line import run_job


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Make the exhibits, or plan them. Returns the exit status."""
    return run_job(PaperSettings, run, arguments, __doc__ or "", plan=plan, prog=prog)


def plan(settings: PaperSettings) -> None:
    """Say what would run and what is there."""
    from behaviorlm_lab.paper.making import plan_paper

    print("\n".join(plan_paper(settings)))


def run(settings: PaperSettings) -> None:
    """Run what is missing, and draw."""
    check_local_root(settings.root)
    from behaviorlm_lab.paper.making import make_paper

    print("\n".join(make_paper(settings)))
