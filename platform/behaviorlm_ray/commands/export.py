"""Export a finished run's best predictor into a folder that predicts anywhere, after checking it.

%(prog)s --run runs/my_app --to exported/my_app [--model ab_tuned] [--merged]

Without --model what the run recommends is exported: a model, counting alone, or a mixture of both (NAME+counts), under
the decision rule that serves it best. The folder's scores are compared with the run's first; where they differ nothing
is written. Needs no Ray.
"""

from collections.abc import Sequence

from behaviorlm_ray.console.command_line import exit_status, option_parser
from behaviorlm_ray.export.run_folder import read_run_folder


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Export. Returns the exit status."""
    parser = option_parser(__doc__, prog)
    add = parser.add_argument
    add("--run", required=True, metavar="DIR", help="folder of a finished run, local or s3://bucket/prefix")
    add(
        "--to", required=True, metavar="DIR", help="where to write, local or s3://bucket/prefix; empty so far"
    )
    add(
        "--model",
        metavar="NAME",
        help="an arm of the run, counts, or NAME+counts; +plain, +bayes, +adjusted or +fitted behind it names the "
        "rule, else validation does; default: what the run recommends",
    )
    add("--merged", action="store_true", help="whole weights in place of an adapter, for any server")
    add(
        "--minimum",
        type=int,
        default=5,
        metavar="N",
        help="drop counts of longer histories below N (default 5)",
    )
    add("--base", metavar="DIR", help="where the base model lies, if it has moved since the run")
    options = parser.parse_args(arguments)
    if options.minimum < 1:
        parser.error("--minimum must be 1 or more")

    def work() -> None:
        read_run_folder(options.run)  # before anything heavy is loaded
        from behaviorlm_ray.export.exporting import ExportPlan, export

        plan = ExportPlan(
            options.run, options.to, options.model, options.merged, options.minimum, options.base
        )
        print("\n".join(export(plan)))

    return exit_status(work, "interrupted; nothing was written")
