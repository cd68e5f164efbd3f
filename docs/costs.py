"""What docs/scale.md says of cost: `python -m docs.costs` writes its tables anew, `pytest tests/docs` finds them old.

Told and taken are of a run that benchmarks/cost_check.py compared, and of the GPU record.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from behaviorlm.config import load_settings
from behaviorlm_ray.costs.cards import card_of
from behaviorlm_ray.costs.config import ImaginedLog
from behaviorlm_ray.costs.memory import Passing, worker_memory
from behaviorlm_ray.costs.model_sizes import ModelSizes, model_sizes
from behaviorlm_ray.costs.operations import model_work
from behaviorlm_ray.costs.stage_cost import model_hours
from behaviorlm_ray.pipeline.evaluate import evaluate
from behaviorlm_ray.pipeline.imagined_run import imagined_run, sample_of_numbers
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.stages.stage import in_order
from benchmarks.gpu_shapes import Shape, shapes
from docs import tables

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "scale.md"
RESULTS = ROOT / "benchmarks" / "results"
CONFIGS = {"0.5B": "qwen2.5-1.5b", "1.5B": "qwen2.5-1.5b", "8B": "llama-3.1-8b"}
SIZES = (1e7, 1e9, 1e11)
EVENTS_OF_A_USER = 100
PACK_READ_OUTS = 600
"""Of a pack of 8,192 tokens in the record, about."""
READ_OUTS_SHARE = PACK_READ_OUTS / 8192


def main() -> None:
    """Write the page."""
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def written(page: str) -> str:
    """The page with its tables as they are now."""
    made = {"plan": plan_table(), "card": card_table(), "run": run_table()}
    return tables.written(page, "docs.costs", {name: lines.splitlines() for name, lines in made.items()})


def settings_of(name: str, folder: Path) -> RunSettings:
    """A shipped configuration for GPUs with a base of the shape, of which there is a configuration alone."""
    shapes(False)[name].config.save_pretrained(folder)
    overrides = [f"model.base={folder}", "model.dtype=bfloat16", "execution.costs.card=H200"]
    return load_settings(RunSettings, ROOT / "jobs" / "configs" / f"{CONFIGS[name]}.yaml", overrides)


def plan_table() -> str:
    """What a run of a shipped configuration takes by the number of events."""
    lines = [
        "| events | base | prepared | a_tune: samples, tokens, hours | score | other tuning | predictions | "
        "checkpoints |",
        "|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in CONFIGS:
        with tempfile.TemporaryDirectory() as folder:
            settings = settings_of(name, Path(folder))
            run = imagined_run(settings)
            stages = in_order([evaluate(run)])
            card = card_of("H200")
            for events in SIZES:
                log = ImaginedLog(events=events, users=events / EVENTS_OF_A_USER)
                sample = sample_of_numbers(settings, log)
                costs = {stage.label: stage.cost(sample) for stage in stages if stage.cost is not None}
                hours = {label: model_hours(cost, card, None) or 0.0 for label, cost in costs.items()}
                others = sum(
                    hours[stage.label] for stage in stages if stage.group == "tune" and stage.name != "a_tune"
                )
                anchors = float(sample.counts[sample.is_anchor].sum())
                predicted = sum(value for label, value in hours.items() if label.startswith("predict"))
                lines.append(
                    f"| {_power(events)} | {name} | {_bytes(costs['prepare'].disk)} | {_quantity(anchors)}, "
                    f"{_quantity(costs['a_tune'].tokens)}, {_hours(hours['a_tune'])} | {_hours(hours['score'])} | "
                    f"{_hours(others)} | {_hours(predicted)} | {_bytes(costs['a_tune'].scratch)} |"
                )
    return "\n".join(lines) + "\n"


def card_rows() -> Iterator[tuple[Mapping[str, Any], float]]:
    """Rows of tuning in the GPU record with what their memory is told to be, in GiB."""
    run = json.loads((RESULTS / "nvidia-h200.json").read_text(encoding="utf-8"))["runs"][0]
    sizes = {name: _sizes(shape) for name, shape in shapes(False).items()}
    for row in run["sections"]["tuning"]:
        tokens = round(row["max_tokens"] * row["body_tokens_per_unique"])
        of = sizes[row["shape"]]
        read_outs = round(row["max_tokens"] * READ_OUTS_SHARE)
        passing = Passing(tokens, read_outs, of.vocabulary, row["checkpointing"])
        yield row, worker_memory(of, 0, 1, passing).total / 2**30


def card_table() -> str:
    """Peak memory on one H200."""
    lines = ["| base | packs of | recomputed | told, GiB | measured |", "|---|---:|---|---:|---:|"]
    for row, told in card_rows():
        recomputed = "yes" if row["checkpointing"] else "no"
        lines.append(
            f"| {row['shape']} | {row['max_tokens']:,} | {recomputed} | {told:.1f} | {row['peak_gib']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def run_rows() -> list[dict[str, Any]]:
    """What benchmarks/cost_check.py wrote."""
    found: list[dict[str, Any]] = json.loads((RESULTS / "costs.json").read_text(encoding="utf-8"))
    return found


def run_table() -> str:
    """A run on CPUs."""
    lines = ["| stage | tokens, told and taken | bytes | seconds of steps |", "|---|---:|---:|---:|"]
    for row in run_rows():
        cells = [
            f"{told:,} {taken:,}" for told, taken in (row.get(key, (0, 0)) for key in ("tokens", "bytes"))
        ]
        told, taken = row.get("seconds", ("", ""))
        lines.append(f"| {row['stage']} | " + " | ".join([*cells, f"{told} {taken}".strip()]) + " |")
    return "\n".join(lines).replace("| 0 0 |", "| |") + "\n"


def _sizes(shape: Shape) -> ModelSizes:
    import torch
    from transformers import AutoModelForCausalLM

    from benchmarks.gpu_shapes import with_adapter

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            shape.config, dtype=torch.bfloat16, attn_implementation="sdpa"
        )
    adapted = with_adapter(model)
    assert model_work(adapted) is not None
    return model_sizes(adapted, "bfloat16")


def _power(value: float) -> str:
    return "10" + "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(len(f"{value:.0f}") - 1))


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


def _quantity(value: float) -> str:
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def _bytes(value: float) -> str:
    return f"{_quantity(value)}B"


if __name__ == "__main__":
    main()
