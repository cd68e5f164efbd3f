"""What early stopping and sharing save, and what they cost in quality: a search against the whole grid of its space.

python -m benchmarks.search_regret --config jobs/configs/search/regret_27.yaml

Runs the search as configured, then every point of its space tuned whole (the two share all their stages), and prints
both. Counted in tokens, not timed. It is not one of `make bench`: it tunes every configuration.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from behaviorlm.config import read_settings, validate_settings
from behaviorlm.errors import BehaviorLMError
from behaviorlm_ray.cluster import connected
from behaviorlm_ray.search.objective import ANCHOR, MEAN, TAIL
from behaviorlm_ray.search.run import check_trials, search, search_folder
from behaviorlm_ray.search.settings import SearchSettings, base_run
from behaviorlm_ray.search.summary import SUMMARY, read_summary


def main() -> int:
    """Run both and print the table. Returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, type=Path, help="a search with scheduler asha on a grid")
    options = parser.parse_args()
    data = read_settings(options.config)
    grid = {**data, "name": f"{data['name']}_grid", "scheduler": {"name": "none"}, "evaluate_winner": False}
    summaries = []
    try:
        with connected():
            for given in (data, grid):
                settings = validate_settings(SearchSettings, given, str(options.config))
                run = base_run(settings)
                check_trials(settings, run)
                search(settings, run)
                summaries.append(read_summary(search_folder(settings, run) / SUMMARY))
    except BehaviorLMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(table(*summaries)))
    return 0


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
    regret = grid_summary["winner"]["metrics"][MEAN] - search_summary["winner"]["metrics"][MEAN]
    repeated = {stage: times for stage, times in search_summary["stages"].items() if times > 1}
    lines += [
        "",
        f"unshared: {unshared:,.0f} tokens; regret {100 * regret:.2f} points of the objective",
        f"stages that ran more than once: {repeated or 'none'}",
        *(
            f"rung {row['rung']} of {row['last']}: rank correlation with the end {row['spearman']} over {row['trials']}"
            for row in search_summary["rung_correlation"]
        ),
    ]
    return lines


if __name__ == "__main__":
    sys.exit(main())
