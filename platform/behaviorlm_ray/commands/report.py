"""Write the report of a finished run anew, or put several runs side by side on one page.

%(prog)s runs/my_app
%(prog)s runs/my_app runs/my_app_2 --to comparison.html
%(prog)s runs/my_app --record docs/results/my_app.json --command "behaviorlm run --config my_app.yaml"

Of one run the page in its folder is written again and its verdict printed; of several a table is printed and a page
written that says whether their numbers can be compared. --record writes what a repository keeps of a run: every
predictor as in results.json, and what it was made by. Reads files of the runs only; needs no Ray.
"""

from collections.abc import Sequence

from behaviorlm_ray.console.command_line import exit_status, option_parser


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Write and print. Returns the exit status."""
    parser = option_parser(__doc__, prog)
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="folder of a finished run, local or s3://bucket/prefix"
    )
    parser.add_argument(
        "--to",
        metavar="FILE",
        help="where the page is written, local or s3://…; default: report.html of the run, or comparison.html here",
    )
    parser.add_argument("--record", metavar="FILE", help="write the record of one run instead of a page")
    parser.add_argument(
        "--command", default="", help="for --record: what repeats the run, such as `make demo`"
    )
    options = parser.parse_args(arguments)

    def work() -> None:
        if options.record is not None:
            print(_recorded(options.runs, options.record, options.command))
        else:
            print("\n".join(_written(options.runs, options.to)))

    return exit_status(work, "interrupted")


def _written(named: Sequence[str], to: str | None) -> list[str]:
    """Write the page. Returns what is printed."""
    from behaviorlm_ray import storage
    from behaviorlm_ray.report.run_files import REPORT, report_content

    for name in named:  # before anything heavy is loaded
        report_content(name)
    from behaviorlm_ray.report.page import render_report
    from behaviorlm_ray.report.panels.first_screen import verdict
    from behaviorlm_ray.report.panels.not_learned import to_know
    from behaviorlm_ray.report.side_by_side import comparability, read_run, render_side_by_side, table
    from behaviorlm_ray.report.wording import readable

    runs = [read_run(name) for name in named]
    if len(runs) == 1:
        [run] = runs
        place = run.place / REPORT if to is None else storage.location(to)
        storage.write_replacing(place, render_report(run.data).encode())
        said = [sentence.striptags() for sentence in verdict(run.data, run.forms)]
        lines = [*said, *map(readable, to_know(run.data, run.forms))]
        return [*lines, f"wrote the report to {place}"]
    place = storage.location(to or "comparison.html")
    storage.write_replacing(place, render_side_by_side(runs).encode())
    return [*table(runs), "", *comparability(runs), f"wrote the comparison to {place}"]


def _recorded(named: Sequence[str], to: str, command: str) -> str:
    """Write the record of a run. Returns what is printed."""
    if len(named) > 1 or not command:
        raise ConfigError("--record is of one run, and --command says what repeats it")
    from behaviorlm_ray import storage
    from behaviorlm_ray.report.run_files import report_content

    report_content(named[0])  # before anything heavy is loaded
    from behaviorlm_ray.report.provenance import record_of, record_text
    from behaviorlm_ray.report.side_by_side import read_run

    run = read_run(named[0])
    place = storage.location(to)
    storage.write_replacing(place, record_text(record_of(run.place, run.data, command)).encode())
    return f"wrote the record of {len(run.data.results.models)} predictors to {place}"
