"""What the stages of a finished run were told to take, against what they took.

    behaviorlm run --config jobs/configs/demo.yaml
    python -m benchmarks.cost_check --config jobs/configs/demo.yaml [--write FILE] [--key=VALUE …]

Told is from the log's first rows, as a plan tells it before anything ran. Tokens and bytes are those of manifests,
seconds those of steps, told by the operations a second of the first tuning.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from behaviorlm_ray.console.command_line import option_parser
from behaviorlm_ray.console.config_files import load_config
from behaviorlm_ray.pipeline.costs import sample_of_first_rows
from behaviorlm_ray.pipeline.evaluate import evaluate
from behaviorlm_ray.pipeline.planning import first_rows_of
from behaviorlm_ray.pipeline.run import open_run
from behaviorlm_ray.pipeline.settings import RunSettings, with_absolute_paths
from behaviorlm_ray.stages.stage import in_order


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and print. Returns the exit code."""
    parser = option_parser(__doc__, None)
    parser.add_argument("--config", required=True)
    parser.add_argument("--write", type=Path)
    asked, rest = parser.parse_known_args(arguments)
    settings, _ = load_config(RunSettings, asked.config, [one.removeprefix("--") for one in rest])
    rows = compared(with_absolute_paths(settings))
    for row in rows:
        print(row)
    if asked.write is not None:
        asked.write.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


def compared(settings: RunSettings) -> list[dict[str, Any]]:
    """One row a finished stage: each quantity as [told, taken]."""
    run = open_run(settings)
    runner, goal = run.runner(), evaluate(run)
    runner.plan(goal)
    sample = sample_of_first_rows(
        first_rows_of(run), settings, {one.source.name: one.tokens for one in run.inputs.first_conversations}
    )
    if sample is None:
        sys.exit("the log has more rows than a plan looks at")
    rows: list[dict[str, Any]] = []
    rate = None
    for stage in in_order([goal]):
        output = runner.outputs.get(stage.recipe)
        if output is None or stage.cost is None:
            continue
        told, manifest = stage.cost(sample), output.manifest
        row: dict[str, Any] = {"stage": stage.label}
        if "tokens" in manifest.cost:
            row["tokens"] = [round(told.tokens), round(manifest.cost["tokens"])]
        if told.disk:
            row["bytes"] = [round(told.disk), sum(file.bytes for file in manifest.files.values())]
        seconds = manifest.cost.get("seconds") if stage.group == "tune" else None
        if seconds and told.operations:
            rate = rate or told.operations / seconds
            row["seconds"] = [round(told.operations / rate, 1), round(seconds, 1)]
        rows.append(row)
    return rows


if __name__ == "__main__":
    sys.exit(main())
