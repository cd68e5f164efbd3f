"""TensorBoard files beside a run's report: the curves of every tuned model, from its finished loss curve.

So each step of the final lineage is in them once, whatever was killed, and no output of a stage has files whose names
hold a host and a time.
"""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter


def write_tensorboard(curves: Mapping[str, Iterable[Mapping[str, Any]]], folder: Path) -> None:
    """Write the curves (lines of loss.jsonl) by stage for `tensorboard --logdir folder`, replacing what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    for stage, lines in curves.items():
        with SummaryWriter(str(folder / stage.replace(" ", "_").replace("(", "").replace(")", ""))) as writer:
            for line in lines:
                for name, value in scalars(line).items():
                    writer.add_scalar(name, value, line["step"] + 1)


def scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """What is drawn of one step, by TensorBoard's name of the curve."""
    seconds = line["seconds"]
    values = {
        "loss": line["loss"],
        "learning_rate": line["learning_rate"],
        "gradient_norm": line["gradient_norm"],
        **{f"loss/{name}": value for name, value in line["parts"].items()},
    }
    if seconds > 0:
        values |= {
            "samples_per_second": line["samples"] / seconds,
            "tokens_per_second": line["tokens"] / seconds,
        }
    return {name: float(value) for name, value in values.items() if value is not None}
