"""What early stopping and sharing save, and what they cost in quality: a search against the whole grid of its space.

python -m benchmarks.search_regret --config jobs/configs/search/regret_27.yaml

Runs the search as configured, then every point of its space tuned whole (the two share all their stages), and prints
both. Counted in tokens, not timed. It is not one of `make bench`: it tunes every configuration. Exit status 1 if the
search costs more, or its winner is worse, than --max-share and --max-regret allow.
"""

import json
import sys
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr

from behaviorlm.config import read_written, validate_settings
from behaviorlm.errors import BehaviorLMError
from behaviorlm_ray.cluster.connection import connected
from behaviorlm_ray.console.command_line import option_parser
from behaviorlm_ray.search.findings import SUMMARY
from behaviorlm_ray.search.objective import ANCHOR, MEAN, TAIL
from behaviorlm_ray.search.run import check_trials, search, search_folder
from behaviorlm_ray.search.settings import SearchSettings, base_run
from behaviorlm_ray.storage import read_text


def main() -> int:
    """Run both and print the table. Returns the exit status."""
    parser = option_parser(__doc__, None)
    parser.add_argument("--config", required=True, type=Path, help="a search with scheduler asha on a grid")
    parser.add_argument("--max-share", type=float, help="largest share of the unshared cost")
    parser.add_argument("--max-regret", type=float, help="largest difference of the objectives, such as 0.01")
    options = parser.parse_args()
    data: dict[str, Any] = read_written(options.config).values
    grid = {**data, "name": f"{data['name']}_grid", "scheduler": {"name": "none"}, "evaluate_winner": False}
    summaries = []
    try:
        with connected():
            for given in (data, grid):
                settings = validate_settings(SearchSettings, given, str(options.config))
                run = base_run(settings)
                check_trials(settings, run, is_written=True)
                search(settings, run)
                summaries.append(json.loads(read_text(search_folder(settings, run) / SUMMARY)))
                if settings.scheduler.name == "none":
                    break  # it is the whole grid itself
    except BehaviorLMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    found, whole = summaries[0], summaries[-1]
    print("\n".join(table(found, whole)))
    problems = problems_of(found, whole, options.max_share, options.max_regret)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


def problems_of(
    found: dict[str, Any], grid: dict[str, Any], max_share: float | None, max_regret: float | None
) -> list[str]:
    """What is above the limits."""
    share, regret = found["cost"] / grid["cost_unshared"], regret_of(found, grid)
    problems = []
    if max_share is not None and share > max_share:
        problems.append(f"the search cost {share:.3f} of the unshared, allowed is {max_share}")
    if max_regret is not None and regret > max_regret:
        problems.append(f"the winner is {regret:.4f} below the best of the grid, allowed is {max_regret}")
    return problems


def regret_of(found: dict[str, Any], grid: dict[str, Any]) -> float:
    """How far the search's winner is below the best of the grid, in the objective."""
    return float(grid["winner"]["metrics"][MEAN] - found["winner"]["metrics"][MEAN])


def place_of_best(found: dict[str, Any], grid: dict[str, Any]) -> int | None:
    """Place, from 1, that the best of the grid had at the search's first rung; None if it was not there."""
    first = {
        repr(trial["parameters"]): trial["rungs"][0]["metrics"][MEAN] or 0.0
        for trial in found["trials"]
        if trial["rungs"]
    }
    best = repr(grid["winner"]["parameters"])
    return None if best not in first else 1 + sum(value > first[best] for value in first.values())


def means_by_value(grid: dict[str, Any]) -> list[tuple[str, dict[Any, float]]]:
    """For each key of the space, the mean objective of the whole trials at each of its values."""
    rows: dict[str, dict[Any, list[float]]] = {}
    for trial in grid["trials"]:
        if trial["status"] == "finished":
            for key, value in trial["parameters"].items():
                rows.setdefault(key, {}).setdefault(value, []).append(trial["metrics"][MEAN] or 0.0)
    return [
        (key, {value: sum(all_of) / len(all_of) for value, all_of in values.items()})
        for key, values in rows.items()
    ]


def correlation_with_grid(found: dict[str, Any], grid: dict[str, Any]) -> list[tuple[int, int, float]]:
    """(rung, trials, Spearman's correlation) of the search's rungs with the whole tunings of the grid.

    Over every trial that was at the rung, also those that were stopped there: the grid has tuned them whole.
    """
    whole = {
        repr(trial["parameters"]): trial["metrics"][MEAN] for trial in grid["trials"] if trial["metrics"]
    }
    rows: dict[int, list[tuple[float, float]]] = {}
    for trial in found["trials"]:
        for rung in trial["rungs"]:
            if repr(trial["parameters"]) in whole:
                pair = (rung["metrics"][MEAN] or 0.0, whole[repr(trial["parameters"])] or 0.0)
                rows.setdefault(rung["rung"], []).append(pair)
    return [
        (rung, len(pairs), float(spearmanr(*zip(*pairs, strict=True)).statistic))
        for rung, pairs in sorted(rows.items())
        if len(pairs) > 2
    ]


def table(search_summary: dict[str, Any], grid_summary: dict[str, Any]) -> list[str]:
    """Cost and regret. The unshared cost is that of the grid, whose trials all ran to the end."""
    unshared = grid_summary["cost_unshared"]
    rows = [("search", search_summary), ("grid", grid_summary)]
    lines = [
        "| | trials whole | tokens | share of unshared | anchor accuracy | tail macro recall | objective |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, summary in rows:
        whole = sum(trial["status"] == "finished" for trial in summary["trials"])
        metrics = summary["winner"]["metrics"]
        lines.append(
            f"| {name} | {whole} of {len(summary['trials'])} | {summary['cost']:,.0f} "
            f"| {summary['cost'] / unshared:.3f} | {metrics[ANCHOR]:.4f} | {metrics[TAIL]:.4f} | {metrics[MEAN]:.4f} |"
        )
    regret = regret_of(search_summary, grid_summary)
    lines += [
        "",
        f"unshared: {unshared:,.0f} tokens; regret {100 * regret:.2f} points of the objective",
        *(
            f"rung {rung}: rank correlation with the whole tuning {value:.2f} over {trials} trials"
            for rung, trials, value in correlation_with_grid(search_summary, grid_summary)
        ),
        f"place of the grid's best at the search's first rung: {place_of_best(search_summary, grid_summary)}",
        *(
            f"mean objective of the grid by {key}: "
            + ", ".join(f"{value} {mean:.3f}" for value, mean in means.items())
            for key, means in means_by_value(grid_summary)
        ),
    ]
    return lines


if __name__ == "__main__":
    sys.exit(main())
