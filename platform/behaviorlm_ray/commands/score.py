"""Score the difficulty of every training sample."""

from collections.abc import Sequence

from behaviorlm_ray.commands.up_to import run_up_to


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run or plan. Returns the exit status."""
    return run_up_to("score", __doc__ or "", arguments, prog)
